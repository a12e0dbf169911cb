//! Components: programs that are trusted with a host of their own. XEP-0114.

use koine_stanza::{Element, ns, reader::Parsed};
use koine_xmpp::{Beginning, Component, Peer, Tls, XmppConfig};
use sha1::{Digest as _, Sha1};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{Client, World};

const HOST: &str = "irc.example.org";
const SECRET: &str = "a long random text";

struct Place {
    world: World,
    address: std::net::SocketAddr,
}

impl Place {
    async fn new() -> Self {
        let component = Component { host: HOST.into(), secret: SECRET.into() };
        let world = World::with(XmppConfig { components: vec![component], ..XmppConfig::default() }).await;
        world.person("alice").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (xmpp, tls, closing): (_, Tls, _) = (world.xmpp.clone(), world.tls.clone(), world.closing.subscribe());
        tokio::spawn(async move {
            while let Ok((socket, peer)) = listener.accept().await {
                let (xmpp, tls) = (xmpp.clone(), tls.clone());
                let peer = Peer { address: peer.ip(), closing: closing.clone() };
                tokio::spawn(async move { xmpp.serve_component(socket, Beginning::StartTls, tls, peer).await });
            }
        });
        Self { world, address }
    }

    /// A connection that has said which host it is, and the id of its stream.
    async fn begin(&self, host: &str) -> (Client, String) {
        let socket = TcpStream::connect(self.address).await.expect("it listens");
        let mut client = Client::new(Box::new(socket));
        let header = format!("<stream:stream xmlns='{}' xmlns:stream='{}' to='{host}'>", ns::COMPONENT, ns::STREAM);
        client.send(&header).await;
        let Some(Parsed::Open(header)) = client.next().await else { panic!("no header") };
        assert_eq!(header.element.attr("from"), Some(host));
        let id = header.element.id().expect("an id").to_owned();
        (client, id)
    }

    async fn component(&self) -> Client {
        let (mut client, id) = self.begin(HOST).await;
        client.send(&handshake(&id, SECRET)).await;
        client.expect("handshake").await;
        client
    }
}

fn handshake(id: &str, secret: &str) -> String {
    let digest: String = Sha1::digest(format!("{id}{secret}")).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<handshake>{digest}</handshake>")
}

fn condition(stanza: &Element) -> Option<&str> {
    let error = stanza.children().find(|child| child.name() == "error")?;
    error.children().find(|child| child.ns() == ns::STANZA_ERRORS).map(Element::name)
}

#[tokio::test]
async fn whoever_knows_the_secret_has_the_host() {
    let place = Place::new().await;
    let mut alice = place.world.session("alice", "phone").await;
    let ask = format!("<iq id='1' type='get' to='{HOST}'><ping xmlns='urn:xmpp:ping'/></iq>");
    alice.send(&ask).await;
    assert_eq!(condition(&alice.expect("iq").await), Some("service-unavailable"), "it is not connected yet");
    let mut component = place.component().await;
    alice.send(&ask).await;
    let asked = component.expect("iq").await;
    assert_eq!((asked.attr("from"), asked.attr("to")), (Some("alice@example.org/phone"), Some(HOST)));
    let answer = "<iq id='1' type='result' from='irc.example.org' to='alice@example.org/phone'/>";
    component.send(answer).await;
    assert_eq!(alice.expect("iq").await.kind(), Some("result"));
    // Anybody at its host speaks.
    component
        .send("<message type='chat' from='nick%net@irc.example.org' to='alice@example.org/phone'><body>hello</body></message>")
        .await;
    let said = loop {
        alice.send("<presence/>").await;
        let element = alice.element().await;
        if element.name() == "message" {
            break element;
        }
    };
    assert_eq!(said.child_text("body", ns::CLIENT).as_deref(), Some("hello"));
    assert_eq!(said.attr("from"), Some("nick%net@irc.example.org"));
    let items = "<iq id='2' type='get' to='example.org'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>";
    alice.send(items).await;
    let items = loop {
        let element = alice.element().await;
        if element.name() == "iq" && element.id() == Some("2") {
            break element;
        }
    };
    let query = items.children().next().expect("a list");
    assert!(query.children().any(|item| item.attr("jid") == Some(HOST)), "{}", items.to_xml());
}

#[tokio::test]
async fn whoever_does_not_is_refused() {
    let place = Place::new().await;
    let (mut client, id) = place.begin(HOST).await;
    client.send(&handshake(&id, "another text")).await;
    assert_eq!(client.end().await, "not-authorized");
    let (mut client, _) = place.begin(HOST).await;
    client.send("<message from='x@irc.example.org' to='alice@example.org'><body>x</body></message>").await;
    assert_eq!(client.end().await, "not-authorized");
    let (mut client, _) = place.begin("example.org").await;
    assert_eq!(client.end().await, "host-unknown");
}

#[tokio::test]
async fn a_component_speaks_for_its_own_host_alone() {
    let place = Place::new().await;
    for (stanza, ended) in [
        ("<message from='bob@example.org' to='alice@example.org'><body>x</body></message>", "invalid-from"),
        ("<message from='x@other.irc.example.org' to='alice@example.org'/>", "invalid-from"),
        ("<message to='alice@example.org'><body>x</body></message>", "improper-addressing"),
        ("<presence from='x@irc.example.org'/>", "improper-addressing"),
        ("<stuff/>", "unsupported-stanza-type"),
        ("<message><!-- --></message>", "restricted-xml"),
    ] {
        let mut component = place.component().await;
        component.send(stanza).await;
        assert_eq!(component.end().await, ended, "{stanza}");
    }
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_the_one_before() {
    let place = Place::new().await;
    let mut before = place.component().await;
    let mut now = place.component().await;
    assert_eq!(before.end().await, "conflict");
    let mut alice = place.world.session("alice", "phone").await;
    alice.send(&format!("<iq id='1' type='get' to='{HOST}'><ping xmlns='urn:xmpp:ping'/></iq>")).await;
    now.expect("iq").await;
    now.send("</stream:stream>").await;
    assert_eq!(now.next().await, Some(Parsed::Close));
}
