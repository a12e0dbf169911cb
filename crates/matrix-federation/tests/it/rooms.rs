//! People of two and three servers in one room.

use std::sync::Arc;

use koine_room::{Membership, Preset, Profile, Viewer};
use ruma_common::RoomVersionId;
use serde_json::json;

use crate::houses::{House, Links, pair, until};

#[tokio::test]
async fn people_of_two_servers_talk_in_every_room_version() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    for version in koine_graph::ROOM_VERSIONS {
        let room = one.create(&alice, Preset::PublicChat, version.clone()).await;
        one.say(&alice, &room, "before").await;
        two.join(&bob, &room, &one).await.unwrap_or_else(|error| panic!("version {version}: {error}"));
        assert!(two.room(&room).is_joined(&bob));
        until("one sees bob", || one.room(&room).is_joined(&bob)).await;
        one.say(&alice, &room, "hello").await;
        until("two hears it", || two.bodies(&room).contains(&"hello".to_owned())).await;
        two.say(&bob, &room, "and you").await;
        until("one hears it", || one.bodies(&room).contains(&"and you".to_owned())).await;
        assert_eq!(one.state(&room), two.state(&room), "version {version}");
    }
}

#[tokio::test]
async fn an_invitation_reaches_another_server_and_opens_the_door() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.account("bob").await);
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    one.invite(&alice, &room, &bob).await.expect("invited");
    assert_eq!(two.room(&room).local_membership(&bob), Some(Membership::Invite));
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    two.say(&bob, &room, "thanks").await;
    until("one hears it", || one.bodies(&room).contains(&"thanks".to_owned())).await;
}

#[tokio::test]
async fn a_refused_invitation_is_gone_on_both_sides() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.account("bob").await);
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    one.invite(&alice, &room, &bob).await.expect("invited");
    two.rooms.leave(&bob, &room, None).await.expect("refused");
    assert_eq!(two.room(&room).local_membership(&bob), Some(Membership::Leave));
    let member = one.room(&room).current("m.room.member", bob.as_str()).unwrap().expect("it is there");
    assert_eq!(member.event.membership(), Some(koine_graph::Membership::Leave));
}

#[tokio::test]
async fn an_invitation_can_be_refused_when_its_server_is_gone() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.account("bob").await);
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    one.invite(&alice, &room, &bob).await.expect("invited");
    one.links.set_down("one.example", true);
    two.rooms.leave(&bob, &room, None).await.expect("refused");
    assert_eq!(two.room(&room).local_membership(&bob), Some(Membership::Leave));
}

#[tokio::test]
async fn an_invitation_that_is_taken_back_is_gone() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.account("bob").await);
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    one.invite(&alice, &room, &bob).await.expect("invited");
    one.rooms.kick(&alice, &room, &bob, None).await.expect("taken back");
    until("two knows", || two.room(&room).local_membership(&bob) == Some(Membership::Leave)).await;
}

#[tokio::test]
async fn an_invitation_to_a_room_that_nobody_here_was_in_is_seen_by_whom_it_asked_alone() {
    let (one, two) = pair().await;
    let (alice, bob, carol) = (one.user("alice"), two.account("bob").await, two.account("carol").await);
    let id = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    for _ in 0..2 {
        one.invite(&alice, &id, &bob).await.expect("invited");
        two.join(&bob, &id, &one).await.expect("let in");
        two.rooms.leave(&bob, &id, None).await.expect("gone");
        until("one knows", || !one.room(&id).is_joined(&bob)).await;
    }
    for user in [&bob, &carol] {
        one.invite(&alice, &id, user).await.expect("invited");
        let asked = || two.room(&id).current("m.room.member", user.as_str()).unwrap();
        if user == &carol {
            until("her server is told", || asked().is_some()).await;
        }
        two.join(user, &id, &one).await.expect("let in");
    }
    let room = two.room(&id);
    let mut invitations = room.newest(i64::MIN, i64::MAX, 1000).expect("readable");
    invitations.retain(|placed| {
        placed.event.membership() == Some(koine_graph::Membership::Invite)
            && placed.event.state_key() == Some(bob.as_str())
    });
    assert_eq!(invitations.len(), 3);
    for (user, sees) in [(&bob, true), (&carol, false)] {
        let mut viewer = Viewer::new(&room, user).unwrap();
        for placed in &invitations {
            assert_eq!(viewer.may_see(placed).unwrap(), sees, "{user} and {}", placed.order);
        }
    }
}

