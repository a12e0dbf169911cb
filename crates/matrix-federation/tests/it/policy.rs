//! Rooms with a policy server: asked before anything is sent, and about what others did not ask for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, http::StatusCode, routing::post};
use bytes::Bytes;
use koine_graph::{
    Event, SigningKey,
    json::{self, Json},
    signatures::sign_event,
};
use koine_room::{CommandError, Fate, Preset};
use ruma_common::{OwnedRoomId, RoomVersionId, ServerName};
use serde_json::{Value, json};

use crate::{
    hostile::{message, send},
    houses::{House, Links, until},
};

const POLICY: &str = "policy.example";

/// Two servers in a room with a third one that judges what is said there.
struct Watched {
    one: House,
    two: House,
    policy: House,
    room: OwnedRoomId,
    asked: Arc<AtomicUsize>,
}

fn policy_key() -> SigningKey {
    SigningKey::from_seed("policy_server", &[5; 32]).expect("a key")
}

/// Signs what is no spam.
fn judge(body: &[u8], key: &SigningKey) -> Result<Value, Value> {
    let rules = koine_graph::rules(&RoomVersionId::V11).expect("rules");
    let event =
        Event::parse(&rules, body).map_err(|error| json!({ "errcode": "M_BAD_JSON", "error": error.to_string() }))?;
    if event.content_field::<String>("body").is_some_and(|body| body.contains("spam")) {
        return Err(json!({ "errcode": "M_FORBIDDEN", "error": "This looks like spam", "hint": "say something else" }));
    }
    let Ok(Json::Object(mut object)) = json::parse(body) else { panic!("it was parsed before") };
    object.remove("signatures");
    let name = <&ServerName>::try_from(POLICY).expect("a name");
    sign_event(&rules, &mut object, name, key);
    let signed: Value = serde_json::from_slice(&object.to_bytes()).expect("JSON");
    Ok(signed["signatures"].clone())
}

async fn watched() -> Watched {
    let links = Arc::new(Links::default());
    let one = House::new(&links, "one.example").await;
    let two = House::new(&links, "two.example").await;
    let policy = House::new(&links, POLICY).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let sign = move |body: Bytes| async move {
        counted.fetch_add(1, Ordering::Relaxed);
        match judge(&body, &policy_key()) {
            Ok(signatures) => (StatusCode::OK, signatures.to_string()),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        }
    };
    links.add_endpoints(&policy.name, Router::new().route("/_matrix/policy/v1/sign", post(sign)));
    let room = one.create(&one.user("alice"), Preset::PublicChat, RoomVersionId::V11).await;
    two.join(&two.user("bob"), &room, &one).await.expect("let in");
    policy.join(&policy.user("judge"), &room, &one).await.expect("let in");
    let all = [&one, &two, &policy];
    until("all see all", || all.iter().all(|house| house.room(&room).is_joined(&policy.user("judge")))).await;
    let watched = Watched { one, two, policy, room, asked };
    watched
        .name_policy(json!({ "via": POLICY, "public_keys": { "ed25519": policy_key().public().to_base64() } }))
        .await;
    watched
}

impl Watched {
    async fn name_policy(&self, content: Value) {
        self.one.set(&self.one.user("alice"), &self.room, "m.room.policy", content).await;
        until("all know the policy", || self.one.state(&self.room) == self.two.state(&self.room)).await;
        until("all know the policy", || self.one.state(&self.room) == self.policy.state(&self.room)).await;
    }

    async fn try_to_say(&self, house: &House, user: &str, text: &str) -> Result<(), CommandError> {
        let content = serde_json::value::to_raw_value(&json!({ "msgtype": "m.text", "body": text })).expect("JSON");
        let user = house.user(user);
        let sender = koine_room::Sender { user: &user, device: None };
        house.rooms.send(sender, &self.room, "m.room.message", &content, None).await.map(drop)
    }
}

fn is_signed(event: &Event) -> bool {
    let event: Value = serde_json::from_slice(event.json()).expect("JSON");
    event["signatures"][POLICY]["ed25519:policy_server"].is_string()
}

#[tokio::test]
async fn what_is_said_is_signed_by_the_policy_server_before_anybody_sees_it() {
    let w = watched().await;
    assert_eq!(w.asked.load(Ordering::Relaxed), 0, "naming a policy server needs none");
    let said = w.two.say(&w.two.user("bob"), &w.room, "good day").await;
    until("one hears it", || w.one.bodies(&w.room) == ["good day"]).await;
    assert_eq!(w.asked.load(Ordering::Relaxed), 1, "who receives it has nothing to ask");
    for house in [&w.one, &w.two] {
        let placed = house.room(&w.room).event(&said).expect("readable").expect("there");
        assert!(is_signed(&placed.event), "{:?}", placed.event.json());
    }
    // State and memberships likewise.
    w.one.set(&w.one.user("alice"), &w.room, "m.room.topic", json!({ "topic": "fine" })).await;
    w.one.rooms.kick(&w.one.user("alice"), &w.room, &w.two.user("bob"), None).await.expect("kicked");
    assert_eq!(w.asked.load(Ordering::Relaxed), 3);
    let kicked = w.one.room(&w.room).current("m.room.member", w.two.user("bob").as_str()).unwrap().expect("there");
    assert!(is_signed(&kicked.event));
}

