//! Conversations between people, by XMPP and by Matrix.

use koine_room::{Membership, Sender};
use koine_stanza::{Element, ns};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Value, json, value::to_raw_value};

use crate::testing::{Client, World, condition};

fn is_message(stanza: &Element) -> bool {
    stanza.name() == "message"
}

async fn come(world: &World, name: &str, resource: &str) -> Client {
    let mut client = world.connect(name, resource).await;
    client.send("<presence/>").await;
    let own = client.session.jid().to_string();
    client.until(|stanza| stanza.name() == "presence" && stanza.attr("from") == Some(&own)).await;
    client
}

fn body(message: &Element) -> Option<String> {
    message.child_text("body", ns::CLIENT)
}

fn room_of(world: &World, one: &str, other: &str) -> std::sync::Arc<koine_room::Room> {
    let id = |name: &str| -> OwnedUserId { format!("@{name}:example.org").try_into().expect("a name") };
    let no = world.core().rooms().room_of_two(&id(one), &id(other)).expect("read").expect("they talked");
    world.core().rooms().room_by_no(no).expect("it is there")
}

async fn say_in_matrix(world: &World, who: &UserId, room: &koine_room::Room, kind: &str, content: Value) -> String {
    let content = to_raw_value(&content).expect("JSON");
    let sender = Sender { user: who, device: None };
    world.core().rooms().send(sender, room.id(), kind, &content, None).await.expect("it is allowed").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_an_event_and_comes_with_its_id() {
    let world = World::new();
    let (alice, mut bob) = (come(&world, "alice", "a").await, come(&world, "bob", "b").await);
    alice.send("<message to='bob@example.org' type='chat' id='m1'><body>hello *bob*</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>").await;
    let message = bob.until(is_message).await;
    assert_eq!(body(&message).as_deref(), Some("hello *bob*"));
    assert_eq!((message.attr("from"), message.id()), (Some("alice@example.org/a"), Some("m1")));
    let room = room_of(&world, "alice", "bob");
    let newest = room.newest(i64::MIN, i64::MAX, 1).expect("read").remove(0);
    let id = message.child("stanza-id", ns::STANZA_ID).expect("an id");
    assert_eq!((id.id(), id.attr("by")), (Some(newest.event.event_id().as_str()), Some("bob@example.org")));
    let content: Value = serde_json::from_str(newest.event.content().get()).expect("JSON");
    assert_eq!(content["formatted_body"], "hello <strong>bob</strong>");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matrix_says_is_heard_at_once_and_the_other_way_round() {
    let world = World::new();
    let bob_id = world.person("bob").await;
    let mut alice = come(&world, "alice", "a").await;
    alice.send("<message to='bob@example.org' type='chat' id='m1'><body>hello</body></message>").await;
    let room = room_of(&world, "alice", "bob");
    assert_eq!(room.local_membership(&bob_id), Some(Membership::Invite), "who never used XMPP is asked first");
    let profile = koine_room::Profile::default();
    world.core().rooms().join(&bob_id, room.id(), &profile, None, serde_json::Map::new()).await.expect("asked");
    let event =
        say_in_matrix(&world, &bob_id, &room, "m.room.message", json!({ "msgtype": "m.text", "body": "hi" })).await;
    let message = alice.until(is_message).await;
    assert_eq!((body(&message).as_deref(), message.attr("from")), (Some("hi"), Some("bob@example.org")));
    assert_eq!(message.id(), Some(event.as_str()));
    say_in_matrix(
        &world,
        &bob_id,
        &room,
        "m.room.message",
        json!({
            "msgtype": "m.text", "body": "* hi!", "m.new_content": { "msgtype": "m.text", "body": "hi!" },
            "m.relates_to": { "rel_type": "m.replace", "event_id": event },
        }),
    )
    .await;
    let edit = alice.until(is_message).await;
    assert_eq!(edit.child("replace", ns::CORRECT).and_then(Element::id), Some(event.as_str()));
    assert_eq!(body(&edit).as_deref(), Some("hi!"));
    let newest = room.newest(i64::MIN, i64::MAX, 10).expect("read");
    let hello = newest.iter().find(|placed| placed.event.content_field::<String>("body").as_deref() == Some("hello"));
    let hello = hello.expect("it was said").event.event_id().to_string();
    let reaction = say_in_matrix(
        &world,
        &bob_id,
        &room,
        "m.reaction",
        json!({
            "m.relates_to": { "rel_type": "m.annotation", "event_id": hello, "key": "👍" },
        }),
    )
    .await;
    let reacted = alice.until(is_message).await;
    let reactions = reacted.child("reactions", ns::REACTIONS).expect("reactions");
    assert_eq!((reactions.id(), reactions.children().count()), (Some("m1"), 1));
    let sender = Sender { user: &bob_id, device: None };
    let target = ruma_common::OwnedEventId::try_from(reaction).expect("an id");
    world.core().rooms().redact(sender, room.id(), &target, None, None).await.expect("his own");
    let fewer = alice.until(is_message).await;
    assert_eq!(fewer.child("reactions", ns::REACTIONS).map(|reactions| reactions.children().count()), Some(0));
    let target = ruma_common::OwnedEventId::try_from(event.clone()).expect("an id");
    world.core().rooms().redact(sender, room.id(), &target, None, None).await.expect("his own");
    let retracted = alice.until(is_message).await;
    assert_eq!(retracted.child("retract", ns::RETRACT).and_then(Element::id), Some(event.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_reactions_and_retractions_of_xmpp_reach_the_room() {
    let world = World::new();
    let (alice, mut bob) = (come(&world, "alice", "a").await, come(&world, "bob", "b").await);
    let chat = |id: &str, inner: &str| format!("<message to='bob@example.org' type='chat' id='{id}'>{inner}</message>");
    alice.send(&chat("m1", "<body>helo</body>")).await;
    alice.send(&chat("m2", "<body>hello</body><replace xmlns='urn:xmpp:message-correct:0' id='m1'/>")).await;
    bob.until(is_message).await;
    let edit = bob.until(is_message).await;
    assert_eq!(edit.child("replace", ns::CORRECT).and_then(Element::id), Some("m1"));
    let room = room_of(&world, "alice", "bob");
    let newest = || room.newest(i64::MIN, i64::MAX, 1).expect("read").remove(0);
    let relation: Value = newest().event.content_field("m.relates_to").expect("an edit");
    assert_eq!(relation["rel_type"], "m.replace");
    let react = "<message to='alice@example.org' type='chat' id='r1'><reactions xmlns='urn:xmpp:reactions:0' id='m1'><reaction>🎉</reaction></reactions></message>";
    bob.send(react).await;
    assert_eq!(newest().event.kind(), "m.reaction");
    bob.send(&react.replace("🎉", "👍")).await;
    assert_eq!(newest().event.content_field::<Value>("m.relates_to").expect("one")["key"], "👍");
    alice.send(&chat("m3", "<retract xmlns='urn:xmpp:message-retract:1' id='m1'/>")).await;
    assert_eq!(newest().event.kind(), "m.room.redaction");
    let retracted = bob.until(|stanza| stanza.has_child("retract", ns::RETRACT)).await;
    assert_eq!(retracted.child("retract", ns::RETRACT).and_then(Element::id), Some("m1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sessions_get_copies() {
    let world = World::new();
    let (alice, mut desk) = (come(&world, "alice", "a").await, come(&world, "alice", "desk").await);
    let mut bob = come(&world, "bob", "b").await;
    let enabled = desk.ask("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    assert_eq!(enabled.kind(), Some("result"));
    alice.send("<message to='bob@example.org/b' type='chat' id='m1'><body>x</body></message>").await;
    let copy = desk.until(is_message).await;
    let sent = copy.child("sent", ns::CARBONS).and_then(|sent| sent.child("forwarded", ns::FORWARD));
    let inner = sent.and_then(|forwarded| forwarded.child("message", ns::CLIENT)).expect("the message");
    assert_eq!((inner.attr("to"), body(inner).as_deref()), (Some("bob@example.org/b"), Some("x")));
    bob.until(is_message).await;
    bob.send("<message to='alice@example.org/a' type='chat' id='m2'><body>y</body></message>").await;
    let copy = desk.until(is_message).await;
    assert!(copy.has_child("received", ns::CARBONS));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_gets_what_was_said_and_the_archive_has_it_all() {
    let world = World::new();
    let alice = come(&world, "alice", "a").await;
    let bob = come(&world, "bob", "b").await;
    bob.send("<presence type='unavailable'/>").await;
    for n in 1..=5 {
        alice.send(&format!("<message to='bob@example.org' type='chat' id='m{n}'><body>{n}</body></message>")).await;
    }
    let mut bob = world.connect("bob", "later").await;
    // All of it is said and told before he comes.
    let (core, mut grown) = (world.core(), world.core().shard().watch());
    while core.im.told.load(std::sync::atomic::Ordering::Acquire)
        < i64::try_from(core.shard().position().0).expect("small")
    {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(5), grown.changed()).await;
    }
    bob.send("<presence/>").await;
    for n in 1..=5 {
        let late = bob.until(is_message).await;
        assert_eq!(body(&late), Some(n.to_string()));
        assert!(late.has_child("delay", ns::DELAY));
    }
    bob.send("<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2' queryid='x'><set xmlns='http://jabber.org/protocol/rsm'><max>2</max><before/></set></query></iq>").await;
    let mut ids = Vec::new();
    for n in 4..=5 {
        let result = bob.until(is_message).await;
        let result = result.child("result", ns::MAM).expect("a result");
        ids.push(result.id().expect("an id").to_owned());
        let inner = result.child("forwarded", ns::FORWARD).and_then(|one| one.child("message", ns::CLIENT));
        assert_eq!(inner.and_then(body), Some(n.to_string()));
    }
    let fin = bob.until(|stanza| stanza.name() == "iq").await;
    let fin = fin.child("fin", ns::MAM).expect("the end");
    assert_eq!(fin.attr("complete"), None);
    let set = fin.child("set", ns::RSM).expect("a page");
    assert_eq!(set.child_text("first", ns::RSM).as_ref(), ids.first());
    let earlier = format!(
        "<iq type='set' id='q2'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><before>{}</before></set></query></iq>",
        ids[0]
    );
    bob.send(&earlier).await;
    for n in 1..=3 {
        let result = bob.until(is_message).await;
        let inner = result
            .child("result", ns::MAM)
            .and_then(|one| one.child("forwarded", ns::FORWARD))
            .and_then(|one| one.child("message", ns::CLIENT));
        assert_eq!(inner.and_then(body), Some(n.to_string()));
    }
    let fin = bob.until(|stanza| stanza.name() == "iq").await;
    assert_eq!(fin.child("fin", ns::MAM).and_then(|fin| fin.attr("complete")), Some("true"));
    let unknown = bob.ask("<iq type='set' id='q3'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><before>nothing</before></set></query></iq>").await;
    assert_eq!(condition(&unknown).as_deref(), Some("item-not-found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_asked_for_and_told() {
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    let mut bob = come(&world, "bob", "b").await;
    for client in [&mut alice, &mut bob] {
        let roster = client.ask("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>").await;
        assert_eq!(roster.child("query", ns::ROSTER).map(|query| query.children().count()), Some(0));
    }
    alice.send("<presence to='bob@example.org' type='subscribe'/>").await;
    let push = alice.until(|stanza| stanza.name() == "iq").await;
    let item = push.child("query", ns::ROSTER).and_then(|query| query.children().next()).expect("an item");
    assert_eq!((item.attr("subscription"), item.attr("ask")), (Some("none"), Some("subscribe")));
    let asked = bob.until(|stanza| stanza.kind() == Some("subscribe")).await;
    assert_eq!(asked.attr("from"), Some("alice@example.org"));
    bob.send("<presence to='alice@example.org' type='subscribed'/>").await;
    alice.until(|stanza| stanza.kind() == Some("subscribed")).await;
    let there =
        alice.until(|stanza| stanza.name() == "presence" && stanza.attr("from") == Some("bob@example.org/b")).await;
    assert_eq!(there.kind(), None);
    bob.send("<presence><show>away</show></presence>").await;
    let away = alice.until(|stanza| stanza.has_child("show", ns::CLIENT)).await;
    assert_eq!(away.attr("from"), Some("bob@example.org/b"));
    let removed = bob.ask("<iq type='set' id='x'><query xmlns='jabber:iq:roster'><item jid='alice@example.org' subscription='remove'/></query></iq>").await;
    assert_eq!(removed.kind(), Some("result"));
    alice.until(|stanza| stanza.kind() == Some("unsubscribed")).await;
    let again = bob.ask("<iq type='set' id='y'><query xmlns='jabber:iq:roster'><item jid='alice@example.org' subscription='remove'/></query></iq>").await;
    assert_eq!(condition(&again).as_deref(), Some("item-not-found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_blocked_reaches_nobody() {
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    let mut bob = come(&world, "bob", "b").await;
    let blocked = bob
        .ask("<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='alice@example.org'/></block></iq>")
        .await;
    assert_eq!(blocked.kind(), Some("result"));
    let list = bob.ask("<iq type='get' id='l'><blocklist xmlns='urn:xmpp:blocking'/></iq>").await;
    assert_eq!(list.children().next().map(|list| list.children().count()), Some(1));
    alice.send("<message to='bob@example.org' type='chat' id='m1'><body>x</body></message>").await;
    assert_eq!(condition(&alice.until(is_message).await).as_deref(), Some("service-unavailable"));
    bob.send("<message to='alice@example.org' type='chat' id='m2'><body>x</body></message>").await;
    assert_eq!(condition(&bob.until(is_message).await).as_deref(), Some("not-acceptable"));
    bob.ask("<iq type='set' id='u'><unblock xmlns='urn:xmpp:blocking'/></iq>").await;
    alice.send("<message to='bob@example.org' type='chat' id='m3'><body>x</body></message>").await;
    assert_eq!(bob.until(is_message).await.id(), Some("m3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_message_for_nobody() {
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    alice.send("<message to='nobody@example.org' type='chat' id='m1'><body>x</body></message>").await;
    assert_eq!(condition(&alice.until(is_message).await).as_deref(), Some("service-unavailable"));
    world.person("bob").await;
    alice.send("<message to='bob@example.org' type='groupchat' id='m2'><body>x</body></message>").await;
    assert_eq!(condition(&alice.until(is_message).await).as_deref(), Some("service-unavailable"));
    alice.send("<presence to='bob@example.org' type='strange'/>").await;
    let refused = alice.until(|stanza| stanza.kind() == Some("error")).await;
    assert_eq!(condition(&refused).as_deref(), Some("bad-request"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_begun_in_matrix_is_a_conversation_at_once() {
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    let bob = world.person("bob").await;
    let alice_id = alice.session.user().clone();
    let new = koine_room::CreateRoom {
        creator: bob.clone(),
        profile: koine_room::Profile::default(),
        version: ruma_common::RoomVersionId::V11,
        preset: koine_room::Preset::TrustedPrivateChat,
        creation_content: serde_json::Map::new(),
        power_levels: serde_json::Map::new(),
        initial_state: Vec::new(),
        name: None,
        topic: None,
        alias: None,
        invite: vec![(alice_id.clone(), koine_room::Profile::default())],
        is_direct: true,
        listed: false,
    };
    let id = world.core().rooms().create(new).await.expect("a room");
    let asked = alice.until(|stanza| stanza.kind() == Some("subscribe")).await;
    assert_eq!(asked.attr("from"), Some("bob@example.org"));
    let room = world.core().rooms().room(&id).expect("made");
    say_in_matrix(&world, &bob, &room, "m.room.message", json!({ "msgtype": "m.text", "body": "hi" })).await;
    assert_eq!(body(&alice.until(is_message).await).as_deref(), Some("hi"));
    alice.send("<message to='bob@example.org' type='chat' id='m1'><body>hello</body></message>").await;
    assert_eq!(room_of(&world, "alice", "bob").id(), &id, "it is the same room");
    alice.send("<presence to='bob@example.org' type='subscribed'/>").await;
    alice.send("<presence to='bob@example.org' type='subscribe'/>").await;
    alice.until(|stanza| stanza.kind() == Some("subscribed")).await;
    let contact = world.core().accounts().contact(&alice_id, "bob@example.org").expect("read").expect("known");
    assert_eq!(contact.subscription(), "both");
    world.core().rooms().set_typing(&bob, &id, Some(std::time::Duration::from_secs(5))).expect("in the room");
    let typing = alice.until(|stanza| stanza.has_ns(ns::CHAT_STATES)).await;
    assert!(typing.has_child("composing", ns::CHAT_STATES) && typing.attr("from") == Some("bob@example.org"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_is_entered_again() {
    let world = World::new();
    let (alice, mut bob) = (come(&world, "alice", "a").await, come(&world, "bob", "b").await);
    let say = "<message to='bob@example.org' type='chat' id='m'><body>x</body></message>";
    alice.send(say).await;
    bob.until(is_message).await;
    let room = room_of(&world, "alice", "bob");
    for gone in [bob.session.user().clone(), alice.session.user().clone()] {
        world.core().rooms().leave(&gone, room.id(), None).await.expect("in it");
        alice.send(say).await;
        bob.until(is_message).await;
        assert_eq!(room_of(&world, "alice", "bob").id(), room.id());
        assert!(room.is_joined(&gone));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_sent_out_of_a_conversation_does_not_let_themselves_in_again() {
    let world = World::new();
    let (alice, mut bob) = (come(&world, "alice", "a").await, come(&world, "bob", "b").await);
    let say = "<message to='bob@example.org' type='chat' id='m'><body>x</body></message>";
    alice.send(say).await;
    bob.until(is_message).await;
    let (room, rooms) = (room_of(&world, "alice", "bob"), world.core().rooms());
    let (alice_id, bob_id) = (alice.session.user().clone(), bob.session.user().clone());
    let levels = room.current("m.room.power_levels", "").expect("read").expect("a room has levels");
    let mut levels: Value = serde_json::from_str(levels.event.content().get()).expect("JSON");
    levels["users"][alice_id.as_str()] = json!(0);
    let levels = to_raw_value(&levels).expect("JSON");
    let sender = Sender { user: &alice_id, device: None };
    rooms.set_state(sender, room.id(), "m.room.power_levels", "", &levels).await.expect("she may");
    rooms.kick(&bob_id, room.id(), &alice_id, Some("enough")).await.expect("he may");
    alice.send(say).await;
    assert!(!room.is_joined(&alice_id), "nobody asked her in");
    // What she has to say she says in a room of her own, into which she asks him.
    bob.until(is_message).await;
    assert_ne!(room_of(&world, "alice", "bob").id(), room.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_an_older_list_of_contacts_gets_what_changed() {
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    let set = |jid: &str, rest: &str| {
        format!("<iq type='set' id='s'><query xmlns='{}'><item jid='{jid}@x.example' {rest}/></query></iq>", ns::ROSTER)
    };
    // Only who has asked for the list is told of changes.
    alice.ask(&format!("<iq type='get' id='g'><query xmlns='{}'/></iq>", ns::ROSTER)).await;
    let mut versions = Vec::new();
    for (jid, rest) in
        [("a", ""), ("b", ""), ("a", "name='One'"), ("a", "name='Two'"), ("b", "subscription='remove'"), ("c", "")]
    {
        alice.send(&set(jid, rest)).await;
        let push = alice.until(|stanza| stanza.kind() == Some("set")).await;
        versions
            .push(push.child("query", ns::ROSTER).and_then(|query| query.attr("ver")).expect("a version").to_owned());
        alice.until(|stanza| stanza.kind() == Some("result")).await;
    }
    let get = format!("<iq type='get' id='g'><query xmlns='{}' ver='{}'/></iq>", ns::ROSTER, versions[1]);
    assert_eq!(alice.ask(&get).await.children().count(), 0, "the list does not come whole");
    for (at, expected) in [(3, "name='Two'"), (4, "subscription='remove'"), (5, "c@x.example")] {
        let push = alice.next().await;
        let query = push.child("query", ns::ROSTER).expect("a push");
        assert_eq!(query.attr("ver"), Some(versions[at].as_str()));
        assert!(query.to_xml().contains(expected), "{}", query.to_xml());
    }
    let get = format!("<iq type='get' id='g'><query xmlns='{}' ver='{}'/></iq>", ns::ROSTER, versions[5]);
    assert_eq!(alice.ask(&get).await.children().count(), 0);
    let get = format!("<iq type='get' id='g'><query xmlns='{}' ver=''/></iq>", ns::ROSTER);
    assert_eq!(alice.ask(&get).await.child("query", ns::ROSTER).map(|query| query.children().count()), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_is_told_nothing_of_accounts() {
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    world.person("bob").await;
    for name in ["bob", "nobody"] {
        let asked = format!(
            "<iq type='get' id='d' to='{name}@example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        );
        assert_eq!(condition(&alice.ask(&asked).await).as_deref(), Some("service-unavailable"), "{name}");
    }
    let own = alice.ask("<iq type='get' id='o'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>").await;
    let query = own.children().next().expect("a query");
    let features: Vec<&str> = query.children().filter_map(|child| child.attr("var")).collect();
    for wanted in
        [ns::MAM, "urn:xmpp:bookmarks:1#compat", "http://jabber.org/protocol/pubsub#publish-options", "urn:xmpp:push:0"]
    {
        assert!(features.contains(&wanted), "{wanted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_makes_accounts_and_others_do_not() {
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    let add = "<iq type='set' id='c' to='example.org'><command xmlns='http://jabber.org/protocol/commands' node='http://jabber.org/protocol/admin#add-user'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/admin</value></field><field var='accountjid'><value>carol@example.org</value></field><field var='password'><value>secret secret</value></field></x></command></iq>";
    assert_eq!(condition(&alice.ask(add).await).as_deref(), Some("forbidden"));
    let user = alice.session.user().clone();
    world.core().accounts().set_flag(&user, koine_account::Flag::Admin, true).await.expect("there is");
    let made = alice.ask(add).await;
    assert_eq!(made.children().next().and_then(|command| command.attr("status")), Some("completed"));
    assert_eq!(condition(&alice.ask(add).await).as_deref(), Some("conflict"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bookmarks_are_the_same_in_all_their_forms() {
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    let set = "<iq type='set' id='s'><query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'><conference jid='tea@rooms.example.org' name='Tea' autojoin='true'><nick>Al</nick></conference></storage></query></iq>";
    assert_eq!(alice.ask(set).await.kind(), Some("result"));
    let items = alice.ask("<iq type='get' id='g'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:bookmarks:1'/></pubsub></iq>").await;
    let item = items
        .child("pubsub", ns::PUBSUB)
        .and_then(|pubsub| pubsub.child("items", ns::PUBSUB))
        .and_then(|items| items.children().next())
        .expect("an item");
    assert_eq!(
        (item.id(), item.children().next().and_then(|one| one.attr("name"))),
        (Some("tea@rooms.example.org"), Some("Tea"))
    );
    let old = alice
        .ask("<iq type='get' id='o'><query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query></iq>")
        .await;
    let storage = old.children().next().and_then(|query| query.children().next()).expect("storage");
    assert_eq!(storage.children().next().and_then(|one| one.attr("jid")), Some("tea@rooms.example.org"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_could_not_be_mailed_comes_back_as_an_error() {
    use koine_room::{CreateRoom, Preset, Profile, Sender};
    use serde_json::{Map, json, value::to_raw_value};
    let world = World::new();
    let mut alice = come(&world, "alice", "a").await;
    let (me, rooms) = (alice.session.user().clone(), world.core().rooms().clone());
    let bob = ruma_common::OwnedUserId::try_from("@_mail_bob=40mail.example:example.org").expect("a name");
    let new = CreateRoom {
        creator: me.clone(),
        profile: Profile::default(),
        version: ruma_common::RoomVersionId::V11,
        preset: Preset::TrustedPrivateChat,
        creation_content: Map::new(),
        power_levels: Map::new(),
        initial_state: Vec::new(),
        name: None,
        topic: None,
        alias: None,
        invite: vec![(bob.clone(), Profile::default())],
        is_direct: true,
        listed: false,
    };
    let room = rooms.create(new).await.expect("a room");
    rooms.join(&bob, &room, &Profile::default(), None, Map::new()).await.expect("asked");
    rooms.pair(&room, &me, &bob, true).await.expect("the store works");
    let say = async |user: &ruma_common::UserId, content: serde_json::Value| {
        let content = to_raw_value(&content).expect("JSON");
        let sender = Sender { user, device: None };
        rooms.send(sender, &room, "m.room.message", &content, None).await.expect("a member")
    };
    let said = json!({ "msgtype": "m.text", "body": "Hi", "koine.xmpp": { "id": "m1" } });
    let event = say(&me, said).await;
    let status = json!({ "state": "failed", "code": "550 5.1.1", "text": "no such user", "events": [event] });
    say(&bob, json!({ "msgtype": "m.notice", "body": "lost", "koine.mail.status": status })).await;
    let error = alice.until(|stanza| stanza.kind() == Some("error")).await;
    assert_eq!(error.id(), Some("m1"));
    assert_eq!(condition(&error).as_deref(), Some("item-not-found"));
    let words = alice.until(is_message).await;
    assert_eq!(words.child_text("body", ns::CLIENT).as_deref(), Some("lost"), "and in words, for the archive");
}
