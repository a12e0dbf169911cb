//! Mails that come in, from the wire to the room.

use koine_room::Membership;
use serde_json::{Value, json};

use crate::{Dialect, MailConfig, testing::World};

/// A mail of Bob's.
fn mail(id: &str, more: &str, body: &str) -> String {
    format!(
        "From: Bob Baker <bob@mail.example>\nTo: alice@example.org\nSubject: Lunch\nMessage-ID: <{id}@mail.example>\n{more}\n{body}\n"
    )
}

#[tokio::test]
async fn a_stranger_writes_and_asks_to_be_heard() {
    let world = World::new();
    let alice = world.person("alice").await;
    let answer = world.send("bob@mail.example", &["alice@example.org"], &mail("1", "", "Hello Alice")).await;
    assert!(answer.starts_with("250 2.0.0"), "{answer}");
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room of the two");
    assert_eq!(room.local_membership(&alice), Some(Membership::Invite));
    let said = world.said(&room);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["body"], "Lunch\n\nHello Alice");
    assert_eq!(said[0]["koine.mail"]["message_id"], "<1@mail.example>");
    assert!(said[0]["koine.mail"]["source"].as_str().is_some_and(|mxc| mxc.starts_with("mxc://example.org/")));
}

#[tokio::test]
async fn a_mail_that_comes_twice_stands_there_once() {
    let world = World::new();
    let alice = world.person("alice").await;
    for _ in 0..2 {
        let answer = world.send("bob@mail.example", &["alice@example.org"], &mail("1", "", "Hello")).await;
        assert!(answer.starts_with("250"), "{answer}");
    }
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    assert_eq!(world.said(&room).len(), 1);
    assert_eq!(world.files(), 1, "the source is kept once");
}

#[tokio::test]
async fn who_was_refused_is_refused_at_the_door() {
    let world = World::new();
    let alice = world.person("alice").await;
    world.send("bob@mail.example", &["alice@example.org"], &mail("1", "", "Buy!")).await;
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    world.core().rooms().leave(&alice, room.id(), None).await.expect("she may refuse");
    let answer = world.send("bob@mail.example", &["alice@example.org"], &mail("2", "", "Buy!!")).await;
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
    assert_eq!(world.said(&room).len(), 1);
    assert_eq!(world.files(), 1, "what was refused leaves nothing");
    let ignored = json!({ "ignored_users": { "@_mail_eve=40evil.example:example.org": {} } }).to_string();
    world.core().accounts().set_account_data(&alice, None, "m.ignored_user_list", ignored).await.expect("she may");
    let eve = "From: eve@evil.example\n\nhi\n";
    let answer = world.send("eve@evil.example", &["alice@example.org"], eve).await;
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
}

#[tokio::test]
async fn who_is_allowed_need_not_ask() {
    let world = World::new();
    let alice = world.person("alice").await;
    let allowed = json!({ "domains": ["mail.example"] }).to_string();
    world.core().accounts().set_account_data(&alice, None, "koine.mail.allowed", allowed).await.expect("she may");
    world.send("bob@mail.example", &["alice@example.org"], &mail("1", "", "Hi")).await;
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    assert!(room.is_joined(&alice));
}

#[tokio::test]
async fn an_answer_stands_in_its_thread() {
    let world = World::new();
    let alice = world.person("alice").await;
    world.send("bob@mail.example", &["alice@example.org"], &mail("1", "", "Lunch?")).await;
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    world.join(&alice, &room).await;
    let first = room.newest(i64::MIN, i64::MAX, 50).expect("readable");
    let first = first
        .iter()
        .find(|placed| placed.event.kind() == "m.room.message")
        .expect("the mail")
        .event
        .event_id()
        .to_owned();
    // By the name of another's mail, and by one of ours.
    world
        .send("bob@mail.example", &["alice@example.org"], &mail("2", "In-Reply-To: <1@mail.example>\n", "Well?"))
        .await;
    let ours = world.say(&alice, &room, "Yes").await;
    let name = koine_projection::mail::id::message_id(&ours, "example.org");
    world.send("bob@mail.example", &["alice@example.org"], &mail("3", &format!("In-Reply-To: {name}\n"), "Good")).await;
    let said = world.said(&room);
    assert_eq!(said[1]["m.relates_to"]["event_id"], json!(first));
    assert_eq!(said[1]["m.relates_to"]["rel_type"], "m.thread");
    assert_eq!(said[1]["body"], "Well?", "the subject is known");
    assert_eq!(said[3]["m.relates_to"]["m.in_reply_to"]["event_id"], json!(ours));
    // What is not known here begins anew.
    world
        .send("bob@mail.example", &["alice@example.org"], &mail("4", "In-Reply-To: <gone@mail.example>\n", "Odd"))
        .await;
    let said = world.said(&room);
    assert!(said[4].get("m.relates_to").is_none());
    assert_eq!(said[4]["body"], "Lunch\n\nOdd");
}

