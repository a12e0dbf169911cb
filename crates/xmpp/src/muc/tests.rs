//! Rooms as their occupants see them. Each test is a scene of XEP-0045.

use koine_stanza::{Element, ns};

use crate::testing::{Client, World, condition};

pub(super) const ROOM: &str = "coven@rooms.example.org";

pub(super) fn codes(presence: &Element) -> Vec<String> {
    let x = presence.child("x", ns::MUC_USER).expect("a presence of a room says who it is about");
    let codes = x.children().filter(|child| child.name() == "status");
    codes.filter_map(|code| code.attr("code").map(ToOwned::to_owned)).collect()
}

fn item<'a>(presence: &'a Element, attr: &str) -> Option<&'a str> {
    presence.child("x", ns::MUC_USER)?.child("item", ns::MUC_USER)?.attr(attr)
}

fn is_presence(stanza: &Element) -> bool {
    stanza.name() == "presence"
}

pub(super) fn is_groupchat(stanza: &Element) -> bool {
    stanza.name() == "message" && stanza.kind() == Some("groupchat")
}

pub(super) async fn enter(client: &mut Client, nick: &str) -> Element {
    client.send(&format!("<presence to='{ROOM}/{nick}'><x xmlns='{}'/></presence>", ns::MUC)).await;
    let own = client
        .until(|stanza| {
            is_presence(stanza) && (stanza.kind() == Some("error") || codes(stanza).contains(&"110".into()))
        })
        .await;
    if own.kind() != Some("error") {
        client.until(|stanza| stanza.has_child("subject", ns::CLIENT)).await;
    }
    own
}

pub(super) async fn make(client: &mut Client, nick: &str) {
    let own = enter(client, nick).await;
    assert!(codes(&own).contains(&"201".into()), "{}", own.to_xml());
    let instant = format!(
        "<iq type='set' id='i1' to='{ROOM}'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'/></query></iq>",
        ns::MUC_OWNER
    );
    assert_eq!(client.ask(&instant).await.kind(), Some("result"));
}

#[tokio::test]
async fn whoever_enters_first_makes_the_room_and_opens_it() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    let own = enter(&mut alice, "First").await;
    assert_eq!((item(&own, "affiliation"), item(&own, "role")), (Some("owner"), Some("moderator")));
    assert!(codes(&own).contains(&"201".into()));
    assert_eq!(condition(&enter(&mut bob, "second").await).as_deref(), Some("item-not-found"), "it is locked");
    let instant = format!(
        "<iq type='set' id='i1' to='{ROOM}'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'/></query></iq>",
        ns::MUC_OWNER
    );
    assert_eq!(alice.ask(&instant).await.kind(), Some("result"));
    bob.send(&format!("<presence to='{ROOM}/second'><x xmlns='{}'/></presence>", ns::MUC)).await;
    let other = bob.until(is_presence).await;
    assert_eq!(
        (other.attr("from"), item(&other, "jid")),
        (Some("coven@rooms.example.org/First"), Some("alice@example.org/a"))
    );
    let own = bob.until(is_presence).await;
    assert!(codes(&own).contains(&"110".into()));
    assert_eq!((item(&own, "affiliation"), item(&own, "role")), (Some("none"), Some("participant")));
    let seen = alice.until(|stanza| stanza.attr("from") == Some("coven@rooms.example.org/second")).await;
    assert_eq!(item(&seen, "role"), Some("participant"));
}

