//! Deleting history and rooms, and what rooms say of how long they keep things.

use koine_room::{CommandError, Purge, ReadError};
use ruma_common::RoomId;
use serde_json::json;

use crate::house::{House, alice, bob};

fn everything() -> Purge {
    Purge { until: i64::MAX, sent_before: None, own_too: true }
}

#[tokio::test]
async fn old_messages_go_while_state_and_the_newest_stay() {
    let house = House::new();
    let room = house.public_room().await;
    let first = house.say(alice(), &room, "first").await;
    house.set(alice(), &room, "m.room.topic", json!({ "topic": "kept" })).await.expect("set");
    house.say(alice(), &room, "second").await;
    house.say(alice(), &room, "third").await;
    let spared = Purge { own_too: false, ..everything() };
    assert_eq!(house.rooms.purge_history(&room, spared).await.expect("purged"), 0, "ours are nobody else's to give");
    assert_eq!(house.rooms.purge_history(&room, everything()).await.expect("purged"), 2);
    assert_eq!(house.bodies(&room), ["third"]);
    assert!(house.room(&room).event(&first).expect("readable").is_none());
    house.say(alice(), &room, "fourth").await;
    let house = house.restarted();
    assert_eq!(house.bodies(&room), ["third", "fourth"]);
    let topic = house.room(&room).current("m.room.topic", "").expect("readable").expect("kept");
    assert_eq!(topic.event.content_field::<String>("topic").as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_deleted_room_leaves_nothing_behind() {
    let house = House::new();
    let kept = house.public_room().await;
    house.say(alice(), &kept, "kept").await;
    let room = house.public_room().await;
    house.join(bob(), &room).await.expect("joined");
    for number in 0..50 {
        house.say(alice(), &room, &number.to_string()).await;
        house.set(alice(), &room, &format!("test.{number}"), json!({})).await.expect("set");
    }
    assert!(matches!(house.rooms.delete_room(&room).await, Err(CommandError::Forbidden(_))));
    house.rooms.leave(alice(), &room, None).await.expect("left");
    house.rooms.leave(bob(), &room, None).await.expect("left");
    house.rooms.delete_room(&room).await.expect("deleted");
    assert!(matches!(house.rooms.room(&room), Err(ReadError::NoSuchRoom)));
    assert!(house.join(bob(), &room).await.is_err());
    let house = house.restarted();
    assert!(matches!(house.rooms.room(&room), Err(ReadError::NoSuchRoom)));
    assert_eq!(house.bodies(&kept), ["kept"]);
    let before = house.room(&kept).no();
    let next = house.public_room().await;
    assert!(house.room(&next).no() > before + 1, "the number of a deleted room is not given again");
}

#[tokio::test]
async fn nobody_comes_into_a_blocked_room() {
    let house = House::new();
    let room = house.public_room().await;
    house.rooms.block_room(&room, Some(alice())).await.expect("blocked");
    assert_eq!(house.rooms.room_blocked_by(&room).expect("readable").as_deref(), Some(alice()));
    assert!(matches!(house.join(bob(), &room).await, Err(CommandError::Forbidden(_))));
    house.rooms.block_room(&room, None).await.expect("let in again");
    house.join(bob(), &room).await.expect("joined");
}

#[tokio::test]
async fn what_is_older_than_the_room_wants_goes() {
    let house = House::new();
    let room: &RoomId = &house.public_room().await;
    house.say(alice(), room, "old").await;
    house.say(alice(), room, "newest").await;
    assert_eq!(house.rooms.enforce_retention().await.expect("enforced"), 0);
    house.set(alice(), room, "m.room.retention", json!({ "max_lifetime": 1 })).await.expect("set");
    let sent = std::time::Instant::now();
    while sent.elapsed().as_millis() < 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.rooms.enforce_retention().await.expect("enforced"), 2, "state is the newest event now");
    assert!(house.bodies(room).is_empty());
    house.set(alice(), room, "m.room.retention", json!({ "max_lifetime": 3_600_000 })).await.expect("set");
    house.say(alice(), room, "young").await;
    assert_eq!(house.rooms.enforce_retention().await.expect("enforced"), 0);
    assert_eq!(house.bodies(room), ["young"]);
}