#[tokio::test]
async fn several_people_have_a_room_of_their_own_and_one_more_comes_into_it() {
    let world = World::new();
    let (alice, carol) = (world.person("alice").await, world.person("carol").await);
    let group = |id: &str, to: &str, more: &str| {
        format!("From: bob@mail.example\nTo: {to}\nSubject: Plan\nMessage-ID: <{id}@mail.example>\n{more}\nhi\n")
    };
    let both = "alice@example.org, dave@other.example";
    let answer = world.send("bob@mail.example", &["alice@example.org"], &group("1", both, "")).await;
    assert!(answer.starts_with("250"), "{answer}");
    assert!(world.room(&alice, "_mail_bob=40mail.example").is_none(), "it is not between the two");
    let (no, _) = world.core().rooms().memberships(&alice).expect("readable").pop().expect("she is asked");
    let room = world.core().rooms().room_by_no(no).expect("it is there");
    assert_eq!(world.membership(&room, "_mail_dave=40other.example"), Some(Membership::Join));
    world.join(&alice, &room).await;
    // The same people in another order.
    world
        .send("bob@mail.example", &["alice@example.org"], &group("2", "dave@other.example, alice@example.org", ""))
        .await;
    assert_eq!(world.said(&room).len(), 2);
    // One more.
    let three = format!("{both}, carol@example.org");
    let more = "References: <1@mail.example>\n";
    world.send("bob@mail.example", &["alice@example.org", "carol@example.org"], &group("3", &three, more)).await;
    assert_eq!(world.said(&room).len(), 3);
    assert_eq!(room.local_membership(&carol), Some(Membership::Invite));
    // An answer to one of them is for that one.
    world.send("bob@mail.example", &["alice@example.org"], &group("4", "alice@example.org", more)).await;
    assert_eq!(world.said(&room).len(), 3);
    assert!(world.room(&alice, "_mail_bob=40mail.example").is_some());
}

#[tokio::test]
async fn who_gets_a_mail_in_secret_has_it_from_its_author_alone() {
    let world = World::new();
    let carol = world.person("carol").await;
    let answer =
        world.send("bob@mail.example", &["carol@example.org"], &mail("1", "Cc: dave@other.example\n", "hi")).await;
    assert!(answer.starts_with("250"), "{answer}");
    assert!(world.room(&carol, "_mail_bob=40mail.example").is_some());
}

#[tokio::test]
async fn a_room_takes_mail_where_it_says_so() {
    let world = World::new();
    let alice = world.person("alice").await;
    world.room_with_address(&alice, "shut", json!({ "allow": "nobody" })).await;
    let open = world.room_with_address(&alice, "open", json!({ "allow": "anyone" })).await;
    let club =
        world.room_with_address(&alice, "club", json!({ "allow": "members", "domains": ["mail.example"] })).await;
    for shut in ["shut@rooms.example.org", "none@rooms.example.org"] {
        let answer = world.send("bob@mail.example", &[shut], &mail("1", "", "hi")).await;
        assert!(answer.starts_with("550 5.1.1"), "{answer}");
    }
    assert!(world.send("bob@mail.example", &["open@rooms.example.org"], &mail("2", "", "hi")).await.starts_with("250"));
    assert_eq!(world.said(&open).len(), 1);
    assert!(
        world.send("bob@mail.example", &["alice+open@example.org"], &mail("3", "", "plus")).await.starts_with("250")
    );
    assert_eq!(world.said(&open).len(), 2);
    assert!(world.send("bob@mail.example", &["club@rooms.example.org"], &mail("4", "", "hi")).await.starts_with("250"));
    assert_eq!(world.said(&club).len(), 1);
    let eve = "From: eve@evil.example\n\nhi\n";
    let answer = world.send("eve@evil.example", &["club@rooms.example.org"], eve).await;
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
}

