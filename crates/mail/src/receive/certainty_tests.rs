//! What is done in a name that may be forged, and for whom somebody took out of a room.

use koine_room::{Membership, Profile, Room};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use crate::testing::World;

const BOB: &str = "bob@mail.example";

/// A mail of Bob's to `to`.
fn mail(id: &str, to: &str, more: &str, body: &str) -> String {
    format!("From: {BOB}\nTo: {to}\nSubject: Plan\nMessage-ID: <{id}@mail.example>\n{more}\n{body}\n")
}

fn ghost(name: &str) -> OwnedUserId {
    UserId::parse(format!("@_mail_{name}:example.org")).expect("a name")
}

/// The room of several that somebody is asked into.
fn asked_into(world: &World, user: &UserId) -> std::sync::Arc<Room> {
    let (no, _) = world.core().rooms().memberships(user).expect("readable").pop().expect("asked into a room");
    world.core().rooms().room_by_no(no).expect("it is there")
}

async fn until_joined(world: &World, room: &Room, user: &UserId) {
    let mut grown = world.core().shard().watch();
    while !room.is_joined(user) {
        grown.changed().await.expect("the shard is open");
    }
}

#[tokio::test]
async fn a_mail_that_may_be_forged_brings_nobody_in() {
    let world = World::judging().await;
    let (alice, carol) = (world.person("alice").await, world.person("carol").await);
    let three = "alice@example.org, dave@other.example";
    let answer = world.send_from(true, BOB, &["alice@example.org"], &mail("1", three, "", "hi")).await;
    assert!(answer.starts_with("250"), "{answer}");
    let room = asked_into(&world, &alice);
    world.join(&alice, &room).await;
    assert_eq!(world.said(&room)[0]["koine.mail"]["verdict"]["verified"], true);
    // Somebody writes in his name, to all of them, to another account and to themselves.
    let more = format!("{three}, carol@example.org, mallory@evil.example");
    let forged = mail("2", &more, "References: <1@mail.example>\n", "Who is this?");
    let answer = world.send_from(false, BOB, &["alice@example.org", "carol@example.org"], &forged).await;
    assert!(answer.starts_with("250"), "{answer}");
    let said = world.said(&room);
    assert_eq!(said.len(), 2, "it belongs to the conversation");
    let body = said[1]["body"].as_str().expect("text");
    assert!(body.contains("not certain") && body.contains("mallory@evil.example, not in"), "{body}");
    for user in [&ghost("mallory=40evil.example"), &carol] {
        assert_eq!(room.local_membership(user), None, "{user} was brought in by a name");
    }
    // Who is not in the conversation has it from its author.
    let with_carol = world.room(&carol, "_mail_bob=40mail.example").expect("a room of the two");
    assert_eq!(with_carol.local_membership(&carol), Some(Membership::Invite));
    assert_eq!(world.said(&with_carol).len(), 1);
    // The same from where his domain says that he writes.
    let proven = forged.replace("<2@", "<3@");
    let answer = world.send_from(true, BOB, &["alice@example.org", "carol@example.org"], &proven).await;
    assert!(answer.starts_with("250"), "{answer}");
    assert!(room.is_joined(&ghost("mallory=40evil.example")));
    assert_eq!(room.local_membership(&carol), Some(Membership::Invite));
}

#[tokio::test]
async fn a_conversation_of_several_is_not_begun_by_a_name_alone() {
    let world = World::judging().await;
    let alice = world.person("alice").await;
    let both = mail("1", "alice@example.org, dave@other.example", "", "hi");
    let answer = world.send_from(false, BOB, &["alice@example.org"], &both).await;
    assert!(answer.starts_with("250"), "{answer}");
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room of the two");
    assert_eq!(world.membership(&room, "_mail_dave=40other.example"), None);
    assert!(world.said(&room)[0]["body"].as_str().is_some_and(|body| body.contains("dave@other.example")));
}

#[tokio::test]
async fn a_reaction_that_may_be_forged_is_words_and_a_receipt_is_nothing() {
    let world = World::judging().await;
    let alice = world.person("alice").await;
    world.send_from(true, BOB, &["alice@example.org"], &mail("1", "alice@example.org", "", "hi")).await;
    let room = world.room(&alice, "_mail_bob=40mail.example").expect("a room");
    world.join(&alice, &room).await;
    let ours = world.say(&alice, &room, "Hello").await;
    let name = koine_projection::mail::id::message_id(&ours, "example.org");
    let head = format!("In-Reply-To: {name}\nContent-Type: text/plain; charset=utf-8\nContent-Disposition: reaction\n");
    let reaction = mail("2", "alice@example.org", &head, "👍");
    let answer = world.send_from(false, BOB, &["alice@example.org"], &reaction).await;
    assert!(answer.starts_with("250"), "{answer}");
    let newest = room.newest(i64::MIN, i64::MAX, 1).expect("readable");
    let content: Value = serde_json::from_str(newest[0].event.content().get()).expect("JSON");
    assert_eq!(newest[0].event.kind(), "m.room.message");
    assert!(
        content["body"].as_str().is_some_and(|body| body.contains("not certain") && body.ends_with("👍")),
        "{content}"
    );
    let report = format!(
        "From: {BOB}\nTo: alice@example.org\nMessage-ID: <3@mail.example>\nReferences: {name}\nContent-Type: multipart/report; \
         report-type=disposition-notification; boundary=b\n\n--b\n\nread\n--b\nContent-Type: message/disposition-notification\n\n\
         Original-Message-ID: {name}\nDisposition: manual-action/MDN-sent-manually; displayed\n\n--b--\n"
    );
    let receipts = || {
        let all = room.receipts_after(&alice, None, i64::MAX).expect("readable");
        all.iter().filter(|receipt| receipt.user == ghost("bob=40mail.example") && receipt.event_id == ours).count()
    };
    let answer = world.send_from(false, BOB, &["alice@example.org"], &report).await;
    assert!(answer.starts_with("550 5.7.26"), "{answer}");
    assert_eq!(receipts(), 0);
    let answer = world.send_from(true, BOB, &["alice@example.org"], &report).await;
    assert!(answer.starts_with("250"), "{answer}");
    assert_eq!(receipts(), 1);
}