#[tokio::test]
async fn what_is_said_comes_to_all_with_its_id_and_stays_as_history() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    enter(&mut bob, "bob").await;
    alice
        .send(&format!(
            "<message type='groupchat' id='m1' to='{ROOM}'><body>Harpier cries: *'tis time*</body></message>"
        ))
        .await;
    for client in [&mut alice, &mut bob] {
        let said = client.until(is_groupchat).await;
        assert_eq!((said.attr("from"), said.id()), (Some("coven@rooms.example.org/alice"), Some("m1")));
        assert_eq!(said.child_text("body", ns::CLIENT).as_deref(), Some("Harpier cries: *'tis time*"));
        let stanza_id = said.child("stanza-id", ns::STANZA_ID).expect("it has an id that stays");
        assert_eq!(stanza_id.attr("by"), Some(ROOM));
        assert!(said.has_child("occupant-id", ns::OCCUPANT_ID));
    }
    let mut carol = world.connect("carol", "c").await;
    carol.send(&format!("<presence to='{ROOM}/carol'><x xmlns='{}'/></presence>", ns::MUC)).await;
    let told = carol.until(is_groupchat).await;
    assert_eq!(told.id(), Some("m1"));
    assert!(told.has_child("delay", ns::DELAY));
    let subject = carol.until(is_groupchat).await;
    assert!(subject.has_child("subject", ns::CLIENT) && !subject.has_child("body", ns::CLIENT));
}

#[tokio::test]
async fn nicknames_conflict_change_and_outsiders_do_not_speak() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    assert_eq!(condition(&enter(&mut bob, "alice").await).as_deref(), Some("conflict"));
    bob.send(&format!("<message type='groupchat' id='m0' to='{ROOM}'><body>?</body></message>")).await;
    assert_eq!(condition(&bob.until(|stanza| stanza.kind() == Some("error")).await).as_deref(), Some("not-acceptable"));
    enter(&mut bob, "bob").await;
    bob.send(&format!("<presence to='{ROOM}/robert'/>")).await;
    let gone = alice.until(|stanza| stanza.kind() == Some("unavailable")).await;
    assert_eq!((item(&gone, "nick"), codes(&gone)), (Some("robert"), vec!["303".to_owned()]));
    let new = alice.until(is_presence).await;
    assert_eq!(new.attr("from"), Some("coven@rooms.example.org/robert"));
    bob.send(&format!("<presence to='{ROOM}/robert' type='unavailable'/>")).await;
    let left = alice.until(|stanza| stanza.kind() == Some("unavailable")).await;
    assert_eq!(item(&left, "role"), Some("none"));
    let own = bob
        .until(|stanza| {
            stanza.kind() == Some("unavailable")
                && codes(stanza).contains(&"110".into())
                && !codes(stanza).contains(&"303".into())
        })
        .await;
    assert_eq!(own.attr("from"), Some("coven@rooms.example.org/robert"));
}

#[tokio::test]
async fn moderators_kick_admins_ban_and_the_rest_may_neither() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    enter(&mut bob, "bob").await;
    let set =
        |item: &str| format!("<iq type='set' id='s1' to='{ROOM}'><query xmlns='{}'>{item}</query></iq>", ns::MUC_ADMIN);
    let answer = bob.ask(&set("<item nick='alice' role='none'/>")).await;
    assert_eq!(condition(&answer).as_deref(), Some("forbidden"));
    let answer = alice.ask(&set("<item nick='bob' role='none'><reason>Avaunt</reason></item>")).await;
    assert_eq!(answer.kind(), Some("result"), "{}", answer.to_xml());
    let kicked = bob.until(|stanza| stanza.kind() == Some("unavailable")).await;
    assert!(codes(&kicked).contains(&"307".into()) && codes(&kicked).contains(&"110".into()), "{}", kicked.to_xml());
    enter(&mut bob, "bob").await;
    let answer = alice.ask(&set("<item jid='bob@example.org' affiliation='outcast'/>")).await;
    assert_eq!(answer.kind(), Some("result"), "{}", answer.to_xml());
    let banned = bob.until(|stanza| stanza.kind() == Some("unavailable")).await;
    assert_eq!((item(&banned, "affiliation"), codes(&banned).contains(&"301".into())), (Some("outcast"), true));
    assert_eq!(condition(&enter(&mut bob, "bob").await).as_deref(), Some("forbidden"));
    let list = alice
        .ask(&format!(
            "<iq type='get' id='l1' to='{ROOM}'><query xmlns='{}'><item affiliation='outcast'/></query></iq>",
            ns::MUC_ADMIN
        ))
        .await;
    let query = list.child("query", ns::MUC_ADMIN).expect("a list");
    assert_eq!(query.children().next().and_then(|item| item.attr("jid")), Some("bob@example.org"));
}

