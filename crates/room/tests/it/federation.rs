//! Two servers that hand each other events, without a network between them.

use koine_graph::{
    Event, RoomVersionRules,
    hashes::content_hash,
    json::{Json, parse},
    signatures::sign_event,
};
use koine_room::{Membership, Part, Preset, ReceiveError, Received, Room};
use ruma_common::{OwnedEventId, RoomId, RoomVersionId, ServerName, UserId, user_id};
use serde_json::{Value, json};

use crate::house::{House, alice, bob, key};

fn dora() -> &'static UserId {
    user_id!("@dora:far.example")
}

/// Hashes and signs an event given as JSON, as `server` would.
fn seal(rules: &RoomVersionRules, event: &Value, server: &str) -> Event {
    let text = event.to_string();
    let Ok(Json::Object(mut object)) = parse(text.as_bytes()) else { panic!("no object: {text}") };
    object.remove("origin");
    let hash = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, content_hash(&object));
    let hashes = format!(r#"{{"sha256":"{hash}"}}"#);
    object.insert("hashes", parse(hashes.as_bytes()).expect("JSON"));
    sign_event(rules, &mut object, <&ServerName>::try_from(server).expect("a name"), &key());
    Event::parse(rules, &object.to_bytes()).expect("an event")
}

/// Dora of the far server joins a room of the near one.
async fn join(near: &House, far: &House, id: &RoomId) {
    let room = near.room(id);
    let template = near.rooms.template(&room, dora(), Membership::Join).expect("anyone may join");
    let event = seal(room.rules(), &template.event, "far.example");
    assert_eq!(near.rooms.receive(id, event.clone()).await.expect("taken in"), Received::Accepted);
    let before = room.state_before_event(event.event_id()).expect("readable").expect("in the timeline");
    let state: Vec<Event> =
        room.state_events(before, None).expect("readable").iter().map(|placed| placed.event.clone()).collect();
    let auth_chain = room.auth_chain(state.iter().chain([&event])).expect("readable");
    let mut keeping = far.rooms.entering(id, &template.version).expect("a known version");
    // The state comes first, though it rests on what comes after it.
    keeping.add(Part::State, state).await.expect("taken in");
    keeping.add(Part::AuthChain, auth_chain).await.expect("taken in");
    far.rooms.enter(keeping, event, None).await.expect("entered");
}

/// Everything that happened in `from` after `order`, handed to `to` in that order.
async fn pass_on(from: &Room, to: &House, after: i64) -> Vec<Received> {
    let mut events = from.newest(after, i64::MAX, 1000).expect("readable");
    events.reverse();
    let mut fates = Vec::new();
    for placed in events {
        fates.push(to.rooms.receive(from.id(), placed.event.clone()).await.expect("taken in"));
    }
    fates
}

#[tokio::test]
async fn two_servers_share_a_room_of_every_version() {
    for version in koine_graph::ROOM_VERSIONS {
        // Rooms of versions 1 and 2 name events by servers; the template there wants an id of its own.
        if matches!(version, RoomVersionId::V1 | RoomVersionId::V2) {
            continue;
        }
        let (near, far) = (House::new(), House::elsewhere("far.example"));
        let id = near.create(Preset::PublicChat, version.clone()).await;
        near.join(bob(), &id).await.expect("joined");
        join(&near, &far, &id).await;
        let (here, there) = (near.room(&id), far.room(&id));
        assert_eq!(here.published().state, there.published().state, "version {version}: one state");
        assert_eq!((there.published().joined, there.servers().expect("readable").len()), (3, 2));
        let (mark_here, mark_there) = (here.published().order, there.published().order);
        near.say(alice(), &id, "from near").await;
        far.say(dora(), &id, "from far").await;
        assert_eq!(pass_on(&here, &far, mark_here).await, [Received::Accepted]);
        assert_eq!(pass_on(&there, &near, mark_there).await[..1], [Received::Accepted]);
        assert_eq!(pass_on(&there, &near, mark_there).await, [Received::Known, Received::Known]);
        // The next event follows both branches.
        let tie = near.say(alice(), &id, "and on").await;
        let tie = here.event(&tie).expect("readable").expect("there");
        assert_eq!(tie.event.prev_events().len(), 2);
    }
}

