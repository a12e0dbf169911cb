//! Invitations to an address, once an identity server knows whose it is.

use bytes::Bytes;
use http::{Method, StatusCode};
use koine_graph::{
    SigningKey,
    json::{self, Json},
    signatures::sign_object,
};
use koine_room::{Membership, Preset};
use ruma_common::{OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::{Value, json};

use crate::{
    hostile::{call, signed},
    houses::{House, pair, until},
};

const TOKEN: &str = "abc123";

fn identity_key() -> SigningKey {
    SigningKey::from_seed("0", &[4; 32]).expect("a key")
}

/// What the identity server signs once it knows whose the address is.
fn proof(mxid: &str, key: &SigningKey) -> Value {
    let text = json!({ "mxid": mxid, "token": TOKEN }).to_string();
    let Ok(Json::Object(mut object)) = json::parse(text.as_bytes()) else { panic!("an object") };
    sign_object(&mut object, "identity.example", key);
    serde_json::from_slice(&object.to_bytes()).expect("JSON")
}

/// Alice of the first server has invited somebody's address.
async fn invited_by_address() -> (House, House, OwnedRoomId, OwnedUserId, OwnedUserId) {
    let (one, two) = pair().await;
    let (alice, bob) = (one.user("alice"), two.account("bob").await);
    let room = one.create(&alice, Preset::PrivateChat, RoomVersionId::V11).await;
    let content = json!({
        "display_name": "b...@mail.example",
        "key_validity_url": "https://identity.example/valid",
        "public_key": identity_key().public().to_base64(),
    });
    one.set_at(&alice, &room, ("m.room.third_party_invite", TOKEN), content).await;
    (one, two, room, alice, bob)
}

async fn bind(to: &House, body: &Value) -> (StatusCode, Value) {
    let request = http::Request::builder().method(Method::PUT).uri("/_matrix/federation/v1/3pid/onbind");
    call(to, request.body(Bytes::from(body.to_string())).expect("a request")).await
}

fn bound(room: &OwnedRoomId, alice: &OwnedUserId, bob: &OwnedUserId, signed: &Value) -> Value {
    let invite = json!({
        "medium": "email", "address": "bob@mail.example", "mxid": bob, "room_id": room, "sender": alice, "signed": signed,
    });
    json!({ "medium": "email", "address": "bob@mail.example", "mxid": bob, "invites": [invite] })
}

#[tokio::test]
async fn who_turns_out_to_own_an_invited_address_is_invited() {
    let (one, two, room, alice, bob) = invited_by_address().await;
    let (status, answer) = bind(&two, &bound(&room, &alice, &bob, &proof(bob.as_str(), &identity_key()))).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({})));
    assert_eq!(two.room(&room).local_membership(&bob), Some(Membership::Invite));
    let invite = one.room(&room).current("m.room.member", bob.as_str()).unwrap().expect("there");
    assert_eq!(invite.event.sender(), alice);
    let told: Value = invite.event.content_field("third_party_invite").expect("where it comes from");
    assert_eq!((&told["display_name"], &told["signed"]["token"]), (&json!("b...@mail.example"), &json!(TOKEN)));
    two.join(&bob, &room, &one).await.expect("let in");
    until("one sees bob", || one.room(&room).is_joined(&bob)).await;
    // Told again, it takes nobody out of the room.
    let (status, _) = bind(&two, &bound(&room, &alice, &bob, &proof(bob.as_str(), &identity_key()))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(one.room(&room).is_joined(&bob));
}

#[tokio::test]
async fn a_proof_that_somebody_else_made_invites_nobody() {
    let (one, two, room, alice, bob) = invited_by_address().await;
    let forger = SigningKey::from_seed("0", &[9; 32]).expect("a key");
    let (status, _) = bind(&two, &bound(&room, &alice, &bob, &proof(bob.as_str(), &forger))).await;
    assert_eq!(status, StatusCode::OK, "it is told, and comes to nothing");
    assert!(one.room(&room).current("m.room.member", bob.as_str()).unwrap().is_none());
    let exchange = |signed_proof: Value| {
        json!({
            "type": "m.room.member", "room_id": room, "sender": alice, "state_key": bob,
            "content": { "membership": "invite", "third_party_invite": { "display_name": "b", "signed": signed_proof } },
        })
        .to_string()
    };
    let path = format!("/_matrix/federation/v1/exchange_third_party_invite/{room}");
    let ask = |body: String| call(&one, signed(&two, &one, &two.key, &Method::PUT, &path, &body));
    let (status, error) = ask(exchange(proof(bob.as_str(), &forger))).await;
    assert_eq!((status, &error["errcode"]), (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")));
    // A proof for somebody else, though honestly made.
    let (status, _) = ask(exchange(proof("@mallory:two.example", &identity_key()))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(one.room(&room).current("m.room.member", bob.as_str()).unwrap().is_none());
}

#[tokio::test]
async fn nobody_is_told_of_more_invitations_than_anybody_has() {
    let (_one, two, room, alice, bob) = invited_by_address().await;
    let mut body = bound(&room, &alice, &bob, &proof(bob.as_str(), &identity_key()));
    let invites = vec![body["invites"][0].clone(); 1_000];
    body["invites"] = json!(invites);
    assert_eq!(bind(&two, &body).await.0, StatusCode::BAD_REQUEST);
    assert!(!two.links.asked.lock().iter().any(|asked| asked.contains("exchange")));
    let mut other = bound(&room, &alice, &bob, &proof("@mallory:two.example", &identity_key()));
    other["invites"][0]["mxid"] = json!("@mallory:two.example");
    assert_eq!(bind(&two, &other).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(bind(&two, &bound(&room, &alice, &two.user("nobody"), &json!({}))).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_question_that_nobody_knows_is_not_recognized() {
    let (one, two, ..) = invited_by_address().await;
    let path = "/_matrix/federation/v1/query/weather?city=kos";
    let (status, error) = call(&one, signed(&two, &one, &two.key, &Method::GET, path, "")).await;
    assert_eq!((status, &error["errcode"]), (StatusCode::NOT_FOUND, &json!("M_UNRECOGNIZED")));
    let bare = http::Request::builder().uri(path).body(Bytes::new()).expect("a request");
    assert_eq!(call(&one, bare).await.0, StatusCode::UNAUTHORIZED);
}
