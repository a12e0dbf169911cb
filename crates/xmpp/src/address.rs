//! Whose business an address is.

use koine_stanza::{BareJid, Jid};
use ruma_common::{OwnedUserId, ServerName, UserId};

/// The hosts of this server.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// Accounts; the name of the server without a port.
    pub(crate) domain: String,
    /// Rooms. [XEP-0045]
    pub(crate) rooms: String,
    /// Uploads. [XEP-0363]
    pub(crate) upload: String,
    /// People and rooms of Matrix servers.
    pub(crate) matrix: String,
}

/// Whose business an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The server itself.
    Host,
    /// Somebody of ours: `Bare` and `Full` addresses alike.
    Account(OwnedUserId),
    /// The service that has the rooms.
    RoomService,
    /// A room, or somebody in it (with a resource).
    Room,
    /// The service that takes files.
    UploadService,
    /// The service that has people and rooms of Matrix servers.
    MatrixService,
    /// Somebody or something of a Matrix server.
    Matrix,
    /// Another server, or a component.
    Elsewhere,
    /// A host of ours at which there is nobody of that name.
    Nobody,
}

impl Hosts {
    pub(crate) fn new(server: &ServerName) -> Self {
        let domain = server.host().to_ascii_lowercase();
        let of = |service: &str| format!("{service}.{domain}");
        Self { rooms: of("rooms"), upload: of("upload"), matrix: of("matrix"), domain }
    }

    /// Whether the host is one of ours.
    pub(crate) fn is_ours(&self, host: &str) -> bool {
        [&self.domain, &self.rooms, &self.upload, &self.matrix].into_iter().any(|ours| ours == host)
    }
}

impl crate::core::Core {
    /// Whose business `jid` is. Says nothing about whether the account or room exists.
    pub(crate) fn place(&self, jid: &Jid) -> Place {
        let (host, node) = (jid.domain().as_str(), jid.node());
        match node {
            None if host == self.hosts.domain => Place::Host,
            None if host == self.hosts.rooms => Place::RoomService,
            None if host == self.hosts.upload => Place::UploadService,
            None if host == self.hosts.matrix => Place::MatrixService,
            Some(_) if host == self.hosts.domain => match self.user_of(&jid.to_bare()) {
                Some(user) => Place::Account(user),
                None => Place::Nobody,
            },
            Some(_) if host == self.hosts.rooms => Place::Room,
            Some(_) if host == self.hosts.matrix => Place::Matrix,
            _ if self.hosts.is_ours(host) => Place::Nobody,
            _ => Place::Elsewhere,
        }
    }

    /// The account that an address of our domain stands for. Old names with upper case and the like are escaped in JIDs.
    pub(crate) fn user_of(&self, jid: &BareJid) -> Option<OwnedUserId> {
        if jid.domain().as_str() != self.hosts.domain {
            return None;
        }
        let localpart = koine_projection::id::local_from_node(jid.node()?.as_str())?;
        UserId::parse(format!("@{localpart}:{}", self.rooms().server_name())).ok()
    }

    /// The address of an account of ours.
    pub(crate) fn jid_of(&self, user: &UserId) -> Option<BareJid> {
        if !self.accounts().is_local(user) {
            return None;
        }
        let node = koine_projection::id::node_from_local(user.localpart())?;
        BareJid::new(&format!("{node}@{}", self.hosts.domain)).ok()
    }
}
