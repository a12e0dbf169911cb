//! Coming into rooms whose state arrives in pieces, or never ends.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use koine_matrix_federation::{Future, Incoming, PeerError};
use koine_room::{CommandError, Membership, Preset};
use ruma_common::{OwnedRoomId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    hostile::{seal, signed},
    houses::{House, pair, until},
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