#[tokio::test]
async fn nobody_is_invited_who_is_not_there() {
    let (one, two) = pair().await;
    let alice = one.user("alice");
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    assert!(one.invite(&alice, &room, &two.user("nobody")).await.is_err());
}

#[tokio::test]
async fn kicks_and_bans_reach_the_other_server() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    one.rooms.kick(&alice, &room, &bob, None).await.expect("kicked");
    until("two knows", || two.room(&room).local_membership(&bob) == Some(Membership::Leave)).await;
    two.join(&bob, &room, &one).await.expect("let in again");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    one.rooms.ban(&alice, &room, &bob, None).await.expect("banned");
    until("two knows", || two.room(&room).local_membership(&bob) == Some(Membership::Ban)).await;
    assert!(two.join(&bob, &room, &one).await.is_err());
}

#[tokio::test]
async fn a_knock_is_answered_through_another_server() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.account("bob").await);
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    one.set(&alice, &room, "m.room.join_rules", json!({ "join_rule": "knock" })).await;
    two.rooms
        .knock_via(&bob, &room, std::slice::from_ref(&one.name), &Profile::default(), None)
        .await
        .expect("knocked");
    assert_eq!(two.room(&room).local_membership(&bob), Some(Membership::Knock));
    one.invite(&alice, &room, &bob).await.expect("answered");
    assert_eq!(two.room(&room).local_membership(&bob), Some(Membership::Invite));
    two.join(&bob, &room, &one).await.expect("let in");
}

#[tokio::test]
async fn a_refusal_that_comes_after_another_knock_ends_nothing() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.account("bob").await);
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    one.set(&alice, &room, "m.room.join_rules", json!({ "join_rule": "knock" })).await;
    let via = std::slice::from_ref(&one.name);
    two.rooms.knock_via(&bob, &room, via, &Profile::default(), None).await.expect("knocked");
    one.links.hold_up(Some("/federation/v1/send/"));
    one.rooms.kick(&alice, &room, &bob, None).await.expect("refused");
    two.rooms.knock_via(&bob, &room, via, &Profile::default(), None).await.expect("knocked again");
    one.rooms.kick(&alice, &room, &bob, Some("no")).await.expect("refused again");
    one.links.hold_up(None);
    until("two knows", || two.room(&room).local_membership(&bob) == Some(Membership::Leave)).await;
    let known = two.room(&room).newest(i64::MIN, i64::MAX, 10).expect("readable");
    let ends = known.iter().filter(|placed| placed.event.membership() == Some(koine_graph::Membership::Leave));
    let reasons: Vec<Option<String>> = ends.map(|placed| placed.event.content_field("reason")).collect();
    assert_eq!(reasons, [Some("no".to_owned())]);
}

#[tokio::test]
async fn who_joins_is_told_to_third_servers() {
    let links = Arc::new(Links::default());
    let one = House::new(&links, "one.example").await;
    let two = House::new(&links, "two.example").await;
    let three = House::new(&links, "three.example").await;
    let (alice, bob, carol) = (one.user("alice"), two.user("bob"), three.user("carol"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&bob, &room, &one).await.expect("let in");
    three.join(&carol, &room, &two).await.expect("let in by the second");
    until("one sees carol", || one.room(&room).is_joined(&carol)).await;
    three.say(&carol, &room, "hello all").await;
    for house in [&one, &two] {
        until("all hear it", || house.bodies(&room).contains(&"hello all".to_owned())).await;
    }
    assert_eq!(one.state(&room), three.state(&room));
}

#[tokio::test]
async fn a_server_that_was_away_is_told_everything_in_order() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    one.links.set_down("two.example", true);
    let said: Vec<String> = (0..120).map(|at| at.to_string()).collect();
    for text in &said {
        one.say(&alice, &room, text).await;
    }
    one.links.set_down("two.example", false);
    until("two heard it all", || two.bodies(&room) == said).await;
    let sends = one.links.asked.lock().iter().filter(|asked| asked.contains("/send/")).count();
    assert!(sends < 12, "{sends} transactions for 120 events");
}

