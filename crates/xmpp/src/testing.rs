//! A server in memory with sessions that have no connection: what tests of this crate begin with.

use std::{sync::Arc, task::Poll, time::Duration};

use koine_account::{AccountConfig, Accounts, AttachDevice, LimitConfig, NewAccount, PasswordConfig, Registration};
use koine_graph::SigningKey;
use koine_media::{Media, Place};
use koine_push::PushRules;
use koine_room::{Rooms, RoomsConfig};
use koine_stanza::{
    Element, FullJid, ns,
    reader::{Limits, document},
};
use koine_store::{DomainId, MemoryEngine, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedUserId};

use crate::{Cores, Xmpp, XmppConfig, core::Core, session::Session};

/// Longest that a test waits for a stanza.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server.
pub(crate) struct World {
    pub(crate) xmpp: Xmpp,
    _folder: tempfile::TempDir,
}

/// Somebody's session.
pub(crate) struct Client {
    core: Arc<Core>,
    pub(crate) session: Arc<Session>,
    connection: u64,
    came: std::collections::VecDeque<Element>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::named("example.org", XmppConfig::default())
    }

    /// A server of that name.
    pub(crate) fn named(name: &str, config: XmppConfig) -> Self {
        Self::limited(name, config, LimitConfig::unlimited())
    }

    /// A server of that name where people cannot do things as fast as they like.
    pub(crate) fn limited(name: &str, config: XmppConfig, limits: LimitConfig) -> Self {
        let wanted = config;
        let passwords = PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: 4096 };
        let config = AccountConfig { passwords, registration: Registration::Open, limits, ..AccountConfig::default() };
        let domain = DomainId(1);
        let server_name: OwnedServerName = name.try_into().expect("a server name");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty engine opens");
        let clock = Arc::new(MilliSecondsSinceUnixEpoch::now);
        let accounts = Accounts::new(shard.clone(), domain, server_name.clone(), config, clock);
        let rooms = RoomsConfig {
            domain,
            server_name: server_name.clone(),
            signing_key: SigningKey::from_seed("test", &[7; 32]).expect("a valid key id"),
            cache_bytes: 16 * 1024 * 1024,
            now: MilliSecondsSinceUnixEpoch::now,
            opaque_id: koine_room::opaque_id,
        };
        let rooms = Rooms::open(shard.clone(), rooms).expect("an empty store opens");
        let place = Place { domain, server_name, folder: folder.path().to_owned() };
        let media = Media::open(shard, place, koine_media::Config::default()).expect("an empty folder opens");
        let push = Arc::new(PushRules::new(accounts.clone()));
        let now = MilliSecondsSinceUnixEpoch::now;
        let cores = Cores { domain, rooms, accounts, media, push, config: wanted, now };
        let xmpp = Xmpp::new(cores).expect("an empty store opens");
        xmpp.start();
        Self { xmpp, _folder: folder }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.xmpp.0
    }

    /// Makes an account.
    pub(crate) async fn person(&self, name: &str) -> OwnedUserId {
        let wanted =
            NewAccount { name: Some(name.to_owned()), password: Some("secret secret".into()), ..NewAccount::default() };
        self.core().accounts().create(wanted).await.expect("the name is free").0
    }

    /// A session of an account, made if need be.
    pub(crate) async fn connect(&self, name: &str, resource: &str) -> Client {
        let core = self.core().clone();
        let host = core.hosts.domain.clone();
        let user: OwnedUserId = format!("@{name}:{host}").try_into().expect("a name");
        if !core.accounts().is_active(&user).expect("the store can be read") {
            self.person(name).await;
        }
        let jid = FullJid::new(&format!("{name}@{host}/{resource}")).expect("an address");
        let wanted = AttachDevice { device_id: Some(resource.to_owned()), name: None, address: None };
        let device = core.accounts().attach_device(&user, wanted).await.expect("the account is there");
        let session = Session::new(jid, user, device, &core.waiting);
        // As whoever has logged in with the password.
        session.state().by_password = true;
        core.sessions.add(session.clone());
        let connection = session.outbox().attach().expect("a new session takes a connection");
        Client { core, session, connection, came: std::collections::VecDeque::new() }
    }
}

impl Client {
    /// Sends a stanza, written without namespace; it is routed when this returns.
    pub(crate) async fn send(&self, xml: &str) {
        let xml = format!("<x xmlns='{}'>{xml}</x>", ns::CLIENT);
        let mut parent = document(xml.as_bytes(), Limits::bytes(1024 * 1024)).expect("the test wrote XML");
        for mut stanza in parent.take_children() {
            stanza.set_attr("from", Some(self.session.jid().to_string()));
            self.core.route(stanza, Some(&self.session)).await;
        }
    }

    /// The next stanza that comes.
    pub(crate) async fn next(&mut self) -> Element {
        if let Some(stanza) = self.came.pop_front() {
            return stanza;
        }
        let (session, connection) = (self.session.clone(), self.connection);
        let jid = session.jid().to_string();
        let came = &mut self.came;
        let wait = std::future::poll_fn(|cx| {
            let polled = session.outbox().poll(cx, connection, |outgoing| {
                came.extend(outgoing.element(&jid));
                true
            });
            match polled {
                Poll::Ready(crate::outbox::Todo::End(why)) => panic!("the session ended: {why}"),
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        });
        tokio::time::timeout(PATIENCE, wait).await.expect("a stanza was to come");
        self.came.pop_front().expect("the session ended while a stanza was awaited")
    }

    /// The next stanza that `wanted` says yes to; those before are dropped.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Element) -> bool) -> Element {
        loop {
            let stanza = self.next().await;
            if wanted(&stanza) {
                return stanza;
            }
        }
    }

    /// The answer to a request; others that come before are dropped.
    pub(crate) async fn ask(&mut self, xml: &str) -> Element {
        self.send(xml).await;
        self.until(|stanza| stanza.name() == "iq" && matches!(stanza.kind(), Some("result" | "error"))).await
    }
}

/// The condition of an error stanza.
pub(crate) fn condition(stanza: &Element) -> Option<String> {
    let error = stanza.child("error", ns::CLIENT)?;
    error.children().find(|child| child.ns() == ns::STANZA_ERRORS).map(|child| child.name().to_owned())
}
