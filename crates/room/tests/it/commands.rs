//! Making rooms, saying things in them, taking them back.

use koine_room::{CommandError, Preset, Sender};
use ruma_common::{OwnedEventId, RoomVersionId, owned_room_alias_id};
use serde_json::{json, value::to_raw_value};

use crate::house::{House, alice, bob, new_room};

#[tokio::test]
async fn a_room_of_every_version_can_be_made_used_and_reopened() {
    let mut house = House::new();
    let mut rooms = Vec::new();
    for version in koine_graph::ROOM_VERSIONS {
        let id = house.create(Preset::PublicChat, version.clone()).await;
        house.join(bob(), &id).await.expect("anyone may join");
        house.say(bob(), &id, "hello").await;
        let sent = house.say(alice(), &id, "a secret").await;
        let sender = Sender { user: alice(), device: None };
        house.rooms.redact(sender, &id, &sent, Some("oops"), None).await.expect("one's own event");
        rooms.push((version, id));
    }
    house = house.restarted();
    for (version, id) in rooms {
        assert_eq!(house.bodies(&id), ["hello"], "version {version}");
        let published = house.room(&id).published();
        assert_eq!((published.joined, published.invited), (2, 0), "version {version}");
        house.say(bob(), &id, "and on").await;
    }
}

#[tokio::test]
async fn a_redaction_names_an_event_that_is_here_or_could_be_elsewhere() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("anyone may join");
    let redact = |user, target: &'static str| {
        let target = OwnedEventId::try_from(target).expect("an event id of some kind");
        let (rooms, id) = (&house.rooms, &id);
        async move { rooms.redact(Sender { user, device: None }, id, &target, None, None).await }
    };
    let unknown = "$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg";
    redact(alice(), unknown).await.expect("it may come later");
    assert!(matches!(redact(bob(), unknown).await, Err(CommandError::NoSuchEvent)));
    assert!(matches!(redact(alice(), "$").await, Err(CommandError::NoSuchEvent)));
    redact(alice(), "$event:far.example").await.expect("other servers take it, too");
}

#[tokio::test]
async fn the_same_transaction_makes_one_event_also_when_both_run_at_once() {
    let house = House::new();
    let id = house.public_room().await;
    let content = to_raw_value(&json!({ "body": "once" })).expect("JSON");
    let sender = Sender { user: alice(), device: Some("PHONE") };
    let send = || house.rooms.send(sender, &id, "m.room.message", &content, Some("t1"));
    let (one, other) = tokio::join!(send(), send());
    let third = send().await;
    assert_eq!(one.as_ref().expect("sent"), other.as_ref().expect("sent"));
    assert_eq!(one.expect("sent"), third.expect("sent"));
    assert_eq!(house.bodies(&id), ["once"]);
    let elsewhere = Sender { user: alice(), device: Some("LAPTOP") };
    house.rooms.send(elsewhere, &id, "m.room.message", &content, Some("t1")).await.expect("another device's");
    assert_eq!(house.bodies(&id), ["once", "once"]);
}

