//! What readers see, and when.

use koine_room::{Changes, Direction, Span};
use koine_store::Position;

use crate::house::{House, alice, bob, carol};

#[tokio::test]
async fn a_connected_reader_is_told_of_its_rooms_alone() {
    let house = House::new();
    let (one, other) = (house.public_room().await, house.public_room().await);
    house.join(bob(), &one).await.expect("joined");
    let hub = house.rooms.hub();
    let start = house.rooms.shard().position();
    hub.reached(start).await;
    let inbox = hub.inbox(bob());
    let mut bell = inbox.bell();
    house.say(alice(), &other, "not for bob").await;
    house.say(alice(), &one, "for bob").await;
    bell.changed().await.expect("the hub is there");
    hub.reached(house.rooms.shard().position()).await;
    let expected = Changes { rooms: vec![house.room(&one).no()], ..Changes::default() };
    assert_eq!(inbox.changes_after(start, 0), Some(expected));
    assert_eq!(inbox.changes_after(Position(0), 0), None, "the inbox is younger than that");
}

#[tokio::test]
async fn who_is_removed_is_told_of_it() {
    let house = House::new();
    let id = house.public_room().await;
    house.join(bob(), &id).await.expect("joined");
    let start = house.rooms.shard().position();
    house.rooms.hub().reached(start).await;
    let inbox = house.rooms.hub().inbox(bob());
    house.rooms.kick(alice(), &id, bob(), None).await.expect("alice may");
    house.rooms.hub().reached(house.rooms.shard().position()).await;
    assert_eq!(inbox.changes_after(start, 0).expect("covered").rooms, [house.room(&id).no()]);
    let gone = house.rooms.shard().position();
    house.say(alice(), &id, "bob is gone").await;
    house.rooms.hub().reached(house.rooms.shard().position()).await;
    assert!(inbox.changes_after(gone, 0).expect("covered").is_empty());
}

#[tokio::test]
async fn pages_meet_without_gap_or_overlap_in_both_directions() {
    let house = House::new();
    let id = house.public_room().await;
    for n in 0..150 {
        house.say(alice(), &id, &n.to_string()).await;
    }
    let room = house.room(&id);
    let newest = room.published().order;
    let mut all = Vec::new();
    for direction in [Direction::Backward, Direction::Forward] {
        let mut seen = Vec::new();
        let mut from = None;
        loop {
            let page = room.page(Span { from, to: None, direction, limit: 7 }, newest, |_| Ok(true)).expect("readable");
            assert!(page.events.len() <= 7);
            seen.extend(page.events.iter().map(|placed| placed.order));
            from = page.end;
            if from.is_none() {
                break;
            }
        }
        if direction == Direction::Backward {
            seen.reverse();
        }
        all.push(seen);
    }
    assert_eq!(all[0], all[1]);
    assert!(all[0].is_sorted_by(|a, b| a < b) && all[0].len() > 150);
}

#[tokio::test]
async fn strangers_see_nothing_and_newcomers_the_shared_history() {
    let house = House::new();
    let id = house.public_room().await;
    let before = house.say(alice(), &id, "before bob").await;
    let room = house.room(&id);
    assert!(room.visible_event(carol(), &before).is_err());
    house.join(bob(), &id).await.expect("joined");
    assert!(room.visible_event(bob(), &before).is_ok());
    house.rooms.leave(bob(), &id, None).await.expect("left");
    let after = house.say(alice(), &id, "after bob").await;
    assert!(room.visible_event(bob(), &before).is_ok());
    assert!(room.visible_event(bob(), &after).is_err());
}
