//! Events that refer to others. [CS-API §forming-relationships-between-events]

use koine_room::{CommandError, Direction, RelationQuery, Sender, Viewer};
use ruma_common::{EventId, OwnedEventId, RoomId, UserId};
use serde_json::{Value, json, value::to_raw_value};

use crate::house::{House, alice, bob};

async fn send(
    house: &House,
    user: &UserId,
    room: &RoomId,
    kind: &str,
    content: Value,
) -> Result<OwnedEventId, CommandError> {
    let content = to_raw_value(&content).expect("JSON");
    house.rooms.send(Sender { user, device: None }, room, kind, &content, None).await
}

fn relating(rel_type: &str, parent: &EventId) -> Value {
    json!({ "body": "x", "m.new_content": { "body": "y" }, "m.relates_to": { "rel_type": rel_type, "event_id": parent } })
}

async fn relate(house: &House, user: &UserId, room: &RoomId, rel_type: &str, parent: &EventId) -> OwnedEventId {
    send(house, user, room, "m.room.message", relating(rel_type, parent)).await.expect("sent")
}

fn query(parent: &EventId) -> RelationQuery<'_> {
    RelationQuery {
        parent,
        rel_type: None,
        kind: None,
        from: None,
        to: None,
        direction: Direction::Backward,
        limit: 10,
        recurse: false,
    }
}

fn found(house: &House, room: &RoomId, query: &RelationQuery<'_>) -> (Vec<OwnedEventId>, Option<i64>) {
    let room = house.room(room);
    let mut viewer = Viewer::new(&room, alice()).expect("readable");
    let relations = room.relations(&mut viewer, query).expect("readable");
    let ids = relations.events.iter().map(|placed| placed.event.event_id().to_owned());
    (ids.collect(), relations.next)
}

#[tokio::test]
async fn children_are_found_by_kind_and_page_by_page_in_both_directions() {
    let house = House::new();
    let id = house.public_room().await;
    let root = house.say(alice(), &id, "root").await;
    let mut replies = Vec::new();
    for _ in 0..5 {
        replies.push(relate(&house, alice(), &id, "m.thread", &root).await);
    }
    let edit = relate(&house, alice(), &id, "m.replace", &root).await;
    assert_eq!(found(&house, &id, &query(&root)).0.len(), 6);
    let edits = RelationQuery { rel_type: Some("m.replace"), kind: Some("m.room.message"), ..query(&root) };
    assert_eq!(found(&house, &id, &edits).0, [edit]);
    assert!(found(&house, &id, &RelationQuery { kind: Some("m.reaction"), ..query(&root) }).0.is_empty());
    for direction in [Direction::Backward, Direction::Forward] {
        let mut seen = Vec::new();
        let mut from = None;
        loop {
            let page = RelationQuery { rel_type: Some("m.thread"), limit: 2, from, direction, ..query(&root) };
            let (ids, next) = found(&house, &id, &page);
            seen.extend(ids);
            from = next;
            if from.is_none() {
                break;
            }
        }
        if direction == Direction::Backward {
            seen.reverse();
        }
        assert_eq!(seen, replies);
    }
}

#[tokio::test]
async fn a_recursive_question_follows_children_of_children() {
    let house = House::new();
    let id = house.public_room().await;
    let root = house.say(alice(), &id, "root").await;
    let reply = relate(&house, alice(), &id, "m.thread", &root).await;
    let edit = relate(&house, alice(), &id, "m.replace", &reply).await;
    assert_eq!(found(&house, &id, &query(&root)).0, std::slice::from_ref(&reply));
    assert_eq!(found(&house, &id, &RelationQuery { recurse: true, ..query(&root) }).0, [edit.clone(), reply.clone()]);
    let forward = RelationQuery { recurse: true, direction: Direction::Forward, ..query(&root) };
    assert_eq!(found(&house, &id, &forward).0, [reply, edit]);
}

