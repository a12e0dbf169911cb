//! What strangers may try.

use std::time::Duration;

use koine_stanza::ns;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{Client, HEADER, World};

/// What the stream ends with that begins with `text`.
async fn ends_with(world: &World, text: &str) -> String {
    let mut client = world.plain().await;
    client.send(text).await;
    client.end().await
}

#[tokio::test]
async fn headers_that_are_wrong_are_told_why() {
    let world = World::new().await;
    let with = |from: &str, to: &str| HEADER.replace(from, to);
    for (header, condition) in [
        (with("example.org", "elsewhere.example"), "host-unknown"),
        (with("to='example.org'", ""), "host-unknown"),
        (with(" version='1.0' ", " "), "unsupported-version"),
        (with(" version='1.0' ", " version='0.9' "), "unsupported-version"),
        (with("jabber:client", "jabber:server"), "invalid-namespace"),
        (with("http://etherx.jabber.org/streams", "urn:wrong"), "invalid-namespace"),
        (with("<stream:stream", "<wrong:stream"), "bad-namespace-prefix"),
        (with("<stream:stream", "<stream:wrong"), "bad-format"),
        (with("to='example.org'", "to='example.org' from='alice@elsewhere.example'"), "invalid-from"),
        (with("'1.0'?>", "'1.0' encoding='utf-16'?>"), "unsupported-encoding"),
        ("GET / HTTP/1.1\r\n\r\n".into(), "not-well-formed"),
        (with("<?xml version='1.0'?>", "<!DOCTYPE a [<!ENTITY b 'c'>]>"), "restricted-xml"),
    ] {
        assert_eq!(ends_with(&world, &header).await, condition, "{header}");
    }
}

#[tokio::test]
async fn what_is_no_stream_ends_it() {
    let world = World::new().await;
    world.person("alice").await;
    let deep = "<a>".repeat(40_000);
    for (text, condition) in [
        ("<message><!-- --></message>", "restricted-xml"),
        ("<message>&bomb;</message>", "restricted-xml"),
        ("<message></iq>", "not-well-formed"),
        ("<x:message/>", "bad-namespace-prefix"),
        ("hello", "bad-format"),
        ("<wrong xmlns='jabber:client'/>", "unsupported-stanza-type"),
        ("<message from='bob@example.org/phone' to='alice@example.org'/>", "invalid-from"),
        (&deep, "policy-violation"),
    ] {
        let mut client = world.session("alice", "phone").await;
        client.send(text).await;
        assert_eq!(client.end().await, condition, "{}", &text[..text.len().min(80)]);
    }
}

#[tokio::test]
async fn a_stanza_without_end_is_cut_off_and_nobody_else() {
    let world = World::new().await;
    world.person("alice").await;
    let mut bystander = world.session("alice", "bystander").await;
    let mut client = world.session("alice", "phone").await;
    client.send("<message to='alice@example.org'><body>").await;
    let (mut read, mut write) = tokio::io::split(client.socket);
    // A gigabyte, if anybody took it.
    let writing = tokio::spawn(async move {
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..1024 {
            if write.write_all(&piece).await.is_err() {
                return false;
            }
        }
        true
    });
    let mut said = Vec::new();
    let _ = read.read_to_end(&mut said).await;
    assert!(String::from_utf8_lossy(&said).contains("policy-violation"));
    drop(read);
    assert!(!writing.await.expect("it ends"), "somebody took a gigabyte");
    bystander.ping("1").await;
}

#[tokio::test]
async fn strangers_may_say_little() {
    let world = World::new().await;
    let mut client = world.client().await;
    client.send(&format!("<auth xmlns='{}' mechanism='PLAIN'>{}", ns::SASL, "A".repeat(11_000))).await;
    assert_eq!(client.end().await, "policy-violation");
    let mut client = world.client().await;
    client.send("<message to='alice@example.org'/>").await;
    assert_eq!(client.end().await, "not-authorized");
}

#[tokio::test]
async fn nothing_gets_in_before_the_handshake() {
    let world = World::new().await;
    world.person("alice").await;
    let mut client = world.plain().await;
    client.open().await;
    client.expect("features").await;
    // A stanza behind the request for TLS, as if it came from within.
    let injected = format!(
        "<starttls xmlns='{}'/><auth xmlns='{}' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>",
        ns::TLS,
        ns::SASL
    );
    client.send(&injected).await;
    client.expect("proceed").await;
    assert_eq!(client.next().await, None, "the connection is given up");
}

#[tokio::test]
async fn passwords_are_not_taken_in_the_clear() {
    let world = World::new().await;
    world.person("alice").await;
    let mut client = world.plain().await;
    client.open().await;
    client.expect("features").await;
    client.send(&format!("<auth xmlns='{}' mechanism='PLAIN'>AGFsaWNlAHNlY3JldA==</auth>", ns::SASL)).await;
    let failure = client.expect("failure").await;
    assert!(failure.has_child("encryption-required", ns::SASL));
    client.send("<iq id='1' type='get'><query xmlns='jabber:iq:roster'/></iq>").await;
    assert_eq!(client.end().await, "not-authorized");
}

#[tokio::test(start_paused = true)]
async fn whoever_says_too_little_is_given_up() {
    let world = World::new().await;
    let mut slow = world.plain().await;
    for byte in HEADER.bytes().take(30) {
        slow.socket.write_all(&[byte]).await.expect("the server reads");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut said = Vec::new();
    let _ = slow.socket.read_to_end(&mut said).await;
    assert!(String::from_utf8_lossy(&said).contains("connection-timeout"));
}

#[tokio::test]
async fn the_end_of_the_server_is_announced() {
    let world = World::new().await;
    world.person("alice").await;
    let mut session = world.session("alice", "phone").await;
    let mut stranger: Client = world.client().await;
    session.ping("1").await;
    world.closing.send_replace(true);
    assert_eq!(session.end().await, "system-shutdown");
    assert_eq!(stranger.end().await, "system-shutdown");
}