#[tokio::test]
async fn voice_moderation_and_membership_are_given_and_taken() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    enter(&mut bob, "bob").await;
    let set =
        |item: &str| format!("<iq type='set' id='s1' to='{ROOM}'><query xmlns='{}'>{item}</query></iq>", ns::MUC_ADMIN);
    for (change, affiliation, role) in [
        ("<item nick='bob' role='visitor'/>", "none", "visitor"),
        ("<item nick='bob' role='participant'/>", "none", "participant"),
        ("<item nick='bob' role='moderator'/>", "none", "moderator"),
        ("<item nick='bob' role='participant'/>", "none", "participant"),
        ("<item jid='bob@example.org' affiliation='member'/>", "member", "participant"),
        ("<item jid='bob@example.org' affiliation='admin'/>", "admin", "moderator"),
        ("<item jid='bob@example.org' affiliation='owner'/>", "owner", "moderator"),
        ("<item jid='bob@example.org' affiliation='none'/>", "none", "participant"),
    ] {
        let answer = alice.ask(&set(change)).await;
        assert_eq!(answer.kind(), Some("result"), "{change}: {}", answer.to_xml());
        let told = bob
            .until(|stanza| {
                is_presence(stanza)
                    && codes(stanza).contains(&"110".into())
                    && (item(stanza, "affiliation"), item(stanza, "role")) == (Some(affiliation), Some(role))
            })
            .await;
        assert_eq!(told.attr("from"), Some("coven@rooms.example.org/bob"), "{change}");
    }
    let answer = alice.ask(&set("<item jid='alice@example.org' affiliation='member'/>")).await;
    assert_eq!(condition(&answer).as_deref(), Some("conflict"), "a room has an owner");
}

#[tokio::test]
async fn the_form_makes_a_room_members_only_and_strangers_go() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    enter(&mut bob, "bob").await;
    let form = alice.ask(&format!("<iq type='get' id='f1' to='{ROOM}'><query xmlns='{}'/></iq>", ns::MUC_OWNER)).await;
    assert!(form.to_xml().contains("muc#roomconfig_membersonly"));
    let submit = format!(
        "<iq type='set' id='f2' to='{ROOM}'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>\
         <field var='muc#roomconfig_roomname'><value>A Dark Cave</value></field>\
         <field var='muc#roomconfig_membersonly'><value>1</value></field></x></query></iq>",
        ns::MUC_OWNER
    );
    assert_eq!(alice.ask(&submit).await.kind(), Some("result"));
    let out = bob.until(|stanza| stanza.kind() == Some("unavailable")).await;
    assert!(codes(&out).contains(&"322".into()), "{}", out.to_xml());
    assert_eq!(condition(&enter(&mut bob, "bob").await).as_deref(), Some("registration-required"));
    let info = alice.ask(&format!("<iq type='get' id='d1' to='{ROOM}'><query xmlns='{}'/></iq>", ns::DISCO_INFO)).await;
    let query = info.child("query", ns::DISCO_INFO).expect("what the room is");
    assert_eq!(query.child("identity", ns::DISCO_INFO).and_then(|identity| identity.attr("name")), Some("A Dark Cave"));
    assert!(query.children().any(|feature| feature.attr("var") == Some("muc_membersonly")));
    // On the list, one comes in.
    let member = format!(
        "<iq type='set' id='s1' to='{ROOM}'><query xmlns='{}'><item jid='bob@example.org' affiliation='member'/></query></iq>",
        ns::MUC_ADMIN
    );
    assert_eq!(alice.ask(&member).await.kind(), Some("result"));
    assert_eq!(item(&enter(&mut bob, "bob").await, "affiliation"), Some("member"));
}

