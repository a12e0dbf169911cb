//! Who may see which event. [CS-API §room-history-visibility]

use koine_room::{Direction, HistoryVisibility, Membership, Span, Viewer};
use ruma_common::{EventId, RoomId, UserId};
use serde_json::json;

use crate::house::{House, alice, bob, carol};

async fn room_with(house: &House, visibility: &str) -> ruma_common::OwnedRoomId {
    let id = house.public_room().await;
    let content = json!({ "history_visibility": visibility });
    house.set(alice(), &id, "m.room.history_visibility", content).await.expect("alice may");
    id
}

fn sees(house: &House, user: &UserId, room: &RoomId, event: &EventId) -> bool {
    house.room(room).visible_event(user, event).is_ok()
}

#[tokio::test]
async fn what_is_seen_depends_on_the_visibility_and_on_when_one_came() {
    // visibility; sees what was before the invitation, between it and the joining, after, after leaving; a stranger sees
    for (visibility, before, invited, member, after, stranger) in [
        ("world_readable", true, true, true, true, true),
        ("shared", true, true, true, false, false),
        ("invited", false, true, true, false, false),
        ("joined", false, false, true, false, false),
        ("something else", true, true, true, false, false),
    ] {
        let house = House::new();
        let id = room_with(&house, visibility).await;
        let first = house.say(alice(), &id, "before").await;
        let profile = koine_room::Profile::default();
        let none = serde_json::Map::new();
        house.rooms.invite(alice(), &id, (bob(), &profile), None, none).await.expect("alice may invite");
        let second = house.say(alice(), &id, "invited").await;
        house.join(bob(), &id).await.expect("joined");
        let third = house.say(alice(), &id, "member").await;
        house.rooms.leave(bob(), &id, None).await.expect("left");
        let fourth = house.say(alice(), &id, "after").await;
        let seen = [&first, &second, &third, &fourth].map(|event| sees(&house, bob(), &id, event));
        assert_eq!(seen, [before, invited, member, after], "{visibility}");
        assert_eq!(sees(&house, carol(), &id, &third), stranger, "{visibility}");
    }
}

#[tokio::test]
async fn a_change_of_the_visibility_is_seen_by_who_may_see_either_side() {
    let house = House::new();
    let id = room_with(&house, "joined").await;
    let set = |visibility: &'static str| {
        house.set(alice(), &id, "m.room.history_visibility", json!({ "history_visibility": visibility }))
    };
    let opened = set("world_readable").await.expect("alice may");
    let open = house.say(alice(), &id, "open").await;
    let closed = set("joined").await.expect("alice may");
    let shut = house.say(alice(), &id, "shut").await;
    let seen = [&opened, &open, &closed, &shut].map(|event| sees(&house, carol(), &id, event));
    assert_eq!(seen, [true, true, true, false]);
}

#[tokio::test]
async fn ones_own_coming_and_going_is_always_seen() {
    let house = House::new();
    let id = room_with(&house, "joined").await;
    house.join(bob(), &id).await.expect("joined");
    house.rooms.leave(bob(), &id, None).await.expect("left");
    let room = house.room(&id);
    let all = room.newest(i64::MIN, i64::MAX, 100).expect("readable");
    let mut viewer = Viewer::new(&room, bob()).expect("readable");
    let own: Vec<_> = all.iter().filter(|placed| placed.event.is("m.room.member", bob().as_str())).collect();
    assert_eq!(own.len(), 2);
    for placed in own {
        assert!(viewer.may_see(placed).expect("readable"));
    }
}

#[tokio::test]
async fn who_left_and_refused_to_come_back_sees_nothing_of_what_was_between() {
    let house = House::new();
    let id = room_with(&house, "shared").await;
    house.join(bob(), &id).await.expect("joined");
    let while_there = house.say(alice(), &id, "there").await;
    house.rooms.leave(bob(), &id, None).await.expect("left");
    let between = house.say(alice(), &id, "between").await;
    let profile = koine_room::Profile::default();
    house.rooms.invite(alice(), &id, (bob(), &profile), None, serde_json::Map::new()).await.expect("invited");
    house.rooms.leave(bob(), &id, None).await.expect("refused");
    assert!(sees(&house, bob(), &id, &while_there));
    assert!(!sees(&house, bob(), &id, &between));
    // The state and the pages end at the leaving, not at the refusal.
    let room = house.room(&id);
    let mut viewer = Viewer::new(&room, bob()).expect("readable");
    let newest = viewer.newest().expect("was a member");
    let span = Span { from: None, to: None, direction: Direction::Backward, limit: 1 };
    let page = room.page(span, newest, |_| Ok(true)).expect("readable");
    assert!(page.events[0].event.is("m.room.member", bob().as_str()));
    assert_eq!(viewer.membership_at(&page.events[0]).expect("readable"), Membership::Leave);
}

#[tokio::test]
async fn a_forgotten_room_is_closed_until_one_comes_back() {
    let house = House::new();
    let id = room_with(&house, "shared").await;
    house.join(bob(), &id).await.expect("joined");
    house.rooms.leave(bob(), &id, None).await.expect("left");
    house.rooms.forget(bob(), &id).await.expect("forgotten");
    let room = house.room(&id);
    assert!(Viewer::new(&room, bob()).expect("readable").newest().is_err());
    house.join(bob(), &id).await.expect("joined");
    assert!(Viewer::new(&room, bob()).expect("readable").newest().is_ok());
}

#[test]
fn a_visibility_that_is_not_understood_is_shared() {
    assert_eq!(HistoryVisibility::parse("?"), HistoryVisibility::Shared);
}
