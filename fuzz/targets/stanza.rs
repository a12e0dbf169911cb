//! Stanzas: forms, pages, and messages as they become events and messages again.
#![no_main]

use koine_projection::{markup, message};
use koine_stanza::{
    BareJid, Element,
    form::Form,
    ns,
    reader::{self, Limits},
    rsm,
};
use libfuzzer_sys::fuzz_target;
use ruma_common::{EventId, OwnedEventId, OwnedUserId, UserId};

/// Everybody has an address and every id names an event.
struct All;

impl message::Names for All {
    fn user_of(&self, address: &BareJid) -> Option<OwnedUserId> {
        UserId::parse(format!("@{}:fuzz.test", address.node()?)).ok()
    }

    fn address_of(&self, user: &UserId) -> Option<BareJid> {
        BareJid::new(&format!("{}@fuzz.test", user.localpart())).ok()
    }

    fn event_of(&self, id: &str) -> Option<OwnedEventId> {
        EventId::parse(id).ok()
    }

    fn name_of(&self, event: &EventId) -> String {
        event.to_string()
    }

    fn author_of(&self, _event: &EventId) -> Option<(String, String)> {
        Some(("somebody@fuzz.test".to_owned(), "said\nsomething".to_owned()))
    }

    fn file_of(&self, _url: &str) -> Option<message::File> {
        None
    }

    fn url_of(&self, mxc: &str, name: &str) -> Option<String> {
        Some(format!("https://fuzz.test/{mxc}/{name}"))
    }
}

/// How long a message is made by saying it again and again: what costs the square of its length does not end then.
const LENGTH: usize = 64 * 1024;

/// The bytes as the body of a message, and as its children, many times over.
fn read_again_and_again(bytes: &[u8]) {
    let read = |message: &Element| {
        if let message::Act::Send { kind, content } = message::read(message, &All) {
            let _ = message::write(kind, &content, &All);
        }
    };
    let text = String::from_utf8_lossy(bytes);
    let body = text.repeat(LENGTH / text.len().max(1));
    read(&Element::new("message", ns::CLIENT).with_child(Element::text_of("body", ns::CLIENT, body)));
    let many = bytes.repeat(LENGTH / bytes.len().max(1));
    let children = [&b"<message xmlns='jabber:client'>"[..], &many, b"</message>"].concat();
    if let Ok(message) = reader::document(&children, Limits::bytes(2 * LENGTH)) {
        read(&message);
        let _ = (markup::to_html("some text with words", &message), message::lasts(&message));
    }
}

fuzz_target!(|bytes: &[u8]| {
    read_again_and_again(bytes);
    let Ok(element) = reader::document(bytes, Limits::bytes(4_000)) else { return };
    if let Some(form) = Form::parse(&element).or_else(|| Form::within(&element)) {
        let _ = form.element();
    }
    let _ = rsm::PageWish::within(&element);
    let _ = (message::lasts(&element), message::encryption(&element));
    if let message::Act::Send { kind, content } = message::read(&element, &All) {
        let _ = message::write(kind, &content, &All);
    }
    let _ = markup::to_html("some text with words", &element);
});
