//! What `koine-push` refuses, in Matrix's words.

use http::StatusCode;
use koine_push::{ChangeError, EditError, SetPusherError, UnknownKind};

use crate::Error;

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Edit(error) => error.into(),
            ChangeError::UnknownUser => Self::not_found("There is no such account"),
            ChangeError::Contended | ChangeError::Store(_) => Self::internal(error),
        }
    }
}

impl From<EditError> for Error {
    fn from(error: EditError) -> Self {
        let message = error.to_string();
        match error {
            EditError::NotFound => Self::not_found(message),
            EditError::ReservedId
            | EditError::InvalidId
            | EditError::IsServerDefault
            | EditError::RelativeToServerDefault
            | EditError::TooLarge(_) => Self::invalid_param(message),
            // [CS-API §put_matrixclientv3pushrulesglobalkindruleid] has this errcode in its example.
            EditError::RelativeNotFound(_) => Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message),
            EditError::Malformed(_) => Self::bad_json(message),
        }
    }
}

impl From<UnknownKind> for Error {
    fn from(error: UnknownKind) -> Self {
        Self::invalid_param(error.to_string())
    }
}

impl From<SetPusherError> for Error {
    fn from(error: SetPusherError) -> Self {
        match error {
            SetPusherError::Invalid(_) | SetPusherError::TooMany => Self::invalid_param(error.to_string()),
            SetPusherError::Commit(error) => error.into(),
        }
    }
}
