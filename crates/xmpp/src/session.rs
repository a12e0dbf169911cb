//! Sessions of our accounts: who is connected, and how to reach them.

use std::{collections::HashMap, sync::Arc};

use koine_stanza::{BareJid, Element, FullJid};
use parking_lot::{Mutex, RwLock};
use ruma_common::{OwnedDeviceId, OwnedUserId};
use tokio::sync::mpsc;

/// Most stanzas that wait for the connection of a session; whoever is slower than that is cut off.
pub(crate) const WAITING_STANZAS_MAX: usize = 10_000;

/// A bound resource. It outlives its connection for as long as it may be resumed.
pub(crate) struct Session {
    jid: FullJid,
    user: OwnedUserId,
    device: OwnedDeviceId,
    outgoing: mpsc::Sender<Arc<Element>>,
    state: Mutex<SessionState>,
}

/// What a session said about itself.
#[derive(Default)]
pub(crate) struct SessionState {
    /// The last presence it broadcast, while it is available. [RFC6121 §4.2]
    pub(crate) presence: Option<Available>,
    /// It asked for its roster, so it is told changes. [RFC6121 §2.1.6]
    pub(crate) wants_roster: bool,
    /// It asked for its block list, so it is told changes. [XEP-0191]
    pub(crate) wants_blocklist: bool,
    /// It gets copies of what other sessions of the account send and receive. [XEP-0280]
    pub(crate) carbons: bool,
    /// Nobody looks at it just now. [XEP-0352]
    pub(crate) inactive: bool,
}

/// An available session.
#[derive(Clone)]
pub(crate) struct Available {
    /// [RFC6121 §4.7.2.3]
    pub(crate) priority: i8,
    /// The whole presence, with `from`, without `to`.
    pub(crate) stanza: Arc<Element>,
}

impl Session {
    /// A session whose stanzas come out of `outgoing`.
    pub(crate) fn new(
        jid: FullJid,
        user: OwnedUserId,
        device: OwnedDeviceId,
        outgoing: mpsc::Sender<Arc<Element>>,
    ) -> Arc<Self> {
        Arc::new(Self { jid, user, device, outgoing, state: Mutex::new(SessionState::default()) })
    }

    /// Its address.
    pub(crate) fn jid(&self) -> &FullJid {
        &self.jid
    }

    /// The account.
    pub(crate) fn user(&self) -> &OwnedUserId {
        &self.user
    }

    /// The device that it is in the account's list.
    pub(crate) fn device(&self) -> &OwnedDeviceId {
        &self.device
    }

    /// What it said about itself.
    pub(crate) fn state(&self) -> parking_lot::MutexGuard<'_, SessionState> {
        self.state.lock()
    }

    /// Its priority while it is available.
    pub(crate) fn priority(&self) -> Option<i8> {
        self.state.lock().presence.as_ref().map(|presence| presence.priority)
    }

    /// Puts a stanza into its queue, in order; `false` when it is gone or too slow. Never waits.
    pub(crate) fn send(&self, stanza: impl Into<Arc<Element>>) -> bool {
        self.outgoing.try_send(stanza.into()).is_ok()
    }
}

/// All sessions, by account and resource.
#[derive(Default)]
pub(crate) struct Sessions {
    of: RwLock<HashMap<BareJid, HashMap<String, Arc<Session>>>>,
}

impl Sessions {
    /// Adds a session; the one that had the resource before, to be closed with `<conflict/>`.
    pub(crate) fn add(&self, session: Arc<Session>) -> Option<Arc<Session>> {
        let mut of = self.of.write();
        of.entry(session.jid.to_bare()).or_default().insert(session.jid.resource().to_string(), session)
    }

    /// Takes a session out, unless another has its place.
    pub(crate) fn remove(&self, session: &Arc<Session>) {
        let mut of = self.of.write();
        let bare = session.jid.to_bare();
        let Some(sessions) = of.get_mut(&bare) else { return };
        if sessions.get(session.jid.resource().as_str()).is_some_and(|there| Arc::ptr_eq(there, session)) {
            sessions.remove(session.jid.resource().as_str());
        }
        if sessions.is_empty() {
            of.remove(&bare);
        }
    }

    /// The session with that address.
    pub(crate) fn get(&self, jid: &FullJid) -> Option<Arc<Session>> {
        self.of.read().get(&jid.to_bare())?.get(jid.resource().as_str()).cloned()
    }

    /// All sessions of an account.
    pub(crate) fn of(&self, jid: &BareJid) -> Vec<Arc<Session>> {
        self.of.read().get(jid).map(|sessions| sessions.values().cloned().collect()).unwrap_or_default()
    }

    /// Whether the account has any.
    pub(crate) fn is_connected(&self, jid: &BareJid) -> bool {
        self.of.read().contains_key(jid)
    }

    /// Sessions of an account that take messages to its bare address. [RFC6121 §8.5.2.1]
    pub(crate) fn takers(&self, jid: &BareJid) -> Vec<Arc<Session>> {
        self.of(jid).into_iter().filter(|session| session.priority().is_some_and(|priority| priority >= 0)).collect()
    }
}
