//! What the operator tells everybody: announcements, the message of the day, the welcome of new accounts. [XEP-0133 §announce]

use std::sync::Arc;

use koine_stanza::{Condition, Element, StanzaError, form::Field, ns};
use koine_store::{Space, Table};

use crate::{core::Core, session::Session};

/// `motd` or `welcome` → its text.
const NOTICE: Table<String, String> = Table::new("xmpp.notice", Space::Index, 0x8a);
/// Longest text.
const TEXT_BYTES_MAX: usize = 16 * 1024;
const MOTD: &str = "motd";
const WELCOME: &str = "welcome";

fn read(core: &Core, name: &str) -> Option<String> {
    core.shard().get(&NOTICE, core.domain(), &name.to_owned()).unwrap_or_else(|error| {
        tracing::error!(reason = %error, "a notice could not be read");
        None
    })
}

/// The message of the day.
pub(crate) fn motd(core: &Core) -> Option<String> {
    read(core, MOTD)
}

fn message(core: &Core, to: &Session, subject: &str, text: &str) -> Element {
    Element::new("message", ns::CLIENT)
        .with_attr("from", core.hosts.domain.as_str())
        .with_attr("to", to.jid().to_string())
        .with_attr("type", "headline")
        .with_attr("id", format!("n{:x}", rand::random::<u64>()))
        .with_child(Element::text_of("subject", ns::CLIENT, subject))
        .with_child(Element::text_of("body", ns::CLIENT, text))
}

/// Does what an admin wants told.
pub(crate) async fn change(core: &Arc<Core>, node: &str, fields: &[Field]) -> Result<(), StanzaError> {
    let text = fields.iter().find(|field| matches!(field.var.as_str(), "announcement" | MOTD | WELCOME));
    let text = text.map(|field| field.values.join("\n")).filter(|text| !text.trim().is_empty());
    if text.as_ref().is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
        return Err(StanzaError::new(Condition::NotAcceptable, "the text is too long"));
    }
    if text.is_none() && !node.starts_with("delete-") {
        return Err(StanzaError::new(Condition::BadRequest, "there is nothing to tell"));
    }
    if node == "announce" {
        core.sessions.for_all(|session| {
            session.send(message(core, session, "Announcement", text.as_deref().unwrap_or_default()));
        });
        return Ok(());
    }
    let (domain, name) = (core.domain(), if node.ends_with(MOTD) { MOTD } else { WELCOME }.to_owned());
    let done = core.shard().submit(move |txn| match text {
        Some(text) => txn.put(&NOTICE, domain, &name, &text),
        None => txn.delete(&NOTICE, domain, &name),
    });
    done.await.map(drop).map_err(|error| {
        tracing::error!(reason = %error, "a notice could not be kept");
        StanzaError::new(Condition::InternalServerError, "it could not be kept: try again later")
    })
}

/// A session came: it is told the message of the day; the first of an account, the welcome.
pub(crate) fn greet(core: &Core, session: &Session, is_first_ever: bool) {
    for (name, subject) in [(WELCOME, "Welcome"), (MOTD, "Message of the day")] {
        if (name == MOTD || is_first_ever)
            && let Some(text) = read(core, name)
        {
            session.send(message(core, session, subject, &text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn command(node: &str, var: &str, text: &str) -> String {
        format!(
            "<iq type='set' id='{node}' to='example.org'><command xmlns='http://jabber.org/protocol/commands' node='http://jabber.org/protocol/admin#{node}'><x xmlns='jabber:x:data' type='submit'><field var='{var}'><value>{text}</value></field></x></command></iq>"
        )
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_hear_an_announcement_and_whoever_comes_the_message_of_the_day() {
        let world = World::new();
        let (mut admin, mut bob) = (world.connect("admin", "a").await, world.connect("bob", "b").await);
        let user = admin.session.user().clone();
        world.core().accounts().set_flag(&user, koine_account::Flag::Admin, true).await.expect("there is");
        assert_eq!(admin.ask(&command("announce", "announcement", "Tea!")).await.kind(), Some("result"));
        let body = |stanza: &Element| stanza.child_text("body", ns::CLIENT);
        assert_eq!(body(&bob.until(|stanza| stanza.name() == "message").await).as_deref(), Some("Tea!"));
        assert_eq!(admin.ask(&command("set-motd", MOTD, "Scones")).await.kind(), Some("result"));
        assert_eq!(admin.ask(&command("set-welcome", WELCOME, "Hello")).await.kind(), Some("result"));
        let mut carol = world.connect("carol", "c").await;
        carol.send("<presence/>").await;
        for told in ["Hello", "Scones"] {
            assert_eq!(body(&carol.until(|stanza| stanza.name() == "message").await).as_deref(), Some(told));
        }
        let stats = command("user-stats", "accountjid", "carol@example.org");
        let answer = admin.ask(&stats).await;
        assert!(answer.to_xml().contains("onlineresources"), "{}", answer.to_xml());
    }
}