#[tokio::test]
async fn both_sides_change_the_state_at_once_and_agree_in_the_end() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    let levels = json!({ "users": { alice.as_str(): 100, bob.as_str(): 100 } });
    one.set(&alice, &room, "m.room.power_levels", levels).await;
    until("two knows", || one.state(&room) == two.state(&room)).await;
    one.links.set_down("two.example", true);
    one.set(&alice, &room, "m.room.topic", json!({ "topic": "of one" })).await;
    two.set(&bob, &room, "m.room.topic", json!({ "topic": "of two" })).await;
    one.rooms.ban(&alice, &room, &one.user("mallory"), None).await.expect("banned");
    two.set(&bob, &room, "m.room.name", json!({ "name": "of two" })).await;
    one.links.set_down("two.example", false);
    one.say(&alice, &room, "healed").await;
    two.say(&bob, &room, "healed, too").await;
    until("they agree", || {
        one.state(&room) == two.state(&room) && one.bodies(&room).len() == 2 && two.bodies(&room).len() == 2
    })
    .await;
}

#[tokio::test]
async fn history_from_before_is_fetched_when_asked_for() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    for at in 0..60 {
        one.say(&alice, &room, &at.to_string()).await;
    }
    two.join(&bob, &room, &one).await.expect("let in");
    assert!(two.bodies(&room).is_empty());
    for _ in 0..10 {
        if !two.rooms.fetch_history(&two.room(&room), 30).await.expect("fetched") {
            break;
        }
    }
    let wanted: Vec<String> = (0..60).map(|at| at.to_string()).collect();
    assert_eq!(two.bodies(&room), wanted);
}

#[tokio::test]
async fn typing_and_receipts_are_told() {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.user("bob"));
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    let said = one.say(&alice, &room, "read this").await;
    until("two hears it", || !two.bodies(&room).is_empty()).await;
    two.rooms.set_typing(&bob, &room, Some(std::time::Duration::from_secs(20))).expect("types");
    until("one sees it", || one.room(&room).typing().0 == [bob.clone()]).await;
    let read = koine_room::ReceiptType::Read;
    two.rooms.set_receipt(&bob, &room, read, &said, None).await.expect("read");
    until("one knows", || {
        let receipts = one.room(&room).receipts_after(&alice, None, i64::MAX).unwrap();
        receipts.iter().any(|receipt| receipt.user == bob && receipt.event_id == said)
    })
    .await;
}

#[tokio::test]
async fn aliases_and_profiles_of_another_server_are_found() {
    let (one, two) = pair().await;
    let alice = one.account("alice").await;
    let room = one.create(&alice, Preset::PublicChat, RoomVersionId::V11).await;
    let alias = ruma_common::RoomAliasId::parse("#here:one.example").expect("an alias");
    one.rooms.set_alias(&alice, &alias, &room).await.expect("named");
    let (found, servers) = two.rooms.find_alias(&alias).await.expect("found");
    assert_eq!((found, servers), (room, vec![one.name.clone()]));
    one.accounts.set_profile_field(&alice, "displayname", json!("Alice")).await.expect("set");
    let profile = two.federation.profile(&alice, None).await.expect("told").expect("there");
    assert_eq!(profile["displayname"], "Alice");
    assert_eq!(two.federation.profile(&one.user("nobody"), None).await.expect("told"), None);
}
