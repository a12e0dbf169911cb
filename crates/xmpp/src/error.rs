//! What rooms refuse, as stanza errors: the one table of it. [RFC6120 §8.3.3]

use koine_room::{CommandError, ReadError};
use koine_stanza::{Condition, StanzaError};

/// What a failed question to the store is answered with.
pub(crate) fn unreadable(error: &ReadError) -> StanzaError {
    tracing::error!(reason = %error, "a room could not be read");
    StanzaError::new(Condition::InternalServerError, "the room could not be read: try again later")
}

/// What a command that the room refused is answered with.
pub(crate) fn refused(error: &CommandError) -> StanzaError {
    use CommandError as E;
    let condition = match error {
        E::NoSuchRoom | E::NoSuchEvent | E::NoSuchAlias(_) => Condition::ItemNotFound,
        E::Refused(_) | E::Forbidden(_) | E::Banned => Condition::Forbidden,
        E::NotJoined => Condition::NotAcceptable,
        E::TooLarge { .. } => Condition::PolicyViolation,
        E::BadContent(_) | E::InvalidParam(_) | E::InvalidRoomState(_) | E::BadAlias(_) => Condition::BadRequest,
        E::AliasTaken(_) | E::DuplicateAnnotation => Condition::Conflict,
        E::ThreadOnChild | E::UnsupportedVersion(_) => Condition::NotAcceptable,
        E::NotReachable => Condition::RemoteServerNotFound,
        E::Unsettled | E::Store(_) | E::Commit(_) => Condition::ResourceConstraint,
        _ => Condition::InternalServerError,
    };
    if condition == Condition::InternalServerError {
        tracing::error!(reason = %error, "a command on a room failed");
    }
    StanzaError::new(condition, error.to_string())
}
