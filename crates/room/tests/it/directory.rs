//! The public list, and the people of a room.

use koine_room::{Direction, DirectoryQuery, MemberFilter, Membership, Preset, ReadError, Span, Viewer};
use ruma_common::RoomVersionId;
use serde_json::json;

use crate::house::{House, alice, bob, carol, new_room};

#[tokio::test]
async fn the_list_is_searched_and_paged_both_ways() {
    let house = House::new();
    let mut ids = Vec::new();
    for n in 0..5 {
        let mut new = new_room(Preset::PublicChat, RoomVersionId::V11);
        new.listed = true;
        new.name = Some(format!("Room {n}"));
        if n == 3 {
            new.topic = Some("All about Wombles".into());
            new.creation_content = json!({ "type": "m.space" }).as_object().expect("an object").clone();
        }
        ids.push(house.rooms.create(new).await.expect("made"));
    }
    house.public_room().await;
    house.join(bob(), &ids[4]).await.expect("joined");

    let ask = |query: DirectoryQuery| house.rooms.directory(&query).expect("readable");
    let all = ask(DirectoryQuery { limit: 100, ..DirectoryQuery::default() });
    assert_eq!((all.rooms.len(), all.total, all.next, all.previous), (5, 5, None, None));
    assert_eq!((&all.rooms[0].room_id, all.rooms[0].joined), (&ids[4], 2), "the largest first");

    let first = ask(DirectoryQuery { limit: 2, ..DirectoryQuery::default() });
    let second = ask(DirectoryQuery { limit: 2, since: first.next.clone(), ..DirectoryQuery::default() });
    let third = ask(DirectoryQuery { limit: 2, since: second.next.clone(), ..DirectoryQuery::default() });
    let names: Vec<_> =
        [&first, &second, &third].iter().flat_map(|page| &page.rooms).map(|room| &room.room_id).collect();
    assert_eq!(names, [&ids[4], &ids[0], &ids[1], &ids[2], &ids[3]]);
    assert!(third.next.is_none());
    let back = ask(DirectoryQuery { limit: 2, since: second.previous, ..DirectoryQuery::default() });
    assert_eq!(back.rooms, first.rooms);

    let wombles = ask(DirectoryQuery { limit: 9, term: Some("wombles".into()), ..DirectoryQuery::default() });
    assert_eq!(wombles.rooms.len(), 1);
    assert_eq!(wombles.rooms[0].room_type.as_deref(), Some("m.space"));
    let plain = ask(DirectoryQuery { limit: 9, room_types: Some(vec![None]), ..DirectoryQuery::default() });
    assert_eq!(plain.rooms.len(), 4);
    let bad = DirectoryQuery { since: Some("x".into()), ..DirectoryQuery::default() };
    assert!(matches!(house.rooms.directory(&bad), Err(ReadError::BadToken(_))));
}

#[tokio::test]
async fn members_are_those_of_now_of_a_place_or_of_when_one_left() {
    let house = House::new();
    let id = house.public_room().await;
    let room = house.room(&id);
    let before = room.published().order;
    house.join(bob(), &id).await.expect("joined");
    house.rooms.leave(bob(), &id, None).await.expect("left");
    house.join(carol(), &id).await.expect("joined");
    let ask = |user, at, filter| {
        let mut viewer = Viewer::new(&room, user).expect("readable");
        let members = room.members(&mut viewer, at, filter).expect("allowed");
        let mut names: Vec<_> =
            members.iter().filter_map(|placed| placed.event.state_key().map(str::to_owned)).collect();
        names.sort();
        names
    };
    let any = MemberFilter::default();
    let [a, b, c] = [alice(), bob(), carol()].map(|user| user.as_str().to_owned());
    assert_eq!(ask(alice(), None, any), [a.clone(), b.clone(), c.clone()]);
    assert_eq!(ask(bob(), None, any), [a.clone(), b.clone()]);
    assert_eq!(ask(alice(), Some(before), any), std::slice::from_ref(&a));
    let joined = MemberFilter { membership: Some(Membership::Join), ..any };
    assert_eq!(ask(alice(), None, joined), [a.clone(), c.clone()]);
    let not_gone = MemberFilter { not_membership: Some(Membership::Leave), ..any };
    assert_eq!(ask(alice(), None, not_gone), [a, c]);
    let joined = room.joined_members().expect("readable");
    assert_eq!(joined.len(), 2);
    assert!(joined.iter().any(|(user, profile)| user == alice() && profile.displayname.as_deref() == Some("Alice")));
}

#[tokio::test]
async fn context_lies_on_both_sides_and_its_ends_lead_on() {
    let house = House::new();
    let id = house.public_room().await;
    let mut events = Vec::new();
    for n in 0..9 {
        events.push(house.say(alice(), &id, &n.to_string()).await);
    }
    let room = house.room(&id);
    let mut viewer = Viewer::new(&room, alice()).expect("readable");
    let context = room.context(&mut viewer, &events[4], 4, |_| true).expect("allowed");
    let ids = |placed: &[std::sync::Arc<koine_room::Placed>]| {
        placed.iter().map(|placed| placed.event.event_id().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&context.before), [events[3].clone(), events[2].clone()]);
    assert_eq!(ids(&context.after), [events[5].clone(), events[6].clone()]);
    let page = |from, direction| {
        let span = Span { from: Some(from), to: None, direction, limit: 1 };
        ids(&room.page(span, room.published().order, |_| Ok(true)).expect("readable").events)
    };
    assert_eq!(page(context.start, Direction::Backward), [events[1].clone()]);
    assert_eq!(page(context.end, Direction::Forward), [events[7].clone()]);
    let mut stranger = Viewer::new(&room, carol()).expect("readable");
    assert!(matches!(room.context(&mut stranger, &events[4], 4, |_| true), Err(ReadError::NoSuchEvent)));
}
