//! What is asked of another server and what it answers.

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ruma_common::ServerName;
use tokio::time::{Instant, timeout};

use crate::error::{ERROR_BODY_BYTES_MAX, Error, Stage};

/// How long and how large an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the request to the headers of the answer. Default: 60 seconds.
    pub headers: Duration,
    /// From one part of the body to the next. Default: 30 seconds.
    pub stall: Duration,
    /// Everything together, finding the server and reading the body included. Default: 3 minutes.
    pub total: Duration,
    /// Bytes of the body. Default: 16 MiB.
    pub body_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            headers: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            total: Duration::from_secs(3 * 60),
            body_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// What a signature is made over [SS-API §request-authentication].
#[derive(Clone, Copy, Debug)]
pub struct ToSign<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query, as they are sent.
    pub path_and_query: &'a str,
    /// The server name that the request is for; not whom it delegates to.
    pub destination: &'a ServerName,
    /// The body, if there is one.
    pub body: Option<&'a Bytes>,
}

type Sign = Arc<dyn Fn(&ToSign<'_>) -> HeaderValue + Send + Sync>;

/// A request to another server.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, encoded: `/_matrix/federation/v1/version`.
    pub path_and_query: String,
    /// Headers beside `Host`, `User-Agent`, `Content-Type` (JSON if there is a body and none is given here) and what
    /// [`Request::signed`] adds.
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Bytes>,
    /// How long and how large the answer may be.
    pub limits: Limits,
    /// Whether it is sent although the server is being left alone: for what a user waits for, and for the keys of a
    /// server that calls us.
    pub urgent: bool,
    sign: Option<Sign>,
}

impl Request {
    /// A request without body.
    pub fn new(method: Method, path_and_query: impl Into<String>) -> Self {
        Self {
            method,
            path_and_query: path_and_query.into(),
            headers: HeaderMap::new(),
            body: None,
            limits: Limits::default(),
            urgent: false,
            sign: None,
        }
    }

    /// `GET`.
    pub fn get(path_and_query: impl Into<String>) -> Self {
        Self::new(Method::GET, path_and_query)
    }

    /// `PUT` of JSON.
    pub fn put(path_and_query: impl Into<String>, json: impl Into<Bytes>) -> Self {
        Self { body: Some(json.into()), ..Self::new(Method::PUT, path_and_query) }
    }

    /// `POST` of JSON.
    pub fn post(path_and_query: impl Into<String>, json: impl Into<Bytes>) -> Self {
        Self { body: Some(json.into()), ..Self::new(Method::POST, path_and_query) }
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sent although the server is being left alone.
    #[must_use]
    pub fn urgent(mut self) -> Self {
        self.urgent = true;
        self
    }

    /// With a header more.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// With an `Authorization` header that this makes when the request is sent. Called once, before anything is sent.
    #[must_use]
    pub fn signed(mut self, sign: impl Fn(&ToSign<'_>) -> HeaderValue + Send + Sync + 'static) -> Self {
        self.sign = Some(Arc::new(sign));
        self
    }

    /// The `Authorization` header, if there is to be one.
    pub(crate) fn authorization(&self, destination: &ServerName) -> Option<HeaderValue> {
        let to_sign = ToSign {
            method: &self.method,
            path_and_query: &self.path_and_query,
            destination,
            body: self.body.as_ref(),
        };
        self.sign.as_ref().map(|sign| sign(&to_sign))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path_and_query)
    }
}

/// The answer to a request: a success, its body yet to be read.
#[derive(Debug)]
pub struct Response {
    /// 200 to 299.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body. Read it to its end, or the connection cannot be used again, and the server does not count as recovered.
    pub body: Body,
}

impl Response {
    /// The whole body.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        self.body.bytes().await
    }
}

/// What to do once it is known how a body ended. Dropped without a call if nobody read that far.
pub(crate) type Ended = Box<dyn FnOnce(Result<(), &Error>) + Send>;

/// A body that arrives while it is read, in bounds of time and size.
pub struct Body {
    incoming: Incoming,
    limits: Limits,
    deadline: Instant,
    bytes: u64,
    ended: Option<Ended>,
    /// Why there is no more.
    failed: Option<Error>,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, limits: Limits, deadline: Instant, ended: Ended) -> Self {
        let mut body = Self { incoming, limits, deadline, bytes: 0, ended: Some(ended), failed: None };
        if body.incoming.is_end_stream() {
            body.end(Ok(()));
        }
        body
    }

    /// The next part, `None` at the end. After an error there is only that error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.next().await {
            Ok(Some(chunk)) => {
                // The end comes with the last part where the length is known: the connection is free at once.
                if self.incoming.is_end_stream() {
                    self.end(Ok(()));
                }
                Ok(Some(chunk))
            }
            Ok(None) => {
                self.end(Ok(()));
                Ok(None)
            }
            Err(error) => {
                self.end(Err(&error));
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// All that is left.
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// The beginning of an error's body; what goes wrong on the way no longer matters.
    pub(crate) async fn excerpt(mut self) -> Bytes {
        let mut start = BytesMut::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            let room = ERROR_BODY_BYTES_MAX - start.len();
            start.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if start.len() == ERROR_BODY_BYTES_MAX {
                break;
            }
        }
        start.freeze()
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let limit = self.limits.body_bytes_max;
        if self.bytes.saturating_add(self.incoming.size_hint().lower()) > limit {
            return Err(Error::TooLarge { limit });
        }
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let (stage, wait) =
                if left < self.limits.stall { (Stage::Total, left) } else { (Stage::Body, self.limits.stall) };
            let late = || match stage {
                Stage::Total => Error::Timeout { stage, limit: self.limits.total },
                _ => Error::Timeout { stage, limit: self.limits.stall },
            };
            let frame = timeout(wait, self.incoming.frame()).await.map_err(|_| late())?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| Error::Broken(error.to_string()))?;
            // Trailers say nothing to us.
            let Ok(data) = frame.into_data() else { continue };
            self.bytes += data.len() as u64;
            if self.bytes > limit {
                return Err(Error::TooLarge { limit });
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    fn end(&mut self, how: Result<(), &Error>) {
        if let Some(ended) = self.ended.take() {
            ended(how);
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes read)", self.bytes)
    }
}