#[tokio::test]
async fn lists_speak_in_one_room() {
    let world = World::new();
    let alice = world.person("alice").await;
    let list = |from: &str, id: &str| {
        format!(
            "From: {from}\nTo: list@lists.example\nMessage-ID: <{id}>\nList-Id: Cooks <cooks.lists.example>\nList-Post: <mailto:list@lists.example>\n\nhi\n"
        )
    };
    world.send("list-bounces@lists.example", &["alice@example.org"], &list("Bob <bob@mail.example>", "1@x")).await;
    world.send("list-bounces@lists.example", &["alice@example.org"], &list("eve@y.example", "2@x")).await;
    let room = world.room(&alice, "_mail_list=40lists.example").expect("a room of the list");
    let said = world.said(&room);
    assert_eq!(said.len(), 2);
    assert_eq!(said[0]["body"], "Bob (bob@mail.example) writes:\n\nhi");
}

#[tokio::test]
async fn nothing_comes_into_a_room_for_encrypted_messages() {
    let world = World::new();
    let alice = world.person("alice").await;
    world.send("bob@mail.example", &["alice@example.org"], &mail("1", "", "hi")).await;
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    world.join(&alice, &room).await;
    let content = serde_json::value::to_raw_value(&json!({ "algorithm": "m.megolm.v1.aes-sha2" })).expect("JSON");
    let sender = koine_room::Sender { user: &alice, device: None };
    world.core().rooms().set_state(sender, room.id(), "m.room.encryption", "", &content).await.expect("she may");
    let answer = world.send("bob@mail.example", &["alice@example.org"], &mail("2", "", "again")).await;
    assert!(answer.starts_with("250"), "{answer}");
    assert_eq!(world.said(&room).len(), 1);
    let beside = world.room(&alice, "_mail_bob=40mail.example").expect("another room");
    assert_ne!(beside.no(), room.no());
    assert_eq!(world.said(&beside).len(), 1);
}

#[tokio::test]
async fn reactions_and_receipts_find_what_they_are_about() {
    let world = World::new();
    let alice = world.person("alice").await;
    world.send("bob@mail.example", &["alice@example.org"], &mail("1", "", "hi")).await;
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    world.join(&alice, &room).await;
    let ours = world.say(&alice, &room, "Hello").await;
    let name = koine_projection::mail::id::message_id(&ours, "example.org");
    let head = format!("In-Reply-To: {name}\nContent-Type: text/plain; charset=utf-8\nContent-Disposition: reaction\n");
    let answer = world.send("bob@mail.example", &["alice@example.org"], &mail("2", &head, "👍")).await;
    assert!(answer.starts_with("250"), "{answer}");
    let newest = room.newest(i64::MIN, i64::MAX, 1).expect("readable");
    let content: Value = serde_json::from_str(newest[0].event.content().get()).expect("JSON");
    assert_eq!(newest[0].event.kind(), "m.reaction");
    assert_eq!(content["m.relates_to"], json!({ "rel_type": "m.annotation", "event_id": ours, "key": "👍" }));
    let report = format!(
        "From: bob@mail.example\nTo: alice@example.org\nMessage-ID: <3@mail.example>\nReferences: {name}\nContent-Type: multipart/report; \
         report-type=disposition-notification; boundary=b\n\n--b\n\nread\n--b\nContent-Type: message/disposition-notification\n\n\
         Original-Message-ID: {name}\nDisposition: manual-action/MDN-sent-manually; displayed\n\n--b--\n"
    );
    let answer = world.send("", &["alice@example.org"], &report).await;
    assert!(answer.starts_with("250"), "{answer}");
    let bob = ruma_common::UserId::parse("@_mail_bob=40mail.example:example.org").expect("a name");
    let receipts = room.receipts_after(&alice, None, i64::MAX).expect("readable");
    assert!(receipts.iter().any(|receipt| receipt.user == bob && receipt.event_id == ours), "{receipts:?}");
}

