//! Servers that behave well and badly.

use koine_mail::out::{Deliver, OutConfig, SmarthostConfig, SmarthostTls};
use koine_room::{Profile, ReceiptType};
use ruma_common::{OwnedEventId, UserId};
use serde_json::{Map, json};

use super::{
    server::Server,
    world::{World, alice, ghost},
};

const HOUR: u64 = 3_600;

/// A world in which one mail waits for a server.
async fn with_one_mail(server: &Server) -> (World, ruma_common::OwnedRoomId) {
    let world = World::towards(server, OutConfig::default()).await;
    let room = world.room(&["bob@example.net"]).await;
    world.say(&room, "Hello").await;
    world.after_silence().await;
    (world, room)
}

#[tokio::test]
async fn what_breaks_for_now_is_tried_again_and_arrives_once() {
    for odd in [
        ("CONNECT", "!"),
        ("CONNECT", "421 4.3.2 not now"),
        ("CONNECT", "554 5.3.2 nobody here"),
        ("CONNECT", "hello there"),
        ("EHLO", "!"),
        ("EHLO", "421 4.3.2 not now"),
        ("MAIL", "!"),
        ("MAIL", "451 4.3.0 not now"),
        ("RCPT", "!"),
        ("RCPT", "450 4.2.1 come back"),
        ("DATA", "!"),
        ("DATA", "451 4.3.0 not now"),
        (".", "!"),
        (".", "452 4.3.1 disk full"),
        (".", "421 4.3.2 not now"),
    ] {
        let server = Server::new().await;
        server.behave(&[odd]);
        let (world, room) = with_one_mail(&server).await;
        assert!(server.taken().is_empty(), "{odd:?}");
        assert_eq!(world.out.queue().expect("readable").waiting, 1, "{odd:?}");
        let world = world.restarted(|_| {});
        world.settle().await;
        server.behave(&[]);
        world.pass(HOUR);
        world.settle().await;
        assert_eq!(server.taken().len(), 1, "{odd:?}");
        assert_eq!(world.out.queue().expect("readable").waiting, 0, "{odd:?}");
        assert!(world.notices(&room).is_empty(), "{odd:?}: nobody is told of what went well in the end");
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_told_and_not_tried_again() {
    for (odd, code, suppressed) in [
        (("MAIL", "550 5.7.1 go away"), "550 5.7.1", false),
        (("RCPT", "550 5.1.1 no such user"), "550 5.1.1", true),
        (("RCPT", "550 no such user"), "550", true),
        (("RCPT", "550 5.7.1 we do not like you"), "550 5.7.1", false),
        (("DATA", "554 5.6.0 no"), "554 5.6.0", false),
        ((".", "554 5.7.1 spam"), "554 5.7.1", false),
    ] {
        let server = Server::new().await;
        server.mood.lock().offers = vec!["PIPELINING"];
        server.behave(&[odd]);
        let (world, room) = with_one_mail(&server).await;
        let notices = world.notices(&room);
        assert_eq!(notices.len(), 1, "{odd:?}: {notices:?}");
        let status = &notices[0].1["koine.mail.status"];
        assert_eq!((status["state"].as_str(), status["code"].as_str()), (Some("failed"), Some(code)), "{odd:?}");
        assert!(notices[0].0.contains(code), "{}", notices[0].0);
        assert_eq!(world.out.is_suppressed("bob@example.net").expect("readable"), suppressed, "{odd:?}");
        server.behave(&[]);
        world.pass(HOUR);
        world.settle().await;
        assert!(server.taken().is_empty(), "{odd:?}");
        world.say(&room, "again").await;
        world.after_silence().await;
        assert_eq!(server.taken().len(), usize::from(!suppressed), "{odd:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_for_days_is_told_of_and_given_up() {
    let server = Server::new().await;
    server.behave(&[("CONNECT", "!")]);
    let (world, room) = with_one_mail(&server).await;
    for _ in 0..5 {
        world.pass(HOUR);
        world.settle().await;
    }
    let notices = world.notices(&room);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0].1["koine.mail.status"]["state"], "delayed");
    let tries = *server.connections.lock();
    assert!((3..12).contains(&tries), "{tries} tries within five hours");
    for _ in 0..(5 * 24) {
        world.pass(HOUR);
        world.settle().await;
    }
    let notices = world.notices(&room);
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert_eq!(notices[1].1["koine.mail.status"]["code"], "550 5.4.7");
    assert_eq!(world.out.queue().expect("readable").waiting, 0);
    assert!(!world.out.is_suppressed("bob@example.net").expect("readable"), "the address is not to blame");
}

#[tokio::test]
async fn a_connection_serves_several_mails_and_may_end_between_them() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["a@example.net", "b@example.net", "c@example.net", "d@example.net"]).await;
    world.say(&room, "one").await;
    world.after_silence().await;
    assert_eq!((server.taken().len(), *server.connections.lock()), (4, 1));
    server.mood.lock().mails_max = Some(1);
    world.say(&room, "two").await;
    world.after_silence().await;
    let mut to: Vec<String> = server.taken()[4..].iter().map(|taken| taken.to.clone()).collect();
    to.sort();
    assert_eq!(to, ["a@example.net", "b@example.net", "c@example.net", "d@example.net"], "each once, at once");
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered_and_needs_no_certificate() {
    let server = Server::new().await;
    server.mood.lock().tls = true;
    let (world, room) = with_one_mail(&server).await;
    assert!(server.taken()[0].tls);
    // TLS that does not work is no reason to keep a mail.
    server.behave(&[("STARTTLS", "454 4.7.0 not now")]);
    world.say(&room, "again").await;
    world.after_silence().await;
    let taken = server.taken();
    assert_eq!((taken.len(), taken.last().map(|taken| taken.tls)), (2, Some(false)));
}

#[tokio::test]
async fn where_tls_is_required_nothing_goes_without() {
    let server = Server::new().await;
    server.mood.lock().tls = true;
    let (world, room) = with_one_mail(&server).await;
    let world = world.restarted(|config| config.require_tls = true);
    world.say(&room, "verified").await;
    world.after_silence().await;
    assert_eq!(server.taken().len(), 1, "nobody vouches for the certificate");
    world.believe(&server.certificate);
    let world = world.restarted(|_| {});
    world.pass(HOUR);
    world.settle().await;
    assert_eq!(server.taken().len(), 2);
    // A server in between takes the offer of TLS away.
    server.mood.lock().tls = false;
    world.say(&room, "stripped").await;
    world.after_silence().await;
    assert_eq!(server.taken().len(), 2);
    assert!(!server.heard.lock().iter().any(|line| line.contains("stripped")));
}

#[tokio::test]
async fn the_next_server_is_tried_when_one_is_away() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let exchanges = vec![(5, "away.example.net".into()), (10, "mx.example.net".into())];
    world.zone.exchanges.lock().insert("example.net".into(), exchanges);
    world.zone.addresses.lock().insert("away.example.net".into(), vec![[127, 0, 0, 99].into()]);
    let room = world.room(&["bob@example.net"]).await;
    world.say(&room, "Hello").await;
    world.after_silence().await;
    assert_eq!(server.taken().len(), 1);
}

