//! Who gets in, and how.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use koine_stanza::{Element, ns};
use sha2::{Digest as _, Sha256};

use crate::server::{Client, World};

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .expect("any length is a key")
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}

fn decode(element: &Element) -> String {
    String::from_utf8(BASE64_STANDARD.decode(element.text()).expect("base64")).expect("text")
}

/// SCRAM-SHA-256 with a header and binding data of one's choice; the last element that comes.
async fn scram(client: &mut Client, name: &str, password: &str, plus: &str, header: &str, binding: &[u8]) -> Element {
    let bare = format!("n={name},r=abcdefgh");
    let first = BASE64_STANDARD.encode(format!("{header}{bare}"));
    client.send(&format!("<auth xmlns='{}' mechanism='SCRAM-SHA-256{plus}'>{first}</auth>", ns::SASL)).await;
    let challenge = client.element().await;
    if challenge.name() != "challenge" {
        return challenge;
    }
    let challenge = decode(&challenge);
    let field = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).expect("a field").to_owned();
    let salt = BASE64_STANDARD.decode(field("s=")).expect("base64");
    let iterations: u32 = field("i=").parse().expect("a number");
    let mut last = hmac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
    let mut salted = last.clone();
    for _ in 1..iterations {
        last = hmac(password.as_bytes(), &last);
        salted.iter_mut().zip(&last).for_each(|(one, other)| *one ^= other);
    }
    let client_key = hmac(&salted, b"Client Key");
    let bound = BASE64_STANDARD.encode([header.as_bytes(), binding].concat());
    let without_proof = format!("c={bound},r={}", field("r="));
    let auth_message = format!("{bare},{challenge},{without_proof}");
    let signature = hmac(&Sha256::digest(&client_key), auth_message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
    let last = BASE64_STANDARD.encode(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)));
    client.send(&format!("<response xmlns='{}'>{last}</response>", ns::SASL)).await;
    let outcome = client.element().await;
    if outcome.name() == "success" {
        let verifier = BASE64_STANDARD.encode(hmac(&hmac(&salted, b"Server Key"), auth_message.as_bytes()));
        assert_eq!(decode(&outcome), format!("v={verifier}"));
    }
    outcome
}

fn failure(element: &Element) -> &str {
    assert_eq!(element.name(), "failure", "{element:?}");
    element.children().next().expect("a condition").name()
}

#[tokio::test]
async fn somebody_logs_in_with_starttls_and_asks_something() {
    let world = World::new().await;
    world.person("alice").await;
    let mut client = world.plain().await;
    client.open().await;
    let features = client.expect("features").await;
    assert!(features.child("starttls", ns::TLS).is_some_and(|tls| tls.has_child("required", ns::TLS)));
    assert!(!features.has_child("mechanisms", ns::SASL));
    client.send(&format!("<starttls xmlns='{}'/>", ns::TLS)).await;
    client.expect("proceed").await;
    let mut client = world.encrypt(client.socket).await;
    client.open().await;
    let features = client.expect("features").await;
    assert!(!features.has_child("starttls", ns::TLS) && features.has_child("mechanisms", ns::SASL));
    client.log_in("alice", "secret").await;
    let bound = client.bind("Küche").await;
    let jid = bound.child("bind", ns::BIND).and_then(|bind| bind.child_text("jid", ns::BIND));
    assert_eq!(jid.as_deref(), Some("alice@example.org/Küche"));
    client.ping("1").await;
}

#[tokio::test]
async fn scram_proves_both_sides() {
    let world = World::new().await;
    world.person("alice").await;
    let mut client = world.client().await;
    let outcome = scram(&mut client, "alice", "secret", "", "n,,", b"").await;
    assert_eq!(outcome.name(), "success");
    let mut client = world.client().await;
    let outcome = scram(&mut client, "alice", "wrong", "", "n,,", b"").await;
    assert_eq!(failure(&outcome), "not-authorized");
    // Another attempt on the same stream.
    let outcome = scram(&mut client, "alice", "secret", "", "n,a=alice@example.org,", b"").await;
    assert_eq!(outcome.name(), "success");
    let mut client = world.client().await;
    let outcome = scram(&mut client, "alice", "secret", "", "n,a=bob@example.org,", b"").await;
    assert_eq!(failure(&outcome), "invalid-authzid");
}

