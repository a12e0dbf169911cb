//! Two servers of ours, each with a certificate, a listener and people; and peers that say what they are told to.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_stanza::{
    Element, ns,
    reader::{Limits, Parsed, Reader},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{BIDI, dialback};
use crate::{
    Beginning, Peer, Tls, XmppConfig, asks_for_certificates,
    testing::{World, condition},
};

const ONE: &str = "one.example";
const TWO: &str = "two.example";
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate in PEM, what a listener encrypts with, and what is shown to others.
#[derive(Clone)]
struct Certificate {
    pem: String,
    tls: Tls,
    key: Arc<CertifiedKey>,
}

#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Certificate {
    /// For hosts and their rooms.
    fn new(hosts: &[&str]) -> Self {
        let names: Vec<String> = hosts.iter().flat_map(|host| [(*host).to_owned(), format!("rooms.{host}")]).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let chain = vec![made.cert.der().clone()];
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("usual versions")
            .with_client_cert_verifier(asks_for_certificates(provider.clone()))
            .with_single_cert(chain.clone(), key.clone_key())
            .expect("certificate and key fit");
        let tls = Tls::new(Arc::new(config), made.cert.der());
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider).expect("certificate and key fit"));
        Self { pem: made.cert.pem(), tls, key }
    }

    fn identity(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(Identity(self.key.clone()))
    }
}

/// How two servers are set up.
struct Way {
    first: Certificate,
    second: Certificate,
    /// Whether both show their certificates when they connect.
    is_external: bool,
    beginning: Beginning,
    /// Whom the second does not talk to.
    blocked: Vec<String>,
}

impl Default for Way {
    fn default() -> Self {
        let (first, second) = (Certificate::new(&[ONE]), Certificate::new(&[TWO]));
        Self { first, second, is_external: true, beginning: Beginning::StartTls, blocked: Vec::new() }
    }
}

struct Pair {
    one: World,
    two: World,
    way: Way,
    /// Where the second listens for servers.
    at: SocketAddr,
    /// Connections that each has taken.
    taken: [Arc<AtomicUsize>; 2],
    /// Counts up to cut all connections to the second.
    cut: watch::Sender<u32>,
    _closing: watch::Sender<bool>,
}

impl Pair {
    async fn new(way: Way) -> Self {
        let mut authorities = tempfile::NamedTempFile::new().expect("a temporary file");
        write!(authorities, "{}{}", way.first.pem, way.second.pem).expect("it can be written");
        let (closing, closed) = watch::channel(false);
        let (cut, is_cut) = watch::channel(0);
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let address = |n: usize| listeners[n].local_addr().expect("it is bound");
        let mut network = koine_net::Config {
            extra_authorities: Some(authorities.path().to_owned()),
            backoff_min_s: 0,
            backoff_max_s: 0,
            ..koine_net::Config::default()
        };
        let port = if way.beginning == Beginning::Tls { 5270 } else { 5269 };
        // The second is reached by the third listener, whose connections can be cut.
        for (host, n) in [(ONE, 0), (TWO, 2)] {
            for host in [host.to_owned(), format!("rooms.{host}")] {
                network.static_destinations.insert(format!("{host}:{port}"), address(n).to_string());
            }
        }
        let client = koine_net::Client::new(&network).expect("a client");
        let config = |certificate: &Certificate, blocked: &[String]| XmppConfig {
            servers: Some(client.clone()),
            identity: way.is_external.then(|| certificate.identity()),
            blocked_servers: blocked.to_vec(),
            ..XmppConfig::default()
        };
        let one = World::named(ONE, config(&way.first, &[]));
        let two = World::named(TWO, config(&way.second, &way.blocked));
        let at = address(1);
        tokio::spawn(cuttable(listeners.remove(2), at, is_cut));
        let taken = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        let certificates = [way.first.tls.clone(), way.second.tls.clone()];
        for (((world, listener), tls), taken) in [&one, &two].into_iter().zip(listeners).zip(certificates).zip(&taken) {
            let (xmpp, closing, taken, beginning) = (world.xmpp.clone(), closed.clone(), taken.clone(), way.beginning);
            tokio::spawn(async move {
                while let Ok((socket, address)) = listener.accept().await {
                    taken.fetch_add(1, Ordering::Relaxed);
                    let (xmpp, tls) = (xmpp.clone(), tls.clone());
                    let peer = Peer { address: address.ip(), closing: closing.clone() };
                    tokio::spawn(async move { xmpp.serve_server(socket, beginning, tls, peer).await });
                }
            });
        }
        Self { one, two, way, at, taken, cut, _closing: closing }
    }

