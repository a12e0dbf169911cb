//! Streams of XMPP on loopback, and a client that may say anything.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use koine_account::NewAccount;
use koine_stanza::{
    Element, ns,
    reader::{Limits, Parsed, Reader},
};
use koine_xmpp::{Beginning, Cores, Peer, Tls, Xmpp, XmppConfig};
use parking_lot::Mutex;
use ruma_common::MilliSecondsSinceUnixEpoch;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use sha1::{Digest as _, Sha1};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::watch,
    time::timeout,
};

use crate::{DOMAIN, PASSWORD, Parts};

/// So many people take turns, so that one's limits are met by none.
const PEOPLE: usize = 8;
/// Longest wait for an answer: shorter than what ends a run.
const PATIENCE: Duration = Duration::from_secs(8);

/// What clients begin with.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream to='fuzz.test' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// A server that takes clients without TLS on loopback.
pub struct World {
    address: SocketAddr,
    turn: AtomicUsize,
    /// Salted passwords, by salt and count.
    salted: Mutex<HashMap<String, [u8; 20]>>,
    _parts: Parts,
    _xmpp: Xmpp,
    _closing: watch::Sender<bool>,
}

/// The server that all inputs of a target talk to, and what it runs on.
pub fn scene() -> &'static (Runtime, World) {
    static SCENE: OnceLock<(Runtime, World)> = OnceLock::new();
    SCENE.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let world = runtime.block_on(World::new());
        (runtime, world)
    })
}