#[tokio::test]
async fn a_correspondent_who_is_asked_comes_at_once() {
    let world = World::new();
    let alice = world.person("alice").await;
    let room = world.room_with_address(&alice, "tea", json!({ "allow": "nobody" })).await;
    let bob = ruma_common::UserId::parse("@_mail_bob=40mail.example:example.org").expect("a name");
    let profile = koine_room::Profile::default();
    let asked = world.core().rooms().invite(&alice, room.id(), (&bob, &profile), None, serde_json::Map::new());
    asked.await.expect("she may");
    let mut grown = world.core().shard().watch();
    while !room.is_joined(&bob) {
        grown.changed().await.expect("the shard is open");
    }
    let member = room.current("m.room.member", bob.as_str()).expect("readable").expect("there");
    assert_eq!(member.event.content_field::<String>("displayname").as_deref(), Some("bob@mail.example"));
}

/// What must be refused, and how.
#[tokio::test]
async fn what_is_wrong_is_refused_with_its_code() {
    let world = World::new();
    world.person("alice").await;
    let to = ["alice@example.org"];
    let many = "Received: x\n".repeat(150);
    let bomb = "X-Bomb: x\n".repeat(2_000);
    let long = format!("X-Bomb: {}\n", format!("{}\n ", "x".repeat(900)).repeat(400));
    let deep: String =
        (0..1_100).map(|at| format!("Content-Type: multipart/mixed; boundary=b{at}\n\n--b{at}\n")).collect();
    let deep_mails = "Content-Type: message/rfc822\n\n".repeat(1_100);
    for (why, from, to, mail, code) in [
        ("nobody has this address", "bob@mail.example", "nobody@example.org", mail("1", "", "x"), "550 5.1.1"),
        ("we relay nothing", "bob@mail.example", "dave@other.example", mail("1", "", "x"), "550 5.7.1"),
        (
            "no address of a gateway is anybody's",
            "bob@mail.example",
            "x@matrix.example.org",
            mail("1", "", "x"),
            "550 5.1.1",
        ),
        ("a ghost is no account", "bob@mail.example", "_mail_bob=40x@example.org", mail("1", "", "x"), "550 5.1.1"),
        (
            "an author of ours writes here",
            "bob@mail.example",
            to[0],
            "From: alice@example.org\n\nx".into(),
            "550 5.7.1",
        ),
        (
            "an author of a gateway of ours too",
            "bob@mail.example",
            to[0],
            "From: r@rooms.example.org\n\nx".into(),
            "550 5.7.1",
        ),
        ("no author", "bob@mail.example", to[0], "Subject: x\n\nx".into(), "550 5.6.0"),
        ("two authors", "bob@mail.example", to[0], "From: a@x.org, b@y.org\n\nx".into(), "550 5.6.0"),
        ("two From fields", "bob@mail.example", to[0], "From: a@x.org\nFrom: b@y.org\n\nx".into(), "550 5.6.0"),
        ("an echo of a forged mail", "", to[0], mail("1", "", "x"), "550 5.7.1"),
        ("a bounce of nothing", "", "bounces+forged@example.org", mail("1", "", "x"), "550 5.7.1"),
        ("a bounce that is none", "bob@mail.example", "bounces+forged@example.org", mail("1", "", "x"), "550 5.1.1"),
        ("a loop", "bob@mail.example", to[0], mail("1", &many, "x"), "554 5.4.6"),
        ("too many headers", "bob@mail.example", to[0], mail("1", &bomb, "x"), "552 5.3.4"),
        ("too long headers", "bob@mail.example", to[0], mail("1", &long, "x"), "552 5.3.4"),
        ("parts within parts", "bob@mail.example", to[0], mail("1", &deep, "x"), "550 5.6.0"),
        ("mails within mails", "bob@mail.example", to[0], mail("1", &deep_mails, "x"), "550 5.6.0"),
    ] {
        let answer = world.send(from, &[to], &mail).await;
        assert!(answer.starts_with(code), "{why}: {answer}");
    }
    assert_eq!(world.files(), 0, "what was refused leaves nothing behind");
    assert_eq!(world.core().rooms().list(0, 10).expect("readable").len(), 0);
}

