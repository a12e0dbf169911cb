//! Finding servers, with I/O: asks what a [`Search`] wants to know, and remembers what `.well-known` said.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
use ruma_common::ServerName;
use thiserror::Error;
use tokio::time::timeout;
use tracing::debug;
use url::Url;

use crate::{
    connect::{Aim, Connector},
    dns::DnsError,
    error::{Error, Stage},
    exchange::{Outgoing, Sender},
    health::Clock,
    name::{Authority, Host, PORT_DEFAULT},
    search::{Answer, Question, Route, Search, Step, Target},
    well_known::{self, Cache, Trail, Unusable},
};

/// How long finding a server may take, all questions together.
const FINDING_MAX: Duration = Duration::from_secs(40);
/// How long fetching a `.well-known` may take, redirects included.
const WELL_KNOWN_MAX: Duration = Duration::from_secs(20);

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Found {
    pub route: Route,
    /// The operator said so: the guard need not look.
    pub trusted: bool,
}

/// A place in the configuration that cannot be one.
#[derive(Clone, Debug, Error)]
#[error("static_destinations: {0:?} is no host, with or without a port")]
pub struct StaticError(String);

/// Finds servers.
pub struct Finder {
    pub connector: Arc<Connector>,
    places: HashMap<String, Authority>,
    cache: Mutex<Cache>,
    clock: Clock,
    well_known_port: u16,
    user_agent: HeaderValue,
}

impl Finder {
    pub fn new(
        connector: Arc<Connector>,
        places: &BTreeMap<String, String>,
        clock: Clock,
        well_known_port: u16,
        user_agent: HeaderValue,
    ) -> Result<Self, StaticError> {
        let read = |text: &String| Authority::parse(text).ok_or_else(|| StaticError(text.clone()));
        let mut known = HashMap::new();
        for (name, place) in places {
            read(name)?;
            known.insert(name.to_ascii_lowercase(), read(place)?);
        }
        Ok(Self { connector, places: known, cache: Mutex::default(), clock, well_known_port, user_agent })
    }

    /// Where a server is, from what is known and what has to be asked.
    pub async fn find(&self, server: &ServerName) -> Result<Found, Error> {
        let server = Authority::from(server);
        if let Some(route) = self.fixed(&server) {
            return Ok(Found { route, trusted: true });
        }
        let late = |_| Error::Timeout { stage: Stage::Finding, limit: FINDING_MAX };
        let route = timeout(FINDING_MAX, self.search(server)).await.map_err(late)??;
        Ok(Found { route, trusted: false })
    }

    /// Where the operator says that a service of a host is: under its name with the port, or under the name alone where
    /// that says nothing of ports.
    pub fn fixed_service(&self, host: &str, port: u16) -> Option<Target> {
        let host = host.to_ascii_lowercase();
        let place = || self.places.get(&host).filter(|place| place.port.is_none());
        self.fixed_port(&host, port)
            .or_else(|| place().map(|place| Target { host: place.host.clone(), port: place.port.unwrap_or(port) }))
    }

    /// The same, under its name with the port alone.
    pub fn fixed_port(&self, host: &str, port: u16) -> Option<Target> {
        let place = self.places.get(&format!("{}:{port}", host.to_ascii_lowercase()))?;
        Some(Target { host: place.host.clone(), port: place.port.unwrap_or(port) })
    }

    fn fixed(&self, server: &Authority) -> Option<Route> {
        let place = self.places.get(&server.text.to_ascii_lowercase());
        let place = place.or_else(|| self.places.get(&server.host.to_string()))?;
        let port = place.port.or(server.port).unwrap_or(PORT_DEFAULT);
        let targets = vec![Target { host: place.host.clone(), port }];
        Some(Route { host_header: server.text.clone(), certificate: server.host.clone(), targets })
    }