#[tokio::test]
async fn domains_that_take_no_mail_are_told_of_at_once() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    world.zone.exchanges.lock().insert("null.example".into(), vec![(0, String::new())]);
    world.zone.exchanges.lock().insert("loop.example".into(), vec![(0, "mail.example.org".into())]);
    world.zone.addresses.lock().insert("private.example".into(), vec![[10, 0, 0, 1].into()]);
    for (address, code) in [
        ("bob@null.example", "556 5.1.10"),
        ("bob@nowhere.example", "550 5.1.2"),
        ("bob@loop.example", "554 5.4.6"),
        ("bob@private.example", "550 5.4.4"),
    ] {
        let room = world.room(&[address]).await;
        world.say(&room, "Hello").await;
        world.after_silence().await;
        let notices = world.notices(&room);
        assert_eq!(notices.len(), 1, "{address}: {notices:?}");
        assert_eq!(notices[0].1["koine.mail.status"]["code"], code, "{address}");
    }
    *world.zone.silent.lock() = true;
    let room = world.room(&["bob@silent.example"]).await;
    world.say(&room, "Hello").await;
    world.after_silence().await;
    assert!(world.notices(&room).is_empty(), "a DNS that does not answer says nothing about the address");
    assert_eq!(world.out.queue().expect("readable").waiting, 1);
}