#[tokio::test]
async fn a_hidden_room_for_members_tells_others_nothing() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    let hidden = field("membersonly", "1") + &field("publicroom", "0");
    let fields = hidden.clone() + &field("roomname", "Plans") + &field("roomdesc", "Against the king");
    assert_eq!(alice.ask(&configure("c1", &fields)).await.kind(), Some("result"));
    let info = format!("<iq type='get' id='d' to='{ROOM}'><query xmlns='{}'/></iq>", ns::DISCO_INFO);
    let items = format!("<iq type='get' id='d' to='{ROOM}'><query xmlns='{}'/></iq>", ns::DISCO_ITEMS);
    let card = format!("<iq type='get' id='d' to='{ROOM}'><vCard xmlns='vcard-temp'/></iq>");
    for ask in [&info, &items, &card] {
        let refused = bob.ask(ask).await;
        assert_eq!(condition(&refused).as_deref(), Some("item-not-found"), "{}", refused.to_xml());
        assert_eq!(alice.ask(ask).await.kind(), Some("result"), "whoever is in it");
    }
    // Whoever comes in spite of that hears what is missing.
    assert_eq!(condition(&enter(&mut bob, "bob").await).as_deref(), Some("registration-required"));
    // A password that may be asked for is asked for, and nothing else is told.
    let secret = field("passwordprotectedroom", "1") + &field("roomsecret", "cauldronburn");
    let fields = field("publicroom", "0") + &field("membersonly", "0") + &secret;
    assert_eq!(alice.ask(&configure("c2", &fields)).await.kind(), Some("result"));
    let told = bob.ask(&info).await.to_xml();
    assert!(told.contains("muc_passwordprotected") && !told.contains("Plans") && !told.contains("king"), "{told}");
    assert_eq!(condition(&bob.ask(&card).await).as_deref(), Some("item-not-found"));
    // On its list, one may know.
    assert_eq!(
        alice.ask(&configure("c3", &(hidden + &field("passwordprotectedroom", "0")))).await.kind(),
        Some("result")
    );
    let member = format!(
        "<iq type='set' id='s1' to='{ROOM}'><query xmlns='{}'><item jid='bob@example.org' affiliation='member'/></query></iq>",
        ns::MUC_ADMIN
    );
    assert_eq!(alice.ask(&member).await.kind(), Some("result"));
    assert!(bob.ask(&info).await.to_xml().contains("Plans"));
}

#[tokio::test]
async fn a_room_brings_a_refusal_to_who_invited_and_to_no_stranger() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    let (mut carol, mut eve) = (world.connect("carol", "c").await, world.connect("eve", "e").await);
    make(&mut alice, "alice").await;
    for client in [&mut alice, &mut bob, &mut carol] {
        client.send("<presence/>").await;
    }
    let to_room =
        |inner: &str| format!("<message to='{ROOM}' id='x'><x xmlns='{}'>{inner}</x></message>", ns::MUC_USER);
    let decline = |to: &str| to_room(&format!("<decline to='{to}'><reason>buy this</reason></decline>"));
    eve.send(&decline("carol@example.org")).await;
    assert_eq!(condition(&eve.until(|stanza| stanza.kind() == Some("error")).await).as_deref(), Some("forbidden"));
    alice.send(&to_room("<invite to='bob@example.org'/>")).await;
    bob.until(|stanza| stanza.name() == "message").await;
    bob.send(&decline("alice@example.org")).await;
    let told = alice
        .until(|stanza| stanza.child("x", ns::MUC_USER).is_some_and(|x| x.has_child("decline", ns::MUC_USER)))
        .await;
    assert!(told.to_xml().contains("bob@example.org"));
    // Nothing came of what was said to carol.
    carol.ask("<iq type='get' id='p' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>").await;
    carol.send("<message to='carol@example.org' type='chat'><body>only this</body></message>").await;
    let heard = carol.until(|stanza| stanza.name() == "message").await;
    assert_eq!(heard.child_text("body", ns::CLIENT).as_deref(), Some("only this"));
}

