//! The one client: every request to another server goes through here.
//!
//! `send` is the whole journey: is the server being left alone? is there a place, a connection? else find the server,
//! connect, and tell the book of back-off how it went.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, header};
use ruma_common::ServerName;
use thiserror::Error;
use tokio::{
    sync::{MutexGuard, OwnedSemaphorePermit},
    time::{Instant as Deadline, timeout, timeout_at},
};
use url::Url;

use crate::{
    backoff::Policy,
    config::Config,
    connect::{Aim, Connector},
    discover::{Finder, StaticError},
    dns::{DnsError, Resolver, SystemDns},
    error::{Error, Fault, Stage},
    exchange::{Outgoing, Sender, Unanswered},
    guard::Guard,
    health::{Clock, Health},
    message::{Body, Ended, Limits, Request, Response},
    pool::{Connection, Peer, Pool},
    search::Route,
    tls::{Tls, TlsSetupError},
    web::{Web, WebRequest},
};

/// Where `.well-known` is served.
const WELL_KNOWN_PORT: u16 = 443;
/// How often idle connections and old memories are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often a request is sent again because the kept connection it went over was closed.
const REPEATS_MAX: u32 = 3;
/// What we call ourselves.
const USER_AGENT: &str = concat!("Koine/", env!("CARGO_PKG_VERSION"));

/// Why there is no client.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The machine's DNS settings.
    #[error("DNS cannot be used: {0}")]
    Dns(#[from] DnsError),
    /// Certificate authorities.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The configuration.
    #[error(transparent)]
    Static(#[from] StaticError),
}

/// What a client is made of, for those who bring their own.
pub struct Parts {
    /// Answers DNS.
    pub dns: Arc<dyn Resolver>,
    /// Tells the time for back-off and caches.
    pub clock: Clock,
    /// Where `.well-known` is asked for: 443, except in tests.
    pub well_known_port: u16,
}

impl Parts {
    /// What the server uses.
    pub fn of_this_machine() -> Result<Self, DnsError> {
        Ok(Self { dns: Arc::new(SystemDns::new()?), clock: Arc::new(Instant::now), well_known_port: WELL_KNOWN_PORT })
    }
}

/// Talks to other servers. Cheap to clone; all clones share connections, caches and the book of back-off.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

struct Inner {
    finder: Finder,
    pool: Pool,
    health: Arc<Health>,
    web: Web,
    user_agent: HeaderValue,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    failures: AtomicU64,
    opened: AtomicU64,
    reused: AtomicU64,
}

/// What a client has done and what it holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that were let through.
    pub requests: u64,
    /// Of those, without an answer or with an error as answer.
    pub failures: u64,
    /// Connections made.
    pub connections_opened: u64,
    /// Requests that went over a connection that was there.
    pub connections_reused: u64,
    /// Servers with connections now.
    pub servers_connected: usize,
    /// Servers that failed lately.
    pub servers_failing: usize,
}

