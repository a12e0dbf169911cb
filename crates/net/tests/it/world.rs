//! A pretend internet on loopback: names, an authority, TLS servers that behave as told, and a clock.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::IpAddr,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use koine_net::{
    Client, Config, Parts, Resolver,
    dns::{Answering, DnsError},
    search::SrvRecord,
};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

/// Everything a client can reach.
pub struct World {
    authority: Authority,
    pub dns: Arc<Dns>,
    pub clock: Arc<Clock>,
    folder: TempDir,
    /// Where `.well-known` is asked for; nobody listens there at first.
    web_place: Mutex<Option<Closed>>,
    pub web_port: u16,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let web = Closed::new();
        let world = Self {
            authority: Authority::new(),
            dns: Arc::default(),
            clock: Arc::new(Clock { start: Instant::now(), passed: Mutex::default() }),
            folder,
            web_port: web.port,
            web_place: Mutex::new(Some(web)),
        };
        std::fs::write(world.authority_file(), &world.authority.pem).expect("a writable folder");
        world
    }

    pub fn authority_file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// A configuration that believes the authority and allows loopback.
    pub fn config(&self) -> Config {
        Config { extra_authorities: Some(self.authority_file()), ..Config::default() }.with_loopback()
    }

    pub fn client(&self) -> Client {
        self.client_with(&self.config())
    }

    pub fn client_with(&self, config: &Config) -> Client {
        let clock = self.clock.clone();
        let parts =
            Parts { dns: self.dns.clone(), clock: Arc::new(move || clock.now()), well_known_port: self.web_port };
        Client::with_parts(config, parts).expect("a client")
    }

    /// A server with a certificate for these names.
    pub fn server(&self, names: &[&str], replies: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        serve(Closed::new(), self.authority.certificate(names, |_| {}), replies)
    }

    /// The one that serves `.well-known` for these names.
    pub fn web(&self, names: &[&str], replies: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        let place = self.web_place.lock().take().expect("one web server for each world");
        serve(place, self.authority.certificate(names, |_| {}), replies)
    }

    /// A server whose certificate is out of date.
    pub fn expired(&self, names: &[&str]) -> Server {
        let expired = self.authority.certificate(names, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        });
        serve(Closed::new(), expired, |_| Reply::json("{}"))
    }

    /// A server whose certificate comes from somebody else.
    pub fn impostor(&self, names: &[&str]) -> Server {
        serve(Closed::new(), Authority::new().certificate(names, |_| {}), |_| Reply::json("{}"))
    }
}

fn serve(place: Closed, tls: ServerConfig, replies: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    let port = place.port;
    let listener = place.socket.listen(1024).expect("a socket that can listen");
    let state = Arc::new(State {
        replies: Box::new(replies),
        seen: Mutex::default(),
        connections: AtomicUsize::new(0),
        active: watch::Sender::new(0),
        active_most: AtomicUsize::new(0),
    });
    let listening = tokio::spawn(listen(listener, TlsAcceptor::from(Arc::new(tls)), state.clone()));
    Server { port, state, listening }
}

/// A port that is taken, and where nobody listens: connecting is refused.
pub struct Closed {
    socket: TcpSocket,
    pub port: u16,
}

