//! What can go wrong with a room, in the room's own words. Each protocol turns these into its own errors.

use koine_graph::{Event, auth::Refusal};
use koine_store::{CommitError, StoreError};
use ruma_common::OwnedServerName;

use crate::policy::PolicyRefusal;

/// A command on a room that was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such room here.
    #[error("this server knows no such room")]
    NoSuchRoom,
    /// There is no such event in the room, or the asker may not see it.
    #[error("no such event in this room")]
    NoSuchEvent,
    /// The rules of the room forbid it.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Forbidden for a reason that is not among the room's own rules.
    #[error("{0}")]
    Forbidden(String),
    /// Only members may do this.
    #[error("you are not in this room")]
    NotJoined,
    /// The event is larger than a room takes. [CS-API §size-limits]
    #[error("the event has {size} bytes, at most {max} are allowed")]
    TooLarge {
        /// Size found.
        size: usize,
        /// Size allowed.
        max: usize,
    },
    /// The content cannot be an event, or not this kind of event.
    #[error("{0}")]
    BadContent(String),
    /// A parameter has a value that cannot be.
    #[error("{0}")]
    InvalidParam(String),
    /// A room of this version cannot be made here.
    #[error("room version {0:?} is not supported")]
    UnsupportedVersion(String),
    /// The alias leads to a room already.
    #[error("the alias {0} is taken")]
    AliasTaken(String),
    /// The alias leads nowhere.
    #[error("there is no room with the alias {0}")]
    NoSuchAlias(String),
    /// An alias must lead to the room whose state names it. [CS-API §mroomcanonical_alias]
    #[error("{0} does not lead to this room")]
    BadAlias(String),
    /// The state asked for would make a room that cannot be.
    #[error("the room could not be made: {0}")]
    InvalidRoomState(String),
    /// The same annotation by the same sender is there already. [CS-API §avoiding-duplicate-annotations]
    #[error("you have annotated this event like this before")]
    DuplicateAnnotation,
    /// A thread cannot begin at an event that itself refers to another. [CS-API §validation-of-mthread-relationships]
    #[error("a thread cannot start from an event that refers to another")]
    ThreadOnChild,
    /// The member is shut out.
    #[error("you are banned from this room")]
    Banned,
    /// Whether the member meets a condition of a restricted room cannot be told here. [SS-API §restricted-rooms]
    #[error("this server cannot tell whether you are in a room whose members may join")]
    UnableToAuthorise,
    /// The member may join, but nobody of this server may let them in. [SS-API §restricted-rooms]
    #[error("nobody of this server may let you into this room")]
    UnableToGrant,
    /// The members of the room are not known yet. [SS-API §get_matrixfederationv1make_joinroomiduserid]
    #[error("this server has come into the room just now and does not know all of its members yet")]
    Partial,
    /// The policy server of the room does not recommend the event. [SS-API §validating-policy-server-signatures]
    #[error("the policy server of this room does not recommend it")]
    NotRecommended(Box<PolicyRefusal>),
    /// The policy server of the room gave no answer, or none that counts.
    #[error("the policy server {0} of this room gave no answer")]
    PolicyServerSilent(OwnedServerName),
    /// The policy server has not been asked about the event yet: only within this crate.
    #[error("the policy server of this room was not asked")]
    Undecided(Box<Event>),
    /// Reached only through a server that we do not talk to.
    #[error("no server was found that could help with this room")]
    NotReachable,
    /// The store could not be read.
    #[error("the store is unavailable: {0}")]
    Store(#[from] StoreError),
    /// An earlier change of the room could not be kept; the room is being loaded anew.
    #[error("the room is recovering from a change that could not be kept: try again")]
    Unsettled,
    /// The commit did not become durable.
    #[error("the change could not be kept: {0}")]
    Commit(#[from] CommitError),
    /// What is kept cannot be understood: a defect or a damaged store.
    #[error("damaged data: {0}")]
    Damaged(String),
}

/// A question about a room that was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such room here.
    #[error("this server knows no such room")]
    NoSuchRoom,
    /// No such event, or the asker may not see it.
    #[error("no such event, or you may not see it")]
    NoSuchEvent,
    /// The asker is not, and was not, in the room.
    #[error("you are not in this room")]
    NotJoined,
    /// The pagination token is not one of this room.
    #[error("the token {0:?} is not one that this room gave out")]
    BadToken(String),
    /// The store could not be read.
    #[error("the store is unavailable: {0}")]
    Store(#[from] StoreError),
    /// What is kept cannot be understood: a defect or a damaged store.
    #[error("damaged data: {0}")]
    Damaged(String),
}

impl From<ReadError> for CommandError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoSuchRoom => Self::NoSuchRoom,
            ReadError::NoSuchEvent => Self::NoSuchEvent,
            ReadError::NotJoined => Self::NotJoined,
            ReadError::BadToken(token) => Self::InvalidParam(format!("unknown token {token:?}")),
            ReadError::Store(error) => Self::Store(error),
            ReadError::Damaged(what) => Self::Damaged(what),
        }
    }
}
