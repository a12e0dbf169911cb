//! From an http request to one whose sender is proven.
//!
//! In this order: the header, so that nobody makes us read a body without one; the body within its bound; its JSON
//! within the bound on depth; the sender's key; the signature over all of it. [SS-API §request-authentication]

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use http_body_util::BodyExt as _;
use koine_graph::{
    json::{self, Json, Object},
    signatures,
};
use ruma_common::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};
use serde::de::DeserializeOwned;

use crate::{Error, Federation, answer::Result, x_matrix::XMatrix};

/// How large a JSON body may be unless the endpoint says otherwise.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a body may take to arrive.
const READ_TIME_MAX: Duration = Duration::from_secs(60);
/// How much of a refused body is read and dropped, so that the sender reads the refusal instead of a reset.
const DRAIN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most `X-Matrix` headers of one request: one for each key of the sender.
const HEADERS_MAX: usize = 8;

/// A request whose sender is proven. A handler cannot get at an origin in any other way.
#[derive(Debug)]
pub struct Signed<const BODY_MAX: usize = BODY_BYTES_MAX> {
    /// Who sent it.
    pub origin: OwnedServerName,
    /// The variable parts of the path, decoded, in order.
    pub path: Arguments,
    /// The query.
    pub query: Query,
    /// The body: JSON, or nothing.
    pub body: Bytes,
}

impl<const BODY_MAX: usize> FromRequest<Federation> for Signed<BODY_MAX> {
    type Rejection = Error;

    async fn from_request(request: Request, federation: &Federation) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let headers = match claims(&parts.headers, federation.server_name()) {
            Ok(headers) => headers,
            Err(error) => {
                drain(body).await;
                return Err(error);
            }
        };
        let path = Arguments::of(&mut parts).await?;
        let body = read(body, BODY_MAX).await?;
        let origin = prove(federation, &parts, &body, &headers).await?;
        federation.heard_from(&origin);
        let query = Query::of(parts.uri.query().unwrap_or_default());
        Ok(Self { origin, path, query, body })
    }
}

impl<const BODY_MAX: usize> Signed<BODY_MAX> {
    /// The body, as what it should be.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::bad_json(format!("The body is not as expected: {error}")))
    }
}

fn claims(headers: &HeaderMap, ours: &ServerName) -> Result<Vec<XMatrix>> {
    let mut claims = Vec::new();
    for header in headers.get_all(AUTHORIZATION).iter().take(HEADERS_MAX) {
        let claim = header.to_str().ok().and_then(XMatrix::parse);
        let claim = claim.ok_or_else(|| Error::unauthorized("The Authorization header is not understood"))?;
        if claim.destination.as_deref().is_some_and(|destination| destination != ours) {
            return Err(Error::unauthorized("The request is signed for another destination"));
        }
        claims.push(claim);
    }
    let first = claims.first().ok_or_else(|| Error::unauthorized("An X-Matrix Authorization header is needed"))?;
    if claims.iter().any(|claim| claim.origin != first.origin) {
        return Err(Error::unauthorized("The Authorization headers name different origins"));
    }
    if first.origin == *ours {
        return Err(Error::unauthorized("This server does not talk to itself"));
    }
    Ok(claims)
}

