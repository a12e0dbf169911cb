//! What a stranger could make us do without end: follow rings, believe whole rooms of forgeries, wait.

use koine_graph::{Draft, Event, Legacy};
use koine_room::{CommandError, Preset, Profile, Room};
use ruma_common::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomVersionId};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    hostile::send,
    houses::{House, Links, pair, until},
};

/// A membership of bob's in a room of version 2, where the sender chooses the id, resting on whatever it says.
fn membership_resting_on(house: &House, room: &Room, id: &str, also: &EventId) -> Event {
    let state = |kind: &str| {
        room.current(kind, "").unwrap().map(|placed| placed.event.event_id().to_owned()).expect("it is there")
    };
    let bob = house.user("bob");
    let draft = Draft {
        room_id: Some(room.id().to_owned()),
        sender: bob.clone(),
        kind: "m.room.member".into(),
        state_key: Some(bob.to_string()),
        content: to_raw_value(&json!({ "membership": "join", "displayname": id })).expect("JSON"),
        redacts: None,
        prev_events: room.extremities(),
        auth_events: vec![
            state("m.room.create"),
            state("m.room.power_levels"),
            state("m.room.join_rules"),
            also.to_owned(),
        ],
        depth: 100,
        origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
    };
    let reference_hash = |_: &EventId| Some([1; 32]);
    let legacy = Legacy { opaque_id: id, reference_hash: &reference_hash };
    draft.seal_with(room.rules(), &house.name, &house.key, Some(&legacy)).expect("an event")
}

#[tokio::test]
async fn auth_events_in_a_ring_keep_all_of_it_out() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V2).await;
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    let id = |name: &str| OwnedEventId::try_from(format!("${name}:two.example")).expect("an id");
    let there = two.room(&room);
    let ring: Vec<Event> = [("a", "b"), ("b", "c"), ("c", "a")]
        .into_iter()
        .map(|(own, next)| membership_resting_on(&two, &there, own, &id(next)))
        .collect();
    // Whoever asks is given all of the ring, each time.
    let all: Vec<Value> = ring.iter().map(|event| serde_json::from_slice(event.json()).expect("JSON")).collect();
    let told = ring.clone();
    one.links.answer_instead(&two.name, move |path| {
        if path.contains("/event_auth/") {
            return Some(json!({ "auth_chain": all }));
        }
        let asked = told.iter().zip(&all).find(|(event, _)| {
            path.contains("/event/")
                && path.ends_with(&event.event_id().as_str().replace('$', "%24").replace(':', "%3A"))
        });
        asked.map(|(_, event)| json!({ "pdus": [event] }))
    });
    one.links.asked.lock().clear();
    for (number, event) in ring.iter().enumerate() {
        send(&two, &one, &format!("t{number}"), &[event.json().clone()]).await;
        assert!(one.room(&room).event(event.event_id()).unwrap().is_none_or(|placed| placed.is_outlier()));
    }
    let asked = one.links.asked.lock().iter().filter(|asked| asked.starts_with("one.example")).count();
    assert!(asked < 30, "{asked} questions about a ring of three");
    let member = one.room(&room).current("m.room.member", bob.as_str()).unwrap().expect("bob is in the room");
    assert!(!ring.iter().any(|event| event.event_id() == member.event.event_id()));
    one.say(&alice, &room, "the room goes on").await;
    until("two hears it", || two.bodies(&room).contains(&"the room goes on".to_owned())).await;
}

/// Alters what is told of the state of a room: events of this type get another time, which their signature covers.
fn forge(whole: &[u8], kind: &str) -> bytes::Bytes {
    let mut answer: Value = serde_json::from_slice(whole).expect("JSON");
    let events = answer["state"].as_array_mut().expect("a list").iter_mut();
    for event in events.filter(|event| event["type"] == kind) {
        event["origin_server_ts"] = json!(1);
    }
    answer.to_string().into()
}

#[tokio::test]
async fn of_a_state_what_is_forged_is_left_out() {
    let (one, two) = pair().await;
    let alice = one.user("alice");
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    one.set(&alice, &room, "m.room.topic", json!({ "topic": "honest" })).await;
    one.links.answer_with("/send_join/", |whole| Box::new(Some(forge(&whole, "m.room.topic"))));
    two.join(&two.user("bob"), &room, &one).await.expect("let in");
    assert!(two.room(&room).current("m.room.topic", "").unwrap().is_none());
    assert!(two.room(&room).current("m.room.name", "").unwrap().is_some());
}

#[tokio::test]
async fn a_room_whose_beginning_is_forged_is_not_entered() {
    let (one, two) = pair().await;
    let room = one.create(&one.user("alice"), Preset::PublicChat, RoomVersionId::V11).await;
    one.links.answer_with("/send_join/", |whole| Box::new(Some(forge(&whole, "m.room.create"))));
    let joined = two.join(&two.user("bob"), &room, &one).await;
    assert!(matches!(joined, Err(CommandError::NotReachable)), "{joined:?}");
    assert!(two.rooms.room(&room).is_err(), "nothing is left of it");
}

#[tokio::test]
async fn a_server_that_never_answers_holds_up_nobody_else() {
    let links = std::sync::Arc::new(Links::default());
    let one = House::new(&links, "one.example").await;
    let two = House::new(&links, "two.example").await;
    let three = House::new(&links, "three.example").await;
    let (alice, bob, carol) = (one.user("alice"), two.user("bob"), three.user("carol"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&bob, &room, &one).await.expect("let in");
    three.join(&carol, &room, &one).await.expect("let in");
    until("all see all", || [&one, &two, &three].iter().all(|house| house.state(&room) == one.state(&room))).await;
    links.silence(&two.name);
    for text in ["a", "b", "c"] {
        one.say(&alice, &room, text).await;
        until("three hears it", || three.bodies(&room).contains(&text.to_owned())).await;
    }
    // What the silent one says itself is heard.
    two.say(&bob, &room, "d").await;
    until("one hears it", || one.bodies(&room).contains(&"d".to_owned())).await;
}

#[tokio::test]
async fn ids_that_name_a_local_address_lead_nowhere() {
    let (one, two) = pair().await;
    for server in ["127.0.0.1:8448", "localhost", "[::1]:8448", "10.0.0.1"] {
        let room = format!("!room:{server}").try_into().expect("a room id");
        let room: &ruma_common::OwnedRoomId = &room;
        let joined =
            one.rooms.join_via(&one.user("alice"), room, &[], &Profile::default(), None, Default::default()).await;
        assert!(joined.is_err(), "{server}");
        // A request in the name of such a server proves nothing.
        let path = format!("/_matrix/federation/v1/backfill/{room}?v=x");
        let header = format!(r#"X-Matrix origin="{server}",destination="two.example",key="ed25519:1",sig="AAAA""#);
        let request = http::Request::builder().uri(path).header("authorization", header);
        let request = request.body(bytes::Bytes::new()).expect("a request");
        let (status, _) = crate::hostile::call(&two, request).await;
        assert_eq!(status, http::StatusCode::UNAUTHORIZED, "{server}");
    }
}