#[tokio::test]
async fn branches_that_conflict_end_in_one_state_on_both_servers() {
    let (near, far) = (House::new(), House::elsewhere("far.example"));
    let id = near.create(Preset::PublicChat, RoomVersionId::V11).await;
    join(&near, &far, &id).await;
    let (here, there) = (near.room(&id), far.room(&id));
    let levels = json!({ "users": { (alice().as_str()): 100, (dora().as_str()): 50 } });
    let mark = here.published().order;
    near.set(alice(), &id, "m.room.power_levels", levels).await.expect("set");
    pass_on(&here, &far, mark).await;
    // At the same time both change the topic, and alice takes dora's power.
    let (mark_here, mark_there) = (here.published().order, there.published().order);
    near.set(alice(), &id, "m.room.topic", json!({ "topic": "near" })).await.expect("set");
    let levels = json!({ "users": { (alice().as_str()): 100 } });
    near.set(alice(), &id, "m.room.power_levels", levels).await.expect("set");
    far.set(dora(), &id, "m.room.topic", json!({ "topic": "far" })).await.expect("set");
    far.say(dora(), &id, "what now?").await;
    let to_far = here.newest(mark_here, i64::MAX, 100).expect("readable");
    let from_far = there.newest(mark_there, i64::MAX, 100).expect("readable");
    for placed in to_far.iter().rev() {
        far.rooms.receive(&id, placed.event.clone()).await.expect("taken in");
    }
    for placed in from_far.iter().rev() {
        near.rooms.receive(&id, placed.event.clone()).await.expect("taken in");
    }
    let topic = |room: &Room| {
        let topic = room.current("m.room.topic", "").expect("readable").expect("set");
        topic.event.content_field::<String>("topic").expect("a topic")
    };
    assert_eq!(topic(&here), topic(&there));
    near.set(alice(), &id, "m.room.name", json!({ "name": "after" })).await.expect("set");
    let mark = here.newest(i64::MIN, i64::MAX, 2).expect("readable")[1].order;
    pass_on(&here, &far, mark).await;
    assert_eq!(here.published().state, there.published().state);
}

#[tokio::test]
async fn what_is_missing_is_named_and_then_taken_in() {
    let (near, far) = (House::new(), House::elsewhere("far.example"));
    let id = near.create(Preset::PublicChat, RoomVersionId::V11).await;
    join(&near, &far, &id).await;
    let here = near.room(&id);
    let missed = near.say(alice(), &id, "missed").await;
    let second = near.say(alice(), &id, "second").await;
    let event = |id: &OwnedEventId| here.event(id).expect("readable").expect("there").event.clone();
    match far.rooms.receive(&id, event(&second)).await {
        Err(ReceiveError::Missing { prev, auth }) => assert_eq!((prev, auth), (vec![missed.clone()], vec![])),
        other => panic!("{other:?}"),
    }
    let gap =
        here.missing_between(&far.room(&id).extremities(), std::slice::from_ref(&second), 10, 0).expect("readable");
    assert_eq!(gap.iter().map(|placed| placed.event.event_id()).collect::<Vec<_>>(), [&*missed]);
    for event in [event(&missed), event(&second)] {
        assert_eq!(far.rooms.receive(&id, event).await.expect("taken in"), Received::Accepted);
    }
    assert_eq!(far.bodies(&id), ["missed", "second"]);
}

#[tokio::test]
async fn what_the_rules_forbid_stays_rejected_and_the_banned_are_not_heard() {
    let (near, far) = (House::new(), House::elsewhere("far.example"));
    let id = near.create(Preset::PublicChat, RoomVersionId::V11).await;
    join(&near, &far, &id).await;
    let here = near.room(&id);
    let last = far.say(dora(), &id, "last words").await;
    let there = far.room(&id);
    let last = there.event(&last).expect("readable").expect("there").event.clone();
    // Not dora's to set: rejected by the state before it.
    let mut forged: Value = serde_json::from_slice(last.json()).expect("JSON");
    forged["type"] = json!("m.room.name");
    forged["state_key"] = json!("");
    forged["content"] = json!({ "name": "mine" });
    for gone in ["hashes", "signatures"] {
        forged.as_object_mut().expect("an object").remove(gone);
    }
    let forged = seal(here.rules(), &forged, "far.example");
    let fate = near.rooms.receive(&id, forged.clone()).await.expect("judged");
    assert!(matches!(fate, Received::Rejected(_)), "{fate:?}");
    assert_eq!(near.rooms.receive(&id, forged).await.expect("judged"), Received::Known);
    // Alice bans dora while her last words are under way: they are soft-failed, and not shown.
    near.rooms.ban(alice(), &id, dora(), None).await.expect("alice may");
    let fate = near.rooms.receive(&id, last.clone()).await.expect("judged");
    assert!(matches!(fate, Received::SoftFailed(_)), "{fate:?}");
    assert!(near.bodies(&id).is_empty());
    assert!(near.room(&id).extremities().iter().all(|id| id != last.event_id()));
}