#[tokio::test]
async fn an_address_of_other_letters_needs_a_server_that_knows_them() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig::default()).await;
    let room = world.room(&["jörg@example.net"]).await;
    world.say(&room, "one").await;
    world.after_silence().await;
    assert_eq!(world.notices(&room)[0].1["koine.mail.status"]["code"], "553 5.6.7");
    server.mood.lock().offers = vec!["SMTPUTF8", "8BITMIME"];
    world.say(&room, "two").await;
    world.after_silence().await;
    assert_eq!(server.taken()[0].to, "jörg@example.net");
    assert!(server.heard.lock().iter().any(|line| line.ends_with(" BODY=8BITMIME SMTPUTF8")));
}

#[tokio::test]
async fn a_mail_that_is_too_large_for_a_server_is_not_sent_to_it() {
    let server = Server::new().await;
    server.mood.lock().offers = vec!["SIZE 100"];
    let (world, room) = with_one_mail(&server).await;
    assert_eq!(world.notices(&room)[0].1["koine.mail.status"]["code"], "552 5.3.4");
    assert!(!server.heard.lock().iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test]
async fn an_account_that_sends_too_much_is_told() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig { per_account_day: 3, ..OutConfig::default() }).await;
    let room = world.room(&["a@example.net", "b@example.net"]).await;
    for text in ["one", "two"] {
        world.say(&room, text).await;
        world.after_silence().await;
    }
    assert_eq!(server.taken().len(), 3);
    let notices = world.notices(&room);
    assert_eq!(notices.len(), 1);
    assert!(notices[0].0.contains("3 mails a day"), "{}", notices[0].0);
    world.pass(24 * HOUR);
    world.say(&room, "three").await;
    world.after_silence().await;
    assert_eq!(server.taken().len(), 5);
}

#[tokio::test]
async fn whatever_an_account_has_mailed_counts() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig { per_account_day: 4, ..OutConfig::default() }).await;
    let room = world.room(&["bob@example.net", "carla@example.net"]).await;
    let bob = ghost("bob@example.net");
    let tells = json!({ "read_receipts": true }).to_string();
    world.accounts.set_account_data(&alice(), None, "koine.mail", tells).await.expect("it is taken");
    let came = |n: u32| {
        json!({ "msgtype": "m.text", "body": "Hi", "koine.mail": { "message_id": format!("<{n}@example.net>"), "subject": "Hi",
            "from": "bob@example.net", "headers": { "Disposition-Notification-To": "bob@example.net" } } })
    };
    let mut mails = Vec::new();
    for n in 0..20 {
        mails.push(world.send(&bob, &room, "m.room.message", came(n)).await);
    }
    // Two mails each.
    let line = world.say(&room, "one").await;
    world.after_silence().await;
    let react = async |mail: &OwnedEventId| {
        let relation = json!({ "rel_type": "m.annotation", "event_id": mail, "key": "👍" });
        world.send(&alice(), &room, "m.reaction", json!({ "m.relates_to": relation })).await;
        world.after_silence().await;
    };
    react(&mails[0]).await;
    assert_eq!(server.taken().len(), 4);
    for mail in &mails[1..19] {
        react(mail).await;
    }
    let edit = json!({ "msgtype": "m.text", "body": "* 1", "m.new_content": { "msgtype": "m.text", "body": "1" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": line } });
    world.send(&alice(), &room, "m.room.message", edit).await;
    world.rooms.set_receipt(&alice(), &room, ReceiptType::Read, &mails[0], None).await.expect("it is taken");
    world.after_silence().await;
    assert_eq!(server.taken().len(), 4, "reactions, edits and receipts are mails as others are");
    let notices = world.notices(&room);
    assert_eq!(notices.len(), 2, "of the edit, for each of the two: {notices:?}");
    assert!(notices.iter().all(|(said, _)| said.contains("4 mails a day")), "{notices:?}");
    world.pass(24 * HOUR);
    react(&mails[19]).await;
    world.rooms.set_receipt(&alice(), &room, ReceiptType::Read, &mails[19], None).await.expect("it is taken");
    world.after_silence().await;
    assert_eq!(server.taken().len(), 7, "tomorrow is another day");
}

#[tokio::test]
async fn a_flood_of_reactions_has_an_end_before_the_day_has() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig { per_account_day: 10_000, ..OutConfig::default() }).await;
    let room = world.room(&["bob@example.net"]).await;
    let bob = ghost("bob@example.net");
    for n in 0..220 {
        let came =
            json!({ "msgtype": "m.text", "body": "Hi", "koine.mail": { "message_id": format!("<{n}@example.net>") } });
        let mail = world.send(&bob, &room, "m.room.message", came).await;
        let relation = json!({ "rel_type": "m.annotation", "event_id": mail, "key": "👍" });
        world.send(&alice(), &room, "m.reaction", json!({ "m.relates_to": relation })).await;
    }
    world.settle().await;
    assert_eq!(server.taken().len(), 200);
    // A line is none of them, and goes out as ever.
    world.say(&room, "one").await;
    world.after_silence().await;
    assert_eq!(server.taken().len(), 201);
}

