//! XEP-0100: the gateway to mail, as a client finds and uses it. Who is reached by mail has an address here in which theirs is
//! escaped [XEP-0106]: `bob\40mail.example@mail.example.org`. Nobody need register: an account is enough.
//!
//! A message to such an address goes into the room of the two, as to anybody else; that it then becomes a mail is another
//! part's business. Who writes first asks to be told of presence, though mail has none: that is where clients of XMPP ask
//! people whether they want to hear somebody.

use std::sync::Arc;

use koine_account::Word;
use koine_projection::{id::node_from_local, mail::Address};
use koine_room::Membership;
use koine_stanza::{BareJid, Condition, Element, StanzaError, ns};
use ruma_common::{OwnedUserId, UserId};
use serde_json::Map;

use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// [XEP-0100 §addressing]
const GATEWAY: &str = "jabber:iq:gateway";

/// Asked of the service.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::MailService, GATEWAY), (At::MailService, r"jid\20escaping")],
    handlers: &[Handler {
        at: &[At::MailService],
        verbs: &[Verb::Get, Verb::Set],
        name: "query",
        ns: GATEWAY,
        run: |core, request| Box::pin(async move { prompt(&core, &request) }),
    }],
};

/// Asks for an address, or says what it is here.
fn prompt(core: &Arc<Core>, request: &Request) -> Answer {
    let query = Element::new("query", GATEWAY);
    if request.verb == Verb::Get {
        let desc = "Enter the address of mail of the person you want to write to.";
        let query = query.with_child(Element::text_of("desc", GATEWAY, desc));
        return Ok(Some(query.with_child(Element::text_of("prompt", GATEWAY, "Address"))));
    }
    let text = request.payload.child_text("prompt", GATEWAY).unwrap_or_default();
    let jid = Address::parse(text.trim()).and_then(|address| {
        let node = node_from_local(&address.to_string())?;
        BareJid::new(&format!("{node}@{}", core.hosts.mail)).ok()
    });
    // An address of ours has a shorter name.
    let jid = jid.filter(|jid| core.person_of(jid).is_some());
    let jid = jid.ok_or_else(|| StanzaError::new(Condition::NotAcceptable, "this is no address of mail elsewhere"))?;
    Ok(Some(query.with_child(Element::text_of("jid", GATEWAY, jid.to_string()))))
}

/// An account says a word about subscriptions to somebody who is reached by mail.
pub(crate) async fn word(core: &Arc<Core>, from: &BareJid, to: &BareJid, word: Word) {
    let (Some(me), Some(peer)) = (core.person_of(from), core.person_of(to)) else { return };
    match word {
        // Mail knows no presence: nobody has to be asked.
        Word::Subscribe => {
            let answer = Element::new("presence", ns::CLIENT).with_attr("type", Word::Subscribed.as_str());
            Box::pin(core.heard(to, from, Word::Subscribed, &answer)).await;
        }
        Word::Subscribed | Word::Unsubscribed => decide(core, &me, &peer, word == Word::Subscribed).await,
        Word::Unsubscribe => {}
    }
}

/// Somebody who wrote by mail is let into a conversation, or not.
async fn decide(core: &Arc<Core>, me: &OwnedUserId, peer: &UserId, is_welcome: bool) {
    let Ok(Some(no)) = core.rooms().room_of_two(me, peer) else { return };
    let Ok(room) = core.rooms().room_by_no(no) else { return };
    if room.local_membership(me) != Some(Membership::Invite) {
        return;
    }
    let done = match is_welcome {
        true => core.rooms().join(me, room.id(), &core.profile_of(me), None, Map::new()).await,
        false => core.rooms().leave(me, room.id(), None).await,
    };
    if let Err(error) = done {
        tracing::warn!(room_id = %room.id(), user_id = %me, reason = %error, "what was asked by mail could not be answered");
    }
}

/// Somebody who wrote by mail asks to be heard, beside the reading of the log. Who never used XMPP has the invitation alone.
pub(crate) fn asks(core: &Arc<Core>, sender: &UserId, target: &UserId) {
    let lives_here = core.is_account(target) && core.accounts().uses_xmpp(target).unwrap_or(false);
    let (Some(from), Some(to)) = (core.address_of(sender), core.jid_of(target)) else { return };
    if !lives_here {
        return;
    }
    let core = core.clone();
    tokio::spawn(async move {
        let presence = Element::new("presence", ns::CLIENT).with_attr("type", Word::Subscribe.as_str());
        core.heard(&from, &to, Word::Subscribe, &presence).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{XmppConfig, testing::World};

    #[tokio::test]
    async fn an_address_of_mail_is_found_by_asking() {
        let world = World::named("example.org", XmppConfig { mail: true, ..XmppConfig::default() });
        let mut alice = world.connect("alice", "phone").await;
        let info = alice
            .ask("<iq type='get' id='1' to='mail.example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
            .await
            .to_xml();
        assert!(
            info.contains("category='gateway'") && info.contains("type='smtp'") && info.contains(GATEWAY),
            "{info}"
        );
        let ask = "<iq type='set' id='2' to='mail.example.org'><query xmlns='jabber:iq:gateway'><prompt>Bob@Mail.example</prompt></query></iq>";
        let answer = alice.ask(ask).await.to_xml();
        assert!(answer.contains(r"bob\40mail.example@mail.example.org"), "{answer}");
        let ask = ask.replace("Bob@Mail.example", "alice@example.org");
        assert_eq!(alice.ask(&ask).await.kind(), Some("error"));
    }

    #[tokio::test]
    async fn a_message_to_an_address_of_mail_is_in_the_room_of_the_two() {
        let world = World::named("example.org", XmppConfig { mail: true, ..XmppConfig::default() });
        let alice = world.connect("alice", "phone").await;
        let to = r"bob\40mail.example@mail.example.org";
        alice.send(&format!("<message type='chat' id='m' to='{to}'><body>Hello</body></message>")).await;
        let core = world.core();
        let bob = UserId::parse("@_mail_bob=40mail.example:example.org").expect("a name");
        let no = core.rooms().room_of_two(alice.session.user(), &bob).expect("readable").expect("there is a room");
        let room = core.rooms().room_by_no(no).expect("it is there");
        assert!(room.is_joined(&bob));
        assert_eq!(core.address_of(&bob).map(|jid| jid.to_string()).as_deref(), Some(to));
        let newest = room.newest(i64::MIN, i64::MAX, 1).expect("readable");
        assert_eq!(newest[0].event.content_field::<String>("body").as_deref(), Some("Hello"));
    }

    #[tokio::test]
    async fn without_mail_there_is_no_such_host() {
        let world = World::new();
        let mut alice = world.connect("alice", "phone").await;
        let ask = "<iq type='get' id='1' to='mail.example.org'><query xmlns='jabber:iq:gateway'/></iq>";
        assert_eq!(alice.ask(ask).await.kind(), Some("error"));
    }
}
