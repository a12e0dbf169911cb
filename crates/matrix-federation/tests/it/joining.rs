//! Coming into rooms whose state arrives in pieces, or never ends.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use koine_matrix_federation::{FederationConfig, Future, Incoming, PeerError};
use koine_room::{CommandError, Membership, Preset, Profile};
use ruma_common::{OwnedRoomId, RoomId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    hostile::{message_resting_on, seal, send, signed},
    houses::{House, Links, pair, until},
};

/// A body in chunks of one size.
struct Chunks(Bytes, usize);

impl Incoming for Chunks {
    fn next(&mut self) -> Future<'_, Result<Option<Bytes>, PeerError>> {
        let chunk = self.0.split_to(self.1.min(self.0.len()));
        Box::pin(async move { Ok((!chunk.is_empty()).then_some(chunk)) })
    }
}

/// A body that begins somehow and repeats itself for ever, and how much of it was read.
struct Endless {
    start: Option<Bytes>,
    filling: Bytes,
    read: Arc<AtomicUsize>,
}

impl Incoming for Endless {
    fn next(&mut self) -> Future<'_, Result<Option<Bytes>, PeerError>> {
        let chunk = self.start.take().unwrap_or_else(|| self.filling.clone());
        self.read.fetch_add(chunk.len(), Ordering::Relaxed);
        Box::pin(async move { Ok(Some(chunk)) })
    }
}

async fn public_room(one: &House) -> OwnedRoomId {
    let room = one.create(&one.user("alice"), Preset::PublicChat, RoomVersionId::V11).await;
    one.rooms.join(&one.user("anna"), &room, &Default::default(), None, Default::default()).await.expect("joined");
    room
}

#[tokio::test]
async fn a_room_that_arrives_in_small_pieces_is_the_same() {
    let (one, two) = pair().await;
    let room = public_room(&one).await;
    one.links.answer_with("/send_join/", |whole| Box::new(Chunks(whole, 7)));
    two.join(&two.user("bob"), &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&two.user("bob"))).await;
    assert_eq!(one.state(&room), two.state(&room));
}

#[tokio::test]
async fn an_answer_of_junk_or_one_that_never_ends_is_cut_off() {
    let (one, two) = pair().await;
    let room = public_room(&one).await;
    let long = "x".repeat(60_000);
    for (start, filling) in [
        ("", "junk "),
        ("{\"state\":[\"", long.as_str()),
        ("{\"state\":[{}", ",{}"),
        ("{\"other\":\"", long.as_str()),
        ("{\"auth_chain\":[{\"a\":[", "[[[[[[[["),
        ("{\"servers_in_room\":[\"a.example\"", ",\"b.example\""),
        ("{", "          "),
    ] {
        let read = Arc::new(AtomicUsize::new(0));
        let (counted, begin, more) = (read.clone(), start.to_owned(), filling.repeat(60_000 / filling.len()));
        one.links.answer_with("/send_join/", move |_| {
            let (start, filling) = (Some(begin.clone().into()), more.clone().into());
            Box::new(Endless { start, filling, read: counted.clone() })
        });
        let joined = two.join(&two.user("bob"), &room, &one).await;
        assert!(matches!(joined, Err(CommandError::NotReachable)), "{start}{filling:.20}: {joined:?}");
        let read = read.load(Ordering::Relaxed);
        assert!(read < 3 << 20, "{start}{filling:.20}: {read} bytes were read");
        assert!(two.rooms.room(&room).is_err(), "nothing is left of it");
    }
}

