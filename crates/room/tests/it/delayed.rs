//! Events that are sent later.

use std::time::Duration;

use koine_room::{DELAY_MAX, DELAYED_PER_USER_MAX, DelayError, Delayed, Done, Sender};
use ruma_common::RoomId;
use serde_json::{json, value::to_raw_value};

use crate::house::{House, alice, bob};

async fn schedule(house: &House, room: &RoomId, text: &str, delay: Duration) -> Result<String, DelayError> {
    let content = to_raw_value(&json!({ "body": text })).expect("JSON");
    let wanted = Delayed { kind: "m.room.message", state_key: None, content: &content, delay };
    house.rooms.schedule(Sender { user: alice(), device: Some("A") }, room, wanted, Some(text)).await
}

/// Waits until nothing is scheduled any more.
async fn all_sent(house: &House) {
    while !house.rooms.scheduled(alice()).expect("readable").is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_due_is_sent_in_order_and_once() {
    let house = House::new();
    let room = house.public_room().await;
    let first = schedule(&house, &room, "first", Duration::from_millis(1)).await.expect("scheduled");
    assert_eq!(schedule(&house, &room, "first", Duration::ZERO).await.expect("the same"), first);
    all_sent(&house).await;
    schedule(&house, &room, "second", Duration::ZERO).await.expect("scheduled");
    all_sent(&house).await;
    assert_eq!(house.bodies(&room), ["first", "second"]);
    let done = house.rooms.delayed(&first).expect("readable").expect("kept").done.expect("done").0;
    assert!(matches!(done, Done::Sent(_)), "{done:?}");
    // Sending what was sent is no error, taking it back is.
    house.rooms.send_delayed(&first).await.expect("sent before");
    assert!(matches!(house.rooms.cancel_delayed(&first).await, Err(DelayError::Finished)));
    assert!(matches!(house.rooms.restart_delayed(&first).await, Err(DelayError::Finished)));
    assert_eq!(house.bodies(&room), ["first", "second"]);
}

#[tokio::test]
async fn an_event_is_sent_at_once_or_never_as_its_sender_says() {
    let house = House::new();
    let room = house.public_room().await;
    let hour = Duration::from_secs(3600);
    let (now, never) = (schedule(&house, &room, "now", hour).await, schedule(&house, &room, "never", hour).await);
    let (now, never) = (now.expect("scheduled"), never.expect("scheduled"));
    let before = house.rooms.delayed(&now).expect("readable").expect("there");
    assert_eq!((before.delay_ms, before.content.as_str(), before.done), (3_600_000, r#"{"body":"now"}"#, None));
    house.rooms.restart_delayed(&now).await.expect("put off");
    house.rooms.send_delayed(&now).await.expect("sent");
    house.rooms.cancel_delayed(&never).await.expect("taken back");
    house.rooms.cancel_delayed(&never).await.expect("once more");
    assert!(matches!(house.rooms.send_delayed(&never).await, Err(DelayError::Finished)));
    assert!(matches!(house.rooms.send_delayed("nonsense").await, Err(DelayError::Unknown)));
    assert_eq!(house.bodies(&room), ["now"]);
    assert!(house.rooms.scheduled(alice()).expect("readable").is_empty());
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let house = House::new();
    let room = house.public_room().await;
    schedule(&house, &room, "later", Duration::from_secs(3600)).await.expect("scheduled");
    schedule(&house, &room, "soon", Duration::from_millis(50)).await.expect("scheduled");
    let house = house.restarted();
    while house.rooms.scheduled(alice()).expect("readable").len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.bodies(&room), ["soon"]);
    let scheduled = house.rooms.scheduled(alice()).expect("readable");
    assert_eq!(scheduled.iter().map(|event| event.content.as_str()).collect::<Vec<_>>(), [r#"{"body":"later"}"#]);
}

#[tokio::test]
async fn what_the_room_refuses_by_then_is_told() {
    let house = House::new();
    let room = house.public_room().await;
    let id = schedule(&house, &room, "too late", Duration::from_secs(3600)).await.expect("scheduled");
    house.rooms.leave(alice(), &room, None).await.expect("left");
    assert!(house.rooms.send_delayed(&id).await.is_err());
    let done = house.rooms.delayed(&id).expect("readable").expect("kept").done.expect("done").0;
    assert!(matches!(done, Done::Failed(_)), "{done:?}");
}

#[tokio::test]
async fn nobody_schedules_too_much_or_where_they_are_not() {
    let house = House::new();
    let room = house.public_room().await;
    let hour = Duration::from_secs(3600);
    assert!(matches!(schedule(&house, &room, "x", DELAY_MAX * 2).await, Err(DelayError::TooLong)));
    for number in 0..DELAYED_PER_USER_MAX {
        schedule(&house, &room, &number.to_string(), hour).await.expect("scheduled");
    }
    assert!(matches!(schedule(&house, &room, "one more", hour).await, Err(DelayError::TooMany)));
    let content = to_raw_value(&json!({})).expect("JSON");
    let wanted = Delayed { kind: "m.room.message", state_key: None, content: &content, delay: hour };
    let sender = Sender { user: bob(), device: Some("B") };
    assert!(house.rooms.schedule(sender, &room, wanted, None).await.is_err());
}
