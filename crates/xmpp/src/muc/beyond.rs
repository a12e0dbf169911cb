//! What rooms do beyond XEP-0045, scene by scene.

use koine_room::Sender;
use koine_stanza::{Element, form::Form, ns};
use serde_json::{json, value::to_raw_value};

use super::tests::{ROOM, codes, enter, is_groupchat, make};
use crate::testing::{Client, World, condition};

/// The form in which the room tells of itself.
async fn told(client: &mut Client) -> Form {
    let ask = format!("<iq type='get' id='i' to='{ROOM}'><query xmlns='{}'/></iq>", ns::DISCO_INFO);
    let answer = client.ask(&ask).await;
    answer.child("query", ns::DISCO_INFO).and_then(Form::within).expect("it tells")
}

fn room_of(world: &World) -> std::sync::Arc<koine_room::Room> {
    let address = koine_stanza::BareJid::new(ROOM).expect("an address");
    super::name::room(world.core(), &address).expect("read").expect("it is there")
}

/// Alice has made a room, and bob is in it.
async fn two_inside() -> (World, Client, Client) {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    enter(&mut bob, "bob").await;
    (world, alice, bob)
}

async fn configure(client: &mut Client, field: &str, value: &str) -> Element {
    client
        .ask(&format!(
            "<iq type='set' id='c' to='{ROOM}'><query xmlns='{}'><x xmlns='jabber:x:data' type='submit'><field var='muc#roomconfig_{field}'><value>{value}</value></field></x></query></iq>",
            ns::MUC_OWNER
        ))
        .await
}