impl Client {
    /// A client as the configuration says. Call it within the runtime: it looks after its connections from a task, which
    /// ends with the last clone.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        Self::with_parts(config, Parts::of_this_machine()?)
    }

    /// A client with another DNS or clock.
    pub fn with_parts(config: &Config, parts: Parts) -> Result<Self, SetupError> {
        let Parts { dns, clock, well_known_port } = parts;
        let connector = Arc::new(Connector {
            dns,
            guard: Guard::new(config.allow_ranges.clone()),
            tls: Tls::new(config.extra_authorities.as_ref())?,
            limit: Duration::from_secs(config.connect_s),
        });
        let user_agent = HeaderValue::from_static(USER_AGENT);
        let places = &config.static_destinations;
        let finder = Finder::new(connector, places, clock.clone(), well_known_port, user_agent.clone())?;
        let idle = Duration::from_secs(config.idle_s);
        let policy = Policy {
            min: Duration::from_secs(config.backoff_min_s),
            max: Duration::from_secs(config.backoff_max_s.max(config.backoff_min_s)),
        };
        let inner = Arc::new(Inner {
            finder,
            pool: Pool::new(config.connections_max, config.requests_per_server_max, idle),
            health: Arc::new(Health::new(policy, clock)),
            web: Web::new(),
            user_agent,
            counts: Counts::default(),
        });
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY.min(idle.max(Duration::from_secs(1)))).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.sweep();
            }
        });
        Ok(Self(inner))
    }

    /// Sends a request. An answer other than 200 to 299 is an error; redirects are not followed.
    ///
    /// Dropping the future gives the request up; the server may have acted upon it.
    pub async fn send(&self, server: &ServerName, request: Request) -> Result<Response, Error> {
        let inner = &self.0;
        if !request.urgent
            && let Some(until) = inner.health.ready_at(server)
        {
            return Err(Error::Backoff { until });
        }
        let began = inner.health.now();
        inner.counts.requests.fetch_add(1, Ordering::Relaxed);
        let total = request.limits.total;
        let deadline = Deadline::now() + total;
        let sent = timeout_at(deadline, inner.send(server, &request, deadline, began)).await;
        let answer = sent.unwrap_or(Err(Error::Timeout { stage: Stage::Total, limit: total }));
        if let Err(error) = &answer {
            inner.counts.failures.fetch_add(1, Ordering::Relaxed);
            match error.fault() {
                Fault::Refused => _ = inner.health.recovered(server),
                _ => inner.health.failed(server, began, error),
            }
        }
        answer
    }

    /// Fetches a public `https` address that is not a Matrix server's, as media of other servers may lie elsewhere.
    /// The guard looks; back-off, the pool and signatures have no part in it; redirects are not followed.
    pub async fn fetch(&self, url: &Url, headers: HeaderMap, limits: Limits) -> Result<Response, Error> {
        let deadline = Deadline::now() + limits.total;
        let late = |_| Error::Timeout { stage: Stage::Headers, limit: limits.headers };
        let answer = timeout(limits.headers, self.0.finder.fetch(url, headers)).await.map_err(late)??;
        judge(answer, limits, deadline, Box::new(|_| {})).await
    }

    /// Sends a request to an address of the web that is not a Matrix server's. An answer other than 200 to 299 is an
    /// error; redirects are not followed.
    pub async fn web(&self, request: WebRequest) -> Result<Response, Error> {
        self.0.web.send(&self.0.finder.connector, &self.0.user_agent, request).await
    }

    /// When a server may be tried: `None` if at once.
    pub fn ready_at(&self, server: &ServerName) -> Option<Instant> {
        self.0.health.ready_at(server)
    }

    /// Waits until a server may be tried, or is back.
    pub async fn until_ready(&self, server: &ServerName) {
        self.0.health.until_ready(server).await;
    }

    /// A server called us, provably: it is tried again at once. Returns whether it was being left alone.
    pub fn heard_from(&self, server: &ServerName) -> bool {
        let news = self.0.health.recovered(server);
        if news {
            self.0.finder.heard_from(server);
        }
        news
    }

    /// Counts a failure that only the caller can tell, as of an answer that makes no sense or a 500 to a transaction.
    /// `began` is when the request did.
    pub fn failed(&self, server: &ServerName, began: Instant, error: &Error) {
        self.0.health.failed_surely(server, began, error);
    }

    pub(crate) fn finder(&self) -> &Finder {
        &self.0.finder
    }

    /// The time by the clock that back-off uses.
    pub fn now(&self) -> Instant {
        self.0.health.now()
    }

    /// Where requests for a server would go: for admin commands and tests.
    pub async fn route(&self, server: &ServerName) -> Result<Route, Error> {
        self.0.finder.find(server).await.map(|found| found.route)
    }

    /// What has been done.
    pub fn counters(&self) -> Counters {
        let Inner { counts, pool, health, .. } = &*self.0;
        Counters {
            requests: counts.requests.load(Ordering::Relaxed),
            failures: counts.failures.load(Ordering::Relaxed),
            connections_opened: counts.opened.load(Ordering::Relaxed),
            connections_reused: counts.reused.load(Ordering::Relaxed),
            servers_connected: pool.peers(),
            servers_failing: health.failing(),
        }
    }
}

impl Inner {
    async fn send(
        &self,
        server: &ServerName,
        request: &Request,
        deadline: Deadline,
        began: Instant,
    ) -> Result<Response, Error> {
        let outgoing = self.outgoing(server, request);
        let limits = request.limits;
        let peer = self.pool.peer(server);
        let late = |_| Error::Timeout { stage: Stage::Waiting, limit: limits.total };
        let place = timeout_at(deadline, peer.place()).await.map_err(late)??;

        let mut kept = self.pool.take(&peer);
        let mut repeats = 0;
        let (connection, answer) = loop {
            let (mut connection, reused) = match kept.take() {
                Some(connection) => (connection, true),
                None => self.connect(server, &peer).await?,
            };
            let late = |_| Error::Timeout { stage: Stage::Headers, limit: limits.headers };
            let host = connection.host.clone();
            let answer = timeout(limits.headers, connection.sender.send(&outgoing, &host)).await.map_err(late)?;
            match answer {
                Ok(answer) => {
                    self.counts.reused.fetch_add(u64::from(reused), Ordering::Relaxed);
                    break (connection, answer);
                }
                // A kept connection may have been closed by the other side just now: that is no failure of the server.
                Err(unanswered) if reused && repeats < REPEATS_MAX && may_repeat(&unanswered, &outgoing.method) => {
                    repeats += 1;
                }
                Err(unanswered) => return Err(unanswered.error),
            }
        };
        let working = answer.status().is_success();
        let ended = self.ended(server, began, working, (peer, connection, place));
        judge(answer, limits, deadline, ended).await
    }