    fn taken(&self, n: usize) -> usize {
        self.taken[n].load(Ordering::Relaxed)
    }
}

/// Passes connections on, until they are cut.
async fn cuttable(listener: TcpListener, to: SocketAddr, is_cut: watch::Receiver<u32>) {
    while let Ok((mut from, _)) = listener.accept().await {
        let mut is_cut = is_cut.clone();
        is_cut.mark_unchanged();
        tokio::spawn(async move {
            let mut to = TcpStream::connect(to).await.expect("it listens");
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                _ = is_cut.changed() => {
                    for socket in [&from, &to] {
                        let _ = socket.set_zero_linger();
                    }
                }
            }
        });
    }
}

fn is_message(stanza: &Element) -> bool {
    stanza.name() == "message"
}

fn body(stanza: &Element) -> Option<String> {
    stanza.child_text("body", ns::CLIENT)
}

async fn talk(pair: &Pair) {
    let mut romeo = pair.one.connect("romeo", "r").await;
    let mut juliet = pair.two.connect("juliet", "j").await;
    romeo.send("<presence/>").await;
    juliet.send("<presence/>").await;
    romeo.send("<message type='chat' id='m1' to='juliet@two.example'><body>Art thou there?</body></message>").await;
    let said = juliet.until(is_message).await;
    assert_eq!(body(&said).as_deref(), Some("Art thou there?"));
    assert!(said.attr("from").is_some_and(|from| from.starts_with("romeo@one.example")), "{}", said.to_xml());
    juliet.send("<message type='chat' id='m2' to='romeo@one.example'><body>Ay me!</body></message>").await;
    let said = romeo.until(|stanza| is_message(stanza) && stanza.id() == Some("m2")).await;
    assert_eq!(body(&said).as_deref(), Some("Ay me!"));
    romeo.send("<presence type='subscribe' to='juliet@two.example'/>").await;
    juliet.until(|stanza| stanza.kind() == Some("subscribe")).await;
    juliet.send("<presence type='subscribed' to='romeo@one.example'/>").await;
    romeo.until(|stanza| stanza.kind() == Some("subscribed")).await;
    let here = romeo.until(|stanza| stanza.name() == "presence" && stanza.kind().is_none()).await;
    assert!(here.attr("from").is_some_and(|from| from.starts_with("juliet@two.example/")));
}

#[tokio::test]
async fn a_certificate_proves_a_server_and_one_connection_goes_both_ways() {
    for beginning in [Beginning::StartTls, Beginning::Tls] {
        let pair = Pair::new(Way { beginning, ..Way::default() }).await;
        talk(&pair).await;
        assert_eq!((pair.taken(0), pair.taken(1)), (0, 1), "{beginning:?}");
    }
}

#[tokio::test]
async fn without_certificates_a_server_is_asked_whether_a_key_is_its() {
    for beginning in [Beginning::StartTls, Beginning::Tls] {
        let pair = Pair::new(Way { is_external: false, beginning, ..Way::default() }).await;
        talk(&pair).await;
        // The one question, after which their answers come over our connection.
        assert_eq!((pair.taken(0), pair.taken(1)), (1, 1), "{beginning:?}");
    }
}