#[tokio::test]
async fn people_of_another_server_share_what_an_account_may_send() {
    let server = Server::new().await;
    let world = World::towards(&server, OutConfig { per_account_day: 3, ..OutConfig::default() }).await;
    for (who, taken) in
        [("romeo=40montague.example", 2), ("tybalt=40montague.example", 3), ("juliet=40capulet.example", 5)]
    {
        let room = world.room(&["a@example.net", "b@example.net"]).await;
        let user = UserId::parse(format!("@_xmpp_{who}:example.org")).expect("a user");
        let profile = Profile::default();
        world.rooms.invite(&alice(), &room, (&user, &profile), None, Map::new()).await.expect("she may");
        world.rooms.join(&user, &room, &profile, None, Map::new()).await.expect("they were asked");
        world.send(&user, &room, "m.room.message", json!({ "msgtype": "m.text", "body": "Hi" })).await;
        world.after_silence().await;
        assert_eq!(server.taken().len(), taken, "{who}");
    }
}

/// A world whose mails for two domains waited for DNS, and now go to a smarthost.
async fn towards_smarthost(server: &Server) -> World {
    server.mood.lock().tls = true;
    server.mood.lock().offers = vec!["AUTH PLAIN"];
    let world = World::new(OutConfig::default()).await;
    let room = world.room(&["a@one.example", "b@two.example"]).await;
    *world.zone.silent.lock() = true;
    world.say(&room, "Hello").await;
    world.after_silence().await;
    assert_eq!(world.out.queue().expect("readable").lanes.len(), 2);
    let password = world.folder.path().join("password");
    std::fs::write(&password, "secret\n").expect("a writable folder");
    world.believe(&server.certificate);
    let smarthost = SmarthostConfig {
        host: Some("localhost".into()),
        port: server.address.port(),
        tls: SmarthostTls::Starttls,
        username: Some("koine".into()),
        password_file: Some(password),
    };
    let world = world.restarted(|config| {
        (config.deliver, config.smarthost) = (Deliver::Smarthost, smarthost);
    });
    world.pass(HOUR);
    world.settle().await;
    world
}

#[tokio::test]
async fn a_smarthost_takes_all_mails_over_one_connection_after_logging_in() {
    let server = Server::named("localhost").await;
    server.mood.lock().odd = vec![("AUTH", "235 2.7.0 welcome")];
    let world = towards_smarthost(&server).await;
    let taken = server.taken();
    assert!(taken.len() == 2 && taken.iter().all(|taken| taken.tls), "{taken:?}");
    assert_eq!(*server.connections.lock(), 1);
    assert!(server.heard.lock().contains(&"AUTH PLAIN AGtvaW5lAHNlY3JldA==".to_owned()));
    assert_eq!(world.out.queue().expect("readable").waiting, 0);
}

#[tokio::test]
async fn a_smarthost_with_another_name_hears_no_password() {
    let server = Server::named("other.example").await;
    let world = towards_smarthost(&server).await;
    assert!(server.taken().is_empty());
    assert!(!server.heard.lock().iter().any(|line| line.starts_with("AUTH")));
    let queue = world.out.queue().expect("readable");
    assert_eq!((queue.lanes[0].name.as_str(), queue.waiting), ("@smarthost", 2));
}

#[tokio::test]
async fn a_server_that_talks_without_end_is_left_alone() {
    let server = Server::new().await;
    let endless: &'static str = Box::leak(format!("250-{}", "x".repeat(10_000)).into_boxed_str());
    let lines: &'static str = Box::leak("250-x\r\n".repeat(500).into_boxed_str());
    for odd in [("EHLO", endless), ("EHLO", lines), ("MAIL", "~")] {
        server.behave(&[odd]);
        let (world, _) = with_one_mail(&server).await;
        assert_eq!(world.out.queue().expect("readable").waiting, 1, "{}", odd.0);
        assert!(!world.out.queue().expect("readable").lanes[0].reason.is_empty());
    }
}
