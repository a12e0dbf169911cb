//! Errors as clients see them: a status, an errcode, a sentence.
//!
//! [CS-API §standard-error-response]. The submodules are the one table from the cores' errors to these; handlers use
//! `?` and name an errcode themselves only for what the request alone decides.

mod account;
mod keys;
mod media;
mod push;
mod room;
mod store;

use std::{borrow::Cow, fmt, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use serde_json::{Map, Value};

use crate::answer::json_response;

/// An error answer.
pub struct Error(Box<Parts>);

struct Parts {
    status: StatusCode,
    errcode: Cow<'static, str>,
    message: Cow<'static, str>,
    extra: Map<String, Value>,
    retry_after: Option<Duration>,
}

impl Error {
    /// Any error, where none of the constructors below fits.
    pub fn new(
        status: StatusCode,
        errcode: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            status,
            errcode: errcode.into(),
            message: message.into(),
            extra: Map::new(),
            retry_after: None,
        }))
    }

    /// An answer that has keys of its own and maybe no errcode, as user-interactive authentication needs.
    pub fn with_body(status: StatusCode, body: Map<String, Value>) -> Self {
        let mut error = Self::new(status, "", "");
        error.0.extra = body;
        error
    }

    /// Adds a key to the answer, such as `soft_logout` or `room_version`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Something here failed, which is nobody's business but the operator's: the cause goes to the log.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(reason = %cause, "a request failed for a reason of our own");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal error")
    }

    /// 400 `M_NOT_JSON`
    pub fn not_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// 400 `M_BAD_JSON`
    pub fn bad_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_MISSING_PARAM`
    pub fn missing_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 400 `M_INVALID_PARAM`
    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 403 `M_FORBIDDEN`
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 404 `M_NOT_FOUND`
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 404 `M_UNRECOGNIZED`: not built, or no such thing.
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "Unrecognized request")
    }

    /// 413 `M_TOO_LARGE`
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// 429 `M_LIMIT_EXCEEDED`, with the wait both in the body and as a header. [CS-API §rate-limiting]
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let milliseconds = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "Too many requests")
            .with("retry_after_ms", milliseconds);
        error.0.retry_after = Some(retry_after);
        error
    }

    /// The http status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The errcode; empty when the answer has none.
    pub fn errcode(&self) -> &str {
        &self.0.errcode
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.0.status.as_u16(), self.0.errcode, self.0.message)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Parts { status, errcode, message, mut extra, retry_after } = *self.0;
        if !errcode.is_empty() {
            extra.insert("errcode".to_owned(), errcode.into());
            extra.insert("error".to_owned(), message.into());
        }
        let mut response = json_response(status, Value::Object(extra).to_string().into());
        if let Some(wait) = retry_after {
            // Whole seconds, rounded up: a client that waits as told must not be refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
        }
        response
    }
}
