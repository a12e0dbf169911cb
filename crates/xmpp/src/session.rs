//! Sessions of our accounts: who is connected, and how to reach them.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use koine_stanza::{BareJid, Condition, Element, FullJid, StanzaError, StreamCondition, StreamError, ns};
use parking_lot::{Mutex, RwLock};
use ruma_common::{OwnedDeviceId, OwnedUserId};
use tokio::sync::Semaphore;

use crate::{
    core::Core,
    outbox::{AllWaiting, Outbox, Outgoing, Rendered},
    sasl::CameBy,
};

/// A bound resource. It outlives its connection for as long as it may be resumed.
pub(crate) struct Session {
    jid: FullJid,
    user: OwnedUserId,
    device: OwnedDeviceId,
    state: Mutex<SessionState>,
    outbox: Mutex<Outbox>,
    /// Held by the connection that has the session, until the last stanza that came over it is handled.
    pub(crate) connection: Arc<tokio::sync::Mutex<()>>,
    /// What resumes it, once it can be resumed. [XEP-0198 §5]
    resume_id: OnceLock<String>,
    /// Closed when it is over.
    over: Semaphore,
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
    /// What is said up to here, by the log, it gets late, and not as it happens. [XEP-0160]
    pub(crate) late_up_to: koine_room::Order,
    /// What goes out behind the answer to its request at hand.
    pub(crate) behind: Vec<Element>,
    /// Why it ends behind that answer.
    pub(crate) ends: Option<StreamError>,
    /// The certificate by which whoever has it came in. [XEP-0257]
    pub(crate) came_by: Option<CameBy>,
    /// Whoever has it has shown, when the connection began, that they know the password.
    pub(crate) by_password: bool,
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
    /// A session without a connection; what waits for it counts among `all`.
    pub(crate) fn new(jid: FullJid, user: OwnedUserId, device: OwnedDeviceId, all: &Arc<AllWaiting>) -> Arc<Self> {
        let (state, outbox, connection) = (Mutex::default(), Mutex::new(Outbox::among(all)), Arc::default());
        let (resume_id, over) = (OnceLock::new(), Semaphore::new(0));
        Arc::new(Self { jid, user, device, state, outbox, connection, resume_id, over })
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

    /// Its queue.
    pub(crate) fn outbox(&self) -> parking_lot::MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }

    /// Its priority while it is available.
    pub(crate) fn priority(&self) -> Option<i8> {
        self.state.lock().presence.as_ref().map(|presence| presence.priority)
    }

    /// Puts a stanza into its queue, in order; `false` when it is gone or too slow. Never waits.
    pub(crate) fn send(&self, stanza: impl Into<Outgoing>) -> bool {
        self.outbox.lock().push(stanza.into(), || {
            StreamError::new(StreamCondition::ResourceConstraint, "too many stanzas wait for this session")
        })
    }

    /// The same for a stanza without `to` that goes to many: the session's own address is put in.
    pub(crate) fn send_shared(&self, stanza: &Arc<Rendered>) -> bool {
        self.send(Outgoing::addressed(stanza))
    }

    /// Whether it outlives its connection.
    pub(crate) fn is_resumable(&self) -> bool {
        self.resume_id.get().is_some()
    }

    /// Somebody looks at it, or nobody does. [XEP-0352]
    pub(crate) fn set_inactive(&self, inactive: bool) {
        self.state.lock().inactive = inactive;
        self.outbox.lock().set_inactive(inactive);
    }

    /// Waits until it is over, and everybody knows.
    pub(crate) async fn over(&self) {
        // Nobody gets a permit: there are none, until the semaphore is closed.
        let _ = self.over.acquire().await;
    }

    /// Ends the session; its client is told why, if it is connected.
    pub(crate) fn end(&self, why: StreamError) {
        self.outbox.lock().end(why);
    }
}

/// All sessions, by account and resource.
#[derive(Default)]
pub(crate) struct Sessions {
    of: RwLock<HashMap<BareJid, HashMap<String, Arc<Session>>>>,
    /// Those that can be resumed, by what proves it. [XEP-0198 §5]
    resumable: Mutex<HashMap<String, Arc<Session>>>,
}

impl Sessions {
    /// Adds a session; the one that had the resource before, to be closed with `<conflict/>`.
    pub(crate) fn add(&self, session: Arc<Session>) -> Option<Arc<Session>> {
        let mut of = self.of.write();
        of.entry(session.jid.to_bare()).or_default().insert(session.jid.resource().to_string(), session)
    }

