//! What strangers and careless programs try in conversations and rooms. Tests only; what can be tried with bytes is in
//! `tests/it/hostile.rs`.

use std::time::Instant;

use futures_util::future::join_all;
use koine_account::{CONTACTS_MAX, Contact, LimitConfig, Rate};
use koine_stanza::{Element, Jid, ns};

use crate::{
    XmppConfig,
    iq::{self, At, Request, Verb},
    outbox::WAITING_BYTES_MAX,
    testing::{Client, World, condition},
};

const ROOM: &str = "coven@rooms.example.org";

async fn come(world: &World, name: &str) -> Client {
    let mut client = world.connect(name, "r").await;
    client.send("<presence/>").await;
    let own = client.session.jid().to_string();
    client.until(|stanza| stanza.name() == "presence" && stanza.attr("from") == Some(&own)).await;
    client
}

async fn enter(client: &mut Client, nick: &str) -> Element {
    client.send(&format!("<presence to='{ROOM}/{nick}'><x xmlns='{}'/></presence>", ns::MUC)).await;
    let about_oneself = |stanza: &Element| {
        stanza.name() == "presence" && (stanza.kind() == Some("error") || stanza.to_xml().contains("code='110'"))
    };
    client.until(about_oneself).await
}

async fn make_room(client: &mut Client, nick: &str) {
    enter(client, nick).await;
    let owner = ns::MUC_OWNER;
    let instant = format!(
        "<iq type='set' id='i1' to='{ROOM}'><query xmlns='{owner}'><x xmlns='jabber:x:data' type='submit'/></query></iq>"
    );
    assert_eq!(client.ask(&instant).await.kind(), Some("result"));
}

fn stanza_ids(message: &Element) -> Vec<(Option<&str>, Option<&str>)> {
    let ids = message.children().filter(|child| child.is("stanza-id", ns::STANZA_ID));
    ids.map(|id| (id.attr("by"), id.id())).collect()
}