#[tokio::test]
async fn an_invitation_into_a_far_room_shows_what_the_far_server_told() {
    let (near, far) = (House::new(), House::elsewhere("far.example"));
    let id = near.create(Preset::PrivateChat, RoomVersionId::V11).await;
    let room = near.room(&id);
    let content = serde_json::value::to_raw_value(&json!({ "membership": "invite" })).expect("JSON");
    let event = room.draft_invitation(alice(), dora(), &content).expect("alice may");
    let shown = vec![room.current("m.room.name", "").expect("readable").expect("named").event.stripped_json()];
    far.rooms.invited(&RoomVersionId::V11, event.clone(), shown).await.expect("noted");
    let there = far.room(&id);
    let record = far.rooms.membership(dora(), there.no()).expect("readable").expect("written");
    assert_eq!(record.membership, Membership::Invite);
    let shown = there.shown_to(dora(), &record).expect("readable");
    assert_eq!(shown.len(), 2, "the name and the invitation");
    assert!(matches!(far.rooms.receive(&id, event.clone()).await, Err(ReceiveError::NotInRoom)));
    assert_eq!(near.rooms.receive(&id, event).await.expect("taken in"), Received::Accepted);
    join(&near, &far, &id).await;
    assert_eq!(there.published().joined, 2);
    assert_eq!(far.rooms.joined(dora()).expect("readable"), [id]);
}

#[tokio::test]
async fn a_burst_of_branches_is_tied_together_again() {
    let (near, far) = (House::new(), House::elsewhere("far.example"));
    let id = near.create(Preset::PublicChat, RoomVersionId::V11).await;
    join(&near, &far, &id).await;
    let first = far.say(dora(), &id, "first").await;
    let first = far.room(&id).event(&first).expect("readable").expect("there").event.clone();
    let rules = far.room(&id).rules().clone();
    let (mut most, mut resolutions) = (0, 0);
    for n in 0..10_000 {
        let mut branch: Value = serde_json::from_slice(first.json()).expect("JSON");
        branch["content"] = json!({ "body": n.to_string() });
        for gone in ["hashes", "signatures"] {
            branch.as_object_mut().expect("an object").remove(gone);
        }
        let branch = seal(&rules, &branch, "far.example");
        let before = near.rooms.state_work();
        assert_eq!(near.rooms.receive(&id, branch).await.expect("taken in"), Received::Accepted);
        let work = near.rooms.state_work() - before;
        most = most.max(work.nodes);
        resolutions += work.resolutions;
        let extremities = near.room(&id).extremities().len();
        assert!(extremities <= koine_room::EXTREMITIES_MAX + 1, "{extremities} branches after {n}");
        assert_eq!(work.events, 0, "the branches do not differ in anything that would have to be weighed");
    }
    assert!(near.room(&id).extremities().len() <= koine_room::EXTREMITIES_MAX + 1);
    // Counted, not timed: no event of the burst costs more than the first few, and each is at most one resolution, of states
    // that are the same.
    assert!(most <= NODES_OF_AN_EVENT_MAX, "{most} nodes were looked at for one event");
    assert!(resolutions <= 2 * 10_000, "{resolutions} resolutions");
}

/// Nodes of states that one event which changes nothing may cost: a few looks, each down the same short way.
const NODES_OF_AN_EVENT_MAX: u64 = 40;

#[tokio::test]
async fn a_message_with_one_parent_looks_up_what_allows_it_however_many_are_in_the_room() {
    let mut costs = Vec::new();
    for members in [10, 100, 3_000] {
        let (near, far) = (House::new(), House::elsewhere("far.example"));
        let id = near.create(Preset::PublicChat, RoomVersionId::V11).await;
        for number in 0..members {
            let member = ruma_common::OwnedUserId::try_from(format!("@m{number}:example.org")).expect("a user id");
            near.join(&member, &id).await.expect("joined");
        }
        join(&near, &far, &id).await;
        let mut events = Vec::new();
        for text in ["one", "two", "three"] {
            let said = far.say(dora(), &id, text).await;
            events.push(far.room(&id).event(&said).expect("readable").expect("there").event.clone());
        }
        let last = events.pop().expect("three were said");
        // Those before it bring into memory whatever stays there.
        for event in events {
            assert_eq!(near.rooms.receive(&id, event).await.expect("taken in"), Received::Accepted);
        }
        let before = near.rooms.state_work();
        assert_eq!(near.rooms.receive(&id, last).await.expect("taken in"), Received::Accepted);
        costs.push(near.rooms.state_work() - before);
    }
    let [few, some, many] = costs[..] else { panic!("three rooms were measured") };
    for cost in [few, some, many] {
        assert_eq!((cost.resolutions, cost.events), (0, 0), "there is nothing to resolve");
    }
    // The create event, the power levels, the sender: three ways down the map. Each gets longer by one node where the room
    // grows thirtyfold, and that is all.
    assert!(few.nodes <= 9 && some.nodes <= 12 && many.nodes <= 15, "{few:?} {some:?} {many:?}");
}

