//! Whose business an address is.

use std::net::{IpAddr, Ipv6Addr};

use koine_projection::mail::Address;
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
    /// What is published by nobody's account. [XEP-0060]
    pub(crate) pubsub: String,
    /// People who have an address of mail.
    pub(crate) mail: String,
    /// Streams of bytes between two clients. [XEP-0065]
    pub(crate) proxy: String,
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
    /// The service with what nobody's account publishes.
    PubsubService,
    /// Somebody or something of a Matrix server.
    Matrix,
    /// The service that has people who are reached by mail.
    MailService,
    /// The service by which two clients send each other bytes.
    ProxyService,
    /// Somebody who is reached by mail.
    Mail,
    /// Another server, or a component.
    Elsewhere,
    /// A host of ours at which there is nobody of that name.
    Nobody,
}

impl Hosts {
    pub(crate) fn new(server: &ServerName) -> Self {
        let domain = server.host().to_ascii_lowercase();
        let of = |service: &str| format!("{service}.{domain}");
        Self {
            rooms: of("rooms"),
            upload: of("upload"),
            matrix: of("matrix"),
            pubsub: of("pubsub"),
            mail: of("mail"),
            proxy: of("proxy"),
            domain,
        }
    }

    /// Whether the host is one of ours.
    pub(crate) fn is_ours(&self, host: &str) -> bool {
        [&self.domain, &self.rooms, &self.upload, &self.matrix, &self.pubsub, &self.mail, &self.proxy]
            .into_iter()
            .any(|ours| ours == host)
    }
}

/// Whom connections from an address are counted for: one household has a whole /64 of IPv6 addresses. `None`: loopback, which is
/// a proxy of the operator's, or a developer.
pub(crate) fn household(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
        address => Some(address),
    }
}

/// The address of a person of a server, as they type it into a client.
pub fn address_of(user: &UserId) -> Option<String> {
    let node = koine_projection::id::node_from_local(user.localpart())?;
    Some(format!("{node}@{}", Hosts::new(user.server_name()).domain))
}

impl crate::core::Core {
    /// Whose business `jid` is. Says nothing about whether the account or room exists.
    pub(crate) fn place(&self, jid: &Jid) -> Place {
        let (host, node) = (jid.domain(), jid.node());
        match node {
            None if host == self.hosts.domain => Place::Host,
            None if host == self.hosts.rooms => Place::RoomService,
            None if host == self.hosts.upload => Place::UploadService,
            None if host == self.hosts.matrix => Place::MatrixService,
            None if host == self.hosts.pubsub => Place::PubsubService,
            None if host == self.hosts.mail && self.config().mail => Place::MailService,
            None if host == self.hosts.proxy && self.config().proxy.is_some() => Place::ProxyService,
            Some(_) if host == self.hosts.mail && self.config().mail => Place::Mail,
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
        if jid.domain() != self.hosts.domain {
            return None;
        }
        let localpart = koine_projection::id::local_from_node(jid.node()?)?;
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

    /// Whoever an address stands for in rooms: an account of ours, somebody of a Matrix server (at the gateway), or the
    /// ghost of somebody of another XMPP server. `None` for hosts, rooms, and what cannot be a name.
    pub(crate) fn person_of(&self, jid: &BareJid) -> Option<OwnedUserId> {
        let (host, server) = (jid.domain(), self.rooms().server_name());
        let node = jid.node();
        match node {
            Some(_) if host == self.hosts.domain => self.user_of(jid),
            // Never a ghost of a ghost: whoever is ours has an address of their own.
            Some(node) if host == self.hosts.matrix => {
                koine_projection::id::user_from_node(node).filter(|user| user.server_name() != server)
            }
            Some(node) if host == self.hosts.mail => self.correspondent_of(node),
            _ if self.hosts.is_ours(host) => None,
            _ => UserId::parse(format!("@{}:{server}", koine_projection::id::ghost_from_jid(jid, server)?)).ok(),
        }
    }

    /// The address by which XMPP knows somebody in a room; the inverse of [`person_of`](Self::person_of).
    pub(crate) fn address_of(&self, user: &UserId) -> Option<BareJid> {
        let server = self.rooms().server_name();
        if user.server_name() != server {
            let node = koine_projection::id::node_from_user(user)?;
            return BareJid::new(&format!("{node}@{}", self.hosts.matrix)).ok();
        }
        if let Some(address) = self.mail_address_of(user) {
            let node = koine_projection::id::node_from_local(&address.to_string())?;
            return BareJid::new(&format!("{node}@{}", self.hosts.mail)).ok();
        }
        match user.localpart().starts_with(koine_projection::id::GHOST) {
            true => koine_projection::id::jid_from_ghost(user.localpart(), server)
                .filter(|jid| !self.hosts.is_ours(jid.domain())),
            false => self.jid_of(user),
        }
    }

    /// Whom a node at our gateway to mail stands for. [XEP-0106]
    fn correspondent_of(&self, node: &str) -> Option<OwnedUserId> {
        let server = self.rooms().server_name();
        let address = Address::parse(&koine_projection::id::local_from_node(node)?)?;
        let is_theirs = !self.hosts.is_ours(address.domain()) && self.config().mail;
        let name = koine_projection::id::ghost_from_address(Some(&address).filter(|_| is_theirs)?, server)?;
        let user = UserId::parse(format!("@{name}:{server}")).ok()?;
        // Each id has one other name.
        (self.address_of(&user)?.node()? == node).then_some(user)
    }

    /// The address of mail of somebody who has nothing else.
    pub(crate) fn mail_address_of(&self, user: &UserId) -> Option<Address> {
        let server = self.rooms().server_name();
        let local = Some(user).filter(|user| user.server_name() == server)?.localpart();
        let address = koine_projection::id::address_from_ghost(local, server)?;
        Some(address).filter(|address| !self.hosts.is_ours(address.domain()))
    }

    /// Whether a user id of our server is that of somebody of another XMPP server.
    pub(crate) fn is_ghost(&self, user: &UserId) -> bool {
        user.server_name() == self.rooms().server_name() && user.localpart().starts_with(koine_projection::id::GHOST)
    }
}
