//! Rooms that members of other rooms may join, through one server and through several.

use std::sync::Arc;

use http::{Method, StatusCode};
use koine_graph::Draft;
use koine_room::{CommandError, Preset, Profile};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomVersionId, UserId};
use serde_json::{json, value::to_raw_value};

use crate::{
    hostile::{call, signed},
    houses::{House, Links, until},
};

struct World {
    one: House,
    two: House,
    three: House,
    /// Whose members may join `room`.
    club: OwnedRoomId,
    room: OwnedRoomId,
}

/// Alice of the first server has a club, and a room for its members in which only she may invite.
async fn world() -> World {
    let links = Arc::new(Links::default());
    let one = House::new(&links, "one.example").await;
    let two = House::new(&links, "two.example").await;
    let three = House::new(&links, "three.example").await;
    let alice = one.user("alice");
    let club = one.create(&alice, Preset::PublicChat, RoomVersionId::V10).await;
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V10).await;
    let levels = json!({ "users": { alice.as_str(): 100 }, "invite": 100 });
    one.set(&alice, &room, "m.room.power_levels", levels).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    one.set(&alice, &room, "m.room.join_rules", json!({ "join_rule": "restricted", "allow": allow })).await;
    World { one, two, three, club, room }
}

async fn join(house: &House, user: &UserId, room: &OwnedRoomId, via: &[&House]) -> Result<(), CommandError> {
    let via: Vec<OwnedServerName> = via.iter().map(|house| house.name.clone()).collect();
    house.rooms.join_via(user, room, &via, &Profile::default(), None, serde_json::Map::new()).await
}

fn voucher(house: &House, room: &OwnedRoomId, user: &UserId) -> Option<String> {
    let member = house.room(room).current("m.room.member", user.as_str()).expect("readable")?;
    member.event.content_field("join_authorised_via_users_server")
}

#[tokio::test]
async fn members_of_the_club_come_in_and_others_do_not() {
    let World { one, two, club, room, .. } = world().await;
    let bob = two.user("bob");
    assert!(matches!(join(&two, &bob, &room, &[&one]).await, Err(CommandError::Forbidden(_))));
    join(&two, &bob, &club, &[&one]).await.expect("everybody may");
    join(&two, &bob, &room, &[&one]).await.expect("a member of the club");
    assert_eq!(voucher(&one, &room, &bob), Some(one.user("alice").to_string()));
    assert_eq!(one.state(&room), two.state(&room));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_cannot_vouch() {
    let World { one, two, three, club, room } = world().await;
    let (bob, carol) = (two.user("bob"), three.user("carol"));
    for id in [&club, &room] {
        join(&two, &bob, id, &[&one]).await.expect("let in");
    }
    join(&three, &carol, &club, &[&one]).await.expect("everybody may");
    until("two sees carol", || two.room(&club).is_joined(&carol)).await;
    assert!(matches!(join(&three, &carol, &room, &[&two]).await, Err(CommandError::UnableToGrant)));
    two.rooms.leave(&bob, &club, None).await.expect("left");
    assert!(matches!(join(&three, &carol, &room, &[&two]).await, Err(CommandError::UnableToAuthorise)));
    join(&three, &carol, &room, &[&two, &one]).await.expect("the second one vouches");
    assert_eq!(voucher(&three, &room, &carol), Some(one.user("alice").to_string()));
}

#[tokio::test]
async fn who_is_beside_people_who_may_not_invite_goes_through_another_server() {
    let World { one, two, club, room, .. } = world().await;
    let (bob, dora) = (two.user("bob"), two.user("dora"));
    for user in [&bob, &dora] {
        join(&two, user, &club, &[&one]).await.expect("everybody may");
    }
    join(&two, &bob, &room, &[&one]).await.expect("let in");
    until("one sees dora", || one.room(&club).is_joined(&dora)).await;
    let sends = || one.links.asked.lock().iter().filter(|asked| asked.contains("/send/")).count();
    let before = sends();
    join(&two, &dora, &room, &[]).await.expect("let in through the first server");
    assert!(two.room(&room).is_joined(&dora) && one.room(&room).is_joined(&dora));
    assert_eq!(voucher(&two, &room, &dora), Some(one.user("alice").to_string()));
    assert_eq!(one.state(&room), two.state(&room));
    // Two does not tell what one tells.
    two.say(&bob, &room, "hello").await;
    until("one hears it", || one.bodies(&room).contains(&"hello".to_owned())).await;
    assert_eq!(sends() - before, 1);
}

#[tokio::test]
async fn who_names_a_voucher_without_meeting_a_condition_stays_out() {
    let World { one, two, room, .. } = world().await;
    let bob = two.user("bob");
    let here = one.room(&room);
    let state = |kind: &str, key: &str| {
        here.current(kind, key)
            .expect("readable")
            .map(|placed| placed.event.event_id().to_owned())
            .expect("it is there")
    };
    let alice = one.user("alice");
    let content = json!({ "membership": "join", "join_authorised_via_users_server": alice });
    let draft = Draft {
        room_id: Some(room.clone()),
        sender: bob.clone(),
        kind: "m.room.member".into(),
        state_key: Some(bob.to_string()),
        content: to_raw_value(&content).expect("JSON"),
        redacts: None,
        prev_events: here.extremities(),
        auth_events: vec![
            state("m.room.create", ""),
            state("m.room.power_levels", ""),
            state("m.room.join_rules", ""),
            state("m.room.member", alice.as_str()),
        ],
        depth: 100,
        origin_server_ts: MilliSecondsSinceUnixEpoch::now(),
    };
    let event = draft.seal(here.rules(), &two.name, &two.key).expect("an event");
    let path = format!("/_matrix/federation/v2/send_join/{room}/{}", event.event_id());
    let body = std::str::from_utf8(event.json()).expect("UTF-8");
    let (status, error) = call(&one, signed(&two, &one, &two.key, &Method::PUT, &path, body)).await;
    assert_eq!((status, error["errcode"].as_str()), (StatusCode::FORBIDDEN, Some("M_FORBIDDEN")), "{error}");
    assert!(!one.room(&room).is_joined(&bob));
}
