//! What the suspended may do: read, go away, take back what they said, and look after their own account; nothing that others
//! hear of. [CS-API §account-suspension]
//!
//! Asked once, where stanzas of sessions are routed (`route.rs`). What is not known to be harmless is refused.

use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedEventId, UserId};

use crate::{address::Place, core::Core, session::Session, xep::upload::UPLOAD};

/// What a message says that only reports what was read, or takes something back.
const QUIET: [&str; 7] = [
    ns::CHAT_MARKERS,
    ns::CHAT_STATES,
    ns::RECEIPTS,
    ns::HINTS,
    ns::STANZA_ID,
    ns::RETRACT,
    // [XEP-0490]
    "urn:xmpp:mds:displayed:0",
];
/// Requests that change something of the asker's own affairs, or nothing at all.
const OWN_AFFAIRS: [&str; 16] = [
    ns::SESSION,
    ns::ROSTER,
    ns::CARBONS,
    // [XEP-0313] Questions to the archive are of type set.
    ns::MAM,
    // Another password, or no account any more.
    ns::REGISTER,
    "urn:xmpp:blocking",
    "urn:xmpp:push:0",
    "jabber:iq:private",
    // Devices are logged out.
    "urn:xmpp:cam:0",
    "urn:xmpp:saslcert:1",
    "jabber:iq:search",
    "jabber:iq:gateway",
    "urn:xmpp:channel-search:0:search",
    "urn:xmpp:sm:3",
    "urn:xmpp:bind:0",
    ns::PING,
];
/// Nodes of one's own with keys for others' messages, and with what nobody else reads.
const OWN_NODES: [&str; 2] = ["urn:xmpp:bookmarks:1", "urn:xmpp:mds:displayed:0"];
/// How names of nodes begin that have keys for messages of others. [XEP-0384]
const KEY_NODES: [&str; 2] = ["urn:xmpp:omemo:", "eu.siacs.conversations.axolotl."];

fn refusal() -> StanzaError {
    StanzaError::new(Condition::Forbidden, "you cannot do this while your account is suspended")
}

/// Refuses what a session may not do because its account is suspended; what it may of it is left.
pub(crate) async fn check(core: &Core, stanza: &mut Element, to: &Jid, session: &Session) -> Result<(), StanzaError> {
    // Most of what comes needs no look at the account.
    let is_quiet = match (stanza.name(), stanza.kind()) {
        ("iq", Some("result" | "error")) | ("message", Some("error")) => true,
        ("iq", Some("get")) => !stanza.children().any(|child| child.ns() == UPLOAD),
        ("presence", kind) => stanza.attr("to").is_none() || !matches!(kind, None | Some("subscribe" | "subscribed")),
        _ => false,
    };
    let user = session.user();
    if is_quiet || !is_suspended(core, user) {
        return Ok(());
    }
    let may = match stanza.name() {
        "message" => may_say(core, stanza, user),
        "presence" => stanza.kind().is_none() && crate::muc::may_come_back(core, session, to).await?,
        _ => may_ask(core, stanza, to, user),
    };
    if may { Ok(()) } else { Err(refusal()) }
}

/// Whether somebody is suspended.
pub(crate) fn is_suspended(core: &Core, user: &UserId) -> bool {
    match core.accounts().user(user) {
        Ok(info) => info.is_some_and(|info| info.is_suspended),
        Err(error) => {
            tracing::error!(user_id = %user, reason = %error, "whether an account is suspended cannot be read");
            true
        }
    }
}

fn may_say(core: &Core, message: &mut Element, user: &UserId) -> bool {
    let of_room = message.children_mut().find(|child| child.is("x", ns::MUC_USER));
    let declines = of_room.map(|x| {
        // Not to come, where they were asked in.
        x.retain_children(|child| child.is("decline", ns::MUC_USER));
        x.children().next().is_some()
    });
    if let Some(declines) = declines {
        message.retain_children(|child| child.is("x", ns::MUC_USER));
        return declines;
    }
    let retracts = message.child("retract", ns::RETRACT).map(|retract| retract.id().map(ToOwned::to_owned));
    if let Some(id) = retracts {
        // What clients say beside it to those that know no better is not theirs to choose now.
        message.retain_children(|child| QUIET.contains(&child.ns()) && child.ns() != ns::CHAT_MARKERS);
        message.children_mut().for_each(|child| child.retain_children(|_| false));
        return id.is_some_and(|id| !is_anothers(core, &id, user));
    }
    message.children().all(|child| QUIET.contains(&child.ns()))
}