#[tokio::test]
async fn many_senders_at_once_make_one_line_of_events() {
    let house = std::sync::Arc::new(House::new());
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let (house, id) = (house.clone(), id.clone());
            tokio::spawn(async move { house.say(if n % 2 == 0 { alice() } else { bob() }, &id, &n.to_string()).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let room = house.room(&id);
    let mut events = room.newest(i64::MIN, i64::MAX, 1000).expect("readable");
    events.reverse();
    for pair in events.windows(2) {
        assert_eq!(pair[1].event.prev_events(), [pair[0].event.event_id().to_owned()], "each follows the one before");
        assert_eq!(pair[0].state_after, pair[1].state_before);
        assert_eq!(pair[1].event.depth(), pair[0].event.depth() + 1);
    }
    assert_eq!(house.bodies(&id).len(), 200);
}

#[tokio::test]
async fn a_refused_event_leaves_the_room_as_it_was() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let before = house.room(&id).published();
    let refused = house.set(bob(), &id, "m.room.name", json!({ "name": "Bob's" })).await;
    assert!(matches!(refused, Err(CommandError::Refused(_))), "{refused:?}");
    assert_eq!(house.room(&id).published().order, before.order);
    let outsider = house.set(crate::house::carol(), &id, "m.room.topic", json!({ "topic": "x" })).await;
    assert!(matches!(outsider, Err(CommandError::NotJoined)), "{outsider:?}");
    house.say(bob(), &id, "still here").await;
}

#[tokio::test]
async fn setting_the_same_state_again_makes_no_event() {
    let house = House::new();
    let id = house.public_room().await;
    let first = house.set(alice(), &id, "m.room.topic", json!({ "topic": "t", "x": 1 })).await.expect("set");
    let again = house.set(alice(), &id, "m.room.topic", json!({ "x": 1, "topic": "t" })).await.expect("set");
    assert_eq!(first, again);
    let other = house.set(alice(), &id, "m.room.topic", json!({ "topic": "u" })).await.expect("set");
    assert_ne!(first, other);
}

#[tokio::test]
async fn an_alias_leads_to_one_room_and_goes_with_its_maker() {
    let house = House::new();
    let alias = owned_room_alias_id!("#lobby:example.org");
    let mut new = new_room(Preset::PublicChat, RoomVersionId::V11);
    new.alias = Some(alias.clone());
    let id = house.rooms.create(new.clone()).await.expect("made");
    assert!(matches!(house.rooms.create(new).await, Err(CommandError::AliasTaken(_))));
    assert_eq!(house.rooms.resolve_alias(&alias).expect("known"), id);
    assert_eq!(house.rooms.aliases(&id).expect("readable"), std::slice::from_ref(&alias));
    house.join(bob(), &id).await.expect("joined");
    assert!(matches!(house.rooms.delete_alias(bob(), &alias).await, Err(CommandError::Forbidden(_))));
    house.rooms.delete_alias(alice(), &alias).await.expect("the maker may");
    assert!(matches!(house.rooms.resolve_alias(&alias), Err(CommandError::NoSuchAlias(_))));
    let canonical = house.room(&id).current("m.room.canonical_alias", "").expect("readable").expect("still state");
    assert_eq!(canonical.event.content().get(), "{}");
}

#[tokio::test]
async fn a_message_copies_the_state_and_a_topic_changes_it() {
    let house = House::new();
    let id = house.public_room().await;
    let room = house.room(&id);
    let before = room.published().state;
    house.say(alice(), &id, "hi").await;
    assert_eq!(room.published().state, before);
    let topic = house.set(alice(), &id, "m.room.topic", json!({ "topic": "t" })).await.expect("set");
    let changed = room.state_changes(before, room.published().state, |_, _| true).expect("readable");
    assert_eq!(changed.iter().map(|placed| placed.event.event_id()).collect::<Vec<_>>(), [&*topic]);
}

#[tokio::test]
async fn what_a_full_disk_refused_never_was_and_the_room_goes_on() {
    use koine_store::{
        MemoryEngine,
        suite::{Fault, FaultyEngine},
    };
    let engine = FaultyEngine::new(std::sync::Arc::new(MemoryEngine::new()));
    let house = std::sync::Arc::new(House::on(std::sync::Arc::new(engine.clone())));
    let id = house.public_room().await;
    house.say(alice(), &id, "before").await;
    engine.fail(Fault::Refuse);
    let content = to_raw_value(&json!({ "body": "lost" })).expect("JSON");
    let sender = Sender { user: alice(), device: None };
    let refused: Vec<_> = (0..5).map(|_| house.rooms.send(sender, &id, "m.room.message", &content, None)).collect();
    for attempt in refused {
        let refused = attempt.await;
        assert!(matches!(refused, Err(CommandError::Commit(_) | CommandError::Unsettled)), "{refused:?}");
    }
    let new = house.rooms.create(new_room(Preset::PublicChat, RoomVersionId::V11)).await;
    assert!(matches!(new, Err(CommandError::Commit(_))), "{new:?}");
    assert_eq!(house.bodies(&id), ["before"], "reading goes on");
    engine.fail(None);
    house.say(alice(), &id, "after").await;
    house.public_room().await;
    assert_eq!(house.bodies(&id), ["before", "after"]);
    let room = house.room(&id);
    let events = room.newest(i64::MIN, i64::MAX, 2).expect("readable");
    assert_eq!(events[0].event.prev_events(), [events[1].event.event_id().to_owned()]);
}