/// What is odd, and taken all the same.
#[tokio::test]
async fn what_is_odd_is_taken() {
    let world = World::new();
    let alice = world.person("alice").await;
    let parts: String = "--b\n\nx\n".repeat(100_000);
    let parts = format!("Content-Type: multipart/mixed; boundary=b\n\n{parts}--b--");
    let nested: String =
        (0..900).map(|at| format!("Content-Type: multipart/mixed; boundary=b{at}\n\n--b{at}\n")).collect();
    for (why, id, more, body) in [
        ("bytes that are no text", "a", "Subject: \u{fffd}=?utf-8?q?=ff=fe?=\n", "caf\u{e9}"),
        ("an encoded word that is none", "b", "Subject: =?x-unknown?Z?abc?=\n", "hi"),
        ("100,000 parts", "c", "", parts.as_str()),
        ("parts within parts", "d", nested.as_str(), "deep"),
        ("no body", "e", "", ""),
        (
            "an archive that would be huge",
            "f",
            "Content-Type: application/zip; name=bomb.zip\nContent-Transfer-Encoding: base64\n",
            "UEsDBBQAAAAIAAAAIQAAAAAA",
        ),
        (
            "a picture that would be huge",
            "g",
            "Content-Type: image/png; name=b.png\nContent-Transfer-Encoding: base64\n",
            "iVBORw0KGgoAAAANSUhEUgD/////",
        ),
    ] {
        let answer = world.send("bob@mail.example", &["alice@example.org"], &mail(id, more, body)).await;
        assert!(answer.starts_with("250"), "{why}: {answer}");
    }
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    assert!(world.said(&room).len() >= 7);
    // Addresses in odd forms are one person each.
    for (at, address) in ["BOB@MAIL.EXAMPLE", "b+c=d@mail.example", "jörg@bücher.example"].iter().enumerate() {
        let mail = format!("From: {address}\nMessage-ID: <odd{at}@x>\n\nhi");
        let answer = world.send(address, &["\"alice\"@example.org"], &mail).await;
        assert!(answer.starts_with("250"), "{address}: {answer}");
    }
    assert!(world.room(&alice, "_mail_b=2bc=3dd=40mail.example").is_some());
}

#[tokio::test]
async fn a_mail_is_one_mail_whatever_ends_its_lines() {
    let world = World::new();
    world.person("alice").await;
    let smuggled = "From: bob@mail.example\r\n\r\nhi{end}MAIL FROM:<admin@bank.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nFrom: admin@bank.example\r\n\r\nforged\r\n.\r\n";
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\r\r\n.\r\r\n"] {
        let mut client = world.connect().await;
        client.greet().await;
        for line in ["MAIL FROM:<bob@mail.example>", "RCPT TO:<alice@example.org>", "DATA"] {
            client.ask(line).await;
        }
        client.write(smuggled.replace("{end}", end).as_bytes()).await;
        let answer = client.answer().await;
        assert!(answer.starts_with("550 5.6.0"), "{end:?}: {answer}");
        let answer = client.ask("NOOP").await;
        assert!(answer.starts_with("250"), "{end:?}: the second mail was none: {answer}");
    }
    assert_eq!(world.core().rooms().list(0, 10).expect("readable").len(), 0);
}

