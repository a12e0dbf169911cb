//! Connections that break, and sessions that go on. [XEP-0198]

use koine_stanza::{Element, ns};

use crate::server::{Client, World};

async fn enable(client: &mut Client) -> String {
    client.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    let enabled = client.expect("enabled").await;
    enabled.attr("id").expect("it can be resumed").to_owned()
}

async fn resume(world: &World, name: &str, id: &str, h: u32) -> (Client, Element) {
    let mut client = world.client().await;
    client.log_in(name, "secret").await;
    client.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")).await;
    let answer = client.element().await;
    (client, answer)
}

/// A stanza that the session of that address sends back to itself.
fn to_itself(address: &str, n: usize) -> String {
    format!("<iq id='{n}' type='get' to='{address}'><echo xmlns='test'/></iq>")
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_wherever_the_connection_is_cut() {
    let world = World::new().await;
    world.person("alice").await;
    let mut receiver = world.session("alice", "receiver").await;
    let mut id = enable(&mut receiver).await;
    let mut sender = world.session("alice", "sender").await;
    let sender_id = enable(&mut sender).await;
    let mut sender_handled = 0;
    let (mut received, mut sent) = (Vec::new(), 0);
    for round in 0..12 {
        // Three stanzas, of which the connection takes all but some bytes.
        let stanzas: String = (0..3).map(|n| to_itself("alice@example.org/receiver", sent + n)).collect();
        let cut = stanzas.len() * (round + 1) / 12;
        sender.send(&stanzas[..cut]).await;
        drop(sender);
        let (again, resumed) = resume(&world, "alice", &sender_id, 0).await;
        sender = again;
        assert_eq!(resumed.name(), "resumed", "{resumed:?}");
        let handled: usize = resumed.attr("h").and_then(|h| h.parse().ok()).expect("a count");
        // What the server has not handled is sent again.
        let missing = handled - sender_handled..3;
        sender_handled = handled;
        let rest: String = missing.clone().map(|n| to_itself("alice@example.org/receiver", sent + n)).collect();
        sender.send(&rest).await;
        sender.send("<r xmlns='urn:xmpp:sm:3'/>").await;
        sender_handled += missing.len();
        let count = sender.expect("a").await;
        assert_eq!(count.attr("h"), Some(&*sender_handled.to_string()));
        sent += 3;
        // The receiver reads some, confirms fewer, and is cut off.
        for _ in 0..round % 4 {
            if received.len() < sent {
                received.push(next_iq(&mut receiver).await);
            }
        }
        drop(receiver);
        let (again, resumed) = resume(&world, "alice", &id, received.len() as u32).await;
        receiver = again;
        assert_eq!(resumed.name(), "resumed", "{resumed:?}");
    }
    while received.len() < sent {
        received.push(next_iq(&mut receiver).await);
    }
    let expected: Vec<String> = (0..sent).map(|n| n.to_string()).collect();
    assert_eq!(received, expected);
    id.clear();
}

async fn next_iq(client: &mut Client) -> String {
    loop {
        let element = client.element().await;
        if element.is("iq", ns::CLIENT) && element.kind() == Some("get") {
            return element.id().expect("an id").to_owned();
        }
    }
}

#[tokio::test]
async fn nobody_resumes_somebody_elses_session() {
    let world = World::new().await;
    world.person("alice").await;
    world.person("mallory").await;
    let mut alice = world.session("alice", "phone").await;
    let id = enable(&mut alice).await;
    let (mut mallory, answer) = resume(&world, "mallory", &id, 0).await;
    assert!(answer.is("failed", ns::SM) && answer.has_child("item-not-found", ns::STANZA_ERRORS), "{answer:?}");
    mallory.bind("own").await;
    alice.ping("1").await;
}

#[tokio::test]
async fn a_connection_that_still_stands_gives_way_to_the_one_that_resumes() {
    let world = World::new().await;
    world.person("alice").await;
    let mut old = world.session("alice", "phone").await;
    let id = enable(&mut old).await;
    let (mut new, answer) = resume(&world, "alice", &id, 0).await;
    assert_eq!(answer.name(), "resumed");
    assert_eq!(old.end().await, "conflict");
    new.ping("1").await;
}

#[tokio::test]
async fn a_session_that_is_not_resumed_ends() {
    let resume_for = std::time::Duration::from_millis(50);
    let config = koine_xmpp::XmppConfig { resume_for, ..koine_xmpp::XmppConfig::default() };
    let world = World::with(config).await;
    let alice = world.person("alice").await;
    let mut client = world.session("alice", "phone").await;
    let id = enable(&mut client).await;
    drop(client);
    while !world.accounts.devices(&alice).expect("they are read").is_empty() {
        tokio::task::yield_now().await;
    }
    let (_, answer) = resume(&world, "alice", &id, 0).await;
    assert!(answer.is("failed", ns::SM), "{answer:?}");
}

#[tokio::test]
async fn whoever_confirms_too_much_is_cut_off() {
    let world = World::new().await;
    world.person("alice").await;
    let mut client = world.session("alice", "phone").await;
    enable(&mut client).await;
    client.send("<a xmlns='urn:xmpp:sm:3' h='1000'/>").await;
    assert_eq!(client.end().await, "undefined-condition");
}