impl World {
    async fn new() -> Self {
        let parts = Parts::new();
        let config = XmppConfig {
            plain_on_loopback: true,
            resume_for: Duration::from_secs(2),
            registration: true,
            ..XmppConfig::default()
        };
        let cores = Cores {
            domain: parts.domain,
            rooms: parts.rooms.clone(),
            accounts: parts.accounts.clone(),
            media: parts.media.clone(),
            push: parts.push.clone(),
            config,
            now: MilliSecondsSinceUnixEpoch::now,
        };
        let xmpp = Xmpp::new(cores).expect("an empty store opens");
        xmpp.start();
        for number in 0..PEOPLE {
            let wanted = NewAccount {
                name: Some(format!("person{number}")),
                password: Some(PASSWORD.into()),
                ..NewAccount::default()
            };
            parts.accounts.create(wanted).await.expect("the name is free");
        }
        let made = rcgen::generate_simple_self_signed([DOMAIN.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let certificate = made.cert.der().clone();
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("certificate and key fit");
        let tls = Tls::new(Arc::new(server), &certificate);
        let (closing, closed) = watch::channel(false);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let taker = xmpp.clone();
        tokio::spawn(async move {
            while let Ok((socket, peer)) = listener.accept().await {
                let (xmpp, tls, closing) = (taker.clone(), tls.clone(), closed.clone());
                let peer = Peer { address: peer.ip(), closing };
                tokio::spawn(async move { xmpp.serve_client(socket, Beginning::StartTls, tls, peer).await });
            }
        });
        Self {
            address,
            turn: AtomicUsize::new(0),
            salted: Mutex::default(),
            _parts: parts,
            _xmpp: xmpp,
            _closing: closing,
        }
    }

    /// Whose turn it is.
    pub fn somebody(&self) -> String {
        format!("person{}", self.turn.fetch_add(1, Ordering::Relaxed) % PEOPLE)
    }

    /// A connection on which nothing was said.
    pub async fn connect(&self) -> Client {
        let socket = TcpStream::connect(self.address).await.expect("it listens");
        Client { socket, reader: reader() }
    }

    /// Somebody who has proven who they are, and has no session yet.
    pub async fn log_in(&self, name: &str) -> Client {
        let mut client = self.connect().await;
        client.open().await;
        let bare = format!("n={name},r=fuzz");
        let first = BASE64_STANDARD.encode(format!("n,,{bare}"));
        client.send(&format!("<auth xmlns='{}' mechanism='SCRAM-SHA-1'>{first}</auth>", ns::SASL)).await;
        let challenge = client.element().await.expect("a challenge").text();
        let challenge = BASE64_STANDARD.decode(challenge).expect("base64");
        let challenge = String::from_utf8(challenge).expect("a text");
        let field = |name: &str| {
            let mut fields = challenge.split(',');
            fields.find_map(|field| field.strip_prefix(name)).expect("the challenge is whole").to_owned()
        };
        let (nonce, salt, count) = (field("r="), field("s="), field("i="));
        let salted = self.salted.lock().get(&format!("{salt} {count}")).copied();
        let salted = salted.unwrap_or_else(|| {
            let salt_bytes = BASE64_STANDARD.decode(&salt).expect("base64");
            let salted = stretch(&salt_bytes, count.parse().expect("a number"));
            self.salted.lock().insert(format!("{salt} {count}"), salted);
            salted
        });
        let client_key = keyed(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let signed = keyed(&Sha1::digest(client_key), format!("{bare},{challenge},{without_proof}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signed).map(|(one, other)| one ^ other).collect();
        let last = BASE64_STANDARD.encode(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)));
        client.send(&format!("<response xmlns='{}'>{last}</response>", ns::SASL)).await;
        let success = client.element().await.expect("an answer");
        assert_eq!(success.name(), "success", "{}", success.to_xml());
        client.open().await;
        client
    }
}

fn keyed(key: &[u8], text: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("any length serves");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// PBKDF2 of the password. [RFC5802 §2.2]
fn stretch(salt: &[u8], count: u32) -> [u8; 20] {
    let mut last = keyed(PASSWORD.as_bytes(), &[salt, &1_u32.to_be_bytes()].concat());
    let mut all = last;
    for _ in 1..count {
        last = keyed(PASSWORD.as_bytes(), &last);
        all.iter_mut().zip(last).for_each(|(one, other)| *one ^= other);
    }
    all
}

fn reader() -> Reader {
    Reader::stream(Limits { bytes: 4 << 20, ..Limits::bytes(0) })
}

/// A client that says what it is told to.
pub struct Client {
    socket: TcpStream,
    reader: Reader,
}

impl Client {
    /// Sends this; whether anybody still listens is found out by reading.
    pub async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.socket.write_all(bytes)).await.expect("the server reads");
    }

    /// Says that nothing more will come.
    pub async fn finish(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// The next that comes; nothing when the connection has ended. What comes is XML.
    pub async fn next(&mut self) -> Option<Parsed> {
        loop {
            if let Some(parsed) = self.reader.read().expect("the server writes XML") {
                return Some(parsed);
            }
            let mut bytes = [0; 4096];
            match timeout(PATIENCE, self.socket.read(&mut bytes)).await.expect("the server answers or ends") {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.reader.push(&bytes[..read]),
            }
        }
    }

    /// The next element; nothing when the stream has ended.
    pub async fn element(&mut self) -> Option<Element> {
        loop {
            match self.next().await? {
                Parsed::Element(element) => return Some(element),
                Parsed::Open(_) => {}
                Parsed::Close => return None,
            }
        }
    }

    /// Sends a header, and reads the server's and its features.
    pub async fn open(&mut self) {
        self.reader = reader();
        self.send(HEADER).await;
        let features = self.element().await.expect("features");
        assert_eq!(features.name(), "features", "{}", features.to_xml());
    }

    /// Binds a resource; the address.
    pub async fn bind(&mut self) -> String {
        self.send(&format!("<iq id='bind' type='set'><bind xmlns='{}'/></iq>", ns::BIND)).await;
        let bound = self.element().await.expect("an answer");
        let address = bound.child("bind", ns::BIND).and_then(|bind| bind.child("jid", ns::BIND)).map(Element::text);
        address.unwrap_or_else(|| panic!("no address: {}", bound.to_xml()))
    }

    /// Reads until the server ends the connection.
    pub async fn drain(&mut self) {
        while self.next().await.is_some() {}
    }
}