#[tokio::test]
async fn what_the_policy_server_refuses_is_not_sent_and_its_words_are_told() {
    let w = watched().await;
    let refused = w.try_to_say(&w.one, "alice", "spam").await;
    let Err(CommandError::NotRecommended(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.status, &refusal.body["errcode"]), (400, &json!("M_FORBIDDEN")));
    assert_eq!(refusal.body["hint"], "say something else");
    w.try_to_say(&w.one, "alice", "ham").await.expect("said");
    until("two hears it", || w.two.bodies(&w.room) == ["ham"]).await;
    assert_eq!(w.one.bodies(&w.room), ["ham"]);
}

#[tokio::test]
async fn what_comes_without_its_signature_is_brought_there_and_left_out_if_it_is_refused() {
    let w = watched().await;
    let (there, bob) = (w.two.room(&w.room), w.two.user("bob"));
    let ham = message(&w.two, &w.two.key, &there, &bob, "ham");
    let spam = message(&w.two, &w.two.key, &there, &bob, "spam");
    let (_, answer) = send(&w.two, &w.one, "t1", &[ham.json().clone(), spam.json().clone()]).await;
    assert_eq!(answer["pdus"][spam.event_id().as_str()], json!({}), "its sender broke no rule of the room");
    assert_eq!(w.one.bodies(&w.room), ["ham"]);
    let kept = w.one.room(&w.room).event(ham.event_id()).expect("readable").expect("there");
    assert!(is_signed(&kept.event), "others who ask us for it need not ask the policy server");
    assert!(matches!(w.one.room(&w.room).fate(spam.event_id()), Ok(Some(Fate::SoftFailed(_)))));
    // Once judged, it is not asked about again.
    let asked = w.asked.load(Ordering::Relaxed);
    send(&w.two, &w.one, "t2", &[spam.json().clone()]).await;
    assert_eq!(w.asked.load(Ordering::Relaxed), asked);
}

#[tokio::test]
async fn a_signature_of_another_key_does_not_count() {
    let w = watched().await;
    let (there, bob) = (w.two.room(&w.room), w.two.user("bob"));
    let other = SigningKey::from_seed("policy_server", &[6; 32]).expect("a key");
    let forged = |text: &str| {
        let event = message(&w.two, &w.two.key, &there, &bob, text);
        // The forger signs whatever it is.
        let signature = {
            let Ok(Json::Object(mut object)) = json::parse(event.json()) else { panic!("an object") };
            sign_event(there.rules(), &mut object, <&ServerName>::try_from(POLICY).unwrap(), &other);
            object.to_bytes()
        };
        Bytes::from(signature)
    };
    send(&w.two, &w.one, "t1", &[forged("spam"), forged("ham")]).await;
    assert_eq!(w.one.bodies(&w.room), ["ham"], "both were brought to the policy server anew");
}

#[tokio::test]
async fn a_policy_server_that_is_gone_can_be_got_rid_of() {
    let w = watched().await;
    w.one.links.set_down(POLICY, true);
    let silent = w.try_to_say(&w.one, "alice", "hello?").await;
    assert!(matches!(silent, Err(CommandError::PolicyServerSilent(_))), "{silent:?}");
    w.one.set(&w.one.user("alice"), &w.room, "m.room.policy", json!({})).await;
    w.try_to_say(&w.one, "alice", "hello").await.expect("said");
    until("two hears it", || w.two.bodies(&w.room) == ["hello"]).await;
}

#[tokio::test]
async fn a_server_whose_people_are_not_in_the_room_is_not_made_its_policy_server() {
    let w = watched().await;
    w.policy.rooms.leave(&w.policy.user("judge"), &w.room, None).await.expect("gone");
    until("all know", || w.one.room(&w.room).servers().is_ok_and(|servers| servers.len() == 2)).await;
    let asked = w.asked.load(Ordering::Relaxed);
    w.try_to_say(&w.one, "alice", "spam, then").await.expect("said");
    assert_eq!(w.asked.load(Ordering::Relaxed), asked);
}

#[tokio::test]
async fn who_joins_through_us_is_brought_to_the_policy_server() {
    let w = watched().await;
    let four = House::new(&w.one.links, "four.example").await;
    let eve = four.user("eve");
    four.join(&eve, &w.room, &w.one).await.expect("let in");
    for house in [&w.one, &four] {
        let joined = house.room(&w.room).current("m.room.member", eve.as_str()).unwrap().expect("there");
        assert!(is_signed(&joined.event), "{:?}", joined.event.json());
    }
}
