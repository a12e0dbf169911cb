//! What all of this crate shares.

use std::{collections::HashSet, sync::Arc, time::Duration};

use koine_account::Accounts;
use koine_media::Media;
use koine_push::PushRules;
use koine_room::{Placed, RoomNo, Rooms};
use koine_store::{DomainId, Shard, Txn};
use quick_cache::sync::Cache;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId};

use crate::{address::Hosts, known, muc::Muc, session::Sessions};

/// Accounts whose block lists are remembered.
const BLOCK_LISTS_MAX: usize = 10_000;

/// Settings of XMPP.
#[derive(Clone, Debug)]
pub struct XmppConfig {
    /// Most bytes of a stanza of a client or server that has proven who it is. [XEP-0478]
    pub stanza_bytes_max: usize,
    /// Most bytes that wait for all sessions together, apart from a little for each.
    pub waiting_bytes_max: usize,
    /// How long a session whose connection broke waits to be resumed. [XEP-0198]
    pub resume_for: Duration,
    /// The TURN server that callers meet at. [XEP-0215]
    pub turn: Option<crate::Turn>,
    /// The address of the web server, by which files are had. Without one, `https://` and the domain.
    pub web_url: Option<String>,
    /// Whether somebody without an account may make one in the stream. [XEP-0077]
    pub registration: bool,
    /// Whether people who have an address of mail are reached through here.
    pub mail: bool,
    /// Reaches other XMPP servers; without it there are none.
    pub servers: Option<koine_net::Client>,
    /// The certificate that other servers are shown, so that they need not ask back who we are. [XEP-0178]
    pub identity: Option<Arc<dyn rustls::client::ResolvesClientCert>>,
    /// Domains whose servers are not talked to, in small letters; with everything below them.
    pub blocked_servers: Vec<String>,
    /// Programs with hosts of their own. [XEP-0114]
    pub components: Vec<crate::Component>,
    /// Where clients find the proxy for streams of bytes, if there is one. [XEP-0065]
    pub proxy: Option<crate::Proxy>,
    /// Whom people turn to. [XEP-0157]
    pub support: crate::Support,
    /// Whether clients on this machine may log in without TLS, though never with their password in the clear. For tests.
    pub plain_on_loopback: bool,
}

impl Default for XmppConfig {
    fn default() -> Self {
        Self {
            stanza_bytes_max: 512 * 1024,
            waiting_bytes_max: 64 * 1024 * 1024,
            resume_for: Duration::from_secs(600),
            registration: false,
            web_url: None,
            mail: false,
            turn: None,
            support: crate::Support::default(),
            plain_on_loopback: false,
            servers: None,
            identity: None,
            blocked_servers: Vec::new(),
            components: Vec::new(),
            proxy: None,
        }
    }
}

/// What an [`Xmpp`] is made of.
pub struct Cores {
    /// The tenant.
    pub domain: DomainId,
    /// Rooms.
    pub rooms: Arc<Rooms>,
    /// People.
    pub accounts: Arc<Accounts>,
    /// Files.
    pub media: Media,
    /// Who wants to be told what.
    pub push: Arc<PushRules>,
    /// Settings.
    pub config: XmppConfig,
    /// The time.
    pub now: fn() -> MilliSecondsSinceUnixEpoch,
}

/// XMPP of one domain. Cloning it costs a counter.
#[derive(Clone)]
pub struct Xmpp(pub(crate) Arc<Core>);

/// What every part of this crate works with.
pub(crate) struct Core {
    pub(crate) cores: Cores,
    pub(crate) hosts: Hosts,
    pub(crate) sessions: Sessions,
    pub(crate) waiting: Arc<crate::outbox::AllWaiting>,
    pub(crate) muc: Muc,
    /// Connections to other servers.
    pub(crate) links: crate::s2s::Links,
    pub(crate) components: crate::stream::component::Components,
    pub(crate) portals: crate::portal::Portals,
    pub(crate) meetings: crate::proxy::Meetings,
    pub(crate) im: crate::im::Im,
    pub(crate) wants: crate::xep::pep::Wants,
    pub(crate) pushes: crate::xep::push::Pushes,
    pub(crate) receipts: crate::xep::receipts::Receipts,
    /// Servers and sessions that accounts have blocked.
    pub(crate) blocked: Cache<OwnedUserId, Arc<HashSet<String>>>,
    /// Held while the picture of a profile is carried into the nodes: the newest comes last.
    pub(crate) avatars: tokio::sync::Mutex<()>,
    pub(crate) started: std::time::Instant,
    /// Known to nobody else, and the same after a restart.
    pub(crate) secret: [u8; 32],
}

impl Xmpp {
    /// Ready to serve. Nothing is delivered before [`start`](Self::start).
    ///
    /// # Errors
    /// A sentence, if the store cannot be read.
    pub fn new(cores: Cores) -> Result<Self, String> {
        let hosts = Hosts::new(cores.rooms.server_name());
        let components = crate::stream::component::Components::new(&cores.config.components);
        let secret = crate::secret::open(cores.rooms.shard(), cores.domain)?;
        let waiting = Arc::new(crate::outbox::AllWaiting::new(cores.config.waiting_bytes_max));
        Ok(Self(Arc::new(Core {
            cores,
            hosts,
            sessions: Sessions::default(),
            waiting,
            muc: Muc::default(),
            links: crate::s2s::Links::default(),
            components,
            portals: crate::portal::Portals::default(),
            meetings: crate::proxy::Meetings::default(),
            im: crate::im::Im::default(),
            wants: crate::xep::pep::Wants::default(),
            pushes: crate::xep::push::Pushes::default(),
            receipts: crate::xep::receipts::Receipts::default(),
            blocked: Cache::new(BLOCK_LISTS_MAX),
            avatars: tokio::sync::Mutex::default(),
            started: std::time::Instant::now(),
            secret,
        })))
    }

    /// Starts to deliver what happens. Needs a tokio runtime; the task ends when the shard does, or the last owner lets go.
    pub fn start(&self) {
        let domain = self.0.domain();
        let scribe = move |txn: &mut Txn, room: RoomNo, placed: &Placed| known::remember(txn, domain, room, placed);
        self.0.rooms().set_scribe(Box::new(scribe));
        crate::follow::start(&self.0);
        crate::portal::serve(&self.0);
        crate::portal::start(&self.0);
        // Devices of connections that the last run of the program had.
        let accounts = self.0.accounts().clone();
        tokio::spawn(async move {
            if let Err(error) = accounts.detach_left_over().await {
                tracing::warn!(reason = %error, "devices that are gone stay in the lists");
            }
        });
        crate::im::start(&self.0);
    }
}

impl Core {
    pub(crate) fn rooms(&self) -> &Arc<Rooms> {
        &self.cores.rooms
    }

    pub(crate) fn accounts(&self) -> &Arc<Accounts> {
        &self.cores.accounts
    }

    pub(crate) fn shard(&self) -> &Shard {
        self.cores.rooms.shard()
    }

    pub(crate) fn domain(&self) -> DomainId {
        self.cores.domain
    }

    pub(crate) fn config(&self) -> &XmppConfig {
        &self.cores.config
    }

    /// Whether a client at that address may log in without TLS.
    pub(crate) fn may_log_in_plain(&self, address: std::net::IpAddr) -> bool {
        self.cores.config.plain_on_loopback && address.to_canonical().is_loopback()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.cores.now)().get().into()
    }
}