#[tokio::test]
async fn channel_bindings_must_be_those_of_the_connection() {
    let world = World::new().await;
    world.person("alice").await;
    let mut client = world.client().await;
    let exporter = client.exporter.clone();
    let outcome = scram(&mut client, "alice", "secret", "-PLUS", "p=tls-exporter,,", &exporter).await;
    assert_eq!(outcome.name(), "success");
    let mut client = world.client().await;
    let end_point = Sha256::digest(&world.certificate);
    let outcome = scram(&mut client, "alice", "secret", "-PLUS", "p=tls-server-end-point,,", &end_point).await;
    assert_eq!(outcome.name(), "success");
    let mut client = world.client().await;
    let outcome = scram(&mut client, "alice", "secret", "-PLUS", "p=tls-exporter,,", &[0; 32]).await;
    assert_eq!(failure(&outcome), "not-authorized");
    // It saw no -PLUS although we offered some: somebody stands between.
    let outcome = scram(&mut client, "alice", "secret", "", "y,,", b"").await;
    assert_eq!(failure(&outcome), "not-authorized");
    let outcome = scram(&mut client, "alice", "secret", "", "p=tls-exporter,,", &exporter).await;
    assert_eq!(failure(&outcome), "malformed-request");
}

#[tokio::test]
async fn nobody_learns_which_accounts_exist() {
    let world = World::new().await;
    world.person("alice").await;
    for person in ["alice", "nobody"] {
        let mut salts = Vec::new();
        // However the name is written.
        for name in [person.to_owned(), person.to_owned(), person.to_uppercase(), format!("{person}@example.org")] {
            let first = BASE64_STANDARD.encode(format!("n,,n={name},r=abcdefgh"));
            let mut client = world.client().await;
            client.send(&format!("<auth xmlns='{}' mechanism='SCRAM-SHA-1'>{first}</auth>", ns::SASL)).await;
            let challenge = decode(&client.expect("challenge").await);
            salts.push(challenge.split(",s=").nth(1).expect("a salt").to_owned());
        }
        assert!(salts.iter().all(|salt| *salt == salts[0]), "{salts:?}");
    }
    let mut client = world.client().await;
    let outcome = scram(&mut client, "nobody", "secret", "", "n,,", b"").await;
    assert_eq!(failure(&outcome), "not-authorized");
    // The third attempt and the fourth; the fifth is one too many.
    for _ in 0..3 {
        client.send(&format!("<auth xmlns='{}' mechanism='NOSUCH'/>", ns::SASL)).await;
        assert_eq!(failure(&client.element().await), "invalid-mechanism");
    }
    client.send(&format!("<auth xmlns='{}' mechanism='PLAIN'>=</auth>", ns::SASL)).await;
    assert_eq!(failure(&client.element().await), "malformed-request");
    assert_eq!(client.end().await, "policy-violation");
}

#[tokio::test]
async fn the_locked_are_told_so_once_they_proved_who_they_are() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut session = world.session("alice", "phone").await;
    world.accounts.set_flag(&alice, koine_account::Flag::Locked, true).await.expect("it is written");
    assert_eq!(session.end().await, "not-authorized");
    let mut client = world.client().await;
    let outcome = scram(&mut client, "alice", "wrong", "", "n,,", b"").await;
    assert_eq!(failure(&outcome), "not-authorized");
    let outcome = scram(&mut client, "alice", "secret", "", "n,,", b"").await;
    assert_eq!(failure(&outcome), "account-disabled");
}

#[tokio::test]
async fn a_session_is_a_device_and_ends_with_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut session = world.session("alice", "phone").await;
    session.ping("1").await;
    let devices = world.accounts.devices(&alice).expect("they are read");
    assert_eq!(devices.len(), 1);
    world.accounts.delete_devices(&alice, vec![devices[0].device_id.clone()]).await.expect("it is written");
    assert_eq!(session.end().await, "not-authorized");
}

#[tokio::test]
async fn a_newcomer_takes_the_resource() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut old = world.session("alice", "phone").await;
    let mut new = world.session("alice", "phone").await;
    assert_eq!(old.end().await, "conflict");
    new.ping("1").await;
    assert_eq!(world.accounts.devices(&alice).expect("they are read").len(), 1);
}

