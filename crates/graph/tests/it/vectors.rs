//! The test vectors of the specification. [appendices §cryptographic-test-vectors]

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{
        GeneralPurpose,
        general_purpose::{NO_PAD, STANDARD_NO_PAD},
    },
};
use koine_graph::{
    RoomVersionRules, SigningKey,
    hashes::{content_hash, content_hash_matches},
    json::{Json, Object, parse},
    signatures::{SignatureError, sign_event, sign_object, verify_event, verify_object},
};
use ruma_common::{RoomVersionId, ServerName};

fn key() -> SigningKey {
    // The last character has bits that nothing needs.
    let lax = GeneralPurpose::new(&STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));
    let seed = lax.decode("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").expect("base64");
    SigningKey::from_seed("1", &seed.try_into().expect("32 bytes")).expect("a fine version")
}

fn object(text: &str) -> Object<'_> {
    match parse(text.as_bytes()).expect("JSON") {
        Json::Object(object) => object,
        _ => panic!("not an object"),
    }
}

fn text(object: &Object<'_>) -> String {
    String::from_utf8(object.to_bytes()).expect("UTF-8")
}

fn domain() -> ruma_common::OwnedServerName {
    ServerName::parse("domain").expect("a server name")
}

fn rules() -> RoomVersionRules {
    koine_graph::rules(&RoomVersionId::V3).expect("supported")
}

fn hash_and_sign<'a>(event: &mut Object<'a>) {
    let mut hashes = Object::with_capacity(1);
    hashes.insert("sha256", Json::String(STANDARD_NO_PAD.encode(content_hash(event)).into()));
    event.insert("hashes", Json::Object(hashes));
    sign_event(&rules(), event, &domain(), &key());
}

#[test]
fn signing_json() {
    let mut empty = object("{}");
    sign_object(&mut empty, "domain", &key());
    assert_eq!(
        text(&empty),
        r#"{"signatures":{"domain":{"ed25519:1":"K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"}}}"#
    );
    let mut data = object(r#"{"one": 1, "two": "Two"}"#);
    sign_object(&mut data, "domain", &key());
    assert_eq!(
        text(&data),
        r#"{"one":1,"signatures":{"domain":{"ed25519:1":"KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"}},"two":"Two"}"#
    );
    let known = |_: &ServerName, id: &str| (id == "ed25519:1").then(|| key().public());
    assert_eq!(verify_object(&data, &domain(), &known), Ok(()));
    data.insert("one", Json::Integer(2));
    assert!(matches!(verify_object(&data, &domain(), &known), Err(SignatureError::Wrong { .. })));
    let unknown = |_: &ServerName, _: &str| None;
    assert!(matches!(verify_object(&data, &domain(), &unknown), Err(SignatureError::KeysMissing { .. })));
    data.remove("signatures");
    assert_eq!(verify_object(&data, &domain(), &known), Err(SignatureError::NotSigned(domain())));
}

#[test]
fn signing_a_minimal_event() {
    let mut event = object(
        r#"{"room_id": "!x:domain", "sender": "@a:domain", "origin": "domain", "origin_server_ts": 1000000,
            "signatures": {}, "hashes": {}, "type": "X", "content": {}, "prev_events": [], "auth_events": [],
            "depth": 3, "unsigned": {"age_ts": 1000000}}"#,
    );
    hash_and_sign(&mut event);
    assert_eq!(
        text(&event),
        r#"{"auth_events":[],"content":{},"depth":3,"hashes":{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"},"origin":"domain","origin_server_ts":1000000,"prev_events":[],"room_id":"!x:domain","sender":"@a:domain","signatures":{"domain":{"ed25519:1":"KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"}},"type":"X","unsigned":{"age_ts":1000000}}"#
    );
    assert!(content_hash_matches(&event));
    assert_eq!(verify_event(&rules(), &event, &|_: &ServerName, _: &str| Some(key().public())), Ok(()));
}

#[test]
fn signing_an_event_with_redactable_content() {
    let mut event = object(
        r#"{"content": {"body": "Here is the message content"}, "event_id": "$0:domain", "origin": "domain",
            "origin_server_ts": 1000000, "type": "m.room.message", "room_id": "!r:domain", "sender": "@u:domain",
            "signatures": {}, "unsigned": {"age_ts": 1000000}}"#,
    );
    hash_and_sign(&mut event);
    assert_eq!(
        text(&event),
        r#"{"content":{"body":"Here is the message content"},"event_id":"$0:domain","hashes":{"sha256":"onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g"},"origin":"domain","origin_server_ts":1000000,"room_id":"!r:domain","sender":"@u:domain","signatures":{"domain":{"ed25519:1":"Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"}},"type":"m.room.message","unsigned":{"age_ts":1000000}}"#
    );
    // What a redaction takes away is not signed, but hashed.
    event.insert("content", Json::Object(Object::default()));
    assert!(!content_hash_matches(&event));
    assert_eq!(verify_event(&rules(), &event, &|_: &ServerName, _: &str| Some(key().public())), Ok(()));
}
