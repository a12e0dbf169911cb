//! Programs that come in by a certificate. [XEP-0178] [XEP-0257]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_account::CERTIFICATES_MAX;
use koine_stanza::{Element, ns};
use koine_xmpp::XmppConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::CertificateDer;

use crate::server::{Client, World};

const SASL_CERT: &str = "urn:xmpp:saslcert:1";

struct Program {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

fn program_until(year: i32) -> Program {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(year, 1, 1));
    let certificate = params.self_signed(&key).expect("a certificate").der().clone();
    Program { certificate, key }
}

fn program() -> Program {
    program_until(2500)
}

impl Program {
    async fn connect(&self, world: &World) -> (Client, bool) {
        let (client, features) = world.client_with(&self.certificate, &self.key).await;
        let offered = |within: Option<&Element>| {
            within.is_some_and(|list| list.children().any(|mechanism| mechanism.text() == "EXTERNAL"))
        };
        let is_offered = offered(features.child("mechanisms", ns::SASL));
        assert_eq!(is_offered, offered(features.child("authentication", ns::SASL2)), "{features:?}");
        (client, is_offered)
    }

    /// A session that came in by the certificate.
    async fn session(&self, world: &World, resource: &str) -> Client {
        let (mut client, is_offered) = self.connect(world).await;
        assert!(is_offered);
        assert_eq!(prove(&mut client, "=").await.name(), "success");
        client.open().await;
        client.expect("features").await;
        client.bind(resource).await;
        client
    }
}

async fn prove(client: &mut Client, authzid: &str) -> Element {
    client.send(&format!("<auth xmlns='{}' mechanism='EXTERNAL'>{authzid}</auth>", ns::SASL)).await;
    client.element().await
}

fn failure(element: &Element) -> &str {
    assert_eq!(element.name(), "failure", "{element:?}");
    element.children().next().expect("a condition").name()
}

/// Sends a request about the list; the answer's type, or its error's condition.
async fn ask(client: &mut Client, id: &str, kind: &str, payload: &str) -> Result<Element, String> {
    client.ask(id, &format!("<iq id='{id}' type='{kind}'>{payload}</iq>")).await
}

async fn append(client: &mut Client, name: &str, program: &Program, more: &str) -> Result<Element, String> {
    let certificate = BASE64_STANDARD.encode(&program.certificate);
    let payload =
        format!("<append xmlns='{SASL_CERT}'><name>{name}</name><x509cert>{certificate}</x509cert>{more}</append>");
    ask(client, name, "set", &payload).await
}

async fn named(client: &mut Client, what: &str, name: &str) -> Result<Element, String> {
    let payload = format!("<{what} xmlns='{SASL_CERT}'><name>{name}</name></{what}>");
    ask(client, what, "set", &payload).await
}

#[tokio::test]
async fn a_certificate_on_the_list_brings_its_holder_in_and_no_other_does() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    world.person("bob").await;
    let (listed, stranger) = (program(), program());
    let mut owner = world.session("alice", "desk").await;
    append(&mut owner, "bot", &listed, "").await.expect("it is listed");
    assert_eq!(append(&mut owner, "bot", &stranger, "").await.expect_err("the name is taken"), "conflict");
    assert_eq!(append(&mut owner, "again", &listed, "").await.expect_err("it is there"), "conflict");
    let (mut client, is_offered) = stranger.connect(&world).await;
    assert!(!is_offered);
    assert_eq!(failure(&prove(&mut client, "=").await), "invalid-mechanism");
    let mut bot = listed.session(&world, "bot").await;
    bot.ping("1").await;
    // It is a device of the account, as all that logs in is.
    assert_eq!(world.accounts.devices(&alice).expect("a list").len(), 2);
    let items = ask(&mut owner, "q", "get", &format!("<items xmlns='{SASL_CERT}'/>")).await.expect("a list");
    let item = items.child("items", SASL_CERT).and_then(|items| items.child("item", SASL_CERT)).expect("an item");
    assert_eq!(item.child_text("name", SASL_CERT).as_deref(), Some("bot"));
    let users = item.child("users", SASL_CERT).expect("somebody is there by it");
    assert_eq!(users.child_text("resource", SASL_CERT).as_deref(), Some("bot"));
    // In its own name, and in nobody else's.
    for (authzid, outcome) in [("alice@example.org", "success"), ("bob@example.org", "failure"), ("x\0y", "failure")] {
        let (mut client, _) = listed.connect(&world).await;
        assert_eq!(prove(&mut client, &BASE64_STANDARD.encode(authzid)).await.name(), outcome, "{authzid}");
    }
}

