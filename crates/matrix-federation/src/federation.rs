//! What all of this crate shares: the cores, the key, the peers.

use std::sync::Arc;

use koine_account::Accounts;
use koine_graph::SigningKey;
use koine_media::Media;
use koine_room::Rooms;
use koine_store::{DomainId, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use tokio::sync::Semaphore;

use crate::{
    elsewhere::space::Spaces, keys::Ring, peers::Peers, receive::Gates, receive::Later, receive::Resyncs,
    receive::Transactions, send::Outbox,
};

/// Settings of federation.
#[derive(Clone, Debug, Default)]
pub struct FederationConfig {
    /// Where other servers reach this one, told at `/.well-known/matrix/server`; without it that path answers 404.
    pub reached_at: Option<OwnedServerName>,
    /// Servers whose word about other servers' keys is believed when those do not answer.
    pub notaries: Vec<OwnedServerName>,
    /// Rooms are joined without waiting for their members, which are fetched in the background.
    pub partial_joins: bool,
    /// Keys that signed for this server once, as (id, public key in base64, when it ended).
    pub old_keys: Vec<(String, String, MilliSecondsSinceUnixEpoch)>,
}

/// What a [`Federation`] is made of.
pub struct Cores {
    /// The tenant.
    pub domain: DomainId,
    /// Rooms.
    pub rooms: Arc<Rooms>,
    /// People.
    pub accounts: Arc<Accounts>,
    /// Files, if this server has any.
    pub media: Option<Media>,
    /// Signs requests and events: the key that the rooms sign with.
    pub signing_key: SigningKey,
    /// Other servers.
    pub peers: Arc<dyn Peers>,
    /// Settings.
    pub config: FederationConfig,
    /// The time.
    pub now: fn() -> MilliSecondsSinceUnixEpoch,
}

/// Federation of one domain. Cloning it costs a counter.
#[derive(Clone)]
pub struct Federation(Arc<Inner>);

struct Inner {
    cores: Cores,
    keys: Ring,
    gates: Gates,
    later: Later,
    transactions: Transactions,
    outbox: Outbox,
    /// Held by whoever fetches the rest of a room.
    completing: Arc<Semaphore>,
    spaces: Spaces,
    resyncs: Resyncs,
}

impl Federation {
    /// Ready to serve. Nothing is sent before [`start`](Self::start).
    pub fn new(cores: Cores) -> Self {
        let keys = Ring::new(cores.rooms.shard().clone(), cores.domain);
        let (gates, later, transactions) = (Gates::default(), Later::default(), Transactions::new());
        let (outbox, spaces) = (Outbox::default(), Spaces::default());
        let resyncs = Resyncs::default();
        let completing = Arc::new(Semaphore::new(crate::elsewhere::whole::AT_ONCE));
        Self(Arc::new(Inner { cores, keys, gates, later, transactions, outbox, completing, spaces, resyncs }))
    }

    /// Tells the rooms and the accounts who reaches other servers, and starts to send what happens. Needs a tokio
    /// runtime; the task ends when the shard does, or the last owner lets go.
    pub fn start(&self) {
        self.rooms().set_elsewhere(Arc::new(self.clone()));
        if let Some(media) = self.media() {
            media.set_origin(Arc::new(self.clone()));
        }
        self.accounts().set_other_servers(Arc::new(self.clone()));
        crate::send::start(self);
        self.complete_rooms();
    }

    pub(crate) fn downgrade(&self) -> WeakFederation {
        WeakFederation(Arc::downgrade(&self.0))
    }

    /// The name of this server.
    pub fn server_name(&self) -> &ServerName {
        self.0.cores.rooms.server_name()
    }

    /// Rooms.
    pub fn rooms(&self) -> &Arc<Rooms> {
        &self.0.cores.rooms
    }

    /// Other servers' keys.
    pub fn keys(&self) -> &Ring {
        &self.0.keys
    }

    pub(crate) fn accounts(&self) -> &Arc<Accounts> {
        &self.0.cores.accounts
    }

    pub(crate) fn media(&self) -> Option<&Media> {
        self.0.cores.media.as_ref()
    }

    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.0.cores.signing_key
    }

    pub(crate) fn peers(&self) -> &dyn Peers {
        &*self.0.cores.peers
    }

    pub(crate) fn config(&self) -> &FederationConfig {
        &self.0.cores.config
    }

    pub(crate) fn domain(&self) -> DomainId {
        self.0.cores.domain
    }

    pub(crate) fn shard(&self) -> &Shard {
        self.0.cores.rooms.shard()
    }

    pub(crate) fn later(&self) -> &Later {
        &self.0.later
    }

    pub(crate) fn gates(&self) -> &Gates {
        &self.0.gates
    }

    pub(crate) fn transactions(&self) -> &Transactions {
        &self.0.transactions
    }

    pub(crate) fn completing(&self) -> &Arc<Semaphore> {
        &self.0.completing
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    pub(crate) fn resyncs(&self) -> &Resyncs {
        &self.0.resyncs
    }

    pub(crate) fn spaces(&self) -> &Spaces {
        &self.0.spaces
    }

    pub(crate) fn now(&self) -> MilliSecondsSinceUnixEpoch {
        (self.0.cores.now)()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now().get().into()
    }

    /// The server talks to us, so it can be talked to.
    pub(crate) fn heard_from(&self, server: &ServerName) {
        self.peers().heard_from(server);
        self.outbox().heard_from(server);
    }
}

/// Does not keep the rooms open.
#[derive(Clone)]
pub(crate) struct WeakFederation(std::sync::Weak<Inner>);

impl WeakFederation {
    pub(crate) fn upgrade(&self) -> Option<Federation> {
        self.0.upgrade().map(Federation)
    }
}
