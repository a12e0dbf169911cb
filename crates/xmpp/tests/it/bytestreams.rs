//! Streams of bytes by the proxy. [XEP-0065]

use std::net::SocketAddr;

use koine_stanza::{Element, ns};
use koine_xmpp::{Peer, Proxy, XmppConfig};
use sha1::{Digest as _, Sha1};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::server::{Client, World};

const PROXY: &str = "proxy.example.org";
const BYTESTREAMS: &str = "http://jabber.org/protocol/bytestreams";

async fn world() -> (World, SocketAddr) {
    let proxy = Proxy { host: "files.example.org".into(), port: 7777 };
    let world = World::with(XmppConfig { proxy: Some(proxy), ..XmppConfig::default() }).await;
    world.person("alice").await;
    world.person("bob").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (xmpp, closing) = (world.xmpp.clone(), world.closing.subscribe());
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            let (xmpp, peer) = (xmpp.clone(), Peer { address: peer.ip(), closing: closing.clone() });
            tokio::spawn(async move { xmpp.serve_bytestream(socket, peer).await });
        }
    });
    (world, address)
}

fn name_of(id: &str, requester: &str, target: &str) -> String {
    Sha1::digest(format!("{id}{requester}{target}")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Somebody who has been let in at a meeting, or what they were refused with.
async fn come(address: SocketAddr, name: &str) -> Result<TcpStream, u8> {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(&[5, 1, 0]).await.expect("it reads");
    let mut chosen = [0; 2];
    socket.read_exact(&mut chosen).await.expect("it answers");
    assert_eq!(chosen, [5, 0]);
    let length = u8::try_from(name.len()).expect("a short name");
    let request = [&[5, 1, 0, 3, length], name.as_bytes(), &[0, 0]].concat();
    socket.write_all(&request).await.expect("it reads");
    let mut head = [0; 2];
    socket.read_exact(&mut head).await.expect("it answers");
    if head[1] != 0 {
        return Err(head[1]);
    }
    let mut rest = vec![0; request.len() - 2];
    socket.read_exact(&mut rest).await.expect("it answers");
    assert_eq!(rest, request[2..]);
    Ok(socket)
}

/// Asks the proxy; the payload of the answer, or the error's condition.
async fn ask(client: &mut Client, id: &str, kind: &str, query: &str) -> Result<Option<Element>, String> {
    let answer = client.ask(id, &format!("<iq id='{id}' type='{kind}' to='{PROXY}'>{query}</iq>")).await?;
    Ok(answer.children().next().cloned())
}

async fn activate(client: &mut Client, id: &str, target: &str) -> Result<Option<Element>, String> {
    let query = format!("<query xmlns='{BYTESTREAMS}' sid='{id}'><activate>{target}</activate></query>");
    ask(client, id, "set", &query).await
}

#[tokio::test]
async fn two_clients_find_the_proxy_and_send_each_other_bytes() {
    let (world, address) = world().await;
    let mut alice = world.session("alice", "a").await;
    alice.send(&format!("<iq id='i' type='get' to='example.org'><query xmlns='{}'/></iq>", ns::DISCO_ITEMS)).await;
    let items = alice.expect("iq").await;
    let query = items.child("query", ns::DISCO_ITEMS).expect("items");
    assert!(query.children().any(|item| item.attr("jid") == Some(PROXY)), "{items:?}");
    let info = ask(&mut alice, "d", "get", &format!("<query xmlns='{}'/>", ns::DISCO_INFO)).await;
    let info = info.expect("it tells").expect("what it is");
    let identity = info.child("identity", ns::DISCO_INFO).expect("an identity");
    assert_eq!((identity.attr("category"), identity.attr("type")), (Some("proxy"), Some("bytestreams")));
    let found = ask(&mut alice, "q", "get", &format!("<query xmlns='{BYTESTREAMS}'/>")).await;
    let found = found.expect("it tells").expect("where it is");
    let host = found.child("streamhost", BYTESTREAMS).expect("an address");
    let told = (host.attr("jid"), host.attr("host"), host.attr("port"));
    assert_eq!(told, (Some(PROXY), Some("files.example.org"), Some("7777")));

    let name = name_of("s1", "alice@example.org/a", "bob@example.org/b");
    assert_eq!(activate(&mut alice, "s1", "bob@example.org/b").await.expect_err("nobody is there"), "item-not-found");
    let mut target = come(address, &name).await.expect("it is let in");
    assert_eq!(activate(&mut alice, "s1", "bob@example.org/b").await.expect_err("one alone"), "not-allowed");
    let mut requester = come(address, &name).await.expect("it is let in");
    // A third has no place, and what comes too early is for nobody.
    assert_eq!(come(address, &name).await.err(), Some(2));
    requester.write_all(b"early").await.expect("it is there");
    activate(&mut alice, "s1", "bob@example.org/b").await.expect("it begins");
    let file: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let (sent, mut came) = (file.clone(), Vec::new());
    let sending = tokio::spawn(async move {
        requester.write_all(&sent).await.expect("it is carried");
        requester.shutdown().await.expect("it ends");
        let mut answer = Vec::new();
        requester.read_to_end(&mut answer).await.expect("it is carried");
        answer
    });
    target.read_to_end(&mut came).await.expect("it is carried");
    assert!(came.ends_with(&file), "{} of {} bytes came", came.len(), file.len());
    target.write_all(b"thanks").await.expect("it is carried");
    drop(target);
    assert_eq!(sending.await.expect("it was sent"), b"thanks");
}

#[tokio::test]
async fn nobody_begins_a_stream_that_is_not_theirs() {
    let (world, address) = world().await;
    let mut bob = world.session("bob", "b").await;
    let name = name_of("s1", "alice@example.org/a", "bob@example.org/b");
    let _both = (come(address, &name).await, come(address, &name).await);
    assert_eq!(activate(&mut bob, "s1", "bob@example.org/b").await.expect_err("not theirs"), "item-not-found");
    assert_eq!(ask(&mut bob, "x", "set", &format!("<query xmlns='{BYTESTREAMS}'/>")).await, Err("bad-request".into()));
    let mut alice = world.session("alice", "a").await;
    activate(&mut alice, "s1", "bob@example.org/b").await.expect("it begins");
}

#[tokio::test]
async fn what_is_no_meeting_is_refused() {
    let (_world, address) = world().await;
    assert_eq!(come(address, "example.com").await.err(), Some(8));
    assert_eq!(come(address, &"0g".repeat(20)).await.err(), Some(8));
    for wrong in [&[4, 1, 0][..], &[5, 1, 2], &[5, 1, 0, 5, 2, 0, 1], &[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 80]] {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        socket.write_all(wrong).await.expect("it reads");
        let mut answer = Vec::new();
        // It ends, with whatever bytes before.
        let _ = socket.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(&[5, 0, 5, 0]), "{answer:?}");
    }
}
