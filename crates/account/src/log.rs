//! What accounts write into the shard's log, and how readers understand it.
//!
//! Kinds 32 to 63 are the accounts'. The subject is the user id. Those up to 47 concern the account alone, those from 48
//! on everybody who shares a room with it.

use koine_store::{DomainId, LogEntry, bytes::Bytes};
use ruma_common::{OwnedUserId, UserId};

/// Kinds of log entries that accounts write.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The account was made, closed, locked, or the like. Body: empty.
    Account = 32,
    /// A device came, went or was renamed. Body: its id.
    Device = 33,
    /// The profile changed. Body: the field, or empty for all of them.
    Profile = 34,
    /// Account data changed. Body: the room id (empty for global), a zero byte, the type.
    AccountData = 35,
    /// A message waits for some of the account's devices. Body: empty.
    ToDevice = 36,
    /// The account signed somebody else's keys. Body: whose.
    Signatures = 37,
    /// The account follows a thread, or does no longer. Body: empty.
    ThreadSubscription = 38,
    /// A contact changed. Body: the address.
    Contact = 39,
    /// Something was published at a node of the account. Body: the node.
    Node = 40,
    /// A device came, went, or changed in what other servers are told of it. Body: see `keys/device_stream.rs`.
    DeviceList = 44,
    /// The account's cross-signing keys changed. Body: empty.
    SigningKeys = 45,
    /// A message of the account is for devices of another server. Body: the server.
    Outgoing = 46,
    /// The keys by which the account or its devices are known changed. Body: empty.
    Keys = 48,
}

impl Kind {
    /// The kind of an entry, if it is one of the accounts'.
    pub fn of(kind: u8) -> Option<Self> {
        let own = [Self::Account, Self::Device, Self::Profile, Self::AccountData, Self::ToDevice, Self::Signatures];
        let people = [Self::Contact, Self::Node];
        let elsewhere = [Self::DeviceList, Self::SigningKeys, Self::Outgoing];
        own.into_iter()
            .chain(people)
            .chain(elsewhere)
            .chain([Self::ThreadSubscription, Self::Keys])
            .find(|known| *known as u8 == kind)
    }
}

pub(crate) fn entry(domain: DomainId, user_id: &UserId, kind: Kind, body: impl Into<Bytes>) -> LogEntry {
    LogEntry { domain, subject: Bytes::copy_from_slice(user_id.as_bytes()), kind: kind as u8, body: body.into() }
}

/// The account that an entry of one of our kinds is about.
pub fn user_of(subject: &[u8]) -> Option<OwnedUserId> {
    OwnedUserId::try_from(std::str::from_utf8(subject).ok()?).ok()
}