#[tokio::test]
async fn a_member_by_matrix_is_an_occupant_and_is_heard() {
    let world = World::new();
    let mut alice = world.connect("alice", "a").await;
    let bob = world.person("bob").await;
    make(&mut alice, "alice").await;
    let rooms = world.core().rooms();
    let room = rooms.resolve_alias("#coven:example.org".try_into().expect("an alias")).expect("it leads to the room");
    let profile = koine_room::Profile { displayname: Some("Bob".into()), avatar_url: None };
    rooms.join(&bob, &room, &profile, None, serde_json::Map::new()).await.expect("the room is open");
    let shown = alice.until(|stanza| stanza.attr("from") == Some("coven@rooms.example.org/Bob")).await;
    assert_eq!(item(&shown, "role"), Some("participant"));
    let content = serde_json::value::to_raw_value(&serde_json::json!({ "msgtype": "m.text", "body": "from Matrix" }))
        .expect("JSON");
    let sender = koine_room::Sender { user: &bob, device: None };
    let event = rooms.send(sender, &room, "m.room.message", &content, None).await.expect("a member speaks");
    let said = alice.until(is_groupchat).await;
    assert_eq!(said.attr("from"), Some("coven@rooms.example.org/Bob"));
    assert_eq!(said.child("stanza-id", ns::STANZA_ID).and_then(|id| id.attr("id")), Some(event.as_str()));
    // And a moderator of XMPP takes it away.
    let moderate = format!(
        "<iq type='set' id='r1' to='{ROOM}'><moderate xmlns='{}' id='{event}'><retract xmlns='{}'/></moderate></iq>",
        ns::MODERATE,
        ns::RETRACT
    );
    assert_eq!(alice.ask(&moderate).await.kind(), Some("result"));
    let placed = rooms.room(&room).expect("the room").event(&event).expect("it can be read").expect("it is there");
    assert!(placed.redacted_by.is_some());
}

#[tokio::test]
async fn a_private_message_reaches_one_occupant_alone_and_needs_one() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    enter(&mut bob, "bob").await;
    bob.send(&format!("<message type='chat' id='p1' to='{ROOM}/alice'><body>I'll give thee a wind.</body></message>"))
        .await;
    let got = alice.until(|stanza| stanza.name() == "message" && stanza.kind() == Some("chat")).await;
    assert_eq!(got.attr("from"), Some("coven@rooms.example.org/bob"));
    assert!(got.has_child("x", ns::MUC_USER));
    for (to, kind, wanted) in [("nobody", "chat", "item-not-found"), ("alice", "groupchat", "bad-request")] {
        bob.send(&format!("<message type='{kind}' id='p2' to='{ROOM}/{to}'><body>?</body></message>")).await;
        assert_eq!(condition(&bob.until(|stanza| stanza.kind() == Some("error")).await).as_deref(), Some(wanted));
    }
}

#[tokio::test]
async fn a_destroyed_room_sends_all_away_and_its_name_is_free() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    enter(&mut bob, "bob").await;
    let destroy = |who: &str| {
        format!(
            "<iq type='set' id='{who}' to='{ROOM}'><query xmlns='{}'><destroy><reason>Macbeth doth come.</reason></destroy></query></iq>",
            ns::MUC_OWNER
        )
    };
    assert_eq!(condition(&bob.ask(&destroy("d0")).await).as_deref(), Some("forbidden"));
    let answer = alice.ask(&destroy("d1")).await;
    assert_eq!(answer.kind(), Some("result"), "{}", answer.to_xml());
    let out = bob.until(|stanza| stanza.kind() == Some("unavailable")).await;
    assert!(out.child("x", ns::MUC_USER).is_some_and(|x| x.has_child("destroy", ns::MUC_USER)));
    let own = enter(&mut bob, "bob").await;
    assert!(codes(&own).contains(&"201".into()), "the name is free for a new room");
}