#[tokio::test]
async fn whom_a_certificate_means_must_be_clear() {
    let world = World::new().await;
    world.person("alice").await;
    world.person("bob").await;
    let shared = program();
    for name in ["alice", "bob"] {
        append(&mut world.session(name, "desk").await, "both", &shared, "").await.expect("it is listed");
    }
    let (mut client, _) = shared.connect(&world).await;
    assert_eq!(failure(&prove(&mut client, "=").await), "invalid-authzid");
    let bob = BASE64_STANDARD.encode("bob@example.org");
    assert_eq!(prove(&mut client, &bob).await.name(), "success");
    client.open().await;
    client.expect("features").await;
    let bound = client.bind("x").await;
    let jid = bound.child("bind", ns::BIND).and_then(|bind| bind.child_text("jid", ns::BIND));
    assert_eq!(jid.as_deref(), Some("bob@example.org/x"));
}

#[tokio::test]
async fn who_comes_in_by_sasl2_gets_no_token_that_outlives_the_certificate() {
    let world = World::new().await;
    world.person("alice").await;
    let listed = program();
    append(&mut world.session("alice", "desk").await, "bot", &listed, "").await.expect("it is listed");
    let (mut client, _) = listed.connect(&world).await;
    let agent = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>Bot</software></user-agent>";
    let token = format!("<request-token xmlns='{}' mechanism='HT-SHA-256-NONE'/>", ns::FAST);
    let bind = format!("<bind xmlns='{}'><tag>bot</tag></bind>", ns::BIND2);
    client
        .send(&format!(
            "<authenticate xmlns='{}' mechanism='EXTERNAL'><initial-response/>{agent}{bind}{token}</authenticate>",
            ns::SASL2
        ))
        .await;
    let success = client.expect("success").await;
    let identity = success.child_text("authorization-identifier", ns::SASL2).expect("who it is");
    assert!(identity.starts_with("alice@example.org/bot/"), "{identity}");
    assert!(!success.has_child("token", ns::FAST), "{success:?}");
    client.expect("features").await;
    client.ping("1").await;
}

#[tokio::test]
async fn certificates_that_have_expired_are_worth_nothing() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let old = program_until(2020);
    let mut owner = world.session("alice", "desk").await;
    assert_eq!(append(&mut owner, "old", &old, "").await.expect_err("it has expired"), "not-acceptable");
    // It was good when it was listed.
    let listed = koine_account::Certificate { name: "old".into(), der: old.certificate.to_vec(), may_manage: true };
    world.accounts.add_certificate(&alice, listed).await.expect("it is kept");
    let (mut client, is_offered) = old.connect(&world).await;
    assert!(is_offered);
    assert_eq!(failure(&prove(&mut client, "=").await), "credentials-expired");
}

#[tokio::test]
async fn revoking_ends_the_sessions_that_came_in_so_and_disabling_leaves_them() {
    let world = World::new().await;
    world.person("alice").await;
    let (first, second) = (program(), program());
    let mut owner = world.session("alice", "desk").await;
    for (name, program) in [("first", &first), ("second", &second)] {
        append(&mut owner, name, program, "").await.expect("it is listed");
    }
    let mut stays = first.session(&world, "a").await;
    let mut goes = second.session(&world, "b").await;
    named(&mut owner, "disable", "first").await.expect("it is off the list");
    named(&mut owner, "revoke", "second").await.expect("it is off the list");
    assert_eq!(named(&mut owner, "revoke", "second").await.expect_err("it is gone"), "item-not-found");
    assert_eq!(goes.end().await, "not-authorized");
    stays.ping("1").await;
    owner.ping("2").await;
    for program in [&first, &second] {
        assert!(!program.connect(&world).await.1);
    }
    // Who revokes what they came in by is answered, and goes.
    append(&mut owner, "third", &first, "").await.expect("the list has room");
    let mut own = first.session(&world, "c").await;
    named(&mut own, "revoke", "third").await.expect("it may");
    assert_eq!(own.end().await, "not-authorized");
}