#[tokio::test]
async fn members_are_left_out_for_who_asks_for_it() {
    let (one, two) = pair().await;
    let room = public_room(&one).await;
    let bob = two.user("bob");
    let template = one.rooms.template(&one.room(&room), &bob, Membership::Join).expect("anyone may join");
    let event = seal(one.room(&room).rules(), &template.event, &two);
    let path = format!("/_matrix/federation/v2/send_join/{room}/{}?omit_members=true", event.event_id());
    let body = std::str::from_utf8(event.json()).expect("UTF-8");
    let request = signed(&two, &one, &two.key, &Method::PUT, &path, body);
    let answer = one.links.call(&one.name, request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = serde_json::from_slice(answer.body()).expect("JSON");
    assert_eq!((&answer["members_omitted"], &answer["servers_in_room"]), (&json!(true), &json!(["one.example"])));
    let kinds = |list: &str| -> Vec<(String, String)> {
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let list = answer[list].as_array().expect("a list");
        list.iter().map(|event| (text(event, "type"), text(event, "state_key"))).collect()
    };
    let (state, chain) = (kinds("state"), kinds("auth_chain"));
    assert!(state.iter().any(|(kind, _)| kind == "m.room.name"));
    assert!(!state.iter().any(|(kind, _)| kind == "m.room.member"), "{state:?}");
    // Who allows what is told comes with it, and nothing twice.
    assert_eq!(chain, [("m.room.member".to_owned(), one.user("alice").to_string())]);
}

/// The first has a room; the second joins rooms without their members.
async fn pair_of_whom_one_is_quick() -> (House, House) {
    let links = Arc::new(Links::default());
    let config = FederationConfig { partial_joins: true, ..FederationConfig::default() };
    (House::new(&links, "one.example").await, House::with(&links, "two.example", config).await)
}

fn members(house: &House, room: &RoomId) -> Vec<String> {
    let members = house.room(room).joined_members().expect("readable");
    let mut names: Vec<String> = members.iter().map(|(user, _)| user.localpart().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_room_joined_without_its_members_is_talked_in_and_becomes_whole() {
    let (one, two) = pair_of_whom_one_is_quick().await;
    let (alice, anna, bob) = (one.user("alice"), one.user("anna"), two.user("bob"));
    let room = public_room(&one).await;
    one.links.hold_up(Some("/state"));
    two.join(&bob, &room, &one).await.expect("let in");
    assert!(two.room(&room).is_partial());
    assert_eq!(members(&two, &room), ["bob"], "the others are not known yet");
    // Both talk, and a member of whom nothing is known yet changes their name and says something.
    two.say(&bob, &room, "here I am").await;
    one.say(&anna, &room, "welcome").await;
    let named = Profile { displayname: Some("Anna".into()), avatar_url: None };
    one.rooms.profile_changed(&anna, &named).await.expect("named");
    one.say(&anna, &room, "I am Anna").await;
    until("all is heard", || two.bodies(&room) == ["here I am", "welcome", "I am Anna"]).await;
    // What the members decide is not decided.
    let refused = two.invite(&bob, &room, &two.user("carl")).await;
    assert!(matches!(refused, Err(CommandError::Partial)), "{refused:?}");
    let path = format!("/_matrix/federation/v1/make_join/{room}/{alice}?ver=11");
    let answer =
        one.links.call(&two.name, signed(&one, &two, &one.key, &Method::GET, &path, "")).await.expect("an answer");
    let error: Value = serde_json::from_slice(answer.body()).expect("JSON");
    assert_eq!((answer.status(), &error["errcode"]), (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND")));
    one.links.hold_up(None);
    two.room(&room).until_whole().await;
    assert_eq!(members(&two, &room), ["alice", "anna", "bob"]);
    until("one hears bob", || one.bodies(&room).len() == 3).await;
    assert_eq!(one.state(&room), two.state(&room));
    let (here, there) = (one.room(&room).published(), two.room(&room).published());
    assert_eq!((here.joined, here.invited), (there.joined, there.invited));
    assert_eq!(one.room(&room).servers().expect("readable"), two.room(&room).servers().expect("readable"));
    // The states beside each event are those of a server that was there all the time.
    for placed in two.room(&room).newest(i64::MIN, i64::MAX, 100).expect("readable") {
        let other = one.room(&room).event(placed.event.event_id()).expect("readable").expect("known");
        assert_eq!((placed.state_before, placed.state_after), (other.state_before, other.state_after));
    }
}

#[tokio::test]
async fn what_only_the_members_forbid_is_refused_once_they_are_known() {
    let (one, two) = pair_of_whom_one_is_quick().await;
    let (alice, anna) = (one.user("alice"), one.user("anna"));
    let room = public_room(&one).await;
    let before =
        one.room(&room).current("m.room.member", anna.as_str()).expect("readable").expect("there").event.clone();
    one.rooms.kick(&alice, &room, &anna, None).await.expect("kicked");
    one.links.hold_up(Some("/state"));
    two.join(&two.user("bob"), &room, &one).await.expect("let in");
    // Anna, who is out, rests on the membership that she once had.
    let forged = message_resting_on(&one, &two.room(&room), &anna, before.event_id(), "am I in?");
    send(&one, &two, "t1", &[forged.json().clone()]).await;
    until("it is believed", || two.bodies(&room) == ["am I in?"]).await;
    one.links.hold_up(None);
    two.room(&room).until_whole().await;
    assert_eq!(two.bodies(&room), [""; 0], "it left the timeline");
    assert_eq!(one.state(&room), two.state(&room));
    // Refused stays refused.
    send(&one, &two, "t2", &[forged.json().clone()]).await;
    assert_eq!(two.bodies(&room), [""; 0]);
}