#[tokio::test]
async fn a_level_that_no_role_tells_is_a_hat() {
    let (world, mut alice, mut bob) = two_inside().await;
    let (room, owner) = (room_of(&world), alice.session.user().clone());
    super::standing::set_level(world.core(), &owner, &room, bob.session.user(), Some(10)).await.expect("she may");
    let shown = alice.until(|stanza| stanza.has_child("hats", "urn:xmpp:hats:0")).await;
    assert_eq!(shown.attr("from"), Some("coven@rooms.example.org/bob"));
    let hat = shown.child("hats", "urn:xmpp:hats:0").and_then(|hats| hats.children().next()).expect("one");
    assert_eq!((hat.attr("uri"), hat.attr("title")), (Some("urn:x-koine:level:10"), Some("Level 10")));
    let list = "<iq type='set' id='l' to='coven@rooms.example.org'><command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:hats:commands:list' action='execute'/></iq>";
    assert!(bob.ask(list).await.to_xml().contains("urn:x-koine:level:10"));
    assert!(told(&mut bob).await.value("hats#hash").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_has_a_picture_that_owners_give() {
    let (_world, mut alice, mut bob) = two_inside().await;
    let set = format!(
        "<iq type='set' id='v' to='{ROOM}'><vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>bm90IHF1aXRlIGEgcGljdHVyZQ==</BINVAL></PHOTO></vCard></iq>"
    );
    assert_eq!(condition(&bob.ask(&set).await).as_deref(), Some("forbidden"));
    assert_eq!(told(&mut bob).await.value("muc#roominfo_avatarhash"), None);
    assert_eq!(alice.ask(&set).await.kind(), Some("result"));
    let changed = bob.until(|stanza| is_groupchat(stanza) && stanza.has_child("x", ns::MUC_USER)).await;
    assert!(codes(&changed).contains(&"104".into()));
    let hash = crate::xep::avatar::hash_of(b"not quite a picture");
    assert_eq!(told(&mut bob).await.value("muc#roominfo_avatarhash"), Some(hash.as_str()));
    let card = bob.ask(&format!("<iq type='get' id='g' to='{ROOM}'><vCard xmlns='vcard-temp'/></iq>")).await;
    let photo =
        card.child("vCard", "vcard-temp").and_then(|card| card.child("PHOTO", "vcard-temp")).expect("a picture");
    assert_eq!(photo.child_text("BINVAL", "vcard-temp").as_deref(), Some("bm90IHF1aXRlIGEgcGljdHVyZQ=="));
    assert_eq!(
        alice.ask(&format!("<iq type='set' id='n' to='{ROOM}'><vCard xmlns='vcard-temp'/></iq>")).await.kind(),
        Some("result")
    );
    assert_eq!(told(&mut bob).await.value("muc#roominfo_avatarhash"), None, "it is gone");
}

#[tokio::test]
async fn a_slow_room_makes_people_wait() {
    let (_world, mut alice, mut bob) = two_inside().await;
    assert_eq!(condition(&configure(&mut alice, "slow_mode_duration", "-1").await).as_deref(), Some("not-acceptable"));
    assert_eq!(configure(&mut alice, "slow_mode_duration", "600").await.kind(), Some("result"));
    bob.until(|stanza| is_groupchat(stanza) && stanza.has_child("x", ns::MUC_USER)).await;
    assert_eq!(told(&mut bob).await.value("muc#roominfo_slow_mode_duration"), Some("600"));
    let say = format!("<message type='groupchat' id='m' to='{ROOM}'><body>x</body></message>");
    bob.send(&say).await;
    bob.until(|stanza| is_groupchat(stanza) && stanza.has_child("body", ns::CLIENT)).await;
    bob.send(&say).await;
    let refused = bob.until(|stanza| stanza.kind() == Some("error")).await;
    assert_eq!(condition(&refused).as_deref(), Some("policy-violation"));
    for _ in 0..2 {
        alice.send(&say).await;
        alice
            .until(|stanza| is_groupchat(stanza) && stanza.attr("from").is_some_and(|from| from.ends_with("/alice")))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_who_are_not_there_learn_of_mentions_and_of_news() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    // Bob is a member by Matrix, and his session is not in the room.
    let (room, bob_id) = (room_of(&world), bob.session.user().clone());
    let profile = koine_room::Profile::default();
    world.core().rooms().join(&bob_id, room.id(), &profile, None, serde_json::Map::new()).await.expect("it is open");
    bob.send("<presence/>").await;
    bob.send("<presence to='rooms.example.org'><rai xmlns='urn:xmpp:rai:0'/></presence>").await;
    alice
        .send(&format!(
            "<message type='groupchat' id='m1' to='{ROOM}'><body>bob: look</body><mention xmlns='urn:xmpp:mentions:0' begin='0' end='3' jid='bob@example.org'/></message>"
        ))
        .await;
    let (mut mentioned, mut news) = (false, false);
    while !(mentioned && news) {
        let told = bob.until(|stanza| stanza.name() == "message").await;
        if let Some(mentions) = told.child("mentions", "urn:xmpp:mmn:0") {
            let message =
                mentions.child("forwarded", ns::FORWARD).and_then(|forwarded| forwarded.child("message", ns::CLIENT));
            assert_eq!(message.and_then(|message| message.attr("from")), Some("coven@rooms.example.org/alice"));
            mentioned = true;
        }
        if let Some(rai) = told.child("rai", "urn:xmpp:rai:0") {
            assert_eq!(rai.child_text("activity", "urn:xmpp:rai:0").as_deref(), Some(ROOM));
            news = true;
        }
    }
    // A mention of Matrix names an occupant in XMPP.
    let content =
        json!({ "msgtype": "m.text", "body": "alice!", "m.mentions": { "user_ids": [alice.session.user()] } });
    let sender = Sender { user: &bob_id, device: None };
    let content = to_raw_value(&content).expect("JSON");
    world.core().rooms().send(sender, room.id(), "m.room.message", &content, None).await.expect("he is in it");
    let said =
        alice.until(|stanza| stanza.has_child("mention", "urn:xmpp:mentions:0") && stanza.id() != Some("m1")).await;
    let id = super::hall::occupant_id(world.core(), room.id(), alice.session.user());
    assert_eq!(
        said.child("mention", "urn:xmpp:mentions:0").and_then(|mention| mention.attr("occupantid")),
        Some(id.as_str())
    );
}

#[tokio::test]
async fn public_rooms_are_found_by_words() {
    let world = World::new();
    let mut alice = world.connect("alice", "a").await;
    make(&mut alice, "alice").await;
    assert_eq!(configure(&mut alice, "roomname", "A Dark Cave").await.kind(), Some("result"));
    let ask = |fields: &[(&str, &str)]| {
        let fields: String =
            fields.iter().map(|(var, value)| format!("<field var='{var}'><value>{value}</value></field>")).collect();
        format!(
            "<iq type='get' id='s' to='rooms.example.org'><search xmlns='urn:xmpp:channel-search:0:search'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:channel-search:0:search-params</value></field>{fields}</x></search></iq>"
        )
    };
    let address = |answer: &Element| {
        let result = answer.child("result", "urn:xmpp:channel-search:0:search").expect("a result");
        let item = result.children().find(|child| child.name() == "item");
        item.and_then(|item| item.attr("address")).map(ToOwned::to_owned)
    };
    assert_eq!(address(&alice.ask(&ask(&[("q", "dark")])).await).as_deref(), Some(ROOM));
    assert_eq!(address(&alice.ask(&ask(&[("q", "dark"), ("sinname", "false")])).await), None);
    assert_eq!(address(&alice.ask(&ask(&[("all", "true"), ("min_users", "5")])).await), None);
    let wrong = alice.ask(&ask(&[("q", "dark"), ("key", "colour")])).await;
    assert_eq!(condition(&wrong).as_deref(), Some("feature-not-implemented"));
    let form = alice
        .ask("<iq type='get' id='f' to='rooms.example.org'><search xmlns='urn:xmpp:channel-search:0:search'/></iq>")
        .await;
    assert!(form.child("search", "urn:xmpp:channel-search:0:search").and_then(Form::within).is_some());
}

#[tokio::test]
async fn whoever_keeps_the_list_of_affiliations_is_told_what_changed() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    let mav = "urn:xmpp:muc:affiliations:1";
    let attr = |stanza: &Element, name: &str| {
        let x = stanza.child("x", ns::MUC_USER)?;
        x.child("mav", mav)?.attr(name).map(ToOwned::to_owned)
    };
    let has = |stanza: &Element| stanza.child("x", ns::MUC_USER).is_some_and(|x| x.has_child("mav", mav));
    bob.send(&format!("<presence to='{ROOM}/bob'><x xmlns='{}'><mav xmlns='{mav}'/></x></presence>", ns::MUC)).await;
    let list = bob.next().await;
    assert_eq!(list.name(), "message", "it comes before any presence");
    let item = list.child("x", ns::MUC_USER).and_then(|x| x.child("item", ns::MUC_USER)).expect("the owner");
    assert_eq!((item.attr("jid"), item.attr("affiliation")), (Some("alice@example.org"), Some("owner")));
    let own = bob.until(|stanza| stanza.name() == "presence" && codes(stanza).contains(&"110".into())).await;
    let version = attr(&own, "until").expect("a version");
    assert_eq!(attr(&list, "until").as_ref(), Some(&version));
    let grant = format!(
        "<iq type='set' id='g' to='{ROOM}'><query xmlns='{}'><item affiliation='member' jid='carol@example.org'/></query></iq>",
        ns::MUC_ADMIN
    );
    assert_eq!(alice.ask(&grant).await.kind(), Some("result"));
    let changed = bob.until(has).await;
    assert_eq!(attr(&changed, "since").as_ref(), Some(&version));
    let newer = attr(&changed, "until").expect("another version");
    bob.send(&format!("<presence to='{ROOM}/bob' type='unavailable'/>")).await;
    bob.send(&format!(
        "<presence to='{ROOM}/bob'><x xmlns='{}'><mav xmlns='{mav}' since='{newer}'/></x></presence>",
        ns::MUC
    ))
    .await;
    let told = bob.until(has).await;
    assert_eq!((told.name(), attr(&told, "until")), ("presence", Some(newer)), "nothing is new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bookmark_says_what_push_rules_say() {
    let world = World::new();
    let mut alice = world.connect("alice", "a").await;
    make(&mut alice, "alice").await;
    let (room, user) = (room_of(&world), alice.session.user().clone());
    let publish = format!(
        "<iq type='set' id='p'><pubsub xmlns='{}'><publish node='urn:xmpp:bookmarks:1'><item id='{ROOM}'><conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'><extensions><notify xmlns='urn:xmpp:notification-settings:1'><always identity-category='client'/><never/></notify></extensions></conference></item></publish></pubsub></iq>",
        ns::PUBSUB
    );
    assert_eq!(alice.ask(&publish).await.kind(), Some("result"));
    let push = &world.core().cores.push;
    let rules = push.ruleset(&user).expect("read");
    assert!(rules.get(koine_push::Kind::Override, room.id().as_str()).is_some_and(|rule| rule.actions.is_empty()));
    let id = room.id();
    let change = |rules: &mut koine_push::Ruleset| {
        rules.remove(koine_push::Kind::Override, id.as_str())?;
        let new = koine_push::NewRule {
            kind: koine_push::Kind::Room,
            rule_id: id.to_string(),
            actions: Vec::new(),
            conditions: None,
            pattern: None,
        };
        rules.put(new, koine_push::Position::default())
    };
    push.change(&user, change).await.expect("as a Matrix client does it");
    let ask = format!(
        "<iq type='get' id='g'><pubsub xmlns='{}'><items node='urn:xmpp:bookmarks:1'/></pubsub></iq>",
        ns::PUBSUB
    );
    let items = alice.ask(&ask).await.to_xml();
    assert!(items.contains("<on-mention/>") && items.contains("<always identity-category="), "{items}");
    assert!(!items.contains("<never/>"), "{items}");
}

/// The people whom a field of the form lists.
async fn listed(client: &mut Client, field: &str) -> Vec<String> {
    let ask = format!("<iq type='get' id='f' to='{ROOM}'><query xmlns='{}'/></iq>", ns::MUC_OWNER);
    let answer = client.ask(&ask).await;
    let form = answer.child("query", ns::MUC_OWNER).and_then(Form::within).expect("a form");
    form.field(&format!("muc#roomconfig_{field}")).expect("it lists them").values.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_says_who_are_owners_and_admins() {
    let (_world, mut alice, mut bob) = two_inside().await;
    let (mine, his) = ("alice@example.org".to_owned(), "bob@example.org".to_owned());
    assert_eq!(listed(&mut alice, "roomowners").await, std::slice::from_ref(&mine));
    assert!(listed(&mut alice, "roomadmins").await.is_empty());

    assert_eq!(configure(&mut alice, "roomadmins", &his).await.kind(), Some("result"));
    bob.until(|stanza| stanza.to_xml().contains("affiliation='admin'")).await;
    let both = format!("{mine}</value><value>{his}");
    assert_eq!(configure(&mut alice, "roomowners", &both).await.kind(), Some("result"));
    bob.until(|stanza| stanza.to_xml().contains("affiliation='owner' role='moderator' jid='bob@")).await;
    assert_eq!(listed(&mut alice, "roomowners").await, [mine.clone(), his]);

    assert_eq!(configure(&mut alice, "roomowners", &mine).await.kind(), Some("result"), "who is left out is none");
    bob.until(|stanza| stanza.to_xml().contains("affiliation='member'")).await;
    assert_eq!(condition(&configure(&mut alice, "roomowners", "").await).as_deref(), Some("conflict"));
    assert_eq!(listed(&mut alice, "roomowners").await, [mine]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_told_when_what_is_said_is_for_all_to_read() {
    let world = World::new();
    let (mut alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
    make(&mut alice, "alice").await;
    assert!(!codes(&enter(&mut bob, "bob").await).contains(&"170".into()));
    let is_notice = |stanza: &Element| is_groupchat(stanza) && stanza.has_child("x", ns::MUC_USER);
    for (wanted, code) in [("1", "170"), ("0", "171")] {
        assert_eq!(configure(&mut alice, "enablelogging", wanted).await.kind(), Some("result"));
        assert_eq!(codes(&bob.until(is_notice).await), [code]);
        let visibility = room_of(&world).current("m.room.history_visibility", "").expect("read").expect("it is set");
        let who = visibility.event.content_field::<String>("history_visibility");
        assert_eq!(who.as_deref(), Some(if wanted == "1" { "world_readable" } else { "shared" }));
    }
    configure(&mut alice, "enablelogging", "1").await;
    bob.until(is_notice).await;
    let mut carol = world.connect("carol", "c").await;
    assert!(codes(&enter(&mut carol, "carol").await).contains(&"170".into()), "whoever enters is warned");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_enters_is_let_in_by_the_settings_that_the_room_has_already() {
    let (world, mut alice, mut bob) = two_inside().await;
    let (room, owner, core) = (room_of(&world), alice.session.user().clone(), world.core());
    let hall = core.muc.hall(room.no()).expect("somebody is inside");
    let mut inside = hall.inside.lock().await;
    // What the log tells waits for the hall.
    let (kind, content) = ("m.room.history_visibility", json!({ "history_visibility": "world_readable" }));
    super::standing::set_state(core, &owner, &room, kind, "", &content).await.expect("she may");
    assert!(!inside.settings.logged);
    super::happened::catch_up(core, &hall, &room, &mut inside).await.expect("read");
    assert!(inside.settings.logged);
    drop(inside);
    let is_notice = |stanza: &Element| is_groupchat(stanza) && stanza.has_child("x", ns::MUC_USER);
    assert_eq!(codes(&bob.until(is_notice).await), ["170"]);
    assert_eq!(configure(&mut alice, "enablelogging", "0").await.kind(), Some("result"));
    assert_eq!(codes(&bob.until(is_notice).await), ["171"], "what was told already is not told again");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_enters_sees_the_roles_that_the_room_has_given_already() {
    let (world, mut alice, bob) = two_inside().await;
    let (room, owner, core) = (room_of(&world), alice.session.user().clone(), world.core());
    let hall = core.muc.hall(room.no()).expect("somebody is inside");
    let mut inside = hall.inside.lock().await;
    // What the log tells waits for the hall.
    super::standing::set_level(core, &owner, &room, bob.session.user(), Some(50)).await.expect("she may");
    let role = |inside: &super::hall::Inside| inside.occupant("bob").expect("he is inside").role;
    assert_eq!(role(&inside), koine_projection::muc::Role::Participant);
    super::happened::catch_up(core, &hall, &room, &mut inside).await.expect("read");
    assert_eq!(role(&inside), koine_projection::muc::Role::Moderator);
    drop(inside);
    alice.until(|stanza| stanza.to_xml().contains("role='moderator' jid='bob@")).await;
}
