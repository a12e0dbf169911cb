//! What `koine-room` refuses, in Matrix's words.

use http::StatusCode;
use koine_graph::auth::Refusal;
use koine_room::{CommandError, DELAYED_PER_USER_MAX, DelayError, ReadError};

use crate::Error;

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        let bad = |errcode: &'static str, message: String| Self::new(StatusCode::BAD_REQUEST, errcode, message);
        let message = error.to_string();
        match error {
            CommandError::NoSuchRoom
            | CommandError::NoSuchEvent
            | CommandError::NoSuchAlias(_)
            | CommandError::NotReachable => Self::not_found(message),
            CommandError::Refused(refusal) if is_malformed(&refusal) => Self::bad_json(message),
            CommandError::Refused(_) | CommandError::Forbidden(_) | CommandError::NotJoined | CommandError::Banned => {
                Self::forbidden(message)
            }
            // [SS-API §validating-policy-server-signatures] In its own words.
            CommandError::NotRecommended(refusal) => {
                let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
                Self::with_body(status, refusal.body)
            }
            CommandError::PolicyServerSilent(_) => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message),
            CommandError::TooLarge { .. } => Self::too_large(message),
            CommandError::BadContent(_) => Self::bad_json(message),
            CommandError::InvalidParam(_) => Self::invalid_param(message),
            CommandError::UnableToAuthorise => bad("M_UNABLE_TO_AUTHORISE_JOIN", message),
            CommandError::Partial => Self::new(StatusCode::NOT_FOUND, "M_UNABLE_DUE_TO_PARTIAL_STATE", message),
            CommandError::UnableToGrant => bad("M_UNABLE_TO_GRANT_JOIN", message),
            CommandError::UnsupportedVersion(_) => bad("M_UNSUPPORTED_ROOM_VERSION", message),
            CommandError::AliasTaken(_) => bad("M_ROOM_IN_USE", message),
            CommandError::BadAlias(_) => bad("M_BAD_ALIAS", message),
            CommandError::InvalidRoomState(_) => bad("M_INVALID_ROOM_STATE", message),
            CommandError::DuplicateAnnotation => bad("M_DUPLICATE_ANNOTATION", message),
            CommandError::ThreadOnChild => bad("M_UNKNOWN", message),
            CommandError::Commit(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<DelayError> for Error {
    /// [MSC4140]
    fn from(error: DelayError) -> Self {
        let message = error.to_string();
        match error {
            DelayError::TooLong => Self::invalid_param(message),
            DelayError::TooMany => Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message)
                .with("org.matrix.msc4140.errcode", "M_MAX_DELAYED_EVENTS_EXCEEDED")
                .with("org.matrix.msc4140.max_delayed_events", DELAYED_PER_USER_MAX),
            DelayError::Unknown => Self::not_found(message),
            DelayError::Finished => Self::new(StatusCode::CONFLICT, "M_UNKNOWN", message),
            DelayError::Command(error) => error.into(),
        }
    }
}

/// Whether the rules refuse the event for what it is, whoever sends it: then asking for more power would not help.
fn is_malformed(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::CreateHasPrevEvents
            | Refusal::CreateVersionUnknown
            | Refusal::CreateAdditionalCreators
            | Refusal::MemberWithoutTarget
            | Refusal::MemberWithoutMembership
            | Refusal::MembershipUnknown(_)
            | Refusal::PowerLevelsNumber(_)
            | Refusal::PowerLevelsMap(_)
            | Refusal::PowerLevelsUsers
            | Refusal::PowerLevelsOfCreator(_)
    )
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            // A room that is not there looks like one that the asker is not in.
            ReadError::NoSuchRoom | ReadError::NotJoined => Self::forbidden("You are not in this room"),
            ReadError::NoSuchEvent => Self::not_found(message),
            ReadError::BadToken(_) => Self::invalid_param(message),
            other => Self::internal(other),
        }
    }
}
