//! Other servers, as seen from here: something that takes a request and may answer. How they are found, and when they
//! are left in peace, is whoever implements [`Peers`] to know; tests connect two servers without any network.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use koine_graph::json::{self, Json, Object};
use koine_graph::signatures::sign_object;
use ruma_common::ServerName;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::{Federation, x_matrix};

/// A future in a box.
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Largest answer that is read unless the caller asks for another bound.
pub const RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long an answer may take unless the caller asks for another bound.
pub const RESPONSE_TIME_MAX: Duration = Duration::from_secs(60);

/// How much of an error is read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why a peer did not answer as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// It was not found, not reached, took too long or sent too much.
    #[error("{0}")]
    Unreachable(String),
    /// It failed lately, and is left in peace for so long.
    #[error("it failed lately and is asked again in {} s", .0.as_secs())]
    Resting(Duration),
    /// It answered with an error.
    #[error("it answered {status} {errcode}: {message}")]
    Refused {
        /// The http status.
        status: StatusCode,
        /// The errcode, or nothing.
        errcode: String,
        /// What it says, cut short.
        message: String,
        /// The whole answer.
        body: Bytes,
    },
    /// Its answer is not what was asked for.
    #[error("its answer is not usable: {0}")]
    Unusable(String),
}

/// Bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// From the beginning of the request to the end of the answer.
    pub time: Duration,
    /// Somebody waits for it: a server that is left in peace is asked nevertheless.
    pub urgent: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: RESPONSE_BYTES_MAX, time: RESPONSE_TIME_MAX, urgent: true }
    }
}

/// A body that is read while it arrives.
pub trait Incoming: Send {
    /// The next part of it, `None` at its end. After an error there is nothing more.
    fn next(&mut self) -> Future<'_, Result<Option<Bytes>, PeerError>>;
}

/// A body that is there already.
impl Incoming for Option<Bytes> {
    fn next(&mut self) -> Future<'_, Result<Option<Bytes>, PeerError>> {
        let whole = self.take();
        Box::pin(async move { Ok(whole) })
    }
}

/// Reaches other servers.
pub trait Peers: Send + Sync + 'static {
    /// Sends a request, whose URI has path and query alone, to `server`, and returns the answer whatever its status.
    fn request<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Future<'a, Result<http::Response<Bytes>, PeerError>>;

    /// The same for an answer that may be too large to be held: its body is read while it arrives. Bounded alike.
    fn open<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Future<'a, Result<http::Response<Box<dyn Incoming>>, PeerError>> {
        Box::pin(async move {
            let answer = self.request(server, request, bounds).await?;
            Ok(answer.map(|body| Box::new(Some(body)) as Box<dyn Incoming>))
        })
    }

    /// `GET` of a public address that is no server's, its body read while it arrives. Bounded alike; nothing is signed.
    fn open_address<'a>(
        &'a self,
        address: &'a str,
        bounds: Bounds,
    ) -> Future<'a, Result<http::Response<Box<dyn Incoming>>, PeerError>> {
        let _ = bounds;
        Box::pin(async move { Err(PeerError::Unreachable(format!("{address} is not on the way to any server"))) })
    }

    /// The server talks to us: whatever kept us from talking to it may be over.
    fn heard_from(&self, server: &ServerName);
}

impl Federation {
    /// A signed request to another server; the body of the answer if it is a success.
    pub(crate) async fn ask_bytes(
        &self,
        server: &ServerName,
        call: (Method, &str),
        content: Option<&[u8]>,
        bounds: Bounds,
    ) -> Result<Bytes, PeerError> {
        let request = self.signed_request(server, call, content)?;
        // A second bound, so that no peer holds us whatever implements the first.
        let answer = tokio::time::timeout(bounds.time, self.peers().request(server, request, bounds)).await;
        let answer = answer.map_err(|_| PeerError::Unreachable("it did not answer in time".into()))??;
        success(answer)
    }

    /// The same for a large answer: what is returned gives its body while it arrives.
    pub(crate) async fn ask_stream(
        &self,
        server: &ServerName,
        call: (Method, &str),
        content: Option<&[u8]>,
        bounds: Bounds,
    ) -> Result<Arriving, PeerError> {
        let request = self.signed_request(server, call, content)?;
        let deadline = Instant::now() + bounds.time;
        let late = |_| PeerError::Unreachable("it did not answer in time".into());
        let answer = timeout_at(deadline, self.peers().open(server, request, bounds)).await.map_err(late)??;
        let status = answer.status();
        let mut body = Arriving::new(answer, deadline, bounds);
        if status.is_success() {
            return Ok(body);
        }
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = body.next().await {
            said.extend_from_slice(&chunk);
            if said.len() > REFUSAL_BYTES_MAX {
                break;
            }
        }
        let mut refusal = http::Response::new(Bytes::from(said));
        *refusal.status_mut() = status;
        success(refusal)?;
        Err(PeerError::Unusable(format!("it answered {status}")))
    }

    /// `GET` of a public address that is no server's.
    pub(crate) async fn open_address(&self, address: &str, bounds: Bounds) -> Result<Arriving, PeerError> {
        let deadline = Instant::now() + bounds.time;
        let late = |_| PeerError::Unreachable("it did not answer in time".into());
        let answer = timeout_at(deadline, self.peers().open_address(address, bounds)).await.map_err(late)??;
        Ok(Arriving::new(answer, deadline, bounds))
    }