impl Closed {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let port = socket.local_addr().expect("an address").port();
        Self { socket, port }
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn certificate(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("key and certificate belong together");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

/// DNS as the test says it is.
#[derive(Default)]
pub struct Dns {
    addresses: Mutex<HashMap<String, Vec<IpAddr>>>,
    services: Mutex<HashMap<String, Vec<SrvRecord>>>,
    asked: Mutex<Vec<String>>,
}

impl Dns {
    pub fn address(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        self.addresses.lock().insert(name.to_owned(), addresses);
    }

    pub fn service(&self, name: &str, target: &str, port: u16) {
        let record = SrvRecord { priority: 10, weight: 0, port, target: target.to_owned() };
        self.services.lock().entry(name.to_owned()).or_default().push(record);
    }

    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

impl Resolver for Dns {
    fn addresses<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<IpAddr>> {
        self.asked.lock().push(name.to_owned());
        let found = self.addresses.lock().get(name).cloned().ok_or(DnsError::NotFound);
        Box::pin(async { found })
    }

    fn services<'a>(&'a self, name: &'a str) -> Answering<'a, Vec<SrvRecord>> {
        self.asked.lock().push(name.to_owned());
        let found = self.services.lock().get(name).cloned().ok_or(DnsError::NotFound);
        Box::pin(async { found })
    }
}

/// A clock that moves when told.
pub struct Clock {
    start: Instant,
    passed: Mutex<Duration>,
}

impl Clock {
    pub fn now(&self) -> Instant {
        self.start + *self.passed.lock()
    }

    pub fn pass(&self, time: Duration) {
        *self.passed.lock() += time;
    }
}

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection, from 0.
    pub connection: usize,
    /// Which request of that connection, from 0.
    pub nth: usize,
    pub path: String,
    pub host: String,
    /// The name that TLS was asked for.
    pub sni: Option<String>,
    pub headers: HeaderMap,
}

/// How a server behaves.
pub enum Reply {
    Now(StatusCode, Vec<(&'static str, String)>, String),
    /// An answer once this has a permit.
    When(Arc<Semaphore>),
    /// Says nothing, for ever.
    Never,
    /// Closes the connection.
    HangUp,
    /// A body that does not end, with this length said beforehand.
    Endless(Option<u64>),
    /// A body that begins and goes no further.
    Stall,
}

impl Reply {
    pub fn json(body: impl Into<String>) -> Self {
        Self::Now(StatusCode::OK, Vec::new(), body.into())
    }

    pub fn status(status: u16) -> Self {
        Self::Now(StatusCode::from_u16(status).expect("a status"), Vec::new(), "{}".to_owned())
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Self::Now(StatusCode::FOUND, vec![("location", to.into())], String::new())
    }
}

/// A server until dropped.
pub struct Server {
    port: u16,
    state: Arc<State>,
    listening: tokio::task::JoinHandle<()>,
}

struct State {
    replies: Box<dyn Fn(&Seen) -> Reply + Send + Sync>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    active: watch::Sender<usize>,
    active_most: AtomicUsize,
}

impl Server {
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was asked since the last look.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.seen.lock())
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The most requests that were being answered at one time.
    pub fn active_most(&self) -> usize {
        self.state.active_most.load(Ordering::SeqCst)
    }

    /// Waits until so many requests are being answered.
    pub async fn until_active(&self, count: usize) {
        let mut active = self.state.active.subscribe();
        active.wait_for(|active| *active == count).await.expect("the server runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    // Connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = state.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(connection(stream, acceptor.clone(), state.clone(), number));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>, number: usize) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let sni = stream.get_ref().1.server_name().map(str::to_owned);
    let requests = AtomicUsize::new(0);
    let service = service_fn(|request: http::Request<Incoming>| {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
        let authority = request.uri().authority().map(ToString::to_string);
        let seen = Seen {
            connection: number,
            nth: requests.fetch_add(1, Ordering::SeqCst),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            host: host.or(authority).unwrap_or_default(),
            sni: sni.clone(),
            headers: request.headers().clone(),
        };
        let reply = (state.replies)(&seen);
        state.seen.lock().push(seen);
        let active = Active::begin(state.clone());
        async move {
            let answer = answer(reply).await;
            drop(active);
            answer
        }
    });
    let stream = TokioIo::new(stream);
    if two {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
    }
}

struct Active(Arc<State>);

impl Active {
    fn begin(state: Arc<State>) -> Self {
        state.active.send_modify(|active| {
            *active += 1;
            state.active_most.fetch_max(*active, Ordering::SeqCst);
        });
        Self(state)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.send_modify(|active| *active -= 1);
    }
}

async fn answer(reply: Reply) -> io::Result<Response<Flow>> {
    let mut response = Response::new(Flow::Bytes(None));
    match reply {
        Reply::Now(status, headers, body) => {
            *response.status_mut() = status;
            for (name, value) in headers {
                response.headers_mut().append(name, value.parse().expect("a header value"));
            }
            *response.body_mut() = Flow::Bytes(Some(body.into()));
        }
        Reply::When(gate) => gate.acquire().await.expect("the gate stays").forget(),
        Reply::Never => std::future::pending().await,
        Reply::HangUp => return Err(io::Error::other("told to hang up")),
        Reply::Endless(length) => {
            if let Some(length) = length {
                response.headers_mut().insert("content-length", length.into());
            }
            *response.body_mut() = Flow::Endless;
        }
        Reply::Stall => *response.body_mut() = Flow::Stall(Some("{".into())),
    }
    Ok(response)
}

enum Flow {
    Bytes(Option<Bytes>),
    Endless,
    Stall(Option<Bytes>),
}

impl http_body::Body for Flow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match &mut *self {
            Self::Bytes(bytes) => bytes.take().map_or(Poll::Ready(None), frame),
            Self::Endless => frame(Bytes::from_static(&[b' '; 4096])),
            // Nobody wakes this again, which is the point.
            Self::Stall(bytes) => bytes.take().map_or(Poll::Pending, frame),
        }
    }
}

/// The same server, but over HTTP/2.
pub fn server_http2(world: &World, names: &[&str], replies: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    let mut tls = world.authority.certificate(names, |_| {});
    tls.alpn_protocols = vec![b"h2".to_vec()];
    serve(Closed::new(), tls, replies)
}