    /// Takes a session out, unless another has its place.
    pub(crate) fn remove(&self, session: &Arc<Session>) {
        if let Some(id) = session.resume_id.get() {
            self.resumable.lock().remove(id);
        }
        let mut of = self.of.write();
        let bare = session.jid.to_bare();
        let Some(sessions) = of.get_mut(&bare) else { return };
        if sessions.get(session.jid.resource()).is_some_and(|there| Arc::ptr_eq(there, session)) {
            sessions.remove(session.jid.resource());
        }
        if sessions.is_empty() {
            of.remove(&bare);
        }
    }

    /// The session with that address.
    pub(crate) fn get(&self, jid: &FullJid) -> Option<Arc<Session>> {
        self.of.read().get(&jid.to_bare())?.get(jid.resource()).cloned()
    }

    /// All sessions of an account.
    pub(crate) fn of(&self, jid: &BareJid) -> Vec<Arc<Session>> {
        self.of.read().get(jid).map(|sessions| sessions.values().cloned().collect()).unwrap_or_default()
    }

    /// How many an account has.
    pub(crate) fn count(&self, jid: &BareJid) -> usize {
        self.of.read().get(jid).map_or(0, HashMap::len)
    }

    /// Whether the account has any.
    pub(crate) fn is_connected(&self, jid: &BareJid) -> bool {
        self.of.read().contains_key(jid)
    }

    /// Sessions of an account that take messages to its bare address. [RFC6121 §8.5.2.1]
    pub(crate) fn takers(&self, jid: &BareJid) -> Vec<Arc<Session>> {
        self.of(jid).into_iter().filter(|session| session.priority().is_some_and(|priority| priority >= 0)).collect()
    }

    /// Calls `each` with every session.
    pub(crate) fn for_all(&self, mut each: impl FnMut(&Arc<Session>)) {
        self.of.read().values().flat_map(HashMap::values).for_each(&mut each);
    }

    /// Makes a session resumable by that id.
    pub(crate) fn make_resumable(&self, id: String, session: &Arc<Session>) {
        if session.resume_id.set(id.clone()).is_ok() {
            self.resumable.lock().insert(id, session.clone());
        }
    }

    /// The session that can be resumed by that id.
    pub(crate) fn resumable(&self, id: &str) -> Option<Arc<Session>> {
        self.resumable.lock().get(id).cloned()
    }
}

impl Core {
    /// The end of a session, once: it is in no list any more, its contacts and rooms hear that it is gone, and what it did not
    /// get goes back to whoever can do something with it.
    pub(crate) async fn session_ended(self: &Arc<Self>, session: &Arc<Session>) {
        self.sessions.remove(session);
        let undelivered = session.outbox().close();
        // [RFC6121 §4.5.3] As if it had said so itself.
        let gone = Element::new("presence", ns::CLIENT)
            .with_attr("from", session.jid().to_string())
            .with_attr("type", "unavailable");
        self.route(gone, Some(session)).await;
        for stanza in undelivered {
            if let Some(stanza) = stanza.element(session.jid().as_str()) {
                self.undelivered(session, stanza).await;
            }
        }
        let others = self.sessions.of(&session.jid().to_bare());
        let is_in_use = others.iter().any(|other| other.device() == session.device());
        if !is_in_use && let Err(error) = self.accounts().detach_device(session.user(), session.device()).await {
            tracing::warn!(user_id = %session.user(), reason = %error, "a device stays in the list although it is gone");
        }
        session.over.close();
    }

    /// A stanza that a session was to get before it ended. What lasts is in the archive; a question gets the answer that
    /// nobody will. [RFC6121 §8.5.3.2]
    pub(crate) async fn undelivered(self: &Arc<Self>, _session: &Arc<Session>, stanza: Element) {
        if stanza.name() == "iq" && matches!(stanza.kind(), Some("get" | "set")) {
            let error = StanzaError::new(Condition::ServiceUnavailable, "that session is not here");
            self.refuse(&stanza, &error).await;
        }
    }

    /// Something about an account changed: sessions whose device was logged out, or whose account was closed or locked, end.
    pub(crate) fn end_logged_out(&self, user: &OwnedUserId) -> Result<(), koine_account::StoreUnavailable> {
        let Some(jid) = self.jid_of(user) else { return Ok(()) };
        if !self.sessions.is_connected(&jid) {
            return Ok(());
        }
        let info = self.accounts().user(user)?;
        let is_closed = info.is_none_or(|info| info.is_deactivated || info.is_locked);
        for session in self.sessions.of(&jid) {
            if is_closed || self.accounts().device(user, session.device())?.is_none() {
                session.end(StreamError::new(StreamCondition::NotAuthorized, "this device was logged out"));
            }
        }
        Ok(())
    }
}
