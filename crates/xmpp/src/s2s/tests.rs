//! Two servers of ours, each with a certificate, a listener and people.

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use koine_stanza::{
    Element, ns,
    reader::{Limits, Parsed, Reader},
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use crate::{
    Peer, Tls, XmppConfig,
    testing::{World, condition},
};

const ONE: &str = "one.example";
const TWO: &str = "two.example";

struct Pair {
    one: World,
    two: World,
    /// Where the second listens for servers.
    at: SocketAddr,
    _closing: watch::Sender<bool>,
}

/// A certificate in PEM, and what a listener encrypts with.
fn certificate(hosts: &[&str]) -> (String, Tls) {
    let names: Vec<String> = hosts.iter().flat_map(|host| [(*host).to_owned(), format!("rooms.{host}")]).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("certificate and key fit");
    (made.cert.pem(), Tls::new(Arc::new(config), made.cert.der()))
}

impl Pair {
    async fn new() -> Self {
        Self::with(certificate(&[TWO])).await
    }

    /// `second`: what the second shows.
    async fn with(second: (String, Tls)) -> Self {
        let first = certificate(&[ONE]);
        let mut authorities = tempfile::NamedTempFile::new().expect("a temporary file");
        write!(authorities, "{}{}", first.0, second.0).expect("it can be written");
        let (closing, closed) = watch::channel(false);
        let mut listeners = Vec::new();
        for _ in 0..2 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let address = |n: usize| listeners[n].local_addr().expect("it is bound");
        let mut network = koine_net::Config {
            extra_authorities: Some(authorities.path().to_owned()),
            ..koine_net::Config::default()
        };
        for (host, n) in [(ONE, 0), (TWO, 1)] {
            for host in [host.to_owned(), format!("rooms.{host}")] {
                network.static_destinations.insert(format!("{host}:5269"), address(n).to_string());
            }
        }
        let client = koine_net::Client::new(&network).expect("a client");
        let config = XmppConfig { servers: Some(client), ..XmppConfig::default() };
        let (one, two) = (World::named(ONE, config.clone()), World::named(TWO, config));
        let at = address(1);
        for (world, listener, tls) in [(&one, listeners.remove(0), first.1), (&two, listeners.remove(0), second.1)] {
            let (xmpp, closing) = (world.xmpp.clone(), closed.clone());
            tokio::spawn(async move {
                while let Ok((socket, address)) = listener.accept().await {
                    let (xmpp, tls, peer) =
                        (xmpp.clone(), tls.clone(), Peer { address: address.ip(), closing: closing.clone() });
                    tokio::spawn(async move { xmpp.serve_server(socket, tls, peer).await });
                }
            });
        }
        Self { one, two, at, _closing: closing }
    }
}

fn is_message(stanza: &Element) -> bool {
    stanza.name() == "message"
}

#[tokio::test]
async fn people_of_two_servers_subscribe_and_talk() {
    let pair = Pair::new().await;
    let mut romeo = pair.one.connect("romeo", "r").await;
    let mut juliet = pair.two.connect("juliet", "j").await;
    romeo.send("<presence/>").await;
    juliet.send("<presence/>").await;
    romeo.send("<message type='chat' id='m1' to='juliet@two.example'><body>Art thou there?</body></message>").await;
    let said = juliet.until(is_message).await;
    assert_eq!(said.child_text("body", ns::CLIENT).as_deref(), Some("Art thou there?"));
    assert!(said.attr("from").is_some_and(|from| from.starts_with("romeo@one.example")), "{}", said.to_xml());
    juliet.send("<message type='chat' id='m2' to='romeo@one.example'><body>Ay me!</body></message>").await;
    let said = romeo.until(|stanza| is_message(stanza) && stanza.id() == Some("m2")).await;
    assert_eq!(said.child_text("body", ns::CLIENT).as_deref(), Some("Ay me!"));
    romeo.send("<presence type='subscribe' to='juliet@two.example'/>").await;
    juliet.until(|stanza| stanza.kind() == Some("subscribe")).await;
    juliet.send("<presence type='subscribed' to='romeo@one.example'/>").await;
    romeo.until(|stanza| stanza.kind() == Some("subscribed")).await;
    let here = romeo.until(|stanza| stanza.name() == "presence" && stanza.kind().is_none()).await;
    assert!(here.attr("from").is_some_and(|from| from.starts_with("juliet@two.example/")));
}

#[tokio::test]
async fn somebody_of_another_server_is_in_a_room_of_ours() {
    let pair = Pair::new().await;
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
    let pair = Pair::with(certificate(&["mallory.example"])).await;
    let mut romeo = pair.one.connect("romeo", "r").await;
    romeo.send("<message type='chat' id='m1' to='juliet@two.example'><body>?</body></message>").await;
    let error = romeo.until(|stanza| stanza.kind() == Some("error")).await;
    assert_eq!(condition(&error).as_deref(), Some("remote-server-not-found"));
}

#[tokio::test]
async fn nothing_is_taken_from_a_server_that_has_not_proven_itself() {
    let pair = Pair::new().await;
    let mut socket = TcpStream::connect(pair.at).await.expect("it listens");
    let header = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' from='one.example' to='two.example'>";
    socket.write_all(header.as_bytes()).await.expect("it reads");
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
    let error = timeout(Duration::from_secs(20), ended).await.expect("the server answers");
    assert!(error.has_child("policy-violation", ns::STREAM_ERRORS), "{}", error.to_xml());
}