#[tokio::test]
async fn a_bundle_tells_of_the_latest_edit_the_thread_and_references() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let root = house.say(alice(), &id, "root").await;
    let edits = [
        relate(&house, alice(), &id, "m.replace", &root).await,
        relate(&house, alice(), &id, "m.replace", &root).await,
    ];
    // Not by the sender of the original: no edit.
    relate(&house, bob(), &id, "m.replace", &root).await;
    let reference = relate(&house, bob(), &id, "m.reference", &root).await;
    relate(&house, bob(), &id, "m.thread", &root).await;
    let last = relate(&house, bob(), &id, "m.thread", &root).await;

    let room = house.room(&id);
    let placed = room.event(&root).expect("readable").expect("there");
    let mut viewer = Viewer::new(&room, alice()).expect("readable");
    let bundle = room.bundle(&mut viewer, &placed, |_| false).expect("readable");
    // The latest by its time; of the same millisecond, the one with the greater id.
    let age = |edit: &OwnedEventId| {
        let placed = room.event(edit).expect("readable").expect("there");
        (placed.event.origin_server_ts(), edit.clone())
    };
    let latest = edits.iter().max_by_key(|edit| age(edit)).expect("there are two");
    assert_eq!(bundle.replace.expect("an edit").event.event_id(), latest);
    assert_eq!(bundle.references, [reference]);
    let thread = bundle.thread.expect("a thread");
    assert_eq!((thread.latest.event.event_id(), thread.count, thread.participated), (&*last, 2, true));
    let ignoring = room.bundle(&mut viewer, &placed, |user| user == bob()).expect("readable");
    assert!(ignoring.thread.is_none() && ignoring.references.is_empty() && ignoring.replace.is_some());
    assert!(
        room.thread_of(&room.event(&last).expect("readable").expect("there").event).expect("readable") == Some(root)
    );
}

#[tokio::test]
async fn bundles_hold_only_what_may_be_seen() {
    let house = House::new();
    let id = house.public_room().await;
    let joined = json!({ "history_visibility": "joined" });
    house.set(alice(), &id, "m.room.history_visibility", joined).await.expect("alice may");
    house.join(bob(), &id).await.expect("joined");
    let root = house.say(alice(), &id, "root").await;
    let seen = relate(&house, alice(), &id, "m.thread", &root).await;
    house.rooms.leave(bob(), &id, None).await.expect("left");
    for kind in ["m.thread", "m.replace", "m.reference"] {
        relate(&house, alice(), &id, kind, &root).await;
    }
    house.join(bob(), &id).await.expect("joined");
    let room = house.room(&id);
    let placed = room.event(&root).expect("readable").expect("there");
    let bundle_for = |user| {
        let mut viewer = Viewer::new(&room, user).expect("readable");
        room.bundle(&mut viewer, &placed, |_| false).expect("readable")
    };
    let theirs = bundle_for(bob());
    let thread = theirs.thread.expect("a thread");
    assert_eq!((thread.latest.event.event_id(), thread.count), (&*seen, 1));
    assert!(theirs.replace.is_none() && theirs.references.is_empty());
    let all = bundle_for(alice());
    assert!(all.replace.is_some() && all.references.len() == 1 && all.thread.is_some_and(|thread| thread.count == 2));
    // What is said from now on is seen.
    let new = relate(&house, alice(), &id, "m.thread", &root).await;
    let thread = bundle_for(bob()).thread.expect("a thread");
    assert_eq!((thread.latest.event.event_id(), thread.count), (&*new, 2));
}

#[tokio::test]
async fn a_redacted_child_refers_to_nothing_and_a_redacted_parent_has_no_edit() {
    let house = House::new();
    let id = house.public_room().await;
    let root = house.say(alice(), &id, "root").await;
    let reply = relate(&house, alice(), &id, "m.thread", &root).await;
    relate(&house, alice(), &id, "m.replace", &root).await;
    let sender = Sender { user: alice(), device: None };
    house.rooms.redact(sender, &id, &reply, None, None).await.expect("alice may");
    assert_eq!(found(&house, &id, &query(&root)).0.len(), 1);
    house.rooms.redact(sender, &id, &root, None, None).await.expect("alice may");
    let room = house.room(&id);
    let placed = room.event(&root).expect("readable").expect("there");
    let mut viewer = Viewer::new(&room, alice()).expect("readable");
    assert!(room.bundle(&mut viewer, &placed, |_| false).expect("readable").is_empty());
}

#[tokio::test]
async fn nobody_annotates_the_same_twice_or_starts_a_thread_on_a_child() {
    let house = House::new();
    let id = house.public_room().await;
    let root = house.say(alice(), &id, "root").await;
    let like = |key: &str| json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": root, "key": key } });
    let first = send(&house, alice(), &id, "m.reaction", like("+1")).await.expect("sent");
    assert!(matches!(
        send(&house, alice(), &id, "m.reaction", like("+1")).await,
        Err(CommandError::DuplicateAnnotation)
    ));
    send(&house, alice(), &id, "m.reaction", like("-1")).await.expect("another key");
    house.rooms.redact(Sender { user: alice(), device: None }, &id, &first, None, None).await.expect("alice may");
    send(&house, alice(), &id, "m.reaction", like("+1")).await.expect("the first is gone");
    let reply = relate(&house, alice(), &id, "m.thread", &root).await;
    let nested = send(&house, alice(), &id, "m.room.message", relating("m.thread", &reply)).await;
    assert!(matches!(nested, Err(CommandError::ThreadOnChild)));
}
