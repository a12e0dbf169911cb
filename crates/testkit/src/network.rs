//! The pretend network: requests go from router to router, some late, some never, some twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use koine_matrix_federation::{Bounds, Future, PeerError, Peers};
use parking_lot::Mutex;
use rand::{Rng as _, rngs::StdRng};
use ruma_common::{OwnedServerName, ServerName};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;

use crate::{chance, clock};

/// What befalls requests. Shares are of all requests.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest and longest time in one direction, in milliseconds.
    pub delay_ms: (u64, u64),
    /// Share of requests that do not arrive.
    pub lost: f64,
    /// Share of requests that are obeyed, but whose answer does not arrive.
    pub unanswered: f64,
    /// Share of requests that arrive twice.
    pub twice: f64,
}

impl Weather {
    /// Everything arrives.
    pub const FINE: Self = Self { delay_ms: (1, 40), lost: 0.0, unanswered: 0.0, twice: 0.0 };
}

/// What connects the servers.
pub struct Network {
    seed: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    /// With the number of times that the server began to serve.
    routers: BTreeMap<OwnedServerName, (Router, u64)>,
    beginnings: u64,
    links: BTreeMap<(OwnedServerName, OwnedServerName), StdRng>,
    weather: Weather,
    /// Servers that reach only each other; the others reach those who are not named here.
    island: BTreeSet<OwnedServerName>,
    /// Milliseconds in which something arrives. Nothing else does then, so that what servers do about it, also in other
    /// threads, is done before the next thing happens.
    taken: BTreeSet<u64>,
    trace: Vec<String>,
    failures: Vec<String>,
}

/// What befalls one request.
struct Fate {
    there: Duration,
    back: Duration,
    is_lost: bool,
    is_unanswered: bool,
    again_after: Option<Duration>,
}

impl Network {
    /// Without servers, in fine weather.
    pub fn new(seed: u64) -> Arc<Self> {
        let inner = Inner {
            routers: BTreeMap::new(),
            beginnings: 0,
            links: BTreeMap::new(),
            weather: Weather::FINE,
            island: BTreeSet::new(),
            taken: BTreeSet::new(),
            trace: Vec::new(),
            failures: Vec::new(),
        };
        Arc::new(Self { seed, inner: Mutex::new(inner) })
    }

    /// A server answers under this name from now on, or nobody does.
    pub fn serve(&self, name: &ServerName, router: Option<Router>) {
        let mut inner = self.inner.lock();
        match router {
            Some(router) => {
                inner.beginnings += 1;
                let place = (router, inner.beginnings);
                inner.routers.insert(name.to_owned(), place);
            }
            None => drop(inner.routers.remove(name)),
        }
    }

    /// From now on.
    pub fn set_weather(&self, weather: Weather) {
        self.inner.lock().weather = weather;
    }

    /// Cuts these servers off from the others, and heals every cut before.
    pub fn cut_off(&self, island: impl IntoIterator<Item = OwnedServerName>) {
        self.inner.lock().island = island.into_iter().collect();
    }

    /// Writes a line into the record of what happened.
    pub fn note(&self, line: &str) {
        let at = u64::from(clock::now().get()) % 100_000_000;
        self.inner.lock().trace.push(format!("{at:>9} {line}"));
    }

    /// Something happened that never may.
    pub fn fail(&self, what: String) {
        self.note(&what);
        self.inner.lock().failures.push(what);
    }

    /// What happened that never may.
    pub fn failures(&self) -> Vec<String> {
        self.inner.lock().failures.clone()
    }

    /// What happened.
    pub fn trace(&self) -> Vec<String> {
        self.inner.lock().trace.clone()
    }

    fn is_cut(&self, one: &ServerName, other: &ServerName) -> bool {
        let inner = self.inner.lock();
        inner.island.contains(one) != inner.island.contains(other)
    }

