//! Servers that were away: for long, and across restarts of ours.

use koine_room::Preset;
use ruma_common::{OwnedRoomId, RoomVersionId};
use serde_json::json;

use crate::houses::{House, pair, until};

async fn shared() -> (House, House, OwnedRoomId) {
    let (one, two) = pair().await;
    let room = one.create(&one.user("alice"), Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&two.user("bob"), &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&two.user("bob"))).await;
    (one, two, room)
}

#[tokio::test]
async fn a_server_whose_queue_ran_over_catches_up_from_the_newest() {
    let (one, two, room) = shared().await;
    let alice = one.user("alice");
    // So that what is missing is not among the oldest that two has.
    for at in 0..30 {
        one.say(&alice, &room, &format!("before {at}")).await;
    }
    until("two hears what was before", || two.bodies(&room).len() == 30).await;
    let sent = || {
        let asked = one.links.asked.lock();
        asked.iter().filter(|asked| asked.starts_with("one.example") && asked.contains("/send/")).count()
    };
    let before = sent();
    one.links.set_down("two.example", true);
    for at in 0..1_100 {
        one.say(&alice, &room, &at.to_string()).await;
    }
    one.set(&alice, &room, "m.room.topic", json!({ "topic": "long ago" })).await;
    one.links.set_down("two.example", false);
    until("two hears the newest", || two.bodies(&room).contains(&"1099".to_owned())).await;
    until("they agree", || one.state(&room) == two.state(&room)).await;
    assert_eq!(two.bodies(&room), one.bodies(&room), "what was between is fetched, and stands in its order");
    let sends = sent() - before;
    assert!(sends < 10, "{sends} transactions");
    // And on it goes, both ways.
    one.say(&alice, &room, "on").await;
    until("two hears it", || two.bodies(&room).contains(&"on".to_owned())).await;
    two.say(&two.user("bob"), &room, "and back").await;
    until("one hears it", || one.bodies(&room).contains(&"and back".to_owned())).await;
}

#[tokio::test]
async fn what_waited_for_a_server_is_told_after_a_restart() {
    let (one, two, room) = shared().await;
    one.links.set_down("two.example", true);
    let said: Vec<String> = (0..60).map(|at| at.to_string()).collect();
    for text in &said {
        one.say(&one.user("alice"), &room, text).await;
    }
    let one = one.restarted().await;
    one.say(&one.user("alice"), &room, "after").await;
    one.links.set_down("two.example", false);
    until("two heard it all", || two.bodies(&room).len() == 61).await;
    let wanted: Vec<String> = said.into_iter().chain(["after".to_owned()]).collect();
    assert_eq!(two.bodies(&room), wanted);
}