#[tokio::test]
async fn an_authority_that_is_believed_says_whose_a_certificate_is() {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let certificate: &rcgen::Certificate = issuer.as_ref();
    let world = World::trusting(XmppConfig::default(), Some(certificate.der().clone())).await;
    world.person("alice").await;
    world.person("bob").await;
    let signed = |names: &[&str], by_itself: bool| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let address = |name: &&str| SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, 5], (*name).into()));
        params.subject_alt_names = names.iter().map(address).collect();
        let certificate = match by_itself {
            true => params.self_signed(&key).expect("a certificate"),
            false => params.signed_by(&key, &issuer).expect("a certificate"),
        };
        Program { certificate: certificate.der().clone(), key }
    };
    signed(&["alice@example.org/phone"], false).session(&world, "x").await.ping("1").await;
    let worthless: [(&[&str], bool); 4] = [
        (&["alice@example.org"], true),
        (&["alice@elsewhere.example"], false),
        (&["nobody@example.org"], false),
        (&[], false),
    ];
    for (names, by_itself) in worthless {
        assert!(!signed(names, by_itself).connect(&world).await.1, "{names:?}");
    }
    // One for several is for whom it is said to be for.
    let both = signed(&["alice@example.org", "bob@example.org"], false);
    let (mut client, _) = both.connect(&world).await;
    assert_eq!(failure(&prove(&mut client, "=").await), "invalid-authzid");
    assert_eq!(prove(&mut client, &BASE64_STANDARD.encode("bob@example.org")).await.name(), "success");
}

#[tokio::test]
async fn a_program_that_may_not_change_the_list_does_not_take_the_account() {
    let world = World::new().await;
    world.person("alice").await;
    let (bot, other) = (program(), program());
    let mut owner = world.session("alice", "desk").await;
    append(&mut owner, "bot", &bot, "<no-cert-management/>").await.expect("it is listed");
    let mut session = bot.session(&world, "bot").await;
    assert_eq!(append(&mut session, "x", &other, "").await.expect_err("it may not"), "forbidden");
    assert_eq!(named(&mut session, "disable", "bot").await.expect_err("it may not"), "forbidden");
    ask(&mut session, "q", "get", &format!("<items xmlns='{SASL_CERT}'/>")).await.expect("it may look");
    for payload in ["<username>alice</username><password>another</password>", "<remove/>"] {
        let query = format!("<query xmlns='jabber:iq:register'>{payload}</query>");
        assert_eq!(ask(&mut session, "r", "set", &query).await.expect_err("it may not"), "not-authorized");
    }
    // Lists are nobody else's business.
    world.person("bob").await;
    let mut bob = world.session("bob", "x").await;
    bob.send(&format!("<iq id='q' type='get' to='alice@example.org'><items xmlns='{SASL_CERT}'/></iq>")).await;
    assert_eq!(bob.expect("iq").await.kind(), Some("error"));
}

#[tokio::test]
async fn the_list_has_an_end_and_takes_certificates_alone() {
    let world = World::new().await;
    world.person("alice").await;
    let mut owner = world.session("alice", "desk").await;
    for number in 0..CERTIFICATES_MAX {
        append(&mut owner, &format!("n{number}"), &program(), "").await.expect("there is room");
    }
    assert_eq!(append(&mut owner, "more", &program(), "").await.expect_err("it is full"), "resource-constraint");
    for text in ["", "!!!", "AAAA", &BASE64_STANDARD.encode([0x30; 20_000])] {
        let payload = format!("<append xmlns='{SASL_CERT}'><name>x</name><x509cert>{text}</x509cert></append>");
        assert_eq!(ask(&mut owner, "bad", "set", &payload).await.expect_err("that is none"), "bad-request");
    }
    owner.ping("1").await;
}