    async fn search(&self, server: Authority) -> Result<Route, Error> {
        let name = server.text.clone();
        let mut step = Search::begin(server);
        loop {
            match step {
                Step::Ask(question, search) => {
                    let answer = self.ask(&question).await;
                    step = search.answer(answer, &mut rand::rng());
                }
                Step::Found(route) => return Ok(route),
                Step::NotOffered => return Err(Error::NotFound(name)),
            }
        }
    }

    async fn ask(&self, question: &Question) -> Answer {
        match question {
            Question::WellKnown(host) => self.well_known(host).await.map_or(Answer::Nothing, Answer::Delegated),
            Question::Srv(service, host) => match self.connector.dns.services(&service.query_name(host)).await {
                Ok(records) => Answer::Records(records),
                Err(DnsError::NotFound) => Answer::Nothing,
                // A name server that fails for SRV alone is not rare. The search goes on: the certificate has to be for
                // the name in any case.
                Err(DnsError::Failed(reason)) => {
                    debug!(peer = host, reason, "SRV records cannot be asked for");
                    Answer::Nothing
                }
            },
        }
    }

    async fn well_known(&self, host: &str) -> Option<Authority> {
        if let Some(known) = self.cache.lock().get(host, self.now()) {
            return known;
        }
        let fetched = timeout(WELL_KNOWN_MAX, self.fetch_well_known(host)).await;
        let found = match fetched.unwrap_or_else(|_| Err(Unusable::Unreachable("it takes too long".to_owned()))) {
            Ok(found) => Some(found),
            Err(reason) => {
                debug!(peer = host, %reason, "no usable .well-known");
                None
            }
        };
        self.cache.lock().put(host, found.clone(), self.now());
        found.map(|(delegated, _)| delegated)
    }

    async fn fetch_well_known(&self, host: &str) -> Result<(Authority, Duration), Unusable> {
        let no_host = || Unusable::Unreachable("it is no host".to_owned());
        let mut trail = Trail::begin(host, self.well_known_port).ok_or_else(no_host)?;
        loop {
            let unreachable = |error: Error| Unusable::Unreachable(error.to_string());
            let answer = self.fetch(trail.url(), HeaderMap::new()).await.map_err(unreachable)?;
            let (head, body) = answer.into_parts();
            if trail.follow(head.status, &head.headers)? {
                continue;
            }
            let body = Limited::new(body, well_known::BODY_BYTES_MAX).collect().await;
            let body: Bytes = body.map_err(|_| Unusable::TooLong)?.to_bytes();
            let delegated = well_known::read(head.status, &body)?;
            return Ok((delegated, well_known::keep(&head.headers, SystemTime::now())));
        }
    }

    /// `GET` of a public address, over a connection of its own. Redirects are not followed.
    pub async fn fetch(
        &self,
        url: &Url,
        mut headers: HeaderMap,
    ) -> Result<http::Response<hyper::body::Incoming>, Error> {
        let wrong = || Error::Request(format!("{url} is no address to fetch from"));
        if url.scheme() != "https" {
            return Err(wrong());
        }
        let host = Host::parse(url.host_str().ok_or_else(wrong)?);
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let targets = [Target { host: host.clone(), port }];
        let aim = Aim { name: authority, certificate: &host, targets: &targets, trusted: false };
        let stream = self.connector.connect(&aim, &self.connector.tls.http1).await?;
        headers.entry(header::USER_AGENT).or_insert_with(|| self.user_agent.clone());
        let path_and_query = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
        let outgoing = Outgoing { method: Method::GET, path_and_query, headers, body: None };
        let mut sender = Sender::new(stream, None).await?;
        sender.send(&outgoing, authority).await.map_err(|unanswered| unanswered.error)
    }

    /// A server shows signs of life: errors of its `.well-known` are old news.
    pub fn heard_from(&self, server: &ServerName) {
        self.cache.lock().forget_error(&server.host().to_ascii_lowercase());
    }

    pub fn sweep(&self) {
        let now = self.now();
        self.cache.lock().sweep(now);
    }

    fn now(&self) -> Instant {
        (self.clock)()
    }
}