#[tokio::test]
async fn the_archive_of_a_room_is_its_timeline_in_pages_for_those_inside() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    for n in 0..5 {
        alice.send(&format!("<message type='groupchat' id='m{n}' to='{ROOM}'><body>{n}</body></message>")).await;
        alice.until(is_groupchat).await;
    }
    let ask = |set: &str| {
        format!(
            "<iq type='set' id='q1' to='{ROOM}'><query xmlns='{}' queryid='f'><set xmlns='{}'>{set}</set></query></iq>",
            ns::MAM,
            ns::RSM
        )
    };
    assert_eq!(condition(&bob.ask(&ask("<max>2</max>")).await).as_deref(), Some("forbidden"), "bob is not in it");
    alice.send(&ask("<max>2</max><before/>")).await;
    let mut said = Vec::new();
    let fin = loop {
        let stanza = alice.next().await;
        if stanza.name() == "iq" {
            break stanza;
        }
        let result = stanza.child("result", ns::MAM).expect("a result of the archive");
        let message =
            result.child("forwarded", ns::FORWARD).and_then(|forwarded| forwarded.child("message", ns::CLIENT));
        let message = message.expect("a message is in it");
        assert_eq!(message.attr("from"), Some("coven@rooms.example.org/alice"));
        said.push(message.child_text("body", ns::CLIENT).expect("it has a body"));
    };
    assert_eq!(said, ["3", "4"], "the last page");
    let fin = fin.child("fin", ns::MAM).expect("the end of the page");
    assert_eq!(fin.attr("complete"), None);
    let first = fin.child("set", ns::RSM).and_then(|set| set.child_text("first", ns::RSM)).expect("where it began");
    alice.send(&ask(&format!("<max>10</max><before>{first}</before>"))).await;
    let fin = alice.until(|stanza| stanza.name() == "iq").await;
    assert_eq!(fin.child("fin", ns::MAM).and_then(|fin| fin.attr("complete")), Some("true"));
}

fn configure(id: &str, fields: &str) -> String {
    format!(
        "<iq type='set' id='{id}' to='{ROOM}'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'>{fields}</x></query></iq>",
        ns::MUC_OWNER
    )
}

fn field(name: &str, value: &str) -> String {
    format!("<field var='muc#roomconfig_{name}'><value>{value}</value></field>")
}

async fn enter_with(client: &mut Client, nick: &str, password: Option<&str>) -> Element {
    let password = password.map(|password| format!("<password>{password}</password>")).unwrap_or_default();
    client.send(&format!("<presence to='{ROOM}/{nick}'><x xmlns='{}'>{password}</x></presence>", ns::MUC)).await;
    client
        .until(|stanza| {
            is_presence(stanza) && (stanza.kind() == Some("error") || codes(stanza).contains(&"110".into()))
        })
        .await
}

#[tokio::test]
async fn a_room_with_a_password_lets_in_who_says_it() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    let without = configure("c0", &field("passwordprotectedroom", "1"));
    assert_eq!(condition(&alice.ask(&without).await).as_deref(), Some("not-acceptable"));
    let fields = field("passwordprotectedroom", "1") + &field("roomsecret", "cauldronburn");
    assert_eq!(alice.ask(&configure("c1", &fields)).await.kind(), Some("result"));

    let info = format!("<iq type='get' id='d' to='{ROOM}'><query xmlns='{}'/></iq>", ns::DISCO_INFO);
    let info = bob.ask(&info).await.to_xml();
    assert!(
        info.contains("muc_passwordprotected") && info.contains("muc_open") && !info.contains("cauldronburn"),
        "{info}"
    );

    for wrong in [None, Some("cauldron")] {
        assert_eq!(condition(&enter_with(&mut bob, "bob", wrong).await).as_deref(), Some("not-authorized"));
    }
    let own = enter_with(&mut bob, "bob", Some("cauldronburn")).await;
    assert_eq!((own.kind(), item(&own, "affiliation")), (None, Some("none")));

    // Whoever is asked in is told the password, and it can be taken away again.
    let invite =
        format!("<message to='{ROOM}'><x xmlns='{}'><invite to='carol@example.org'/></x></message>", ns::MUC_USER);
    let mut carol = world.connect("carol", "c").await;
    carol.send("<presence/>").await;
    bob.send(&invite).await;
    let asked = carol.until(|stanza| stanza.has_child("x", ns::MUC_USER)).await;
    let told = asked.child("x", ns::MUC_USER).and_then(|x| x.child_text("password", ns::MUC_USER));
    assert_eq!(told.as_deref(), Some("cauldronburn"));
    assert_eq!(alice.ask(&configure("c2", &field("passwordprotectedroom", "0"))).await.kind(), Some("result"));
    assert_eq!(enter_with(&mut carol, "carol", None).await.kind(), None);
}

