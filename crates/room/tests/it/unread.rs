//! Receipts, and what they leave unread. [CS-API §receiving-notifications]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use koine_room::{CommandError, Counts, Placed, ReceiptType, Sender, Unread, UnreadContext, UnreadRules, Verdict};
use ruma_common::{EventId, OwnedEventId, RoomId, UserId, event_id};
use serde_json::{json, value::to_raw_value};

use crate::house::{House, alice, bob, carol};

/// Every message notifies; one that shouts highlights. Counts how often it is asked.
#[derive(Default)]
struct Loud(AtomicU64);

impl UnreadRules for Loud {
    fn verdict(&self, _: &UserId, placed: &Placed, _: &UnreadContext<'_>) -> Verdict {
        self.0.fetch_add(1, Ordering::Relaxed);
        let body = placed.event.content_field::<String>("body").unwrap_or_default();
        Verdict { notify: placed.event.kind() == "m.room.message", highlight: body.ends_with('!') }
    }
}

fn unread(house: &House, user: &UserId, room: &RoomId, rules: &Loud) -> Unread {
    let room = house.room(room);
    let membership = house.rooms.membership(user, room.no()).expect("readable").expect("a member");
    room.unread(user, &membership, rules).expect("readable")
}

fn counts(notify: u64, highlight: u64) -> Counts {
    Counts { notify, highlight }
}

async fn read(house: &House, user: &UserId, room: &RoomId, event: &EventId, thread: Option<&str>) {
    house.rooms.set_receipt(user, room, ReceiptType::Read, event, thread).await.expect("read");
}

async fn reply(house: &House, user: &UserId, room: &RoomId, root: &EventId, body: &str) -> OwnedEventId {
    let content = json!({ "body": body, "m.relates_to": { "rel_type": "m.thread", "event_id": root } });
    let content = to_raw_value(&content).expect("JSON");
    house.rooms.send(Sender { user, device: None }, room, "m.room.message", &content, None).await.expect("sent")
}

#[tokio::test]
async fn each_event_is_looked_at_once_and_a_receipt_makes_it_read() {
    let house = House::new();
    let id = house.public_room().await;
    house.say(alice(), &id, "before bob").await;
    house.join(bob(), &id).await.expect("joined");
    let rules = Loud::default();
    house.say(alice(), &id, "one").await;
    let second = house.say(alice(), &id, "two!").await;
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(2, 1));
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(2, 1));
    let asked = rules.0.load(Ordering::Relaxed);
    assert_eq!(asked, 2, "what was before bob's time does not count, and nothing is asked twice");
    read(&house, bob(), &id, &second, None).await;
    house.say(alice(), &id, "three").await;
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(1, 0));
    assert_eq!(rules.0.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_receipt_in_the_midst_leaves_what_came_after() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let rules = Loud::default();
    let first = house.say(alice(), &id, "one!").await;
    house.say(alice(), &id, "two").await;
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(2, 1));
    read(&house, bob(), &id, &first, None).await;
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(1, 0));
    // A receipt never moves back.
    house.rooms.set_receipt(bob(), &id, ReceiptType::ReadPrivate, &first, None).await.expect("read");
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(1, 0));
}

#[tokio::test]
async fn speaking_is_reading() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let rules = Loud::default();
    house.say(alice(), &id, "one").await;
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(1, 0));
    house.say(bob(), &id, "two").await;
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(0, 0));
    assert_eq!(unread(&house, alice(), &id, &rules).main, counts(1, 0));
}

#[tokio::test]
async fn threads_are_counted_and_read_by_themselves() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let rules = Loud::default();
    let root = house.say(alice(), &id, "root").await;
    let first = reply(&house, alice(), &id, &root, "one").await;
    reply(&house, alice(), &id, &root, "two!").await;
    let main = house.say(alice(), &id, "main!").await;
    reply(&house, alice(), &id, &root, "three").await;
    let all = unread(&house, bob(), &id, &rules);
    assert_eq!((all.main, all.threads,), (counts(2, 1), vec![(root.clone(), counts(3, 1))]));
    read(&house, bob(), &id, &root, Some("main")).await;
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(1, 1));
    read(&house, bob(), &id, &first, Some(root.as_str())).await;
    assert_eq!(unread(&house, bob(), &id, &rules).threads, [(root.clone(), counts(2, 1))]);
    // Disregarding threads: everything up to there, in the thread too.
    read(&house, bob(), &id, &main, None).await;
    let rest = unread(&house, bob(), &id, &rules);
    assert_eq!((rest.main, rest.threads.clone()), (counts(0, 0), vec![(root, counts(1, 0))]));
    assert_eq!(rest.total(), counts(1, 0));
}