#[tokio::test]
async fn sasl_2_binds_and_gives_a_token_in_one_go() {
    let world = World::new().await;
    world.person("alice").await;
    let agent = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>Test</software></user-agent>";
    let bind = "<bind xmlns='urn:xmpp:bind:0'><tag>Test</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/>\
                <enable xmlns='urn:xmpp:carbons:2'/></bind>";
    let message = BASE64_STANDARD.encode("\0alice\0secret");
    let mut client = world.client().await;
    client
        .send(&format!(
            "<authenticate xmlns='{}' mechanism='PLAIN'><initial-response>{message}</initial-response>{agent}{bind}\
             <request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-EXPR'/></authenticate>",
            ns::SASL2
        ))
        .await;
    let success = client.expect("success").await;
    let jid = success.child_text("authorization-identifier", ns::SASL2).expect("who it is");
    assert!(jid.starts_with("alice@example.org/Test/"), "{jid}");
    let bound = success.child("bound", ns::BIND2).expect("it is bound");
    assert!(bound.has_child("enabled", ns::SM), "{bound:?}");
    let token = success.child("token", ns::FAST).and_then(|token| token.attr("token")).expect("a token").to_owned();
    client.expect("features").await;
    client.ping("1").await;

    // With the token, another connection of the same installation has the same resource.
    let with_token = |binding: Vec<u8>, mechanism: &str| {
        let proof = hmac(token.as_bytes(), &[b"Initiator".to_vec(), binding].concat());
        let message = BASE64_STANDARD.encode([b"alice\0".to_vec(), proof].concat());
        format!(
            "<authenticate xmlns='{}' mechanism='{mechanism}'><initial-response>{message}</initial-response>{agent}\
             {bind}<fast xmlns='urn:xmpp:fast:0'/></authenticate>",
            ns::SASL2
        )
    };
    let mut again = world.client().await;
    again.send(&with_token(again.exporter.clone(), "HT-SHA-256-EXPR")).await;
    let success = again.expect("success").await;
    assert_eq!(success.child_text("authorization-identifier", ns::SASL2).as_deref(), Some(&*jid));
    again.expect("features").await;
    again.ping("2").await;
    assert_eq!(client.end().await, "conflict");

    let mut other = world.client().await;
    other.send(&with_token(Vec::new(), "HT-SHA-256-NONE")).await;
    assert_eq!(other.expect("failure").await.children().next().map(Element::name), Some("credentials-expired"));
    other.send(&with_token(vec![0; 32], "HT-SHA-256-EXPR")).await;
    assert_eq!(other.expect("failure").await.children().next().map(Element::name), Some("credentials-expired"));
}

#[tokio::test]
async fn a_token_alone_neither_takes_nor_closes_the_account() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let agent = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>";
    let bind = "<bind xmlns='urn:xmpp:bind:0'/>";
    let begin = |mechanism: &str, message: &[u8], more: &str| {
        let message = BASE64_STANDARD.encode(message);
        format!(
            "<authenticate xmlns='{}' mechanism='{mechanism}'><initial-response>{message}</initial-response>{agent}\
             {bind}{more}</authenticate>",
            ns::SASL2
        )
    };
    let mut first = world.client().await;
    let wanted = "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>";
    first.send(&begin("PLAIN", b"\0alice\0secret", wanted)).await;
    let success = first.expect("success").await;
    let token = success.child("token", ns::FAST).and_then(|token| token.attr("token")).expect("a token").to_owned();
    drop(first);
    let by_token = begin(
        "HT-SHA-256-NONE",
        &[b"alice\0".to_vec(), hmac(token.as_bytes(), b"Initiator")].concat(),
        "<fast xmlns='urn:xmpp:fast:0'/>",
    );
    let mut desk = world.session("alice", "desk").await;
    let mut thief = world.client().await;
    thief.send(&by_token).await;
    thief.expect("success").await;
    thief.expect("features").await;
    let ask = |id: &str, inner: &str| {
        format!("<iq id='{id}' type='set' to='example.org'><query xmlns='{}'>{inner}</query></iq>", ns::REGISTER)
    };
    let plain = "<username>alice</username><password>another</password>";
    for (id, inner) in [("1", plain), ("2", "<remove/>")] {
        assert_eq!(thief.ask(id, &ask(id, inner)).await.expect_err("a token is no password"), "not-authorized");
    }
    assert!(world.accounts.is_active(&alice).expect("read"));
    // Nor does it get itself something that lasts longer.
    let append = "<append xmlns='urn:xmpp:saslcert:1'><name>x</name><x509cert>AAAA</x509cert></append>";
    let append = format!("<iq id='c' type='set'>{append}</iq>");
    assert_eq!(thief.ask("c", &append).await.expect_err("it may not"), "forbidden");
    // With the password it is changed as ever, and the token is worth nothing more.
    desk.ask("3", &ask("3", plain)).await.expect("it came by the password");
    assert_eq!(thief.end().await, "not-authorized");
    desk.ping("4").await;
    let mut again = world.client().await;
    again.send(&by_token).await;
    assert_eq!(again.expect("failure").await.children().next().map(Element::name), Some("credentials-expired"));
    again.log_in("alice", "another").await;
}