#[tokio::test]
async fn whoever_asks_an_admin_to_be_a_moderator_takes_nothing_from_them() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    let admin = |id: &str, item: &str| {
        format!("<iq type='set' id='{id}' to='{ROOM}'><query xmlns='{}'>{item}</query></iq>", ns::MUC_ADMIN)
    };
    let promote = admin("p1", "<item jid='bob@example.org' affiliation='admin'/>");
    assert_eq!(alice.ask(&promote).await.kind(), Some("result"));
    assert_eq!(item(&enter(&mut bob, "bob").await, "affiliation"), Some("admin"));
    let moderator = admin("p2", "<item nick='bob' role='moderator'/>");
    assert_eq!(alice.ask(&moderator).await.kind(), Some("result"));
    // Still an admin, who bans neither themselves nor takes the role of one who stands as high.
    let oneself = admin("p3", "<item jid='bob@example.org' affiliation='outcast'/>");
    assert_eq!(condition(&bob.ask(&oneself).await).as_deref(), Some("conflict"));
    let owner = admin("p4", "<item nick='alice' role='participant'/>");
    assert_eq!(condition(&bob.ask(&owner).await).as_deref(), Some("not-allowed"));
}

#[tokio::test]
async fn a_direct_invitation_to_a_room_of_ours_is_one_in_matrix_too() {
    let world = World::new();
    let mut alice = world.connect("alice", "a").await;
    let dora = world.person("dora").await;
    make(&mut alice, "alice").await;
    let direct = format!(
        "<message to='dora@example.org'><x xmlns='jabber:x:conference' jid='{ROOM}' reason='Come in'/></message>"
    );
    alice.send(&direct).await;
    let memberships = world.core().rooms().memberships(&dora).expect("the store can be read");
    let invited = memberships.iter().filter(|(_, record)| record.membership == koine_room::Membership::Invite).count();
    assert_eq!((memberships.len(), invited), (1, 1));
    // A stranger asks nobody in.
    let eve = world.connect("eve", "e").await;
    let erin = world.person("erin").await;
    eve.send(&direct.replace("dora", "erin")).await;
    let memberships = world.core().rooms().memberships(&erin).expect("the store can be read");
    let coven = world.core().rooms().memberships(&dora).expect("the store can be read")[0].0;
    assert!(memberships.iter().all(|(no, _)| *no != coven));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reacts_to_a_correction_reacts_to_what_it_corrects() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    enter(&mut bob, "bob").await;
    let stanza_id = |message: &Element| {
        message.child("stanza-id", ns::STANZA_ID).and_then(Element::id).expect("it has an id that stays").to_owned()
    };
    alice.send(&format!("<message type='groupchat' id='m1' to='{ROOM}'><body>noom</body></message>")).await;
    let original = stanza_id(&bob.until(|stanza| stanza.child_text("body", ns::CLIENT).is_some()).await);
    let replace = "<replace xmlns='urn:xmpp:message-correct:0' id='m1'/>";
    alice.send(&format!("<message type='groupchat' id='m2' to='{ROOM}'><body>noon</body>{replace}</message>")).await;
    let correction = stanza_id(&bob.until(|stanza| stanza.child_text("body", ns::CLIENT).is_some()).await);
    assert_ne!(original, correction);
    let reactions =
        format!("<reactions xmlns='urn:xmpp:reactions:0' id='{correction}'><reaction>+</reaction></reactions>");
    bob.send(&format!("<message type='groupchat' id='m3' to='{ROOM}'>{reactions}</message>")).await;
    let room = koine_stanza::BareJid::new(ROOM).expect("an address");
    let room = crate::muc::room_at(world.core(), &room).expect("it can be read").expect("it is there");
    let original = ruma_common::OwnedEventId::try_from(original).expect("ids are those of events");
    let reactions = crate::known::reactions(&room, bob.session.user(), &original).expect("they can be read");
    assert_eq!(reactions.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["+"]);
}
