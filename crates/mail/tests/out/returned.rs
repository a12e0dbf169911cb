//! Mails that come back.

use koine_mail::out::{OutConfig, Outcome};

use super::{server::Server, world::World};

fn report(action: &str, status: &str, words: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.example.net\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nSorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.net\r\n\r\n\
         Final-Recipient: rfc822; bob@example.net\r\nAction: {action}\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp; {words}\r\n--b--\r\n"
    )
}

#[tokio::test]
async fn a_bounce_is_told_where_the_mail_was_written() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    let event = world.say(&room, "Hello").await;
    world.after_silence().await;
    let from = server.taken()[0].from.clone();
    let local = from.strip_suffix("@example.org").expect("ours");
    assert!(world.out.is_return_address(local));
    let late = report("delayed", "4.4.1", "451 4.4.1 no answer");
    assert_eq!(world.out.bounced(local, "", late.as_bytes()).await.expect("the store works"), Outcome::Delayed);
    let lost = report("failed", "5.1.1", "550 5.1.1 no such user");
    assert_eq!(world.out.bounced(local, "", lost.as_bytes()).await.expect("the store works"), Outcome::Failed);
    let notices = world.notices(&room);
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert_eq!(notices[1].0, "The mail to bob@example.net could not be delivered: 550 5.1.1 no such user");
    let status = &notices[1].1["koine.mail.status"];
    assert_eq!((status["event_id"].as_str(), status["code"].as_str()), (Some(event.as_str()), Some("550 5.1.1")));
    assert!(world.out.is_suppressed("bob@example.net").expect("readable"));
    assert_eq!(
        world.out.bounced(local, "", lost.as_bytes()).await.expect("the store works"),
        Outcome::Forged,
        "it is told once"
    );
    assert_eq!(world.notices(&room).len(), 2);
}

#[tokio::test]
async fn forged_bounces_do_nothing() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    world.say(&room, "Hello").await;
    world.after_silence().await;
    let from = server.taken()[0].from.clone();
    let local = from.strip_suffix("@example.org").expect("ours").to_owned();
    let lost = report("failed", "5.1.1", "550 5.1.1 no such user");
    let mut other = local.clone();
    let last = if other.pop() == Some('a') { 'b' } else { 'a' };
    other.push(last);
    for forged in [other.as_str(), "bounces+", "bounces+aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bob", "bounces+ä"] {
        assert!(!world.out.is_return_address(forged), "{forged}");
        assert_eq!(
            world.out.bounced(forged, "", lost.as_bytes()).await.expect("the store works"),
            Outcome::Forged,
            "{forged}"
        );
    }
    assert_eq!(
        world.out.bounced(&local, "mallory@example.com", lost.as_bytes()).await.expect("the store works"),
        Outcome::HasSender
    );
    assert_eq!(
        world.out.bounced(&local, "", b"Subject: I am away\r\n\r\nx").await.expect("the store works"),
        Outcome::NoReport
    );
    world.pass(15 * 24 * 60 * 60);
    assert_eq!(
        world.out.bounced(&local, "", lost.as_bytes()).await.expect("the store works"),
        Outcome::Forged,
        "it is too long ago"
    );
    assert!(world.notices(&room).is_empty());
    assert!(!world.out.is_suppressed("bob@example.net").expect("readable"));
}

#[tokio::test]
async fn a_suppressed_address_can_be_written_to_again() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    world.out.suppress("bob@example.net".into(), "the operator said so".into()).await.expect("the store works");
    let room = world.room(&["bob@example.net"]).await;
    world.say(&room, "one").await;
    world.after_silence().await;
    assert!(server.taken().is_empty());
    assert!(world.notices(&room)[0].0.contains("the operator said so"));
    assert_eq!(world.out.suppressed().expect("readable").len(), 1);
    assert!(world.out.unsuppress("bob@example.net").await.expect("the store works"));
    world.say(&room, "two").await;
    world.after_silence().await;
    assert_eq!(server.taken().len(), 1);
}