    fn signed_request(
        &self,
        server: &ServerName,
        (method, path): (Method, &str),
        content: Option<&[u8]>,
    ) -> Result<http::Request<Bytes>, PeerError> {
        let unusable = |error: &dyn std::fmt::Display| PeerError::Unusable(error.to_string());
        let authorization = self.authorization(server, &method, path, content).map_err(|error| unusable(&error))?;
        let mut request = http::Request::builder().method(method).uri(path);
        request = request.header(http::header::AUTHORIZATION, authorization);
        if content.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let body = content.map(Bytes::copy_from_slice).unwrap_or_default();
        request.body(body).map_err(|error| unusable(&error))
    }

    /// The same, with JSON both ways.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        call: (Method, &str),
        content: Option<&[u8]>,
    ) -> Result<T, PeerError> {
        parse(&self.ask_bytes(server, call, content, Bounds::default()).await?)
    }

    /// [SS-API §request-authentication]
    fn authorization(
        &self,
        destination: &ServerName,
        method: &Method,
        uri: &str,
        content: Option<&[u8]>,
    ) -> Result<String, json::JsonError> {
        let origin = self.server_name();
        let mut object = Object::with_capacity(6);
        for (name, value) in [
            ("method", method.as_str()),
            ("uri", uri),
            ("origin", origin.as_str()),
            ("destination", destination.as_str()),
        ] {
            object.insert(name, Json::String(value.into()));
        }
        if let Some(content) = content {
            object.insert("content", json::parse(content)?);
        }
        sign_object(&mut object, origin.as_str(), self.signing_key());
        let signature = object
            .get("signatures")
            .and_then(|signatures| signatures.as_object()?.get(origin.as_str()))
            .and_then(|ours| ours.as_object()?.get(self.signing_key().id())?.as_str().map(ToOwned::to_owned));
        let signature = signature.expect("it was put there just now");
        Ok(x_matrix::header(origin, destination, self.signing_key().id(), &signature))
    }
}

/// The body of an answer on its way, in bounds whatever implements [`Peers`].
pub(crate) struct Arriving {
    /// The headers that it came with.
    pub(crate) headers: http::HeaderMap,
    body: Box<dyn Incoming>,
    deadline: Instant,
    bytes_left: usize,
    bytes_max: usize,
}

impl Arriving {
    fn new(answer: http::Response<Box<dyn Incoming>>, deadline: Instant, bounds: Bounds) -> Self {
        let (head, body) = answer.into_parts();
        Self { headers: head.headers, body, deadline, bytes_left: bounds.bytes, bytes_max: bounds.bytes }
    }

    /// The next part, `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        let late = |_| PeerError::Unreachable("its answer does not end".into());
        let chunk = timeout_at(self.deadline, self.body.next()).await.map_err(late)??;
        let length = chunk.as_ref().map_or(0, Bytes::len);
        let left = self.bytes_left.checked_sub(length);
        self.bytes_left =
            left.ok_or_else(|| PeerError::Unusable(format!("it is larger than the {} bytes allowed", self.bytes_max)))?;
        Ok(chunk)
    }
}

/// Parses an answer.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PeerError> {
    serde_json::from_slice(bytes).map_err(|error| PeerError::Unusable(error.to_string()))
}

pub(crate) fn success(answer: http::Response<Bytes>) -> Result<Bytes, PeerError> {
    let (parts, body) = answer.into_parts();
    if parts.status.is_success() {
        return Ok(body);
    }
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Said {
        errcode: String,
        error: String,
    }
    let said: Said = serde_json::from_slice(&body).unwrap_or_default();
    let message = said.error.chars().take(300).collect();
    let errcode = said.errcode.chars().take(100).collect();
    Err(PeerError::Refused { status: parts.status, errcode, message, body })
}

/// One segment of a path, escaped.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte every few seconds, for ever.
    struct Dripping;

    impl Incoming for Dripping {
        fn next(&mut self) -> Future<'_, Result<Option<Bytes>, PeerError>> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(Some(Bytes::from_static(b" ")))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_drips_for_ever_ends_when_its_time_is_over() {
        let bounds = Bounds { time: Duration::from_secs(60), ..Bounds::default() };
        let began = Instant::now();
        let mut body = Arriving::new(http::Response::new(Box::new(Dripping)), began + bounds.time, bounds);
        let error = loop {
            match body.next().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
        assert_eq!(began.elapsed(), bounds.time);
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_at_its_bound() {
        struct Pouring;
        impl Incoming for Pouring {
            fn next(&mut self) -> Future<'_, Result<Option<Bytes>, PeerError>> {
                Box::pin(async { Ok(Some(Bytes::from_static(&[b' '; 1024]))) })
            }
        }
        let bounds = Bounds { bytes: 10_000, ..Bounds::default() };
        let mut body = Arriving::new(http::Response::new(Box::new(Pouring)), Instant::now() + bounds.time, bounds);
        let mut read = 0;
        let error = loop {
            match body.next().await {
                Ok(chunk) => read += chunk.expect("there is no end").len(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, PeerError::Unusable(_)), "{error}");
        assert!(read <= bounds.bytes);
    }
}
