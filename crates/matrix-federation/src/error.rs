//! Errors as other servers see them, and the one table from the cores' errors to these.
//! [CS-API §standard-error-response] is that of the client-server API.

use std::{borrow::Cow, fmt};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use koine_room::{CommandError, EnterError, ReadError, ReceiveError};
use koine_store::{CommitError, StoreError};
use serde_json::{Map, Value, json};

use crate::{PeerError, answer::json_response};

/// An error answer.
pub struct Error(Box<Parts>);

struct Parts {
    status: StatusCode,
    errcode: Cow<'static, str>,
    message: Cow<'static, str>,
    extra: Map<String, Value>,
}

impl Error {
    /// Any error, where none of the constructors below fits.
    pub fn new(
        status: StatusCode,
        errcode: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts { status, errcode: errcode.into(), message: message.into(), extra: Map::new() }))
    }

    /// Adds a key to the answer.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Something here failed: the cause goes to the log.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(reason = %cause, "a request of another server failed for a reason of our own");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal error")
    }

    /// 401 `M_UNAUTHORIZED`
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", message)
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

    /// 400 `M_BAD_JSON`
    pub fn bad_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_NOT_JSON`
    pub fn not_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// 400 `M_INVALID_PARAM`
    pub fn invalid_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 404 `M_NOT_FOUND` of a room that we have come into and do not know yet: another server knows better. [MSC3902]
    pub fn partial() -> Self {
        let message = "This server has come into the room just now and does not know all of its members yet";
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 413 `M_TOO_LARGE`
    pub fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// The http status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The errcode.
    pub fn errcode(&self) -> &str {
        &self.0.errcode
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}: {}", self.0.status.as_u16(), self.0.errcode, self.0.message)
    }
}

impl std::error::Error for Error {}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Parts { status, errcode, message, mut extra } = *self.0;
        extra.insert("errcode".to_owned(), json!(errcode));
        extra.insert("error".to_owned(), json!(message));
        json_response(status, Value::Object(extra).to_string().into())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        Self::internal(error)
    }
}

impl From<koine_account::StoreUnavailable> for Error {
    fn from(error: koine_account::StoreUnavailable) -> Self {
        Self::internal(error)
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoSuchRoom | ReadError::NoSuchEvent => Self::not_found(error.to_string()),
            ReadError::NotJoined => Self::forbidden(error.to_string()),
            ReadError::BadToken(_) => Self::invalid_param(error.to_string()),
            other => Self::internal(other),
        }
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::NoSuchRoom | CommandError::NoSuchEvent | CommandError::NoSuchAlias(_) => {
                Self::not_found(message)
            }
            CommandError::Refused(_) | CommandError::Forbidden(_) | CommandError::NotJoined | CommandError::Banned => {
                Self::forbidden(message)
            }
            CommandError::UnableToAuthorise => {
                Self::new(StatusCode::BAD_REQUEST, "M_UNABLE_TO_AUTHORISE_JOIN", message)
            }
            CommandError::UnableToGrant => Self::new(StatusCode::BAD_REQUEST, "M_UNABLE_TO_GRANT_JOIN", message),
            // [SS-API §get_matrixfederationv1make_joinroomiduserid]
            CommandError::Partial => Self::partial(),
            CommandError::NotRecommended(_) => Self::forbidden(message),
            CommandError::NotReachable => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message),
            CommandError::PolicyServerSilent(_) => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message),
            CommandError::TooLarge { .. } => Self::too_large(message),
            CommandError::BadContent(_) => Self::bad_json(message),
            CommandError::InvalidParam(_) => Self::invalid_param(message),
            other => Self::internal(other),
        }
    }
}

impl From<ReceiveError> for Error {
    fn from(error: ReceiveError) -> Self {
        let message = error.to_string();
        match error {
            ReceiveError::NotInRoom => Self::not_found(message),
            ReceiveError::OtherRoom(_) | ReceiveError::Missing { .. } => Self::invalid_param(message),
            ReceiveError::Read(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<EnterError> for Error {
    fn from(error: EnterError) -> Self {
        let message = error.to_string();
        match error {
            EnterError::Refused(_) => Self::forbidden(message),
            EnterError::OtherVersion(_) => Self::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", message),
            EnterError::NoMembership => Self::invalid_param(message),
            EnterError::Receive(error) => error.into(),
            _ => Self::internal(message),
        }
    }
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", format!("The other server could not help: {error}"))
    }
}
