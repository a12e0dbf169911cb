//! Requests to addresses of the web, `http` and `https`: push gateways, application services, pages to show a preview of.
//!
//! Unlike Matrix servers they are not looked for: the address says where they are. The guard looks at every address
//! connected to, unless the operator named it. Connections are kept for a short while and used again; redirects are not
//! followed; leaving somebody alone who fails is the caller's business.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use url::{Position, Url};

use crate::{
    client::judge,
    connect::{Aim, Connector},
    error::{Error, Stage},
    exchange::{Outgoing, Sender},
    message::{Ended, Limits, Response},
    name::Host,
    search::Target,
};

/// Requests under way at the same time, to all addresses together.
const REQUESTS_MAX: usize = 512;
/// Connections to one host that are kept though nobody uses them.
const IDLE_PER_HOST_MAX: usize = 8;
/// Hosts with such connections.
const IDLE_HOSTS_MAX: usize = 256;
/// How long they are kept.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A request to an address of the web.
#[derive(Clone, Debug)]
pub struct WebRequest {
    /// The method.
    pub method: Method,
    /// Where: `http` or `https`.
    pub url: Url,
    /// Headers beside `Host`, `User-Agent`, and `Content-Type` (JSON if there is a body and none is given here).
    pub headers: HeaderMap,
    /// The body.
    pub body: Option<Bytes>,
    /// How long and how large the answer may be.
    pub limits: Limits,
    /// The operator named the address in the configuration: the guard need not look.
    pub trusted: bool,
}

impl WebRequest {
    /// `GET`.
    pub fn get(url: Url, limits: Limits) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: None, limits, trusted: false }
    }

    /// A request with JSON as its body.
    pub fn json(method: Method, url: Url, json: impl Into<Bytes>, limits: Limits) -> Self {
        Self { method, body: Some(json.into()), ..Self::get(url, limits) }
    }

    /// With a header more.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// To an address that the operator named.
    #[must_use]
    pub fn trusted(mut self) -> Self {
        self.trusted = true;
        self
    }
}

struct Idle {
    sender: Sender,
    since: Instant,
}

type Kept = Arc<Mutex<HashMap<String, Vec<Idle>>>>;

/// Connections to addresses of the web.
pub(crate) struct Web {
    places: Arc<Semaphore>,
    kept: Kept,
}

impl Web {
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(REQUESTS_MAX)), kept: Kept::default() }
    }

    pub(crate) async fn send(
        &self,
        connector: &Connector,
        user_agent: &HeaderValue,
        request: WebRequest,
    ) -> Result<Response, Error> {
        let deadline = Instant::now() + request.limits.total;
        let late = |_| Error::Timeout { stage: Stage::Waiting, limit: request.limits.total };
        let place = timeout_at(deadline, self.places.clone().acquire_owned()).await.map_err(late)?;
        let place = place.expect("nobody closes this semaphore");
        let limits = request.limits;
        let outgoing = outgoing(&request, user_agent);
        let authority = request.url[Position::BeforeHost..Position::AfterPort].to_owned();
        let key = key(&request);

        let mut kept = self.take(&key);
        let (sender, answer) = loop {
            let reused = kept.is_some();
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => {
                    let late = |_| Error::Timeout { stage: Stage::Connecting, limit: limits.total };
                    timeout_at(deadline, connect(connector, &request)).await.map_err(late)??
                }
            };
            let late = |_| Error::Timeout { stage: Stage::Headers, limit: limits.headers };
            match timeout(limits.headers, sender.send(&outgoing, &authority)).await.map_err(late)? {
                Ok(answer) => break (sender, answer),
                // A kept connection may have been closed by the other side just now.
                Err(unanswered) if reused && (unanswered.unsent || outgoing.method.is_idempotent()) => {}
                Err(unanswered) => return Err(unanswered.error),
            }
        };
        judge(answer, limits, deadline, self.ended(key, sender, place)).await
    }

    /// What happens once the body was read: the connection is kept.
    fn ended(&self, key: String, sender: Sender, place: OwnedSemaphorePermit) -> Ended {
        let kept = self.kept.clone();
        Box::new(move |how| {
            let _place = place;
            if how.is_err() || sender.is_closed() {
                return;
            }
            let mut kept = kept.lock();
            let is_known = kept.contains_key(&key);
            if !is_known && kept.len() >= IDLE_HOSTS_MAX {
                return;
            }
            let idle = kept.entry(key).or_default();
            if idle.len() < IDLE_PER_HOST_MAX {
                idle.push(Idle { sender, since: Instant::now() });
            }
        })
    }

    fn take(&self, key: &str) -> Option<Sender> {
        let mut kept = self.kept.lock();
        let idle = kept.get_mut(key)?;
        while let Some(connection) = idle.pop() {
            if !connection.sender.is_closed() && connection.since.elapsed() < IDLE_MAX {
                return Some(connection.sender);
            }
        }
        None
    }

    pub(crate) fn sweep(&self) {
        self.kept.lock().retain(|_, idle| {
            idle.retain(|connection| !connection.sender.is_closed() && connection.since.elapsed() < IDLE_MAX);
            !idle.is_empty()
        });
    }
}

/// Which kept connections may be used: those that were judged by the same rules.
fn key(request: &WebRequest) -> String {
    let guard = if request.trusted { "trusted " } else { "" };
    format!("{guard}{}", &request.url[..Position::AfterPort])
}

async fn connect(connector: &Connector, request: &WebRequest) -> Result<Sender, Error> {
    let url = &request.url;
    let wrong = || Error::Request(format!("{url} is no address of the web"));
    let host = Host::parse(url.host_str().ok_or_else(wrong)?);
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    let targets = [Target { host: host.clone(), port }];
    let aim = Aim { name: authority, certificate: &host, targets: &targets, trusted: request.trusted };
    match url.scheme() {
        "https" => Sender::new(connector.connect(&aim, &connector.tls.http1).await?, None).await,
        "http" => Sender::plain(connector.connect_plain(&aim).await?).await,
        _ => Err(wrong()),
    }
}

fn outgoing(request: &WebRequest, user_agent: &HeaderValue) -> Outgoing {
    let mut headers = request.headers.clone();
    headers.entry(header::USER_AGENT).or_insert_with(|| user_agent.clone());
    if request.body.is_some() {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    Outgoing {
        method: request.method.clone(),
        path_and_query: request.url[Position::BeforePath..Position::AfterQuery].to_owned(),
        headers,
        body: request.body.clone(),
    }
}