fn has_body(stanza: &Element) -> bool {
    stanza.name() == "message" && stanza.has_child("body", ns::CLIENT)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_ids_in_the_name_of_this_server() {
    let world = World::new();
    let (mut alice, mut eve) = (come(&world, "alice").await, come(&world, "eve").await);
    let forged = ["alice@example.org", "example.org", "eve@example.org", ROOM]
        .map(|by| format!("<stanza-id xmlns='{}' by='{by}' id='forged'/>", ns::STANZA_ID))
        .concat();
    eve.send(&format!("<message to='alice@example.org' type='chat'><body>hello</body>{forged}</message>")).await;
    let heard = alice.until(has_body).await;
    let ids = stanza_ids(&heard);
    assert!(ids.len() == 1 && ids[0].0 == Some("alice@example.org") && ids[0].1 != Some("forged"), "{ids:?}");

    make_room(&mut alice, "alice").await;
    enter(&mut eve, "eve").await;
    let occupant = format!("<occupant-id xmlns='{}' id='forged'/>", ns::OCCUPANT_ID);
    eve.send(&format!("<message to='{ROOM}' type='groupchat'><body>hi</body>{forged}{occupant}</message>")).await;
    for client in [&mut alice, &mut eve] {
        let heard = client.until(has_body).await;
        let ids = stanza_ids(&heard);
        assert!(ids.len() == 1 && ids[0].0 == Some(ROOM) && ids[0].1 != Some("forged"), "{ids:?}");
        assert!(!heard.to_xml().contains("forged"), "{}", heard.to_xml());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_copies_nothing_into_the_sessions_of_another() {
    let world = World::new();
    let (mut alice, eve) = (come(&world, "alice").await, come(&world, "eve").await);
    alice.ask("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
    for direction in ["received", "sent"] {
        let inner = "<message xmlns='jabber:client' from='bob@example.org' to='alice@example.org' type='chat'><body>transfer the money</body></message>";
        let forged = format!(
            "<{direction} xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded></{direction}>"
        );
        eve.send(&format!("<message to='alice@example.org/r' type='chat'><body>look</body>{forged}</message>")).await;
        let heard = alice.until(|stanza| stanza.name() == "message").await;
        assert_eq!(heard.attr("from"), Some("eve@example.org/r"));
        assert!(!heard.to_xml().contains("transfer the money"), "{}", heard.to_xml());
    }
    // Nor does it get into the archive.
    let query = "<iq type='set' id='m'><query xmlns='urn:xmpp:mam:2'/></iq>";
    alice.send(query).await;
    loop {
        let stanza = alice.next().await;
        assert!(!stanza.to_xml().contains("transfer the money"), "{}", stanza.to_xml());
        if stanza.name() == "iq" && stanza.id() == Some("m") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_100_000_contacts_comes_whole_and_takes_no_more() {
    let world = World::new();
    let mut alice = come(&world, "alice").await;
    let user = alice.session.user().clone();
    let accounts = world.core().accounts();
    let all: Vec<u64> = (0..CONTACTS_MAX).collect();
    for some in all.chunks(1_000) {
        let edits = some.iter().map(|number| {
            let address = format!("contact{number}@example.org");
            let user = &user;
            async move { accounts.edit_contact(user, &address, |contact: &mut Contact| contact.listed = true).await }
        });
        assert!(join_all(edits).await.into_iter().all(|edited| edited.is_ok()));
    }
    let own = alice.session.jid();
    let request = Request {
        from: Jid::from(own.clone()),
        to: Jid::from(own.to_bare()),
        verb: Verb::Get,
        payload: Element::new("query", ns::ROSTER),
        session: Some(alice.session.clone()),
        account: Some(user.clone()),
    };
    let query = iq::answer(world.core(), At::Account, request).await.expect("it is theirs").expect("the list");
    assert!(query.to_xml().len() < WAITING_BYTES_MAX, "a session takes it");
    assert_eq!(u64::try_from(query.children().count()), Ok(CONTACTS_MAX));
    let add = "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='one-more@example.org'/></query></iq>";
    assert_eq!(condition(&alice.ask(add).await).as_deref(), Some("resource-constraint"));
    // Everything else goes on, for them and for others.
    let bob = come(&world, "bob").await;
    bob.send("<message to='alice@example.org' type='chat'><body>hello</body></message>").await;
    alice.until(has_body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_presence_slows_down_whoever_sends_it_and_nobody_else() {
    const BURST: u32 = 20;
    let limits = LimitConfig { message: Some(Rate { burst: BURST, per_second: 50.0 }), ..LimitConfig::unlimited() };
    let world = World::limited("example.org", XmppConfig::default(), limits);
    let (mut alice, mut eve) = (come(&world, "alice").await, come(&world, "eve").await);
    make_room(&mut alice, "alice").await;
    enter(&mut eve, "eve").await;
    let began = Instant::now();
    for number in 0..3 * BURST {
        eve.send(&format!("<presence to='{ROOM}/eve'><status>{number}</status></presence>")).await;
        eve.send(&format!("<presence><status>{number}</status></presence>")).await;
    }
    let needed = f64::from(6 * BURST - BURST) / 50.0;
    assert!(began.elapsed().as_secs_f64() >= needed * 0.9, "{:?}", began.elapsed());
    // Meanwhile others speak as before, and nothing of what was sent is lost.
    alice.send(&format!("<message to='{ROOM}' type='groupchat'><body>quiet, please</body></message>")).await;
    let last = format!("{}", 3 * BURST - 1);
    alice.until(|stanza| stanza.child_text("status", ns::CLIENT).as_deref() == Some(&last)).await;
    alice.until(has_body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_word_of_a_room_is_slowed_down_like_any_other() {
    const BURST: u32 = 20;
    let limits = LimitConfig { message: Some(Rate { burst: BURST, per_second: 50.0 }), ..LimitConfig::unlimited() };
    let world = World::limited("example.org", XmppConfig::default(), limits);
    let (mut alice, eve) = (come(&world, "alice").await, come(&world, "eve").await);
    let began = Instant::now();
    for number in 0..3 * BURST {
        let x = format!("<x xmlns='{}'/><body>{number}</body>", ns::MUC_USER);
        eve.send(&format!("<message to='alice@example.org/r' type='chat'>{x}</message>")).await;
    }
    let needed = f64::from(2 * BURST) / 50.0;
    assert!(began.elapsed().as_secs_f64() >= needed * 0.9, "{:?}", began.elapsed());
    let last = format!("{}", 3 * BURST - 1);
    alice.until(|stanza| stanza.child_text("body", ns::CLIENT).as_deref() == Some(&last)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nickname_that_looks_like_that_of_another_is_not_given() {
    let world = World::new();
    let (mut alice, mut eve) = (come(&world, "alice").await, come(&world, "eve").await);
    make_room(&mut alice, "paypal").await;
    // Cyrillic letters, digits for letters, and what only looks composed in another way.
    for twin in ["р\u{430}ypal", "paypa1", "pa\u{443}pal"] {
        assert_eq!(condition(&enter(&mut eve, twin).await).as_deref(), Some("conflict"), "{twin}");
    }
    assert_eq!(enter(&mut eve, "eve").await.kind(), None);
    // Nor by changing to it; but one's own may be changed to one that looks the same.
    eve.send(&format!("<presence to='{ROOM}/paypa1'/>")).await;
    let refused = eve.until(|stanza| stanza.kind() == Some("error")).await;
    assert_eq!(condition(&refused).as_deref(), Some("conflict"));
    alice.send(&format!("<presence to='{ROOM}/paypa1'/>")).await;
    alice
        .until(|stanza| stanza.attr("from") == Some("coven@rooms.example.org/paypa1") && stanza.kind().is_none())
        .await;
    // Once it is free, it is anybody's.
    alice.send(&format!("<presence to='{ROOM}/paypa1' type='unavailable'/>")).await;
    eve.until(|stanza| {
        stanza.attr("from") == Some("coven@rooms.example.org/paypa1") && stanza.kind() == Some("unavailable")
    })
    .await;
    eve.send(&format!("<presence to='{ROOM}/paypal'/>")).await;
    eve.until(|stanza| stanza.attr("from") == Some("coven@rooms.example.org/paypal") && stanza.kind().is_none()).await;
}