#[tokio::test]
async fn commands_are_bounded() {
    let world = World::new();
    world.person("alice").await;
    let mut client = world.connect().await;
    assert!(client.ask("MAIL FROM:<bob@mail.example>").await.starts_with("503"));
    client.greet().await;
    assert!(client.ask(&"x".repeat(5_000)).await.starts_with("500"));
    assert!(client.ask("NOOP").await.starts_with("250"), "the session goes on");
    // A line without end.
    client.write(&vec![b'a'; 300_000]).await;
    assert!(client.answer().await.starts_with("500"));
    assert!(client.answer().await.starts_with("421"));
    // Garbage, all at once.
    let mut client = world.connect().await;
    client.write("\u{1}garbage\r\n".repeat(500).as_bytes()).await;
    let mut last = String::new();
    loop {
        let answer = client.answer().await;
        if answer.is_empty() {
            break;
        }
        last = answer;
    }
    assert!(last.starts_with("421"), "{last}");
    // A line feed alone ends a session, not a line.
    let mut client = world.connect().await;
    client.write(b"EHLO a\nMAIL FROM:<x@y.example>\r\n").await;
    assert!(client.answer().await.starts_with("500 5.5.2"));
    assert_eq!(client.answer().await, "");
}

#[tokio::test]
async fn recipients_are_bounded() {
    let mut config = MailConfig::default();
    config.incoming.recipients_max = 5;
    config.incoming.trusted_networks = koine_net::guard::LOOPBACK.to_vec();
    let world = World::with(config);
    world.person("alice").await;
    let mut client = world.connect().await;
    client.greet().await;
    client.ask("MAIL FROM:<bob@mail.example>").await;
    client.write("RCPT TO:<alice@example.org>\r\n".repeat(10_000).as_bytes()).await;
    for at in 0..10 {
        let answer = client.answer().await;
        assert!(answer.starts_with(if at < 5 { "250" } else { "452 4.5.3" }), "{at}: {answer}");
    }
}

#[tokio::test]
async fn a_mail_that_is_too_large_is_refused_before_and_after() {
    let mut config = MailConfig::default();
    config.incoming.message_bytes_max = 10_000;
    config.incoming.trusted_networks = koine_net::guard::LOOPBACK.to_vec();
    let world = World::with(config);
    world.person("alice").await;
    let mut client = world.connect().await;
    client.greet().await;
    assert!(client.ask("MAIL FROM:<bob@mail.example> SIZE=1000000000").await.starts_with("552 5.3.4"));
    let large = mail("1", "", &"x\n".repeat(6_000));
    assert!(client.mail("bob@mail.example", &["alice@example.org"], &large).await.starts_with("552 5.3.4"));
    assert!(client.ask("NOOP").await.starts_with("250"));
    // A gigabyte is not waited for.
    let huge = mail("1", "", &"x\n".repeat(100_000));
    assert!(client.mail("bob@mail.example", &["alice@example.org"], &huge).await.starts_with("552 5.3.4"));
    assert_eq!(client.ask("NOOP").await, "");
    assert_eq!(world.files(), 0);
}

#[tokio::test]
async fn mails_come_in_pieces() {
    let world = World::new();
    let alice = world.person("alice").await;
    let mut client = world.connect().await;
    client.greet().await;
    client.ask("MAIL FROM:<bob@mail.example> BODY=8BITMIME").await;
    client.ask("RCPT TO:<alice@example.org>").await;
    let text = mail("1", "", ".dots stay\n.").replace('\n', "\r\n");
    let (one, two) = text.split_at(40);
    client.write(format!("BDAT {}\r\n{one}BDAT {} LAST\r\n{two}", one.len(), two.len()).as_bytes()).await;
    assert!(client.answer().await.starts_with("250"));
    assert!(client.answer().await.starts_with("250"));
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    assert_eq!(world.said(&room)[0]["body"], "Lunch\n\n.dots stay\n.");
    // Without recipients a piece is no command.
    let mut client = world.connect().await;
    client.greet().await;
    client.write(b"BDAT 25 LAST\r\nMAIL FROM:<x@y.example>\r\nNOOP\r\n").await;
    assert!(client.answer().await.starts_with("503"));
    assert!(client.answer().await.starts_with("250"), "only NOOP was a command");
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let world = World::new();
    let (alice, _) = (world.person("alice").await, world.person("carol").await);
    let ignored = json!({ "ignored_users": { "@_mail_bob=40mail.example:example.org": {} } }).to_string();
    world.core().accounts().set_account_data(&alice, None, "m.ignored_user_list", ignored).await.expect("she may");
    let mut client = world.connect_from(Dialect::Lmtp, [192, 0, 2, 1].into()).await;
    assert!(client.ask("EHLO x").await.starts_with("500"));
    assert!(client.ask("LHLO x").await.starts_with("250"));
    let answer =
        client.mail("bob@mail.example", &["alice@example.org", "carol@example.org"], &mail("1", "", "hi")).await;
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
    let answer = client.answer().await;
    assert!(answer.starts_with("250"), "{answer}");
}