    /// What happens once the body was read, or could not be.
    fn ended(
        &self,
        server: &ServerName,
        began: Instant,
        working: bool,
        held: (Arc<Peer>, Connection, OwnedSemaphorePermit),
    ) -> Ended {
        let (health, server) = (self.health.clone(), server.to_owned());
        Box::new(move |how| {
            let (peer, connection, _place) = held;
            match how {
                Ok(()) => {
                    peer.give_back(connection);
                    if working {
                        health.recovered(&server);
                    }
                }
                Err(error) => health.failed(&server, began, error),
            }
        })
    }

    fn outgoing(&self, server: &ServerName, request: &Request) -> Outgoing {
        let mut headers = request.headers.clone();
        headers.entry(header::USER_AGENT).or_insert_with(|| self.user_agent.clone());
        if request.body.is_some() {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        if let Some(authorization) = request.authorization(server) {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        Outgoing {
            method: request.method.clone(),
            path_and_query: request.path_and_query.clone(),
            headers,
            body: request.body.clone(),
        }
    }

    /// A new connection, or one that another request has just made and can share (then `true`).
    async fn connect(&self, server: &ServerName, peer: &Peer) -> Result<(Connection, bool), Error> {
        let since = Deadline::now();
        let alone = peer.connecting.lock().await;
        if let Some(connection) = self.pool.take(peer) {
            return Ok((connection, true));
        }
        // Who waited while another request found that nobody is there need not find that out again.
        if let Some(error) = peer.failed_since(since) {
            return Err(error);
        }
        let made = self.connect_anew(server, peer, alone).await;
        if let Err(error) = &made {
            peer.connecting_failed(error);
        }
        made.map(|connection| (connection, false))
    }

    async fn connect_anew(
        &self,
        server: &ServerName,
        peer: &Peer,
        alone: MutexGuard<'_, ()>,
    ) -> Result<Connection, Error> {
        let found = self.finder.find(server).await?;
        // An HTTP/1.1 server has one connection for each request: they are made side by side.
        let _alone = (!peer.is_http1()).then_some(alone);
        let Route { host_header, certificate, targets } = &found.route;
        let aim = Aim { name: server.as_str(), certificate, targets, trusted: found.trusted };
        let connector = &self.finder.connector;
        let late = |_| Error::Timeout { stage: Stage::Waiting, limit: connector.limit };
        let place = timeout(connector.limit, self.pool.place()).await.map_err(late)?;
        let stream = connector.connect(&aim, &connector.tls.any).await?;
        let connection = Connection::new(Sender::new(stream, Some(place)).await?, host_header);
        self.counts.opened.fetch_add(1, Ordering::Relaxed);
        peer.made(&connection);
        Ok(connection)
    }

    fn sweep(&self) {
        self.pool.sweep();
        self.finder.sweep();
        self.health.sweep();
        self.web.sweep();
    }
}

/// Whether a request may be sent once more: the server has not seen it, or seeing it twice does no harm.
fn may_repeat(unanswered: &Unanswered, method: &Method) -> bool {
    unanswered.unsent || (method.is_idempotent() && matches!(unanswered.error, Error::Broken(_)))
}

/// Success or not.
pub(crate) async fn judge(
    answer: http::Response<hyper::body::Incoming>,
    limits: Limits,
    deadline: Deadline,
    ended: Ended,
) -> Result<Response, Error> {
    let (head, incoming) = answer.into_parts();
    if head.status.is_success() {
        let body = Body::new(incoming, limits, deadline, ended);
        return Ok(Response { status: head.status, headers: head.headers, body });
    }
    let body = Body::new(incoming, limits, deadline, ended).excerpt().await;
    Err(Error::Status { status: head.status, headers: Box::new(head.headers), body })
}