#[tokio::test]
async fn a_contact_comes_in_at_once_if_it_is_certain_that_it_is_them() {
    let world = World::judging().await;
    for (name, is_named) in [("alice", true), ("carol", false)] {
        let user = world.person(name).await;
        let list = |contact: &mut koine_account::Contact| contact.listed = true;
        let jid = "bob\\40mail.example@mail.example.org";
        world.core().accounts().edit_contact(&user, jid, list).await.expect("the list has room");
        let to = format!("{name}@example.org");
        let answer = world.send_from(is_named, BOB, &[&to], &mail(name, &to, "", "hi")).await;
        assert!(answer.starts_with("250"), "{answer}");
        let room = world.room(&user, "_mail_bob=40mail.example").expect("a room");
        assert_eq!(room.is_joined(&user), is_named, "{name}");
    }
}

#[tokio::test]
async fn nobody_is_made_a_member_of_a_room_by_somebody_elses_mail() {
    let world = World::judging().await;
    let alice = world.person("alice").await;
    let open = world.room_with_address(&alice, "open", json!({ "allow": "anyone" })).await;
    let letter = mail("1", "open@rooms.example.org", "", "hi");
    let answer = world.send_from(false, BOB, &["open@rooms.example.org"], &letter).await;
    assert!(answer.starts_with("550 5.7.26"), "{answer}");
    assert!(!open.is_joined(&ghost("bob=40mail.example")));
    assert_eq!(world.files(), 0, "what was refused leaves nothing");
    assert!(world.send_from(true, BOB, &["open@rooms.example.org"], &letter).await.starts_with("250"));
    assert!(open.is_joined(&ghost("bob=40mail.example")));
}

#[tokio::test]
async fn whom_an_account_took_out_does_not_come_back_by_writing() {
    let world = World::new();
    let alice = world.person("alice").await;
    let bob = ghost("bob=40mail.example");
    let room = world.room_with_address(&alice, "two", json!({ "allow": "nobody" })).await;
    let rooms = world.core().rooms();
    let ask = || async {
        let direct = Map::from_iter([("is_direct".to_owned(), json!(true))]);
        rooms.invite(&alice, room.id(), (&bob, &Profile::default()), None, direct).await.expect("she may");
        until_joined(&world, &room, &bob).await;
    };
    ask().await;
    let write = |id: &'static str| {
        let world = &world;
        async move { world.send(BOB, &["alice@example.org"], &mail(id, "alice@example.org", "", "hi")).await }
    };
    assert!(write("1").await.starts_with("250"));
    assert_eq!(world.said(&room).len(), 1, "it is the room of the two");
    // Who left by themselves is let in again.
    rooms.leave(&bob, room.id(), None).await.expect("he may");
    assert!(write("2").await.starts_with("250"));
    assert!(room.is_joined(&bob));
    rooms.kick(&alice, room.id(), &bob, None).await.expect("she may");
    let answer = write("3").await;
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
    assert!(!room.is_joined(&bob));
    assert_eq!(world.said(&room).len(), 2);
    // Until she asks him back.
    ask().await;
    assert!(write("4").await.starts_with("250"));
    assert_eq!(world.said(&room).len(), 3);
    rooms.ban(&alice, room.id(), &bob, None).await.expect("she may");
    let answer = write("5").await;
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
}

#[tokio::test]
async fn whom_somebody_took_out_of_a_room_nobody_brings_back_by_mail() {
    let world = World::new();
    let alice = world.person("alice").await;
    let dave = ghost("dave=40other.example");
    let three = "alice@example.org, dave@other.example";
    world.send(BOB, &["alice@example.org"], &mail("1", three, "", "hi")).await;
    let room = asked_into(&world, &alice);
    world.join(&alice, &room).await;
    let rooms = world.core().rooms();
    rooms.kick(&alice, room.id(), &dave, None).await.expect("she may");
    let answer = world.send(BOB, &["alice@example.org"], &mail("2", three, "", "Dave?")).await;
    assert!(answer.starts_with("250"), "{answer}");
    assert!(!room.is_joined(&dave));
    let said = world.said(&room);
    assert!(said[1]["body"].as_str().is_some_and(|body| body.contains("dave@other.example, not in")), "{said:?}");
    // Nor does he come back by writing to the room.
    let club = world.room_with_address(&alice, "club", json!({ "allow": "anyone" })).await;
    let letter = |id: &str| format!("From: dave@other.example\nMessage-ID: <{id}@other.example>\n\nhi\n");
    let to = ["club@rooms.example.org"];
    assert!(world.send("dave@other.example", &to, &letter("1")).await.starts_with("250"));
    rooms.kick(&alice, club.id(), &dave, None).await.expect("she may");
    let answer = world.send("dave@other.example", &to, &letter("2")).await;
    assert!(answer.starts_with("550 5.7.1"), "{answer}");
    assert!(!club.is_joined(&dave));
}
