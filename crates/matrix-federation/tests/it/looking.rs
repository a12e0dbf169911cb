//! Looking at rooms from outside, and back in time, where only another server can see.

use koine_room::{Direction, HierarchyQuery, Preset};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::houses::{House, pair, until};

const ALL: HierarchyQuery = HierarchyQuery { max_depth: 10, suggested_only: false, skip: 0, limit: 50 };

async fn space(house: &House, creator: &UserId) -> OwnedRoomId {
    house.create_of(creator, Preset::PublicChat, Some("m.space")).await
}

async fn add(house: &House, who: &UserId, space: &RoomId, child: &RoomId, via: &House) {
    let content: Value = json!({ "via": [via.name] });
    house.set_at(who, space, ("m.space.child", child.as_str()), content).await;
}

#[tokio::test]
async fn a_space_goes_on_in_rooms_of_another_server() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    let root = space(&one, &alice).await;
    let inner = space(&two, &bob).await;
    let open = two.create(&bob, Preset::PublicChat, RoomVersionId::V11).await;
    let closed = two.create(&bob, Preset::PrivateChat, RoomVersionId::V11).await;
    add(&one, &alice, &root, &inner, &two).await;
    for child in [&open, &closed] {
        add(&two, &bob, &inner, child, &two).await;
    }
    let told = one.rooms.hierarchy(&alice, &root, ALL).await.expect("told");
    let ids: Vec<_> = told.rooms.iter().map(|room| room.preview.summary.room_id.clone()).collect();
    assert_eq!(ids, [root.clone(), inner.clone(), open.clone()]);
    assert_eq!(told.rooms[1].children.len(), 2);
    let asked = || one.links.asked.lock().iter().filter(|asked| asked.contains("/hierarchy/")).count();
    // The open room was told of with its space, and everything is remembered for a while.
    assert_eq!(asked(), 1);
    one.rooms.hierarchy(&alice, &root, ALL).await.expect("told again");
    assert_eq!(asked(), 1);
    let preview = one.rooms.find_preview(Some(&alice), &open, std::slice::from_ref(&two.name)).await.expect("told");
    assert_eq!(preview.expect("public").summary.joined, 1);
    let preview = one.rooms.find_preview(Some(&alice), &closed, std::slice::from_ref(&two.name)).await.expect("told");
    assert!(preview.is_none());
}

#[tokio::test]
async fn a_moment_before_our_time_is_asked_of_another_server() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    let first = one.say(&alice, &room, "first").await;
    let second = one.say(&alice, &room, "second").await;
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    let at = |id| one.room(&room).event(id).unwrap().expect("it is there").event.origin_server_ts();
    assert!(two.room(&room).event(&first).unwrap().is_none());
    let found = two.rooms.event_near(&two.room(&room), &bob, at(&first), Direction::Forward).await.expect("asked");
    let found = found.expect("there is one").event.event_id().to_owned();
    // Events of the same moment are as good.
    assert_eq!(at(&found), at(&first));
    let found = two.rooms.event_near(&two.room(&room), &bob, at(&second), Direction::Backward).await.expect("asked");
    assert_eq!(at(found.expect("there is one").event.event_id()), at(&second));
    let early = MilliSecondsSinceUnixEpoch(1_u32.into());
    let none = two.rooms.event_near(&two.room(&room), &bob, early, Direction::Backward).await.expect("asked");
    assert!(none.is_none());
}
