//! Publishing, and who is told.

use koine_stanza::{Element, ns};

use crate::testing::{Client, World, condition};

async fn come(world: &World, name: &str) -> Client {
    let mut client = world.connect(name, "x").await;
    client.send("<presence/>").await;
    client.until(|stanza| stanza.name() == "presence").await;
    client
}

fn publish(node: &str, item: &str, options: &str) -> String {
    format!(
        "<iq type='set' id='p'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{node}'>{item}</publish>{options}</pubsub></iq>"
    )
}

fn options(fields: &[(&str, &str)]) -> String {
    let fields: String =
        fields.iter().map(|(var, value)| format!("<field var='{var}'><value>{value}</value></field>")).collect();
    format!(
        "<publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>http://jabber.org/protocol/pubsub#publish-options</value></field>{fields}</x></publish-options>"
    )
}

fn fetch(to: &str, node: &str) -> String {
    format!(
        "<iq type='get' id='g' to='{to}'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{node}'/></pubsub></iq>"
    )
}

fn application(stanza: &Element) -> Option<String> {
    let error = stanza.child("error", ns::CLIENT)?;
    error.children().find(|child| child.ns() == ns::PUBSUB_ERRORS).map(|child| child.name().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cause_nothing_to_be_written_at_an_account() {
    const NICK: &str = "http://jabber.org/protocol/nick";
    let world = World::new();
    let (mut alice, mut bob) = (come(&world, "alice").await, come(&world, "bob").await);
    let (accounts, owner) = (world.core().accounts(), alice.session.user().clone());
    accounts.set_profile_field(&owner, "displayname", serde_json::json!("Alice")).await.expect("she may");
    for (node, expected) in [
        (NICK, "presence-subscription-required"),
        ("urn:xmpp:bookmarks:1", "closed-node"),
        ("storage:bookmarks", "closed-node"),
    ] {
        let refused = bob.ask(&fetch("alice@example.org", node)).await;
        assert_eq!(application(&refused).as_deref(), Some(expected), "{node}: {refused:?}");
        assert!(accounts.node(&owner, node).expect("read").is_none(), "{node}");
    }
    let own = alice.ask(&fetch("alice@example.org", NICK)).await;
    assert!(own.to_xml().contains("Alice"), "{own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_read_by_all_and_the_rest_by_those_meant() {
    let world = World::new();
    let (mut alice, mut bob) = (come(&world, "alice").await, come(&world, "bob").await);
    let open = options(&[("pubsub#access_model", "open"), ("pubsub#persist_items", "true")]);
    let done = alice
        .ask(&publish(
            "eu.siacs.conversations.axolotl.devicelist",
            "<item id='current'><list xmlns='eu.siacs.conversations.axolotl'/></item>",
            &open,
        ))
        .await;
    assert_eq!(done.kind(), Some("result"), "{done:?}");
    let read = bob.ask(&fetch("alice@example.org", "eu.siacs.conversations.axolotl.devicelist")).await;
    let items = read.child("pubsub", ns::PUBSUB).and_then(|pubsub| pubsub.child("items", ns::PUBSUB)).expect("items");
    assert_eq!(items.children().count(), 1);
    alice.ask(&publish("mood", "<item><mood xmlns='m'/></item>", "")).await;
    let refused = bob.ask(&fetch("alice@example.org", "mood")).await;
    assert_eq!(
        (condition(&refused).as_deref(), application(&refused).as_deref()),
        (Some("not-authorized"), Some("presence-subscription-required"))
    );
    let nothing = bob.ask(&fetch("alice@example.org", "none")).await;
    assert_eq!(condition(&nothing).as_deref(), Some("item-not-found"));
    let private = options(&[("pubsub#access_model", "whitelist")]);
    alice.ask(&publish("secret", "<item><x xmlns='m'/></item>", &private)).await;
    let closed = bob.ask(&fetch("alice@example.org", "secret")).await;
    assert_eq!(
        (condition(&closed).as_deref(), application(&closed).as_deref()),
        (Some("not-allowed"), Some("closed-node"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_are_not_met_are_a_conflict() {
    let world = World::new();
    let mut alice = come(&world, "alice").await;
    alice.ask(&publish("n", "<item id='1'><x xmlns='m'/></item>", "")).await;
    let whitelist = options(&[("pubsub#access_model", "whitelist")]);
    let refused = alice.ask(&publish("n", "<item id='1'><x xmlns='m'/></item>", &whitelist)).await;
    assert_eq!(
        (condition(&refused).as_deref(), application(&refused).as_deref()),
        (Some("conflict"), Some("precondition-not-met"))
    );
    let empty = alice.ask(&publish("n", "", "")).await;
    assert_eq!(application(&empty).as_deref(), Some("item-required"));
    let deleted = alice.ask("<iq type='set' id='d'><pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><delete node='n'/></pubsub></iq>").await;
    assert_eq!(deleted.kind(), Some("result"));
    let gone = alice.ask(&fetch("alice@example.org", "n")).await;
    assert_eq!(condition(&gone).as_deref(), Some("item-not-found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_want_a_node_are_told() {
    let world = World::new();
    let mut desk = world.connect("alice", "desk").await;
    desk.send("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>").await;
    let question = desk.until(|stanza| stanza.name() == "iq").await;
    let answer = format!(
        "<iq type='result' id='{}' to='alice@example.org'><query xmlns='http://jabber.org/protocol/disco#info'><feature var='http://jabber.org/protocol/nick+notify'/></query></iq>",
        question.id().expect("an id")
    );
    desk.send(&answer).await;
    let mut phone = come(&world, "alice").await;
    phone
        .ask(&publish(
            "http://jabber.org/protocol/nick",
            "<item><nick xmlns='http://jabber.org/protocol/nick'>Al</nick></item>",
            "",
        ))
        .await;
    let told = desk.until(|stanza| stanza.name() == "message").await;
    assert!(told.child("event", ns::PUBSUB_EVENT).is_some_and(|event| event.has_child("items", ns::PUBSUB_EVENT)));
    let user: ruma_common::OwnedUserId = "@alice:example.org".try_into().expect("a name");
    let (name, _) = world.core().accounts().display_profile(&user).expect("read");
    assert_eq!(name.as_deref(), Some("Al"), "there is one name");
}

/// A word of somebody elsewhere, as their server brings it.
async fn from_elsewhere(world: &World, xml: &str) {
    let limits = koine_stanza::reader::Limits::bytes(65_536);
    let stanza = koine_stanza::reader::document(xml.as_bytes(), limits).expect("the test wrote XML");
    world.core().route(stanza, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_of_contacts_elsewhere_want_is_known_by_what_they_are() {
    let world = World::new();
    let mut alice = world.connect("alice", "a").await;
    let (user, romeo) = (alice.session.user().clone(), "romeo@montague.example");
    let nick = "http://jabber.org/protocol/nick";
    let feature = Element::new("feature", ns::DISCO_INFO).with_attr("var", format!("{nick}+notify"));
    let info = Element::new("query", ns::DISCO_INFO).with_child(feature);
    let ver = super::verification(&info);
    let caps = format!("<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='{ver}'/>");
    // A client of ours is of the same kind, and says what that is.
    alice.send(&format!("<presence>{caps}</presence>")).await;
    let question = alice.until(|stanza| stanza.name() == "iq").await;
    let id = question.id().expect("an id");
    alice.send(&format!("<iq type='result' id='{id}' to='alice@example.org'>{}</iq>", info.to_xml())).await;
    let presence =
        format!("<presence xmlns='jabber:client' from='{romeo}/orchard' to='alice@example.org'>{caps}</presence>");
    let wanting = || {
        let bare = koine_stanza::BareJid::new(romeo).expect("an address");
        super::caps::remote_wanting(world.core(), &bare, nick).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    from_elsewhere(&world, &presence).await;
    assert!(wanting().is_empty(), "he is told nothing, so he is not asked");
    let edit = |contact: &mut koine_account::Contact| contact.from = true;
    world.core().accounts().edit_contact(&user, romeo, edit).await.expect("kept");
    from_elsewhere(&world, &presence).await;
    assert_eq!(wanting(), ["romeo@montague.example/orchard"]);
    let gone =
        format!("<presence xmlns='jabber:client' type='unavailable' from='{romeo}/orchard' to='alice@example.org'/>");
    from_elsewhere(&world, &gone).await;
    assert!(wanting().is_empty(), "it is gone");
}