#[tokio::test]
async fn history_from_before_the_joining_is_put_in_front() {
    let (near, far) = (House::new(), House::elsewhere("far.example"));
    let id = near.create(Preset::PublicChat, RoomVersionId::V11).await;
    for n in 0..5 {
        near.say(alice(), &id, &n.to_string()).await;
    }
    join(&near, &far, &id).await;
    let (here, there) = (near.room(&id), far.room(&id));
    assert!(far.bodies(&id).is_empty());
    let edge = there.history_edge().expect("readable");
    let mut history = here.history_before(&edge, 6).expect("readable");
    history.reverse();
    let oldest = history[0].clone();
    let state = here.state_events(oldest.state_before, None).expect("readable");
    let ids: Vec<OwnedEventId> = state.iter().map(|placed| placed.event.event_id().to_owned()).collect();
    far.rooms.keep_outliers(&id, state.iter().map(|placed| placed.event.clone()).collect()).await.expect("kept");
    let events: Vec<Event> = history.iter().map(|placed| placed.event.clone()).collect();
    // The joining itself is known already.
    let told = [(oldest.event.event_id().to_owned(), ids)];
    assert_eq!(far.rooms.keep_history(&id, events.clone(), &[]).await.expect("kept"), 0, "no state is guessed");
    assert_eq!(far.rooms.keep_history(&id, events.clone(), &told).await.expect("kept"), 5);
    assert_eq!(far.rooms.keep_history(&id, events, &told).await.expect("kept"), 0);
    assert_eq!(far.bodies(&id), ["0", "1", "2", "3", "4"]);
    // It can be searched for at once, though no log mentions it.
    let query = koine_room::SearchQuery {
        term: "3",
        fields: &[koine_room::Field::Body],
        rooms: None,
        up_to: koine_room::Order::MAX,
        by_rank: false,
    };
    let found = far.rooms.search(dora(), &query, |_, _| true).expect("searched");
    let texts: Vec<String> =
        found.hits.iter().filter_map(|hit| hit.placed.event.content_field::<String>("body")).collect();
    assert_eq!(texts, ["3"]);
    // And its people are found by those who share the room.
    let of_name = |wanted: &'static str| move |user: &ruma_common::UserId, _: Option<&str>| user.localpart() == wanted;
    let people = far.rooms.people_elsewhere(dora(), of_name("alice")).expect("readable");
    assert_eq!(people.iter().map(|(user, _)| &**user).collect::<Vec<_>>(), [alice()]);
    assert!(far.rooms.people_elsewhere(dora(), of_name("dora")).expect("readable").is_empty(), "nobody of ours");
    far.say(dora(), &id, "5").await;
    assert_eq!(far.bodies(&id).len(), 6);
    assert!(!there.history_edge().expect("readable").is_empty(), "there is more before that");
    let far = far.restarted_as("far.example");
    assert_eq!(far.bodies(&id), ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_redaction_that_comes_before_its_event_empties_it_when_that_comes() {
    use koine_room::Sender;
    let (near, far) = (House::new(), House::elsewhere("far.example"));
    let id = near.create(Preset::PublicChat, RoomVersionId::V11).await;
    join(&near, &far, &id).await;
    let (here, there) = (near.room(&id), far.room(&id));
    let said = far.say(dora(), &id, "a slip").await;
    let said = there.event(&said).expect("readable").expect("there").event.clone();
    // The redaction is made to follow what near knows, so that it can come first.
    let sender = Sender { user: dora(), device: None };
    let redaction = far.rooms.redact(sender, &id, said.event_id(), None, None).await.expect("one's own");
    let redaction = there.event(&redaction).expect("readable").expect("there").event.clone();
    let mut early: Value = serde_json::from_slice(redaction.json()).expect("JSON");
    early["prev_events"] = json!(said.prev_events());
    for gone in ["hashes", "signatures"] {
        early.as_object_mut().expect("an object").remove(gone);
    }
    let early = seal(here.rules(), &early, "far.example");
    assert_eq!(near.rooms.receive(&id, early.clone()).await.expect("taken in"), Received::Accepted);
    assert_eq!(near.rooms.receive(&id, said.clone()).await.expect("taken in"), Received::Accepted);
    assert!(near.bodies(&id).is_empty());
    let placed = here.event(said.event_id()).expect("readable").expect("there");
    assert_eq!(placed.redacted_by.as_deref(), Some(early.event_id()));
}
