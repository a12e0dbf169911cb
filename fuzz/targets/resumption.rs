//! Stream management: a client that counts, confirms, is cut off and goes on, as each byte says. [XEP-0198]
//!
//! What the server has taken comes back to the client once and in order, wherever the connection was cut; who counts wrongly
//! is told so and loses its own session alone.
#![no_main]

use std::collections::VecDeque;

use koine_fuzz::streams::{Client, World, scene};
use koine_stanza::{Element, ns};
use libfuzzer_sys::fuzz_target;

/// More says nothing new and takes long.
const DEEDS_MAX: usize = 48;

/// Somebody's session, and what both sides know of it.
struct Session<'a> {
    world: &'a World,
    name: String,
    address: String,
    client: Client,
    id: String,
    /// Stanzas that were sent, each of which the server sends back, by their numbers.
    sent: u32,
    /// Of these, how many the server says to have.
    handled: u32,
    /// Stanzas that came back.
    received: u32,
    /// What else came: answers of the stream.
    answers: VecDeque<Element>,
}

impl<'a> Session<'a> {
    async fn new(world: &'a World) -> Self {
        let name = world.somebody();
        let mut client = world.log_in(&name).await;
        let address = client.bind().await;
        client.send(&format!("<enable xmlns='{}' resume='true'/>", ns::SM)).await;
        let enabled = client.element().await.expect("an answer");
        let id = enabled.attr("id").unwrap_or_else(|| panic!("not enabled: {}", enabled.to_xml())).to_owned();
        Self { world, name, address, client, id, sent: 0, handled: 0, received: 0, answers: VecDeque::new() }
    }

    fn stanza(&self, number: u32) -> String {
        format!("<iq id='{number}' type='get' to='{}'><echo xmlns='fuzz'/></iq>", self.address)
    }

    async fn send(&mut self, count: u32) {
        let stanzas: String = (self.sent..self.sent + count).map(|number| self.stanza(number)).collect();
        self.client.send(&stanzas).await;
        self.sent += count;
    }

    /// Notes the next that comes; false when the stream has ended.
    async fn read(&mut self) -> bool {
        let Some(element) = self.client.element().await else { return false };
        if element.name() == "iq" && element.kind() == Some("get") {
            assert_eq!(element.id(), Some(&*self.received.to_string()), "each comes once, in order");
            self.received += 1;
        } else if !(element.name() == "r" && element.ns() == ns::SM) {
            self.answers.push_back(element);
        }
        true
    }

    /// Asks how many it has.
    async fn ask(&mut self) {
        self.client.send(&format!("<r xmlns='{}'/>", ns::SM)).await;
        let count = self.answer("a").await;
        assert_eq!(count, self.sent, "everything that was sent before the question");
        self.handled = count;
    }

    /// The count in the next answer, which has that name.
    async fn answer(&mut self, name: &str) -> u32 {
        while self.answers.is_empty() {
            assert!(self.read().await, "the stream goes on");
        }
        let answer = self.answers.pop_front().expect("there is one");
        assert_eq!((answer.name(), answer.ns()), (name, ns::SM), "{}", answer.to_xml());
        answer.attr("h").and_then(|h| h.parse().ok()).expect("a count")
    }

    async fn receive_all(&mut self) {
        while self.received < self.sent {
            assert!(self.read().await, "the stream goes on");
        }
    }

    /// Breaks off, with part of one more stanza on its way, and goes on with that count.
    async fn resume(&mut self, part: usize) {
        let next = self.stanza(self.sent);
        self.client.send(&next[..part.min(next.len() - 1)]).await;
        self.client = self.world.log_in(&self.name).await;
        self.answers.clear();
        self.client.send(&format!("<resume xmlns='{}' previd='{}' h='{}'/>", ns::SM, self.id, self.received)).await;
        let handled = self.answer("resumed").await;
        assert!((self.handled..=self.sent).contains(&handled), "{} {handled} {}", self.handled, self.sent);
        let again: String = (handled..self.sent).map(|number| self.stanza(number)).collect();
        self.client.send(&again).await;
        self.handled = handled;
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (runtime, world) = scene();
    runtime.block_on(async {
        let mut session = Session::new(world).await;
        for (at, deed) in bytes.iter().enumerate().take(DEEDS_MAX) {
            let count = u32::from(deed >> 3);
            match deed & 7 {
                0 | 1 => session.send(count % 8 + 1).await,
                2 => session.ask().await,
                3 => session.receive_all().await,
                4 => {
                    let h = session.received;
                    session.client.send(&format!("<a xmlns='{}' h='{h}'/>", ns::SM)).await;
                }
                5 => session.resume(usize::from(deed >> 3) * 3).await,
                6 => {
                    // Some of what is to come.
                    for _ in 0..(session.sent - session.received).min(count) {
                        assert!(session.read().await, "the stream goes on");
                    }
                }
                _ => {
                    // What no client should say, which may end the session and nothing else.
                    session.client.send_bytes(&bytes[at + 1..]).await;
                    session.client.finish().await;
                    session.client.drain().await;
                    return;
                }
            }
        }
        session.ask().await;
        session.receive_all().await;
        session.client.send("</stream:stream>").await;
        session.client.drain().await;
    });
});
