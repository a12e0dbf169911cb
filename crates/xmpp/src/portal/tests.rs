//! A room elsewhere and its mirror, scene by scene; the test speaks for the room.

use std::{sync::Arc, time::Duration};

use koine_room::{CommandError, Profile, Room, Sender};
use koine_stanza::{
    Element, ns,
    reader::{Limits, document},
};
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomAliasId};
use serde_json::{Map, Value, json, value::to_raw_value};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{Component, XmppConfig, testing::World};

const HOST: &str = "rooms.elsewhere.example";
const ROOM: &str = "hall@rooms.elsewhere.example";
const ALIAS: &str = "#_xmpp_hall=40rooms.elsewhere.example:example.org";
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that mirrors, and the room elsewhere.
struct Scene {
    world: World,
    came: mpsc::Receiver<Element>,
}

impl Scene {
    fn new() -> Self {
        let component = Component { host: HOST.into(), secret: "s".into() };
        let world = World::named("example.org", XmppConfig { components: vec![component], ..XmppConfig::default() });
        let came = world.core().components.connect(HOST);
        Self { world, came }
    }

    /// What the room elsewhere is sent next, if it is what is wanted; what comes before is passed over.
    async fn next(&mut self, wanted: impl Fn(&Element) -> bool) -> Element {
        let wait = async {
            loop {
                let stanza = self.came.recv().await.expect("the queue is there");
                if wanted(&stanza) {
                    return stanza;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("a stanza was to come")
    }

    /// Somebody asks whether there is such a room, and wants to come in.
    async fn asked(&mut self) -> Element {
        let look = self.next(|stanza| stanza.name() == "iq").await;
        assert!(look.has_child("query", ns::DISCO_INFO));
        self.says(&format!(
            "<iq type='result' id='{}' from='{ROOM}' to='{}'/>",
            look.id().expect("an id"),
            look.attr("from").expect("from")
        ))
        .await;
        self.next(|stanza| stanza.name() == "presence").await
    }

    /// The room elsewhere says something.
    async fn says(&self, xml: &str) {
        let xml = format!("<x xmlns='{}'>{xml}</x>", ns::CLIENT);
        let mut parent = document(xml.as_bytes(), Limits::bytes(1024 * 1024)).expect("the test wrote XML");
        for stanza in parent.take_children() {
            self.world.core().route(stanza, None).await;
        }
    }

    async fn has_occupant(&self, to: &str, nick: &str, jid: Option<&str>, more: &str) {
        let jid = jid.map(|jid| format!("jid='{jid}'")).unwrap_or_default();
        self.says(&format!(
            "<presence from='{ROOM}/{nick}' to='{to}'>{more}<x xmlns='{}'><item affiliation='none' role='participant' {jid}/></x></presence>",
            ns::MUC_USER
        ))
        .await;
    }

    async fn lets_in(&self, asked: &Element) {
        let (to, at) = (asked.attr("from").expect("from"), asked.attr("to").expect("to"));
        self.says(&format!(
            "<presence from='{at}' to='{to}'><x xmlns='{0}'><item affiliation='none' role='participant'/><status code='110'/></x></presence><message type='groupchat' from='{ROOM}' to='{to}'><subject>tea</subject></message>",
            ns::MUC_USER
        ))
        .await;
    }

    /// Somebody begins to join by Matrix.
    fn joins(&self, user: &OwnedUserId) -> JoinHandle<Result<Option<OwnedRoomId>, CommandError>> {
        let (rooms, user) = (self.world.core().rooms().clone(), user.clone());
        let alias = RoomAliasId::parse(ALIAS).expect("an alias");
        tokio::spawn(async move {
            let Some(room) = rooms.open_portal(&user, &alias).await? else { return Ok(None) };
            rooms.join(&user, &room, &Profile::default(), None, Map::new()).await?;
            Ok(Some(room))
        })
    }

    /// Alice is in, and Bob was there before her.
    async fn alice_and_bob(&mut self) -> (OwnedUserId, Arc<Room>, String) {
        let alice = self.world.person("alice").await;
        let joining = self.joins(&alice);
        let asked = self.asked().await;
        assert_eq!(asked.attr("to"), Some("hall@rooms.elsewhere.example/alice"));
        let to = asked.attr("from").expect("from").to_owned();
        self.has_occupant(&to, "bob", Some("bob@elsewhere.example/pc"), "").await;
        self.lets_in(&asked).await;
        let room = joining.await.expect("it ends").expect("she is let in").expect("there is such a room");
        (alice, self.world.core().rooms().room(&room).expect("it is there"), to)
    }

    /// Waits until something is so in the store.
    async fn until<T>(&self, what: &str, is_so: impl Fn() -> Option<T>) -> T {
        let mut grown = self.world.core().shard().watch();
        let wait = async {
            loop {
                if let Some(found) = is_so() {
                    return found;
                }
                grown.changed().await.expect("the shard is there");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not seen: {what}"))
    }

    /// Waits for an event that says so; its id and sender.
    async fn said(&self, room: &Arc<Room>, body: &str) -> (OwnedEventId, OwnedUserId) {
        self.until(body, || {
            let found = bodies(room).into_iter().find(|(said, ..)| said == body)?;
            Some((found.1, found.2))
        })
        .await
    }

    async fn send(&self, user: &OwnedUserId, room: &Room, kind: &str, content: Value) -> OwnedEventId {
        let content = to_raw_value(&content).expect("JSON");
        let sender = Sender { user, device: None };
        self.world.core().rooms().send(sender, room.id(), kind, &content, None).await.expect("they are in it")
    }
}

/// What was said, newest first.
fn bodies(room: &Room) -> Vec<(String, OwnedEventId, OwnedUserId)> {
    let newest = room.newest(i64::MIN, room.published().order, 100).expect("it can be read");
    let said = newest.into_iter().filter(|placed| placed.event.kind() == "m.room.message");
    said.map(|placed| {
        let body = placed.event.content_field("body").unwrap_or_default();
        (body, placed.event.event_id().to_owned(), placed.event.sender().to_owned())
    })
    .collect()
}

fn user(name: &str) -> OwnedUserId {
    format!("@{name}:example.org").try_into().expect("a user id")
}

fn groupchat(to: &str, nick: &str, id: &str, inner: &str) -> String {
    format!(
        "<message type='groupchat' from='{ROOM}/{nick}' to='{to}' id='m-{id}'>{inner}<stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='{id}'/></message>"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_elsewhere_has_a_mirror_in_which_both_sides_are_heard() {
    let mut scene = Scene::new();
    let (alice, room, to) = scene.alice_and_bob().await;
    assert_eq!(to, "alice@example.org/Matrix-room");
    let bob = user("_xmpp_bob=40elsewhere.example");
    assert!(room.is_joined(&bob) && room.is_joined(&alice));
    let topic = || room.current("m.room.topic", "").ok().flatten()?.event.content_field::<String>("topic");
    assert_eq!(scene.until("the subject", topic).await, "tea");

    scene.says(&groupchat(&to, "bob", "s1", "<body>hello</body>")).await;
    let (hello, sender) = scene.said(&room, "hello").await;
    assert_eq!(sender, bob);

    let answer =
        json!({ "msgtype": "m.text", "body": "and you", "m.relates_to": { "m.in_reply_to": { "event_id": hello } } });
    let said = scene.send(&alice, &room, "m.room.message", answer).await;
    let heard = scene.next(|stanza| stanza.name() == "message").await;
    assert_eq!((heard.attr("from"), heard.attr("to"), heard.id()), (Some(&*to), Some(ROOM), Some(said.as_str())));
    assert_eq!(heard.child("reply", ns::REPLY).and_then(Element::id), Some("s1"), "what the room calls it");

    // It comes back, as rooms do, and is not said twice; nor is what came before.
    let back = groupchat(&to, "alice", "s2", "<body>and you</body>").replace("m-s2", said.as_str());
    scene.says(&back).await;
    scene.says(&groupchat(&to, "bob", "s1", "<body>hello</body>")).await;
    let reaction = "<reactions xmlns='urn:xmpp:reactions:0' id='s2'><reaction>\u{1f44d}</reaction></reactions>";
    scene.says(&groupchat(&to, "bob", "s3", reaction)).await;
    let reactions =
        || Some(crate::known::reactions(&room, &bob, &said).ok()?).filter(|reactions| !reactions.is_empty());
    assert_eq!(scene.until("a reaction", reactions).await[0].0, "\u{1f44d}");
    let edit = "<body>hello there</body><replace xmlns='urn:xmpp:message-correct:0' id='m-s1'/>";
    scene.says(&groupchat(&to, "bob", "s4", edit)).await;
    scene.said(&room, "* hello there").await;
    assert_eq!(bodies(&room).len(), 3, "{:?}", bodies(&room));
    scene
        .says(&groupchat(&to, "bob", "s5", "<retract xmlns='urn:xmpp:message-retract:1' id='s1'/><body>x</body>"))
        .await;
    let gone = || room.event(&hello).ok().flatten()?.redacted_by.clone();
    scene.until("that it was taken back", gone).await;

    scene
        .send(
            &alice,
            &room,
            "m.reaction",
            json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": said, "key": "!" } }),
        )
        .await;
    let reacted = scene.next(|stanza| stanza.has_ns(ns::REACTIONS)).await;
    assert_eq!(reacted.child("reactions", ns::REACTIONS).and_then(Element::id), Some("s2"));
    scene.world.core().rooms().leave(&alice, room.id(), None).await.expect("she may");
    let gone = scene.next(|stanza| stanza.name() == "presence").await;
    assert_eq!(gone.kind(), Some("unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_let_in_hears_why() {
    let mut scene = Scene::new();
    let alice = scene.world.person("alice").await;
    for (condition, kind, word) in [
        ("registration-required", "auth", "for members only"),
        ("not-authorized", "auth", "asks for a password"),
        ("forbidden", "auth", "banned"),
    ] {
        let joining = scene.joins(&alice);
        let asked = scene.asked().await;
        let (to, at) = (asked.attr("from").expect("from"), asked.attr("to").expect("to"));
        scene
            .says(&format!("<presence type='error' from='{at}' to='{to}'><error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"))
            .await;
        let error = joining.await.expect("it ends").expect_err("she is not let in");
        assert!(matches!(error, CommandError::Forbidden(_)), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
    // A name that is taken: another is tried.
    let joining = scene.joins(&alice);
    let asked = scene.asked().await;
    let (to, at) = (asked.attr("from").expect("from"), asked.attr("to").expect("to"));
    scene
        .says(&format!("<presence type='error' from='{at}' to='{to}'><error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"))
        .await;
    let asked = scene.next(|stanza| stanza.name() == "presence").await;
    assert_eq!(asked.attr("to"), Some("hall@rooms.elsewhere.example/alice_"));
    scene.lets_in(&asked).await;
    assert!(joining.await.expect("it ends").expect("she is let in").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_nobody_made_is_not_made_by_looking_for_it() {
    let mut scene = Scene::new();
    let alice = scene.world.person("alice").await;
    let joining = scene.joins(&alice);
    let look = scene.next(|_| true).await;
    let (to, id) = (look.attr("from").expect("from"), look.id().expect("an id"));
    scene
        .says(&format!("<iq type='error' id='{id}' from='{ROOM}' to='{to}'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"))
        .await;
    assert!(matches!(joining.await.expect("it ends"), Err(CommandError::NoSuchAlias(_))));
    // It went away while somebody came.
    let joining = scene.joins(&alice);
    let asked = scene.asked().await;
    let (to, at) = (asked.attr("from").expect("from"), asked.attr("to").expect("to"));
    scene
        .says(&format!(
            "<presence from='{at}' to='{to}'><x xmlns='{}'><item affiliation='owner' role='moderator'/><status code='110'/><status code='201'/></x></presence>",
            ns::MUC_USER
        ))
        .await;
    assert!(matches!(joining.await.expect("it ends"), Err(CommandError::NoSuchAlias(_))));
    let gone = scene.next(|stanza| stanza.name() == "presence").await;
    assert_eq!(gone.kind(), Some("unavailable"), "so that it is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_sent_out_there_is_sent_out_here() {
    let mut scene = Scene::new();
    let (alice, room, to) = scene.alice_and_bob().await;
    scene
        .says(&format!(
            "<presence type='unavailable' from='{ROOM}/alice' to='{to}'><x xmlns='{}'><item affiliation='none' role='none'><reason>too loud</reason></item><status code='307'/><status code='110'/></x></presence>",
            ns::MUC_USER
        ))
        .await;
    let left = || {
        let member = room.current("m.room.member", alice.as_str()).ok().flatten()?;
        member.event.content_field::<String>("reason").filter(|_| !room.is_joined(&alice))
    };
    assert_eq!(scene.until("that she is out", left).await, "removed from the room: too loud");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_forgot_us_is_entered_again_and_nothing_is_lost() {
    let mut scene = Scene::new();
    let (alice, room, to) = scene.alice_and_bob().await;
    let said =
        scene.send(&alice, &room, "m.room.message", json!({ "msgtype": "m.text", "body": "still there?" })).await;
    scene.next(|stanza| stanza.id() == Some(said.as_str())).await;
    scene
        .says(&format!("<message type='error' from='{ROOM}' to='{to}' id='{said}'><error type='modify'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"))
        .await;
    let asked = scene.next(|stanza| stanza.name() == "presence").await;
    let since = asked.child("x", ns::MUC).and_then(|x| x.child("history", ns::MUC)).and_then(|h| h.attr("since"));
    assert!(since.is_some(), "what was said meanwhile is wanted");
    scene.lets_in(&asked).await;
    let again = scene.next(|stanza| stanza.name() == "message").await;
    assert_eq!(again.id(), Some(said.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_a_room_hides_has_a_name_of_that_room_alone() {
    let mut scene = Scene::new();
    let (_, room, to) = scene.alice_and_bob().await;
    let id = "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o1'/>";
    scene.has_occupant(&to, "carol", None, id).await;
    scene.says(&groupchat(&to, "carol", "c1", &format!("<body>psst</body>{id}"))).await;
    let (_, carol) = scene.said(&room, "psst").await;
    assert!(carol.localpart().starts_with("_xmppocc_"), "{carol}");
    // The same under another nickname.
    scene
        .says(&format!("<presence type='unavailable' from='{ROOM}/carol' to='{to}'>{id}<x xmlns='{0}'><item affiliation='none' role='participant' nick='caro'/><status code='303'/></x></presence>", ns::MUC_USER))
        .await;
    scene.has_occupant(&to, "caro", None, id).await;
    scene.says(&groupchat(&to, "caro", "c2", &format!("<body>it is me</body>{id}"))).await;
    assert_eq!(scene.said(&room, "it is me").await.1, carol);
    let shown = || {
        let member = room.current("m.room.member", carol.as_str()).ok().flatten()?;
        member.event.content_field::<String>("displayname").filter(|name| name == "caro")
    };
    scene.until("her new name", shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_ours_hear_everything_once() {
    let mut scene = Scene::new();
    let (_, room, first) = scene.alice_and_bob().await;
    let dave = scene.world.person("dave").await;
    let joining = scene.joins(&dave);
    let asked = scene.next(|stanza| stanza.name() == "presence").await;
    let second = asked.attr("from").expect("from").to_owned();
    scene.has_occupant(&second, "bob", Some("bob@elsewhere.example/pc"), "").await;
    scene.has_occupant(&second, "alice", Some(&first), "").await;
    scene.lets_in(&asked).await;
    assert_eq!(joining.await.expect("it ends").expect("let in").as_deref(), Some(room.id()));
    for (to, body) in [(&first, "once"), (&second, "once"), (&first, "end")] {
        // A room without ids of its own.
        scene
            .says(&format!("<message type='groupchat' from='{ROOM}/bob' to='{to}'><body>{body}</body></message>"))
            .await;
    }
    scene.said(&room, "end").await;
    assert_eq!(bodies(&room).len(), 2, "{:?}", bodies(&room));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_says_with_a_client_is_theirs_and_what_a_room_claims_is_not() {
    let mut scene = Scene::new();
    let (alice, room, to) = scene.alice_and_bob().await;
    let phone = scene.world.connect("alice", "phone").await;
    phone.send(&format!("<message type='groupchat' to='{ROOM}' id='p1'><body>by phone</body></message>")).await;
    let sent = scene.next(|stanza| stanza.id() == Some("p1")).await;
    assert_eq!(sent.attr("from"), Some("alice@example.org/phone"));
    scene.has_occupant(&to, "alice2", Some("alice@example.org/phone"), "").await;
    scene.says(&groupchat(&to, "alice2", "a1", "<body>by phone</body>").replace("m-a1", "p1")).await;
    assert_eq!(scene.said(&room, "by phone").await.1, alice);
    for (nick, id) in [("alice", "a2"), ("alice2", "a3")] {
        scene.says(&groupchat(&to, nick, id, &format!("<body>{id}</body>"))).await;
        assert!(scene.said(&room, id).await.1.localpart().starts_with("_xmppocc_"), "she never said so");
    }
    // What a room makes of her words is not hers, nor what it says again under the name that she gave them.
    phone.send(&format!("<message type='groupchat' to='{ROOM}' id='p2'><body>I agree</body></message>")).await;
    scene.next(|stanza| stanza.id() == Some("p2")).await;
    let stamp = "<delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:08:25Z'/>";
    for (id, body) in [("a4", "I refuse"), ("a5", "I resign")] {
        let changed = groupchat(&to, "alice2", id, &format!("<body>{body}</body>{stamp}"));
        scene.says(&changed.replace(&format!("m-{id}"), "p2")).await;
    }
    assert_eq!(scene.said(&room, "I agree").await.1, alice);
    assert!(scene.said(&room, "I resign").await.1.localpart().starts_with("_xmppocc_"), "she never said so");
    assert!(bodies(&room).iter().all(|(body, ..)| body != "I refuse"));
    let newest = room.newest(i64::MIN, room.published().order, 100).expect("it can be read");
    let agreed =
        newest.iter().find(|placed| placed.event.content_field::<String>("body").as_deref() == Some("I agree"));
    let at: u64 = agreed.expect("it was said").event.origin_server_ts().get().into();
    assert!(at > 1_700_000_000_000, "when she said it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_speaks_for_people_of_its_own_server_alone() {
    let mut scene = Scene::new();
    let (_, room, to) = scene.alice_and_bob().await;
    assert!(room.is_joined(&user("_xmpp_bob=40elsewhere.example")), "his server has the room");
    for (nick, jid) in [
        ("mallory", "juliet@capulet.example/balcony"),
        ("mallory2", "romeo@evil.elsewhere.example"),
        ("mallory3", "nurse@example"),
    ] {
        scene.has_occupant(&to, nick, Some(jid), "").await;
        scene.says(&groupchat(&to, nick, nick, &format!("<body>{nick} says</body>"))).await;
        let (_, sender) = scene.said(&room, &format!("{nick} says")).await;
        assert!(sender.localpart().starts_with("_xmppocc_"), "{sender}");
    }
    scene.has_occupant(&to, "hall", Some("clerk@rooms.elsewhere.example/x"), "").await;
    scene.says(&groupchat(&to, "hall", "h1", "<body>welcome</body>")).await;
    assert_eq!(scene.said(&room, "welcome").await.1, user("_xmpp_clerk=40rooms.elsewhere.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_connection_has_ended_a_room_is_asked_whether_it_knows_us() {
    let mut scene = Scene::new();
    let (_, _, to) = scene.alice_and_bob().await;
    super::doubt(scene.world.core(), HOST);
    let ping = scene.next(|stanza| stanza.has_child("ping", ns::PING)).await;
    assert_eq!(ping.attr("to"), Some("hall@rooms.elsewhere.example/alice"));
    let id = ping.id().expect("an id");
    scene
        .says(&format!("<iq type='error' id='{id}' from='{ROOM}/alice' to='{to}'><error type='modify'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"))
        .await;
    scene.next(|stanza| stanza.name() == "presence" && stanza.kind().is_none()).await;
}

/// What the room elsewhere says when it sends somebody out who is in it under that nickname.
fn out(nick: &str, to: &str, inside: &str) -> String {
    format!(
        "<presence type='unavailable' from='{ROOM}/{nick}' to='{to}'><x xmlns='{}'>{inside}<status code='110'/></x></presence>",
        ns::MUC_USER
    )
}

fn reason_of_going(room: &Room, user: &OwnedUserId) -> Option<String> {
    let member = room.current("m.room.member", user.as_str()).ok().flatten()?;
    member.event.content_field::<String>("reason").filter(|_| !room.is_joined(user))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_banned_there_is_out_here_and_not_let_in_again() {
    let mut scene = Scene::new();
    let (alice, room, to) = scene.alice_and_bob().await;
    let item =
        "<item affiliation='outcast' role='none'><actor nick='bob'/><reason>spam</reason></item><status code='301'/>";
    scene.says(&out("alice", &to, item)).await;
    let left = scene.until("that she is out", || reason_of_going(&room, &alice)).await;
    assert_eq!(left, "banned from the room: spam");
    let bob = user("_xmpp_bob=40elsewhere.example");
    assert!(room.is_joined(&bob), "nobody else is concerned");
    // What the room is like is known: she asks it at once, and it does not let her in.
    let joining = scene.joins(&alice);
    let asked = scene.next(|stanza| stanza.name() == "presence" && stanza.kind().is_none()).await;
    let at = asked.attr("to").expect("to");
    scene
        .says(&format!("<presence type='error' from='{at}' to='{to}'><error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>"))
        .await;
    let error = joining.await.expect("it ends").expect_err("she is not let in");
    assert!(error.to_string().contains("banned"), "{error}");
    assert!(!room.is_joined(&alice));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_closed_there_is_left_by_all_of_ours_and_says_where_it_goes_on() {
    let mut scene = Scene::new();
    let (alice, room, first) = scene.alice_and_bob().await;
    let dave = scene.world.person("dave").await;
    let joining = scene.joins(&dave);
    let asked = scene.next(|stanza| stanza.name() == "presence").await;
    let second = asked.attr("from").expect("from").to_owned();
    scene.lets_in(&asked).await;
    joining.await.expect("it ends").expect("he is let in");
    let end = "<item affiliation='none' role='none'/><destroy jid='garden@rooms.elsewhere.example'><reason>Macbeth doth come.</reason></destroy>";
    for (nick, to) in [("alice", &first), ("dave", &second)] {
        // Without 110, as the examples of XEP-0045 have it.
        scene.says(&out(nick, to, end).replace("<status code='110'/>", "")).await;
    }
    for person in [&alice, &dave] {
        let left = scene.until("that they are out", || reason_of_going(&room, person)).await;
        assert_eq!(left, "the room was closed; it goes on at garden@rooms.elsewhere.example: Macbeth doth come.");
    }
    // Whoever looks for it learns that it is no more, and it is not made anew.
    let joining = scene.joins(&alice);
    let asked = scene.next(|stanza| stanza.name() == "presence" && stanza.kind().is_none()).await;
    let (to, at) = (asked.attr("from").expect("from"), asked.attr("to").expect("to"));
    scene
        .says(&format!("<presence type='error' from='{at}' to='{to}'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:garden@rooms.elsewhere.example?join</gone></error></presence>"))
        .await;
    assert!(matches!(joining.await.expect("it ends"), Err(CommandError::NoSuchAlias(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_moderator_takes_back_there_is_taken_back_here() {
    let mut scene = Scene::new();
    let (alice, room, to) = scene.alice_and_bob().await;
    scene.says(&groupchat(&to, "bob", "s1", "<body>buy this</body>")).await;
    let (spam, _) = scene.said(&room, "buy this").await;
    let own = scene.send(&alice, &room, "m.room.message", json!({ "msgtype": "m.text", "body": "no" })).await;
    scene.next(|stanza| stanza.id() == Some(own.as_str())).await;
    scene.says(&groupchat(&to, "alice", "s2", "<body>no</body>").replace("m-s2", own.as_str())).await;
    let moderated = |id: &str, from: &str| {
        format!(
            "<message type='groupchat' from='{from}' to='{to}' id='m'><retract xmlns='{}' id='{id}'><moderated xmlns='{}' by='{ROOM}/carol'/><reason>off topic</reason></retract><stanza-id xmlns='urn:xmpp:sid:0' by='{ROOM}' id='r-{id}'/></message>",
            ns::RETRACT,
            ns::MODERATE
        )
    };
    // An occupant is no room.
    scene.says(&moderated("s2", &format!("{ROOM}/bob"))).await;
    scene.says(&moderated("s1", ROOM)).await;
    let gone = |event: OwnedEventId| {
        let room = room.clone();
        move || room.event(&event).ok().flatten()?.redacted_by.clone()
    };
    let redaction = scene.until("that it was taken back", gone(spam)).await;
    let redaction = room.event(&redaction).expect("it can be read").expect("it is there");
    assert_eq!(redaction.event.content_field::<String>("reason").as_deref(), Some("off topic"));
    assert_eq!(redaction.event.sender(), user("_xmpp_hall=40rooms.elsewhere.example"));
    assert!(gone(own.clone())().is_none(), "that was not the room's word");
    scene.says(&moderated("s2", ROOM)).await;
    scene.until("that hers was taken back", gone(own)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_server_of_a_room_ends_all_come_back_with_what_they_said_meanwhile() {
    let mut scene = Scene::new();
    let (alice, room, to) = scene.alice_and_bob().await;
    scene.says(&out("alice", &to, "<item affiliation='none' role='none'/><status code='332'/>")).await;
    let said = scene.send(&alice, &room, "m.room.message", json!({ "msgtype": "m.text", "body": "hello?" })).await;
    let asked = scene.next(|stanza| stanza.name() == "presence").await;
    assert_eq!((asked.kind(), asked.attr("to")), (None, Some("hall@rooms.elsewhere.example/alice")));
    assert!(room.is_joined(&alice), "she is on her way, not out");
    scene.lets_in(&asked).await;
    let heard = scene.next(|stanza| stanza.name() == "message").await;
    assert_eq!(heard.id(), Some(said.as_str()));
    assert_eq!(heard.child_text("body", ns::CLIENT).as_deref(), Some("hello?"));
}
