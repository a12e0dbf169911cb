//! The shapes a successful answer can have.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use ruma_common::api::{OutgoingResponse, OutgoingResponseExt as _};
use serde::Serialize;

use crate::Error;

/// What a handler returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An answer in ruma's words.
#[derive(Debug)]
pub struct Ruma<R>(pub R);

/// Any serialisable answer, for what ruma has no type for or a clumsy one.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// JSON that was made earlier and is sent as it is.
#[derive(Debug)]
pub struct Raw(pub Bytes);

/// `{}`: done, and nothing to say about it.
#[derive(Debug)]
pub struct Empty;

impl<R: OutgoingResponse> IntoResponse for Ruma<R> {
    fn into_response(self) -> Response {
        match self.0.try_into_http_response::<Vec<u8>>() {
            Ok(response) => response.map(axum::body::Body::from),
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Raw(bytes.into()).into_response(),
            Err(error) => Error::internal(error).into_response(),
        }
    }
}

impl IntoResponse for Raw {
    fn into_response(self) -> Response {
        json_response(StatusCode::OK, self.0)
    }
}

impl IntoResponse for Empty {
    fn into_response(self) -> Response {
        Raw(Bytes::from_static(b"{}")).into_response()
    }
}

/// A response of the given status whose body is JSON already.
pub(crate) fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