#[tokio::test]
async fn counts_are_the_same_after_a_restart() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let rules = Loud::default();
    let mut events = Vec::new();
    for n in 0..300 {
        events.push(house.say(alice(), &id, &n.to_string()).await);
    }
    read(&house, bob(), &id, &events[9], None).await;
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(290, 0));
    read(&house, bob(), &id, &events[19], Some("main")).await;
    let house = house.restarted();
    assert_eq!(unread(&house, bob(), &id, &rules).main, counts(280, 0));
}

#[tokio::test]
async fn receipts_are_told_by_where_they_changed_and_private_ones_to_their_reader_alone() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let (first, second) = (house.say(alice(), &id, "one").await, house.say(alice(), &id, "two").await);
    read(&house, bob(), &id, &first, None).await;
    let between = i64::try_from(house.rooms.shard().position().0).expect("small");
    house.rooms.set_receipt(bob(), &id, ReceiptType::ReadPrivate, &second, None).await.expect("read");
    read(&house, alice(), &id, &second, Some("main")).await;
    let room = house.room(&id);
    let told = |reader, after| {
        let receipts = room.receipts_after(reader, after, i64::MAX).expect("readable");
        receipts.into_iter().map(|receipt| (receipt.user, receipt.kind, receipt.event_id)).collect::<Vec<_>>()
    };
    let bobs = (bob().to_owned(), ReceiptType::Read, first.clone());
    let private = (bob().to_owned(), ReceiptType::ReadPrivate, second.clone());
    let alices = (alice().to_owned(), ReceiptType::Read, second.clone());
    assert_eq!(told(alice(), None), [bobs.clone(), alices.clone()]);
    assert_eq!(told(bob(), None), [bobs, private.clone(), alices.clone()]);
    assert_eq!(told(bob(), Some(between)), [private, alices]);
    // Read on: the old place is not told any more.
    read(&house, bob(), &id, &second, None).await;
    assert_eq!(told(alice(), None).len(), 2);
    let position = house.rooms.shard().position();
    read(&house, bob(), &id, &first, None).await;
    assert_eq!(house.rooms.shard().position(), position, "a receipt never moves back");
}

#[tokio::test]
async fn a_receipt_wants_a_member_an_event_and_a_thread_that_fits() {
    let house = House::new();
    let id = house.public_room().await;
    let event = house.say(alice(), &id, "one").await;
    let other = house.say(alice(), &id, "two").await;
    let set = |user, event, thread| house.rooms.set_receipt(user, &id, ReceiptType::Read, event, thread);
    assert!(matches!(set(carol(), &event, None).await, Err(CommandError::NotJoined)));
    assert!(matches!(set(alice(), event_id!("$none"), None).await, Err(CommandError::NoSuchEvent)));
    assert!(matches!(set(alice(), &event, Some(other.as_str())).await, Err(CommandError::InvalidParam(_))));
    assert!(matches!(set(alice(), &event, Some("x")).await, Err(CommandError::InvalidParam(_))));
    set(alice(), &event, Some(event.as_str())).await.expect("the root is in its thread");
}

#[tokio::test(start_paused = true)]
async fn typing_is_told_and_ends_by_itself() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let room = house.room(&id);
    let inbox = house.rooms.hub().inbox(bob());
    let start = house.rooms.shard().position();
    assert!(matches!(house.rooms.set_typing(carol(), &id, Some(Duration::from_secs(4))), Err(CommandError::NotJoined)));
    assert_eq!(room.typing_after(0), None);
    house.rooms.set_typing(alice(), &id, Some(Duration::from_secs(4))).expect("a member");
    let (users, mark) = room.typing();
    assert_eq!(users, [alice()]);
    assert_eq!(inbox.changes_after(start, 0).expect("covered").fleeting, [room.no()]);
    // Typing on is no news, but moves the end.
    tokio::time::sleep(Duration::from_secs(3)).await;
    house.rooms.set_typing(alice(), &id, Some(Duration::from_secs(4))).expect("a member");
    assert_eq!(room.typing_after(mark), None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(room.typing().0, [alice()]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(room.typing_after(mark), Some(vec![]));
    house.rooms.set_typing(bob(), &id, Some(Duration::from_secs(4))).expect("a member");
    house.rooms.set_typing(bob(), &id, None).expect("a member");
    assert!(room.typing().0.is_empty());
    // Who leaves types no more.
    house.rooms.set_typing(bob(), &id, Some(Duration::from_secs(4))).expect("a member");
    let (_, mark) = room.typing();
    house.rooms.leave(bob(), &id, None).await.expect("left");
    assert_eq!(room.typing_after(mark), Some(vec![]));
}
