//! A server for tests, and a client that says what it is told to.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_account::{AccountConfig, Accounts, LimitConfig, NewAccount, PasswordConfig, Registration};
use koine_graph::SigningKey;
use koine_media::{Media, Place};
use koine_push::PushRules;
use koine_room::{Rooms, RoomsConfig};
use koine_stanza::{
    Element, ns,
    reader::{Header, Limits, Parsed, Reader},
};
use koine_store::{DomainId, MemoryEngine, Shard};
use koine_xmpp::{Beginning, Cores, Peer, Tls, Xmpp, XmppConfig};
use rcgen::KeyPair;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, owned_server_name};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server.
pub struct World {
    pub xmpp: Xmpp,
    pub accounts: Arc<Accounts>,
    /// Where STARTTLS is spoken.
    pub address: SocketAddr,
    /// Where TLS is spoken.
    pub tls_address: SocketAddr,
    pub certificate: Vec<u8>,
    pub tls: Tls,
    pub closing: watch::Sender<bool>,
    client: Arc<ClientConfig>,
    roots: RootCertStore,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(XmppConfig::default()).await
    }

    pub async fn with(config: XmppConfig) -> Self {
        Self::trusting(config, None).await
    }

    /// A server that believes an authority about whom certificates of clients are for.
    pub async fn trusting(config: XmppConfig, authority: Option<CertificateDer<'static>>) -> Self {
        let passwords = PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: 4096 };
        let limits = LimitConfig::unlimited();
        let account = AccountConfig { passwords, limits, registration: Registration::Open, ..AccountConfig::default() };
        let (domain, server_name) = (DomainId(1), owned_server_name!("example.org"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty engine opens");
        let clock = Arc::new(MilliSecondsSinceUnixEpoch::now);
        let accounts = Accounts::new(shard.clone(), domain, server_name.clone(), account, clock);
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
        let cores = Cores { domain, rooms, accounts: accounts.clone(), media, push, config, now };
        let xmpp = Xmpp::new(cores).expect("an empty store opens");
        xmpp.start();

        let made = rcgen::generate_simple_self_signed(["example.org".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("usual versions")
            .with_client_cert_verifier(koine_xmpp::asks_for_certificates(provider.clone()))
            .with_single_cert(vec![certificate.clone()], key)
            .expect("certificate and key fit");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("usual versions")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let mut tls = Tls::new(Arc::new(server), &certificate);
        if let Some(authority) = authority {
            let mut roots = RootCertStore::empty();
            roots.add(authority).expect("a certificate");
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                Arc::new(rustls::crypto::ring::default_provider()),
            );
            tls = tls.trusting(verifier.build().expect("there is an authority"));
        }
        let (closing, closed) = watch::channel(false);
        let address = listen(&xmpp, &tls, Beginning::StartTls, &closed).await;
        let tls_address = listen(&xmpp, &tls, Beginning::Tls, &closed).await;
        Self {
            xmpp,
            accounts,
            address,
            tls_address,
            certificate: certificate.to_vec(),
            tls,
            closing,
            client: Arc::new(client),
            roots,
            _folder: folder,
        }
    }

    /// Makes an account whose password is `secret`.
    pub async fn person(&self, name: &str) -> OwnedUserId {
        let wanted = NewAccount { name: Some(name.into()), password: Some("secret".into()), ..NewAccount::default() };
        self.accounts.create(wanted).await.expect("the name is free").0
    }

    /// A client before TLS.
    pub async fn plain(&self) -> Client {
        Client::new(Box::new(TcpStream::connect(self.address).await.expect("it listens")))
    }

    /// A client with TLS that has said nothing.
    pub async fn fresh(&self) -> Client {
        let socket = TcpStream::connect(self.tls_address).await.expect("it listens");
        self.encrypt(Box::new(socket)).await
    }

    /// A client with TLS that has read the features.
    pub async fn client(&self) -> Client {
        let mut client = self.fresh().await;
        client.open().await;
        client.expect("features").await;
        client
    }

    /// A client with TLS that shows a certificate, and the features that it is offered.
    pub async fn client_with(&self, certificate: &CertificateDer<'static>, key: &KeyPair) -> (Client, Element) {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("usual versions")
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(
                vec![certificate.clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("certificate and key fit");
        let socket = TcpStream::connect(self.tls_address).await.expect("it listens");
        let mut client = self.encrypt_by(Arc::new(config), Box::new(socket)).await;
        client.open().await;
        let features = client.expect("features").await;
        (client, features)
    }

    /// TLS around a socket.
    pub async fn encrypt(&self, socket: Box<dyn Socket>) -> Client {
        self.encrypt_by(self.client.clone(), socket).await
    }

    async fn encrypt_by(&self, config: Arc<ClientConfig>, socket: Box<dyn Socket>) -> Client {
        let name = "example.org".try_into().expect("a name");
        let stream = TlsConnector::from(config).connect(name, socket).await.expect("the server speaks TLS");
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(b""))
            .expect("the handshake is done");
        Client { exporter, ..Client::new(Box::new(stream)) }
    }

    /// Somebody who is logged in and has bound that resource.
    pub async fn session(&self, name: &str, resource: &str) -> Client {
        let mut client = self.client().await;
        client.log_in(name, "secret").await;
        client.bind(resource).await;
        client
    }
}

async fn listen(xmpp: &Xmpp, tls: &Tls, beginning: Beginning, closing: &watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (xmpp, tls, closing) = (xmpp.clone(), tls.clone(), closing.clone());
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            let (xmpp, tls) = (xmpp.clone(), tls.clone());
            let peer = Peer { address: peer.ip(), closing: closing.clone() };
            tokio::spawn(async move { xmpp.serve_client(socket, beginning, tls, peer).await });
        }
    });
    address
}