async fn prove(
    federation: &Federation,
    parts: &http::request::Parts,
    body: &[u8],
    claims: &[XMatrix],
) -> Result<OwnedServerName> {
    let first = claims.first().ok_or_else(|| Error::unauthorized("An X-Matrix Authorization header is needed"))?;
    let origin = &first.origin;
    let mut object = Object::with_capacity(6);
    let text = |text: &str| Json::String(text.to_owned().into());
    object.insert("method", text(parts.method.as_str()));
    object.insert("uri", text(parts.uri.path_and_query().map_or("/", |uri| uri.as_str())));
    object.insert("origin", text(origin.as_str()));
    if !body.is_empty() {
        let content = json::parse(body).map_err(|error| Error::not_json(format!("The body is not JSON: {error}")))?;
        object.insert("content", content);
    }
    let keys: Vec<String> = claims.iter().map(|claim| claim.key.clone()).collect();
    federation.learn_keys(origin, &keys, federation.now()).await;
    for claim in claims {
        match &claim.destination {
            Some(destination) => object.insert("destination", text(destination)),
            None => drop(object.remove("destination")),
        }
        let mut of_origin = Object::with_capacity(1);
        of_origin.insert(claim.key.clone(), text(&claim.signature));
        let mut all = Object::with_capacity(1);
        all.insert(origin.to_string(), Json::Object(of_origin));
        object.insert("signatures", Json::Object(all));
        let now = federation.now();
        let look_up = |server: &ServerName, key: &str| federation.keys().for_request(server, key, now);
        match signatures::verify_object(&object, origin, &look_up) {
            Ok(()) => return Ok(origin.clone()),
            Err(error) => tracing::debug!(peer = %origin, reason = %error, "a signature did not prove its sender"),
        }
    }
    Err(Error::unauthorized(format!("The signature of {origin} could not be verified")))
}

pub(crate) async fn read(mut body: axum::body::Body, bytes_max: usize) -> Result<Bytes> {
    let collect = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The connection broke within the body"));
            };
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > bytes_max {
                return Err(Error::too_large(format!("The body is larger than the {bytes_max} bytes allowed here")));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    };
    match tokio::time::timeout(READ_TIME_MAX, collect).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            drain(body).await;
            Err(error)
        }
        Err(_elapsed) => Err(Error::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "The body did not arrive in time")),
    }
}

async fn drain(mut body: axum::body::Body) {
    let mut left = DRAIN_BYTES_MAX;
    let dropping = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(READ_TIME_MAX, dropping).await;
}

/// The variable parts of a path.
#[derive(Debug)]
pub struct Arguments(Vec<String>);

impl Arguments {
    async fn of(parts: &mut http::request::Parts) -> Result<Self> {
        let params = RawPathParams::from_request_parts(parts, &())
            .await
            .map_err(|_not_utf8| Error::invalid_param("The path is not UTF-8"))?;
        Ok(Self(params.iter().map(|(_, value)| value.to_owned()).collect()))
    }

    /// The text at a place.
    pub fn text(&self, at: usize) -> &str {
        self.0.get(at).map_or("", String::as_str)
    }

    /// The room id at a place.
    pub fn room(&self, at: usize) -> Result<OwnedRoomId> {
        room_id(self.text(at))
    }

    /// The event id at a place.
    pub fn event(&self, at: usize) -> Result<OwnedEventId> {
        event_id(self.text(at))
    }

    /// The user id at a place.
    pub fn user(&self, at: usize) -> Result<OwnedUserId> {
        user_id(self.text(at))
    }
}

/// Reads a room id.
pub fn room_id(text: &str) -> Result<OwnedRoomId> {
    let id = <&RoomId>::try_from(text).map_err(|_| Error::invalid_param(format!("{text:?} is no room id")))?;
    Ok(id.to_owned())
}

/// Reads an event id.
pub fn event_id(text: &str) -> Result<OwnedEventId> {
    let id = <&EventId>::try_from(text).map_err(|_| Error::invalid_param(format!("{text:?} is no event id")))?;
    Ok(id.to_owned())
}

/// Reads a user id.
pub fn user_id(text: &str) -> Result<OwnedUserId> {
    let id = <&UserId>::try_from(text).map_err(|_| Error::invalid_param(format!("{text:?} is no user id")))?;
    Ok(id.to_owned())
}

/// The query of a request.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    fn of(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The value of a key that has to be there.
    pub fn needed(&self, key: &str) -> Result<&str> {
        self.get(key).ok_or_else(|| {
            Error::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", format!("The query parameter {key} is missing"))
        })
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Error::invalid_param(format!("{key} is no number")))
    }
}