#[tokio::test]
async fn whoever_sends_too_much_waits() {
    let mut config = MailConfig::default();
    config.incoming.per_address_hour = 2;
    config.resolver = Some(([127, 0, 0, 1], 9).into());
    let world = World::with(config);
    world.person("alice").await;
    let mut client = world.connect_from(Dialect::Smtp, [192, 0, 2, 1].into()).await;
    client.greet().await;
    for _ in 0..2 {
        assert!(client.ask("MAIL FROM:<bob@mail.example>").await.starts_with("250"));
        client.ask("RSET").await;
    }
    let answer = client.ask("MAIL FROM:<bob@mail.example>").await;
    assert!(answer.starts_with("451 4.7.1"), "{answer}");
}

/// The corpus of mails in the shapes that programs give them: what each says, and which files it has.
#[tokio::test]
async fn mails_of_programs_say_what_their_authors_meant() {
    let world = World::new();
    let alice = world.person("alice").await;
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/mail/corpus");
    let signed = "Friday is better, for on Thursday I am on a train that arrives only after nine.";
    for (file, ghost, body, files) in [
        ("gmail-reply", "gina=40gmail.example", "Re: Picnic\n\nSüße Idee, I will bring cake.", vec![]),
        (
            "outlook-reply",
            "otto=40outlook.example",
            "RE: Budget\n\nThe numbers are attached – see you on Tuesday.\n\nOtto",
            vec!["m.file"],
        ),
        ("apple-mail", "anna=40icloud.example", "Photo\n\nLook at this:\n\n\nSent from my iPhone", vec!["m.image"]),
        (
            "thunderbird-reply",
            "theo=40thunder.example",
            &format!(
                "Re: Choir\n\nAm 02.11.26 um 12:30 schrieb Alice:\n> Can you come on Thursday,\n> or is Friday better?\n\n{signed}"
            ),
            vec![],
        ),
        (
            "mailing-list",
            "cooks=40lists.example",
            "[Cooks] Soup of the week\n\nBert via Cooks (bert@cook.example) writes:\n\nLeek soup.\n_______________________________________________\nCooks mailing list -- cooks@lists.example",
            vec![],
        ),
        ("delta-chat", "dela=40delta.example", "Message from Dela\n\nHi there 👋", vec![]),
        ("calendar", "cal=40outlook.example", "Meeting\n\nLet us meet on Wednesday.", vec!["m.file"]),
        // What cannot be told apart is kept as a file.
        ("broken", "bro=40old.example", "", vec!["m.file"]),
    ] {
        let text = std::fs::read(corpus.join(format!("{file}.eml"))).expect("it is in the corpus");
        let text = String::from_utf8_lossy(&text).replace("{domain}", "example.org");
        let answer = world.send("someone@mail.example", &["alice@example.org"], &text).await;
        assert!(answer.starts_with("250"), "{file}: {answer}");
        let room = world.room(&alice, &format!("_mail_{ghost}")).unwrap_or_else(|| panic!("{file}: a room"));
        let said = world.said(&room);
        if !body.is_empty() {
            assert_eq!(said[0]["body"], body, "{file}");
        }
        let kinds: Vec<&str> = said.iter().skip(1).filter_map(|content| content["msgtype"].as_str()).collect();
        assert_eq!(kinds, files, "{file}");
        if file == "calendar" {
            assert_eq!(said[0]["koine.mail"]["headers"]["Calendar-Method"], "REQUEST");
        }
    }
}