/// What a client reads and writes.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A client that says what it is told to.
pub struct Client {
    pub socket: Box<dyn Socket>,
    pub reader: Reader,
    pub exporter: Vec<u8>,
}

/// The header that clients begin with.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

impl Client {
    pub fn new(socket: Box<dyn Socket>) -> Self {
        let limits = Limits { bytes: 4 << 20, ..Limits::bytes(0) };
        Self { socket, reader: Reader::stream(limits), exporter: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.expect("the server reads");
    }

    /// The next that comes; nothing when the connection has ended.
    pub async fn next(&mut self) -> Option<Parsed> {
        let read = async {
            loop {
                if let Some(parsed) = self.reader.read().expect("the server writes XML") {
                    return Some(parsed);
                }
                let mut bytes = [0; 4096];
                match self.socket.read(&mut bytes).await {
                    Ok(0) | Err(_) => return None,
                    Ok(read) => self.reader.push(&bytes[..read]),
                }
            }
        };
        timeout(PATIENCE, read).await.expect("the server answers")
    }

    /// Sends a header, and reads the server's.
    pub async fn open(&mut self) -> Header {
        self.reader.restart();
        self.send(HEADER).await;
        match self.next().await {
            Some(Parsed::Open(header)) => header,
            other => panic!("no header: {other:?}"),
        }
    }

    /// The next element, whatever it is.
    pub async fn element(&mut self) -> Element {
        match self.next().await {
            Some(Parsed::Element(element)) => element,
            other => panic!("no element: {other:?}"),
        }
    }

    /// The next element, which has that name.
    pub async fn expect(&mut self, name: &str) -> Element {
        let element = self.element().await;
        assert_eq!(element.name(), name, "{element:?}");
        element
    }

    /// The condition that the stream ends with.
    pub async fn end(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Parsed::Element(error)) if error.is("error", ns::STREAM) => {
                    let condition = error.children().next().expect("a condition").name().to_owned();
                    assert_eq!(self.next().await, Some(Parsed::Close));
                    return condition;
                }
                Some(_) => {}
                None => panic!("the connection ended without a word"),
            }
        }
    }

    /// PLAIN, and a new header.
    pub async fn log_in(&mut self, name: &str, password: &str) {
        let message = BASE64_STANDARD.encode(format!("\0{name}\0{password}"));
        self.send(&format!("<auth xmlns='{}' mechanism='PLAIN'>{message}</auth>", ns::SASL)).await;
        self.expect("success").await;
        self.open().await;
        self.expect("features").await;
    }

    pub async fn bind(&mut self, resource: &str) -> Element {
        self.send(&format!(
            "<iq id='bind' type='set'><bind xmlns='{}'><resource>{resource}</resource></bind></iq>",
            ns::BIND
        ))
        .await;
        let bound = self.expect("iq").await;
        assert_eq!(bound.kind(), Some("result"), "{bound:?}");
        bound
    }

    /// Sends a request with that id; its answer, or the condition of its error. What comes before is dropped.
    pub async fn ask(&mut self, id: &str, request: &str) -> Result<Element, String> {
        self.send(request).await;
        let answer = loop {
            let element = self.element().await;
            if element.is("iq", ns::CLIENT) && element.id() == Some(id) {
                break element;
            }
        };
        match answer.child("error", ns::CLIENT) {
            Some(error) => Err(error.children().next().expect("a condition").name().to_owned()),
            None => Ok(answer),
        }
    }

    /// Asks the server whether it is there, and waits for the answer; what came before it.
    pub async fn ping(&mut self, id: &str) -> Vec<Element> {
        self.send(&format!("<iq id='{id}' type='get' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>")).await;
        let mut before = Vec::new();
        loop {
            let element = self.element().await;
            if element.is("iq", ns::CLIENT) && element.id() == Some(id) {
                assert_eq!(element.kind(), Some("result"), "{element:?}");
                return before;
            }
            before.push(element);
        }
    }
}