#[tokio::test]
async fn somebody_of_another_server_is_in_a_room_of_ours() {
    let pair = Pair::new(Way::default()).await;
    let mut romeo = pair.one.connect("romeo", "r").await;
    let mut juliet = pair.two.connect("juliet", "j").await;
    romeo
        .send("<presence to='hall@rooms.one.example/romeo'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
        .await;
    romeo.until(|stanza| stanza.has_child("subject", ns::CLIENT)).await;
    let instant = "<iq type='set' id='i' to='hall@rooms.one.example'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>";
    assert_eq!(romeo.ask(instant).await.kind(), Some("result"));
    juliet
        .send("<presence to='hall@rooms.one.example/juliet'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
        .await;
    juliet.until(|stanza| stanza.has_child("subject", ns::CLIENT)).await;
    juliet.send("<message type='groupchat' id='g1' to='hall@rooms.one.example'><body>Good even</body></message>").await;
    for client in [&mut romeo, &mut juliet] {
        let said = client.until(|stanza| is_message(stanza) && stanza.has_child("body", ns::CLIENT)).await;
        assert_eq!(said.attr("from"), Some("hall@rooms.one.example/juliet"));
    }
}

#[tokio::test]
async fn a_server_with_the_certificate_of_another_is_not_talked_to() {
    let pair = Pair::new(Way { second: Certificate::new(&["mallory.example"]), ..Way::default() }).await;
    let mut romeo = pair.one.connect("romeo", "r").await;
    romeo.send("<message type='chat' id='m1' to='juliet@two.example'><body>?</body></message>").await;
    let error = romeo.until(|stanza| stanza.kind() == Some("error")).await;
    assert_eq!(condition(&error).as_deref(), Some("remote-server-not-found"));
}

#[tokio::test]
async fn a_server_that_is_not_talked_to_is_told_so() {
    let pair = Pair::new(Way { blocked: vec!["example".into()], ..Way::default() }).await;
    let mut romeo = pair.one.connect("romeo", "r").await;
    let mut juliet = pair.two.connect("juliet", "j").await;
    romeo.send("<message type='chat' id='m1' to='juliet@two.example'><body>?</body></message>").await;
    let error = romeo.until(|stanza| stanza.kind() == Some("error")).await;
    assert_eq!(condition(&error).as_deref(), Some("remote-server-not-found"));
    juliet.send("<message type='chat' id='m2' to='romeo@one.example'><body>?</body></message>").await;
    let error = juliet.until(|stanza| stanza.kind() == Some("error")).await;
    assert_eq!(condition(&error).as_deref(), Some("policy-violation"));
    assert_eq!(pair.taken(0), 0);
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_wherever_the_connection_is_cut() {
    let pair = Pair::new(Way::default()).await;
    let mut romeo = pair.one.connect("romeo", "r").await;
    let mut juliet = pair.two.connect("juliet", "j").await;
    romeo.send("<presence/>").await;
    juliet.send("<presence/>").await;
    romeo.send("<message type='chat' id='a' to='juliet@two.example'><body>first</body></message>").await;
    juliet.until(|stanza| body(stanza).as_deref() == Some("first")).await;
    juliet.send("<message type='chat' id='b' to='romeo@one.example'><body>second</body></message>").await;
    romeo.until(|stanza| body(stanza).as_deref() == Some("second")).await;
    const MESSAGES: usize = 40;
    for n in 0..MESSAGES {
        romeo
            .send(&format!("<message type='chat' id='a{n}' to='juliet@two.example'><body>a{n}</body></message>"))
            .await;
        juliet
            .send(&format!("<message type='chat' id='b{n}' to='romeo@one.example'><body>b{n}</body></message>"))
            .await;
        if n % 7 == 3 {
            pair.cut.send_modify(|cuts| *cuts += 1);
        }
    }
    for (client, letter) in [(&mut juliet, 'a'), (&mut romeo, 'b')] {
        let mut heard = Vec::new();
        while heard.len() < MESSAGES {
            let said = client.until(|stanza| is_message(stanza) && stanza.kind() != Some("error")).await;
            heard.extend(body(&said).filter(|body| body.starts_with(letter)));
        }
        let expected: Vec<_> = (0..MESSAGES).map(|n| format!("{letter}{n}")).collect();
        assert_eq!(heard, expected);
    }
}

/// A peer that says what it is told to.
struct Raw {
    socket: TlsStream<TcpStream>,
    reader: Reader,
}

const HEADER: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
    xmlns:db='jabber:server:dialback' version='1.0' from='one.example' to='two.example'>";

impl Raw {
    /// Connects to the second with a certificate, or none, and has read the features after TLS.
    async fn connect(pair: &Pair, certificate: Option<&Certificate>) -> (Self, Element) {
        let mut socket = TcpStream::connect(pair.at).await.expect("it listens");
        socket.write_all(HEADER.as_bytes()).await.expect("it reads");
        socket.write_all(format!("<starttls xmlns='{}'/>", ns::TLS).as_bytes()).await.expect("it reads");
        let mut seen = Vec::new();
        while !seen.ends_with(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>") {
            let mut byte = [0];
            assert_eq!(socket.read(&mut byte).await.expect("it writes"), 1, "{}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        let mut roots = RootCertStore::empty();
        let theirs: &CertificateDer<'_> = &pair.way.second.key.cert[0];
        roots.add(theirs.clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("usual versions")
            .with_root_certificates(roots);
        let config = match certificate {
            Some(certificate) => builder.with_client_cert_resolver(certificate.identity()),
            None => builder.with_no_client_auth(),
        };
        let name = TWO.try_into().expect("a name");
        let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await.expect("it speaks TLS");
        let mut raw = Self { socket, reader: Reader::stream(Limits::bytes(10_000)) };
        let features = raw.open().await;
        (raw, features)
    }

    async fn open(&mut self) -> Element {
        self.reader.restart();
        self.say(HEADER).await;
        assert!(matches!(self.next().await, Parsed::Open(_)));
        self.element().await
    }

    async fn say(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.expect("it reads");
        self.socket.flush().await.expect("it reads");
    }

    async fn next(&mut self) -> Parsed {
        let read = async {
            loop {
                if let Some(parsed) = self.reader.read().expect("the server writes XML") {
                    return parsed;
                }
                let mut bytes = [0; 1024];
                let read = self.socket.read(&mut bytes).await.expect("it writes");
                assert_ne!(read, 0, "the connection ended without a word");
                self.reader.push(&bytes[..read]);
            }
        };
        timeout(PATIENCE, read).await.expect("the server answers")
    }

    async fn element(&mut self) -> Element {
        match self.next().await {
            Parsed::Element(element) => element,
            other => panic!("no element: {other:?}"),
        }
    }

    /// The condition that the stream ends with.
    async fn end(&mut self) -> String {
        loop {
            let element = self.element().await;
            if element.is("error", ns::STREAM) {
                return element.children().next().expect("a condition").name().to_owned();
            }
        }
    }
}

fn offers_external(features: &Element) -> bool {
    features.child("mechanisms", ns::SASL).is_some_and(|list| list.children().any(|one| one.text() == "EXTERNAL"))
}

fn auth(host: &str) -> String {
    format!("<auth xmlns='{}' mechanism='EXTERNAL'>{}</auth>", ns::SASL, BASE64_STANDARD.encode(host))
}

#[tokio::test]
async fn external_is_for_the_host_that_the_certificate_is_for() {
    let pair = Pair::new(Way::default()).await;
    for certificate in [None, Some(Certificate::new(&["mallory.example"])), Some(Certificate::new(&[ONE]))] {
        // The last is for the right name, and nobody vouches for it.
        let (mut raw, features) = Raw::connect(&pair, certificate.as_ref()).await;
        assert!(!offers_external(&features) && features.has_child("dialback", dialback::FEATURE));
        raw.say(&auth(ONE)).await;
        assert!(raw.element().await.has_child("not-authorized", ns::SASL));
        raw.say("<message from='romeo@one.example' to='juliet@two.example'><body>x</body></message>").await;
        assert_eq!(raw.end().await, "not-authorized");
    }
    let (mut raw, features) = Raw::connect(&pair, Some(&pair.way.first)).await;
    assert!(offers_external(&features));
    raw.say(&auth("rooms.one.example")).await;
    assert!(raw.element().await.has_child("invalid-authzid", ns::SASL));
    raw.say(&format!("<auth xmlns='{}' mechanism='PLAIN'>AAA=</auth>", ns::SASL)).await;
    assert!(raw.element().await.has_child("invalid-mechanism", ns::SASL));
    raw.say(&format!("<auth xmlns='{}' mechanism='EXTERNAL'>=</auth>", ns::SASL)).await;
    assert_eq!(raw.element().await.name(), "success");
    let features = raw.open().await;
    assert!(features.has_child("sm", ns::SM) && !offers_external(&features));
    // Proven it may be, but not to be somebody else.
    raw.say("<message from='romeo@three.example' to='juliet@two.example'><body>x</body></message>").await;
    assert_eq!(raw.end().await, "invalid-from");
}

#[tokio::test]
async fn a_certificate_saves_the_question_for_further_hosts() {
    let pair = Pair::new(Way::default()).await;
    let mut juliet = pair.two.connect("juliet", "j").await;
    let (mut raw, _) = Raw::connect(&pair, Some(&pair.way.first)).await;
    raw.say(&auth(ONE)).await;
    assert_eq!(raw.element().await.name(), "success");
    raw.open().await;
    raw.say("<db:result from='rooms.one.example' to='two.example'>no key at all</db:result>").await;
    let answer = raw.element().await;
    assert_eq!((answer.kind(), answer.attr("to")), (Some("valid"), Some("rooms.one.example")));
    raw.say(
        "<message from='hall@rooms.one.example/x' to='juliet@two.example/j' type='headline'><body>x</body></message>",
    )
    .await;
    juliet.until(is_message).await;
    assert_eq!(pair.taken(0), 0, "nobody was asked");
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_proves_nothing() {
    let pair = Pair::new(Way::default()).await;
    let (mut raw, _) = Raw::connect(&pair, None).await;
    raw.say(&format!("<bidi xmlns='{BIDI}'/><db:result from='one.example' to='two.example' type='valid'/>")).await;
    raw.say("<db:verify from='one.example' to='two.example' id='x' type='valid'/>").await;
    raw.say("<message from='romeo@one.example' to='juliet@two.example'><body>x</body></message>").await;
    assert_eq!(raw.end().await, "not-authorized");
}

#[tokio::test]
async fn a_key_that_is_not_the_hosts_proves_nothing() {
    let pair = Pair::new(Way::default()).await;
    let (mut raw, _) = Raw::connect(&pair, None).await;
    raw.say("<db:result from='one.example' to='two.example'>0123</db:result>").await;
    assert_eq!(raw.element().await.kind(), Some("invalid"));
    raw.say("<db:result from='one.example' to='elsewhere.example'>0123</db:result>").await;
    assert_eq!(raw.element().await.kind(), Some("error"));
    raw.say("<db:result from='two.example' to='two.example'>0123</db:result>").await;
    assert_eq!(raw.element().await.kind(), Some("error"));
    raw.say("<message from='romeo@one.example' to='juliet@two.example'><body>x</body></message>").await;
    assert_eq!(raw.end().await, "not-authorized");
}

#[tokio::test]
async fn nobody_goes_on_with_the_stream_of_another_server() {
    let pair = Pair::new(Way::default()).await;
    let (mut raw, _) = Raw::connect(&pair, Some(&pair.way.first)).await;
    raw.say(&auth(ONE)).await;
    raw.element().await;
    raw.open().await;
    raw.say(&format!("<enable xmlns='{}' resume='true'/>", ns::SM)).await;
    let id = raw.element().await.id().expect("an id").to_owned();
    let resume = format!("<resume xmlns='{}' previd='{id}' h='0'/>", ns::SM);
    // Before anybody has proven anything.
    let (mut other, _) = Raw::connect(&pair, None).await;
    other.say(&resume).await;
    assert_eq!(other.element().await.name(), "failed");
    // The same server may, while the connection before still stands.
    let (mut again, _) = Raw::connect(&pair, Some(&pair.way.first)).await;
    again.say(&auth(ONE)).await;
    again.element().await;
    again.open().await;
    again.say(&resume).await;
    assert_eq!(again.element().await.name(), "resumed");
    assert_eq!(raw.end().await, "conflict");
}

#[tokio::test]
async fn nothing_is_taken_from_a_server_that_has_not_proven_itself() {
    let pair = Pair::new(Way::default()).await;
    let mut socket = TcpStream::connect(pair.at).await.expect("it listens");
    socket.write_all(HEADER.as_bytes()).await.expect("it reads");
    // Without TLS, nothing but STARTTLS.
    socket
        .write_all(b"<message from='romeo@one.example' to='juliet@two.example'><body>x</body></message>")
        .await
        .expect("it reads");
    let mut reader = Reader::stream(Limits::bytes(10_000));
    let ended = async {
        loop {
            match reader.read().expect("the server writes XML") {
                Some(Parsed::Element(element)) if element.is("error", ns::STREAM) => return element,
                Some(_) => continue,
                None => {}
            }
            let mut bytes = [0; 1024];
            let read = socket.read(&mut bytes).await.expect("it writes");
            assert_ne!(read, 0, "the connection ended without a word");
            reader.push(&bytes[..read]);
        }
    };
    let error = timeout(PATIENCE, ended).await.expect("the server answers");
    assert!(error.has_child("policy-violation", ns::STREAM_ERRORS), "{}", error.to_xml());
}

/// A server that says so much and no more, in place of the second.
async fn talks_to(answer: &'static str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut network = koine_net::Config::default();
    let address = listener.local_addr().expect("it is bound").to_string();
    network.static_destinations.insert(format!("{TWO}:5269"), address);
    let servers = Some(koine_net::Client::new(&network).expect("a client"));
    let one = World::named(ONE, XmppConfig { servers, ..XmppConfig::default() });
    let spoken = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("it connects");
        socket.write_all(answer.as_bytes()).await.expect("it reads");
        let mut heard = Vec::new();
        let _ = socket.read_to_end(&mut heard).await;
        String::from_utf8_lossy(&heard).into_owned()
    });
    let mut romeo = one.connect("romeo", "r").await;
    romeo.send("<message type='chat' id='m1' to='juliet@two.example'><body>?</body></message>").await;
    let error = romeo.until(|stanza| stanza.kind() == Some("error")).await;
    let text = error.child("error", ns::CLIENT).and_then(|error| error.child_text("text", ns::STANZA_ERRORS));
    assert_eq!(condition(&error).as_deref(), Some("remote-server-not-found"));
    let heard = spoken.await.expect("it ends");
    assert!(!heard.contains("<message"), "a stanza in the clear: {heard}");
    text
}

#[tokio::test]
async fn a_server_without_tls_is_not_talked_to() {
    let text = talks_to(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' id='1' \
         from='two.example'><stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
    );
    let text = text.await.unwrap_or_default();
    assert!(text.contains("does not offer TLS"), "{text:?}");
}

#[tokio::test]
async fn what_comes_before_the_handshake_ends_the_connection() {
    let text = talks_to(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' id='1' \
         from='two.example'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>\
         <proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:features/>",
    );
    let text = text.await.unwrap_or_default();
    assert!(text.contains("before TLS"), "{text:?}");
}