    fn fate(&self, from: &ServerName, to: &ServerName) -> Fate {
        let mut inner = self.inner.lock();
        let weather = inner.weather;
        let link = (from.to_owned(), to.to_owned());
        let seed = self.seed;
        let chance = inner.links.entry(link).or_insert_with(|| chance::of(seed, &format!("link {from} {to}")));
        let mut delay = || Duration::from_millis(chance.random_range(weather.delay_ms.0..=weather.delay_ms.1));
        let (there, back, again) = (delay(), delay(), delay());
        Fate {
            there,
            back,
            is_lost: chance.random_bool(weather.lost),
            is_unanswered: chance.random_bool(weather.unanswered),
            again_after: chance.random_bool(weather.twice).then_some(again),
        }
    }

    /// Takes about so long, and arrives alone.
    async fn travel(&self, time: Duration) {
        let now = u64::from(clock::now().get());
        let arrival = {
            let mut inner = self.inner.lock();
            inner.taken = inner.taken.split_off(&now);
            let mut arrival = now + u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2);
            while !inner.taken.insert(arrival) {
                arrival += 1;
            }
            arrival
        };
        tokio::time::sleep(Duration::from_millis(arrival - now)).await;
    }

    /// Hands a request to the server, which works on it whether or not anybody waits.
    async fn deliver(self: Arc<Self>, from: OwnedServerName, to: OwnedServerName, request: Request) -> Option<Answer> {
        let (router, began) = self.inner.lock().routers.get(&to).cloned()?;
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let hash = Sha256::digest(request.body());
        self.note(&format!("{from} > {to} {method} {path} {:02x}{:02x}", hash[0], hash[1]));
        let answer = router.oneshot(request.map(axum::body::Body::from)).await.expect("routers answer");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("the body is in memory").to_bytes();
        if self.inner.lock().routers.get(&to).is_none_or(|(_, now)| *now != began) {
            // It crashed meanwhile: whatever it said, nobody heard it.
            return None;
        }
        let hash = Sha256::digest(&body);
        self.note(&format!("{from} < {to} {method} {path} {} {:02x}{:02x}", parts.status, hash[0], hash[1]));
        if parts.status.is_server_error() {
            let said = String::from_utf8_lossy(&body).into_owned();
            self.fail(format!("{to} answered {} to {method} {path}: {said}", parts.status));
        }
        Some(http::Response::from_parts(parts, body))
    }

    async fn carry(
        self: Arc<Self>,
        (from, to): (OwnedServerName, OwnedServerName),
        request: Request,
        bounds: Bounds,
    ) -> Result<Answer, PeerError> {
        let fate = self.fate(&from, &to);
        let too_late = || PeerError::Unreachable("it did not answer in time".into());
        self.travel(fate.there).await;
        if self.is_cut(&from, &to) {
            return Err(PeerError::Unreachable("the network fell apart".into()));
        }
        if fate.is_lost {
            tokio::time::sleep(bounds.time).await;
            return Err(too_late());
        }
        if let Some(after) = fate.again_after {
            let network = self.clone();
            let again = network.clone().deliver(from.clone(), to.clone(), request.clone());
            tokio::spawn(async move {
                network.travel(after).await;
                again.await
            });
        }
        let working = tokio::spawn(self.clone().deliver(from.clone(), to.clone(), request));
        let answer = match working.await {
            Ok(answer) => answer.ok_or_else(|| PeerError::Unreachable("nobody is there".into()))?,
            Err(error) => {
                self.fail(format!("{to} panicked: {error}"));
                return Err(too_late());
            }
        };
        self.travel(fate.back).await;
        if fate.is_unanswered || self.is_cut(&from, &to) {
            tokio::time::sleep(bounds.time).await;
            return Err(too_late());
        }
        Ok(answer)
    }
}

type Request = http::Request<Bytes>;
type Answer = http::Response<Bytes>;

/// The network as one server sees it.
pub struct Plug {
    /// What it is plugged into.
    pub network: Arc<Network>,
    /// Whose it is.
    pub name: OwnedServerName,
}

impl Peers for Plug {
    fn request<'a>(
        &'a self,
        server: &'a ServerName,
        request: Request,
        bounds: Bounds,
    ) -> Future<'a, Result<Answer, PeerError>> {
        Box::pin(self.network.clone().carry((self.name.clone(), server.to_owned()), request, bounds))
    }

    fn heard_from(&self, _: &ServerName) {}
}
