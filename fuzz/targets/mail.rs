//! Mails: headers, parts, quotes and what they become in a room.
#![no_main]

use koine_projection::mail::{inward, quote};
use libfuzzer_sys::fuzz_target;
use mail_parser::MessageParser;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Some(message) = MessageParser::default().parse(bytes) else { return };
    let mail = inward::read(&message);
    let place = inward::Place {
        files: &[],
        source: "mxc://fuzz.test/source",
        verdict: &Value::Null,
        above: Vec::new(),
        relation: None,
    };
    for content in mail.contents(&place) {
        assert!(content.get("msgtype").is_some());
    }
    let _ = inward::list(&mail);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = quote::parts(text);
        let _ = quote::unflowed(text, bytes.len() % 2 == 0);
    }
});
