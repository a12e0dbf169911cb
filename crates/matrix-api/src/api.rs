//! What handlers work with: the cores, the settings of the domain, and who watches.

use std::{
    ops::Deref,
    sync::{Arc, Weak},
    time::Duration,
};

use koine_account::{Accounts, Class, LimitKey};
use koine_media::{Media, Previews};
use koine_push::{PushRules, Pushers};
use koine_room::{Rooms, UnreadRules};
use ruma_common::RoomVersionId;
use tokio::sync::watch;

use crate::{
    Error, Result, SupportConfig, TurnConfig,
    appservice::Services,
    own_requests::OwnRequests,
    sliding_sync::{Connections, Facts},
    synapse_admin::Jobs,
    sync::SeenMembers,
    token::Tokens,
};

/// The state of every handler. Cloning copies a pointer.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

/// An [`Api`] that does not keep the cores from being closed.
pub(crate) struct WeakApi(Weak<Inner>);

struct Inner {
    cores: Cores,
    tokens: Tokens,
    seen_members: SeenMembers,
    connections: Connections,
    facts: Facts,
    own_requests: OwnRequests,
    jobs: Jobs,
}

/// What an [`Api`] is made of.
pub struct Cores {
    /// People: credentials, sessions, devices, profiles, account data.
    pub accounts: Arc<Accounts>,
    /// Rooms, and what happens in them.
    pub rooms: Arc<Rooms>,
    /// Uploads and their thumbnails.
    pub media: Media,
    /// What pages of the web say of themselves, if this server fetches any.
    pub previews: Option<Previews>,
    /// Who wants to be told of what.
    pub push: Arc<PushRules>,
    /// Where applications want to be told.
    pub pushers: Pushers,
    /// What counts as unread, and for whom.
    pub unread_rules: Arc<dyn UnreadRules>,
    /// Bridges and bots.
    pub services: Services,
    /// Settings of this API.
    pub config: ApiConfig,
    /// Told of every answered request.
    pub observer: Arc<dyn Observer>,
    /// Holds `true` once the program is about to end: requests that wait for news are answered then.
    pub closing: watch::Receiver<bool>,
}

/// The settings of the client-server API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Where clients reach this server, for example `https://matrix.example.org`, as told at
    /// `/.well-known/matrix/client`. Without it that path answers 404, and clients use the server name.
    pub public_base_url: Option<String>,
    /// Believe the last address in `X-Forwarded-For`. Only right behind a proxy that sets it: anyone else could choose
    /// an address for every request, and so escape the limits by address.
    pub trust_forwarded_for: bool,
    /// Whom people turn to about this server.
    pub support: SupportConfig,
    /// The key of the policy server that has this server's name, if there is one.
    pub policy_server_key: Option<String>,
    /// The TURN server that callers meet at.
    pub turn: TurnConfig,
    /// The version of rooms that clients ask for without naming one.
    pub default_room_version: RoomVersionId,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            public_base_url: None,
            trust_forwarded_for: false,
            support: SupportConfig::default(),
            policy_server_key: None,
            turn: TurnConfig::default(),
            default_room_version: RoomVersionId::V11,
        }
    }
}

/// Told of every answered request, for metrics. Called on the request's task, so it must be quick.
pub trait Observer: Send + Sync + 'static {
    /// `operation` is the name the endpoint was registered with; streams count until their headers are sent.
    fn answered(&self, operation: &'static str, status: u16, elapsed: Duration);
}

/// Nobody watches.
impl Observer for () {
    fn answered(&self, _operation: &'static str, _status: u16, _elapsed: Duration) {}
}

impl Api {
    /// The API over these cores.
    pub fn new(cores: Cores) -> Self {
        let tokens = Tokens::new(cores.rooms.shard().identity(), rand::random());
        Self(Arc::new(Inner {
            cores,
            tokens,
            seen_members: SeenMembers::default(),
            connections: Connections::default(),
            facts: Facts::default(),
            own_requests: OwnRequests::default(),
            jobs: Jobs::default(),
        }))
    }

    /// The same without keeping it.
    pub(crate) fn downgrade(&self) -> WeakApi {
        WeakApi(Arc::downgrade(&self.0))
    }

    /// Reads and writes the tokens of `/sync` and of pages of history.
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// Which members each device was told of.
    pub(crate) fn seen_members(&self) -> &SeenMembers {
        &self.0.seen_members
    }

    /// What the connections of sliding sync know.
    pub(crate) fn connections(&self) -> &Connections {
        &self.0.connections
    }

    /// What lists of rooms ask of every room.
    pub(crate) fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// What devices are sending just now.
    pub(crate) fn own_requests(&self) -> &OwnRequests {
        &self.0.own_requests
    }

    /// What admins started that takes its time.
    pub(crate) fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    /// Returns when the program is about to end.
    pub(crate) async fn closing(&self) {
        // An error means that whoever would tell is gone, which is the end as well.
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
    }

    /// Takes one from what `key` may still do of this class; `M_LIMIT_EXCEEDED` when nothing is left.
    pub fn permit(&self, class: Class, key: LimitKey<'_>) -> Result<()> {
        // [AS-API §registration] `rate_limited`
        if let LimitKey::User(user) = key
            && self.services.is_unlimited(user)
        {
            return Ok(());
        }
        self.accounts.permit(class, key).map_err(|refused| Error::limit_exceeded(refused.retry_after))
    }
}

impl WeakApi {
    /// The API, unless everybody else let go of it.
    pub(crate) fn upgrade(&self) -> Option<Api> {
        self.0.upgrade().map(Api)
    }
}

impl Deref for Api {
    type Target = Cores;

    fn deref(&self) -> &Cores {
        &self.0.cores
    }
}
