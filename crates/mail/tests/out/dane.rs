//! Servers whose certificates stand in DNS, signed.

use hickory_resolver::proto::rr::rdata::TLSA;
use koine_mail::out::OutConfig;
use ruma_common::OwnedRoomId;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::{server::Server, world::World};

/// A server of TLS, a world in which all names are signed, and the mail that waits.
async fn with_records(
    records: Option<Vec<TLSA>>,
    tls: bool,
    edit: impl FnOnce(&World),
) -> (Server, World, OwnedRoomId) {
    let server = Server::new().await;
    server.mood.lock().tls = tls;
    let world = World::towards(&server, OutConfig::default()).await;
    world.zone.signed.lock().extend(["example.net", "mx.example.net", "_25._tcp.mx.example.net"].map(str::to_owned));
    world.zone.certificates.lock().insert("_25._tcp.mx.example.net".into(), records);
    edit(&world);
    let room = world.room(&["bob@example.net"]).await;
    world.say(&room, "Hello").await;
    world.after_silence().await;
    (server, world, room)
}

fn named(certificate: &str) -> TLSA {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    TLSA::new(3.into(), 0.into(), 0.into(), der.to_vec())
}

fn other() -> TLSA {
    TLSA::new(3.into(), 1.into(), 1.into(), vec![7; 32])
}

#[tokio::test]
async fn a_certificate_that_dns_does_not_name_gets_no_mail() {
    let (server, world, room) = with_records(Some(vec![other()]), true, |_| {}).await;
    assert!(server.taken().is_empty());
    for _ in 0..5 {
        world.pass(3_600);
        world.settle().await;
    }
    assert!(server.taken().is_empty());
    let notices = world.notices(&room);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0].1["koine.mail.status"]["state"], "delayed");
    let told = world.out.test("bob@example.net").await.join("\n");
    assert!(told.contains("not now"), "{told}");
    // What stands there tomorrow counts tomorrow.
    let right = named(&server.certificate);
    world.zone.certificates.lock().insert("_25._tcp.mx.example.net".into(), Some(vec![other(), right]));
    world.pass(4 * 3_600);
    world.settle().await;
    assert_eq!(server.taken().len(), 1);
    assert!(server.taken()[0].tls);
    let told = world.out.test("bob@example.net").await.join("\n");
    assert!(told.contains("DANE"), "{told}");
}

#[tokio::test]
async fn without_tls_a_server_with_records_gets_no_mail() {
    let (server, ..) = with_records(Some(vec![other()]), false, |_| {}).await;
    assert!(server.taken().is_empty());
    // Also where nothing can be made of them.
    let (server, ..) =
        with_records(Some(vec![TLSA::new(0.into(), 0.into(), 1.into(), vec![7; 32])]), false, |_| {}).await;
    assert!(server.taken().is_empty());
}

#[tokio::test]
async fn records_of_which_nothing_can_be_made_ask_for_tls_alone() {
    let (server, ..) =
        with_records(Some(vec![TLSA::new(0.into(), 0.into(), 1.into(), vec![7; 32])]), true, |_| {}).await;
    assert_eq!(server.taken().len(), 1);
    assert!(server.taken()[0].tls);
}

#[tokio::test]
async fn an_answer_that_is_kept_away_is_no_leave_to_go_without() {
    let (server, world, _) = with_records(None, true, |_| {}).await;
    assert!(server.taken().is_empty());
    world.zone.certificates.lock().clear();
    world.pass(3_600);
    world.settle().await;
    assert_eq!(server.taken().len(), 1, "there are none: as ever");
}

#[tokio::test]
async fn what_is_not_signed_counts_for_nothing() {
    for unsigned in ["example.net", "mx.example.net", "_25._tcp.mx.example.net"] {
        let unsign = |world: &World| {
            world.zone.signed.lock().remove(unsigned);
        };
        let (server, ..) = with_records(Some(vec![other()]), true, unsign).await;
        assert_eq!(server.taken().len(), 1, "{unsigned}");
    }
}