#[tokio::test]
async fn whoever_may_makes_an_account_before_logging_in() {
    let config = koine_xmpp::XmppConfig { registration: true, ..koine_xmpp::XmppConfig::default() };
    let world = World::with(config).await;
    let mut client = world.client().await;
    let form = "<username>carol</username><password>secret</password>";
    let register = format!("<iq id='1' type='set'><query xmlns='{}'>{form}</query></iq>", ns::REGISTER);
    client.send(&register).await;
    assert_eq!(client.expect("iq").await.kind(), Some("result"));
    client.send(&register).await;
    let taken = client.expect("iq").await;
    assert!(taken.child("error", ns::CLIENT).is_some_and(|error| error.has_child("conflict", ns::STANZA_ERRORS)));
    client.log_in("carol", "secret").await;
    client.bind("new").await;
}

#[tokio::test]
async fn a_name_that_is_kept_for_a_program_is_not_had_by_registering() {
    let config = koine_xmpp::XmppConfig { registration: true, ..koine_xmpp::XmppConfig::default() };
    let world = World::with(config).await;
    world.accounts.reserve_names(|user| user.localpart().starts_with("irc_"));
    let mut client = world.client().await;
    let form = "<username>IRC_bob</username><password>secret</password>";
    client.send(&format!("<iq id='1' type='set'><query xmlns='{}'>{form}</query></iq>", ns::REGISTER)).await;
    let kept = client.expect("iq").await;
    assert!(kept.child("error", ns::CLIENT).is_some_and(|error| error.has_child("conflict", ns::STANZA_ERRORS)));
    let bob = ruma_common::UserId::parse("@irc_bob:example.org").expect("a name");
    assert!(world.accounts.user(&bob).expect("read").is_none());
}

/// [XEP-0509 §3]
#[tokio::test]
async fn whoever_knows_what_is_offered_need_not_wait_to_see_it() {
    let world = World::new().await;
    world.person("alice").await;
    let version = |features: &Element| {
        let version = features.child("config-version", "urn:xmpp:iap:0").expect("a version");
        version.attr("value").expect("a value").to_owned()
    };
    let attempt = |version: &str| {
        let message = BASE64_STANDARD.encode("\0alice\0secret");
        format!(
            "<authenticate xmlns='{}' mechanism='PLAIN'><initial-response>{message}</initial-response>\
             <bind xmlns='urn:xmpp:bind:0'/><config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='{version}'/>\
             </authenticate>",
            ns::SASL2
        )
    };
    let known = {
        let mut client = world.fresh().await;
        client.open().await;
        version(&client.expect("features").await)
    };
    // Header and proof in one go.
    let mut client = world.fresh().await;
    client.send(&format!("{}{}", crate::server::HEADER, attempt(&known))).await;
    assert!(matches!(client.next().await, Some(koine_stanza::reader::Parsed::Open(_))));
    client.expect("features").await;
    client.expect("success").await;
    // What was known is not what is: nobody's password is tried, and the same stream goes on.
    let mut client = world.fresh().await;
    client.send(&format!("{}{}", crate::server::HEADER, attempt("old"))).await;
    assert!(matches!(client.next().await, Some(koine_stanza::reader::Parsed::Open(_))));
    let now = version(&client.expect("features").await);
    let failure = client.expect("failure").await;
    assert!(failure.has_child("aborted", ns::SASL) && failure.has_child("config-version-mismatch", "urn:xmpp:iap:0"));
    client.send(&attempt(&now)).await;
    client.expect("success").await;
}