/// Whether an id is that of something that somebody else said. Other names of messages are looked up as the asker's own.
fn is_anothers(core: &Core, id: &str, user: &UserId) -> bool {
    let Ok(event) = OwnedEventId::try_from(id) else { return false };
    let found = core.rooms().find_event(&event).ok().flatten();
    found.is_some_and(|(_, placed)| placed.event.sender() != user)
}

fn may_ask(core: &Core, stanza: &Element, to: &Jid, user: &UserId) -> bool {
    let Some(payload) = stanza.children().next() else { return true };
    if stanza.kind() != Some("set") {
        return false;
    }
    let place = core.place(to);
    let is_own = matches!(&place, Place::Account(account) if account == user);
    match payload.ns() {
        // Their place in a room they may give up.
        ns::REGISTER if !is_own && place != Place::Host => payload.has_child("remove", ns::REGISTER),
        ns::PUBSUB | ns::PUBSUB_OWNER => payload.children().any(|what| may_change_node(what, is_own)),
        namespace => OWN_AFFAIRS.contains(&namespace) || (is_own && to.resource().is_some()),
    }
}

/// What may be done with nodes: taking back, and what is one's own affair.
fn may_change_node(what: &Element, is_own: bool) -> bool {
    let node = what.attr("node").unwrap_or_default();
    let is_affair = OWN_NODES.contains(&node) || KEY_NODES.iter().any(|begin| node.starts_with(begin));
    match what.name() {
        "retract" | "purge" | "delete" | "unsubscribe" => true,
        "publish" | "create" | "configure" => is_own && is_affair,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use koine_account::Flag;
    use koine_stanza::{Element, ns};

    use crate::testing::{Client, World, condition};

    const ROOM: &str = "tea@rooms.example.org";

    async fn come(world: &World, name: &str) -> Client {
        let mut client = world.connect(name, "r").await;
        client.send("<presence/>").await;
        let own = client.session.jid().to_string();
        client.until(|stanza| stanza.name() == "presence" && stanza.attr("from") == Some(&own)).await;
        client
    }

    async fn enter(client: &mut Client, room: &str, nick: &str) -> Element {
        client.send(&format!("<presence to='{room}/{nick}'><x xmlns='{}'/></presence>", ns::MUC)).await;
        let about_oneself = |stanza: &Element| {
            stanza.name() == "presence" && (stanza.kind() == Some("error") || stanza.to_xml().contains("code='110'"))
        };
        client.until(about_oneself).await
    }

    async fn suspend(world: &World, client: &Client) {
        let user = client.session.user();
        world.core().accounts().set_flag(user, Flag::Suspended, true).await.expect("there is such an account");
    }

    /// A stanza that is refused because of that.
    async fn refused(client: &mut Client, xml: &str) {
        client.send(xml).await;
        let answer = client.until(|stanza| stanza.kind() == Some("error")).await;
        assert_eq!(condition(&answer).as_deref(), Some("forbidden"), "{xml}: {}", answer.to_xml());
        assert!(answer.to_xml().contains("suspended"), "{xml}: {}", answer.to_xml());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_suspended_say_nothing_and_change_nothing_that_others_see() {
        let world = World::new();
        let (mut alice, mut bob) = (come(&world, "alice").await, come(&world, "bob").await);
        assert_eq!(enter(&mut bob, ROOM, "bob").await.kind(), None);
        let submit = "<x xmlns='jabber:x:data' type='submit'/>";
        let owner = ns::MUC_OWNER;
        bob.ask(&format!("<iq type='set' id='i' to='{ROOM}'><query xmlns='{owner}'>{submit}</query></iq>")).await;
        enter(&mut alice, ROOM, "alice").await;
        bob.send("<message to='alice@example.org' type='chat' id='m1'><body>hello</body></message>").await;
        alice.until(|stanza| stanza.has_child("body", ns::CLIENT)).await;
        suspend(&world, &alice).await;

        let (admin, user) = (ns::MUC_ADMIN, ns::MUC_USER);
        for xml in [
            "<message to='bob@example.org' type='chat'><body>x</body></message>".to_owned(),
            "<message to='bob@elsewhere.example' type='chat'><body>x</body></message>".to_owned(),
            "<message to='bob@example.org'><x xmlns='jabber:x:conference' jid='tea@rooms.example.org'/></message>"
                .to_owned(),
            format!("<message to='bob@example.org/r'><x xmlns='{user}'/><body>x</body></message>"),
            format!("<message to='{ROOM}' type='groupchat'><body>x</body></message>"),
            format!("<message to='{ROOM}' type='groupchat'><subject>x</subject></message>"),
            format!("<message to='{ROOM}/bob' type='chat'><body>x</body></message>"),
            format!("<message to='{ROOM}'><x xmlns='{user}'><invite to='carol@example.org'/></x></message>"),
            "<message to='bob@example.org' type='chat'><reactions xmlns='urn:xmpp:reactions:0' id='m1'><reaction>!</reaction></reactions></message>".to_owned(),
            format!("<presence to='other@rooms.example.org/alice'><x xmlns='{}'/></presence>", ns::MUC),
            format!("<presence to='{ROOM}/another'/>"),
            "<presence to='bob@example.org' type='subscribe'/>".to_owned(),
            "<presence to='bob@example.org'><status>x</status></presence>".to_owned(),
            format!("<presence to='hall@rooms.elsewhere.example/alice'><x xmlns='{}'/></presence>", ns::MUC),
            "<iq type='set' id='v'><vCard xmlns='vcard-temp'><NICKNAME>x</NICKNAME></vCard></iq>".to_owned(),
            format!("<iq type='set' id='p'><pubsub xmlns='{}'><publish node='http://jabber.org/protocol/nick'><item><nick xmlns='http://jabber.org/protocol/nick'>x</nick></item></publish></pubsub></iq>", ns::PUBSUB),
            format!("<iq type='set' id='p' to='pubsub.example.org'><pubsub xmlns='{}'><create node='news'/></pubsub></iq>", ns::PUBSUB),
            format!("<iq type='set' id='a' to='{ROOM}'><query xmlns='{admin}'><item nick='bob' role='none'/></query></iq>"),
            format!("<iq type='set' id='o' to='{ROOM}'><query xmlns='{owner}'>{submit}</query></iq>"),
            format!("<iq type='set' id='r' to='{ROOM}'><query xmlns='jabber:iq:register'>{submit}</query></iq>"),
            "<iq type='get' id='u' to='upload.example.org'><request xmlns='urn:xmpp:http:upload:0' filename='x' size='1'/></iq>".to_owned(),
            "<iq type='set' id='c' to='example.org'><command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:invite#invite'/></iq>".to_owned(),
            "<iq type='set' id='j' to='bob@example.org/r'><jingle xmlns='urn:xmpp:jingle:1'/></iq>".to_owned(),
        ] {
            refused(&mut alice, &xml).await;
        }
        assert!(
            crate::muc::room_at(
                world.core(),
                &koine_stanza::BareJid::new("other@rooms.example.org").expect("an address")
            )
            .expect("read")
            .is_none()
        );
        let user = alice.session.user().clone();
        world.core().accounts().set_flag(&user, Flag::Suspended, false).await.expect("there is such an account");
        alice.send(&format!("<message to='{ROOM}' type='groupchat'><body>again</body></message>")).await;
        bob.until(|stanza| stanza.child_text("body", ns::CLIENT).as_deref() == Some("again")).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_suspended_read_take_back_what_they_said_and_go() {
        let world = World::new();
        let (mut alice, mut bob) = (come(&world, "alice").await, come(&world, "bob").await);
        enter(&mut bob, ROOM, "bob").await;
        let submit = "<x xmlns='jabber:x:data' type='submit'/>";
        bob.ask(&format!("<iq type='set' id='i' to='{ROOM}'><query xmlns='{}'>{submit}</query></iq>", ns::MUC_OWNER))
            .await;
        enter(&mut alice, ROOM, "alice").await;
        alice.send(&format!("<message to='{ROOM}' type='groupchat' id='a1'><body>oops</body></message>")).await;
        let said = bob.until(|stanza| stanza.child_text("body", ns::CLIENT).as_deref() == Some("oops")).await;
        let id =
            said.child("stanza-id", ns::STANZA_ID).and_then(Element::id).expect("the room's name for it").to_owned();
        bob.send(&format!("<message to='{ROOM}' type='groupchat' id='b1'><body>mine</body></message>")).await;
        let theirs = alice.until(|stanza| stanza.child_text("body", ns::CLIENT).as_deref() == Some("mine")).await;
        let theirs = theirs.child("stanza-id", ns::STANZA_ID).and_then(Element::id).expect("a name").to_owned();
        suspend(&world, &alice).await;

        let retract = |id: &str| {
            format!(
                "<message to='{ROOM}' type='groupchat' id='r'><retract xmlns='{}' id='{id}'/><body>buy this</body></message>",
                ns::RETRACT
            )
        };
        refused(&mut alice, &retract(&theirs)).await;
        alice.send(&retract(&id)).await;
        let gone = bob.until(|stanza| stanza.has_child("retract", ns::RETRACT)).await;
        assert!(!gone.to_xml().contains("buy this"), "{}", gone.to_xml());
        for quiet in [
            "<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2'/></iq>".to_owned(),
            format!("<iq type='set' id='q' to='{ROOM}'><query xmlns='urn:xmpp:mam:2'/></iq>"),
            "<iq type='get' id='q'><query xmlns='jabber:iq:roster'/></iq>".to_owned(),
            format!("<iq type='get' id='q' to='{ROOM}'><query xmlns='{}'/></iq>", ns::DISCO_INFO),
            "<iq type='set' id='q'><block xmlns='urn:xmpp:blocking'><item jid='eve@example.org'/></block></iq>"
                .to_owned(),
            "<iq type='set' id='q'><enable xmlns='urn:xmpp:carbons:2'/></iq>".to_owned(),
            format!(
                "<iq type='set' id='q'><pubsub xmlns='{}'><publish node='urn:xmpp:omemo:2:devices'><item id='current'><devices xmlns='urn:xmpp:omemo:2'/></item></publish></pubsub></iq>",
                ns::PUBSUB
            ),
        ] {
            let answer = alice.ask(&quiet).await;
            assert_eq!(answer.kind(), Some("result"), "{quiet}: {}", answer.to_xml());
        }
        // What others say is heard, also by a session that comes only now.
        alice.send(&format!("<presence to='{ROOM}/alice' type='unavailable'/>")).await;
        alice.until(|stanza| stanza.name() == "presence" && stanza.kind() == Some("unavailable")).await;
        let entered = enter(&mut alice, ROOM, "alice").await;
        let is_in = crate::muc::room_at(world.core(), &koine_stanza::BareJid::new(ROOM).expect("an address"));
        let is_in = is_in.expect("read").expect("a room").is_joined(alice.session.user());
        assert_eq!(entered.kind().is_none(), is_in, "who is a member comes back, and who is none does not come in");
        bob.send("<message to='alice@example.org' type='chat'><body>are you there?</body></message>").await;
        alice.until(|stanza| stanza.child_text("body", ns::CLIENT).as_deref() == Some("are you there?")).await;
        // And they may change the password.
        let name = "<username>alice</username><password>another secret</password>";
        let password =
            format!("<iq type='set' id='q' to='example.org'><query xmlns='jabber:iq:register'>{name}</query></iq>");
        assert_eq!(alice.ask(&password).await.kind(), Some("result"));
    }
}
