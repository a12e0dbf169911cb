//! Coming and going.

use koine_room::{CommandError, Membership, Preset, Profile};
use ruma_common::RoomVersionId;
use serde_json::{Map, json};

use crate::house::{House, alice, bob, carol};

#[tokio::test]
async fn an_invitation_opens_a_private_room_and_a_kick_closes_it() {
    let house = House::new();
    let id = house.create(Preset::PrivateChat, RoomVersionId::V11).await;
    assert!(matches!(house.join(bob(), &id).await, Err(CommandError::Refused(_))));
    let profile = Profile::default();
    house.rooms.invite(alice(), &id, (bob(), &profile), None, Map::new()).await.expect("alice may");
    assert_eq!(house.room(&id).published().invited, 1);
    house.join(bob(), &id).await.expect("invited");
    house.join(bob(), &id).await.expect("joining twice is no error");
    assert!(matches!(house.rooms.kick(bob(), &id, alice(), None).await, Err(CommandError::Refused(_))));
    house.rooms.kick(alice(), &id, bob(), Some("enough")).await.expect("alice may");
    assert!(matches!(house.join(bob(), &id).await, Err(CommandError::Refused(_))));
    let record = house.rooms.membership(bob(), house.room(&id).no()).expect("readable").expect("written");
    assert_eq!(record.membership, Membership::Leave);
    assert!(record.joined_at.is_some() && record.left_at == Some(record.order));
}

#[tokio::test]
async fn the_banned_stay_out_until_they_are_unbanned() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    house.rooms.ban(alice(), &id, bob(), None).await.expect("alice may");
    assert!(matches!(house.join(bob(), &id).await, Err(CommandError::Banned)));
    assert!(matches!(house.rooms.unban(alice(), &id, carol(), None).await, Err(CommandError::Forbidden(_))));
    house.rooms.unban(alice(), &id, bob(), None).await.expect("alice may");
    house.join(bob(), &id).await.expect("unbanned");
}

#[tokio::test]
async fn a_room_is_forgotten_only_after_leaving_it() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    assert!(matches!(house.rooms.forget(bob(), &id).await, Err(CommandError::Forbidden(_))));
    house.rooms.leave(bob(), &id, None).await.expect("left");
    house.rooms.leave(bob(), &id, None).await.expect("leaving twice is no error");
    house.rooms.forget(bob(), &id).await.expect("forgotten");
    let record = house.rooms.membership(bob(), house.room(&id).no()).expect("readable").expect("written");
    assert!(record.forgotten);
    assert!(matches!(house.rooms.leave(carol(), &id, None).await, Err(CommandError::NotJoined)));
}

#[tokio::test]
async fn members_of_one_room_may_join_a_restricted_one() {
    let house = House::new();
    let club = house.public_room().await;
    let lounge = house.create(Preset::PrivateChat, RoomVersionId::V11).await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }] });
    house.set(alice(), &lounge, "m.room.join_rules", rule).await.expect("set");
    assert!(matches!(house.join(bob(), &lounge).await, Err(CommandError::Forbidden(_))));
    house.join(bob(), &club).await.expect("joined");
    house.join(bob(), &lounge).await.expect("a member of the club");
}

#[tokio::test]
async fn a_new_name_reaches_every_room_and_the_last_leaving_too() {
    let house = House::new();
    let rooms = [house.public_room().await, house.public_room().await];
    let profile = Profile { displayname: Some("Alice B.".into()), avatar_url: None };
    house.rooms.profile_changed(alice(), &profile).await.expect("done");
    for id in &rooms {
        let member = house.room(id).current("m.room.member", alice().as_str()).expect("readable").expect("joined");
        assert_eq!(member.event.content_field::<String>("displayname").as_deref(), Some("Alice B."));
    }
    house.rooms.leave_all(alice()).await.expect("done");
    assert!(house.rooms.joined(alice()).expect("readable").is_empty());
}
