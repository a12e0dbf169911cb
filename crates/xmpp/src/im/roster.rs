//! The list of contacts. [RFC6121 §2]

use std::sync::Arc;

use koine_account::{CONTACT_GROUPS_MAX, CONTACT_NAME_BYTES_MAX, Contact, Word};
use koine_stanza::{BareJid, Condition, Element, StanzaError, ns};
use ruma_common::UserId;

use super::subscription::refused;
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    session::Session,
};

/// Most changes that a client gets one by one, instead of the whole list.
const PUSHES_MAX: usize = 100;

/// Asked of one's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, ns::ROSTER)],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "query",
            ns: ns::ROSTER,
            run: |core, request| Box::pin(get(core, request)),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "query",
            ns: ns::ROSTER,
            run: |core, request| Box::pin(set(core, request)),
        },
    ],
};

/// [RFC6121 §2.1.3]
async fn get(core: Arc<Core>, request: Request) -> Answer {
    let session = request.own_session()?.clone();
    session.state().wants_roster = true;
    let user = session.user();
    let version = core.accounts().contacts_version(user).map_err(|error| unreadable(&error))?;
    let asked = request.payload.attr("ver").and_then(|version| version.parse::<u64>().ok());
    // [RFC6121 §2.6.2] Whoever has the present list need not get it again.
    if asked.is_some_and(|asked| asked == version && asked > 0) {
        return Ok(None);
    }
    // [RFC6121 §2.6.3] Who has an older one gets what changed since then, each contact once.
    if let (Some(asked), Some(account)) = (asked.filter(|asked| (1..version).contains(asked)), core.jid_of(user)) {
        let changed = core.accounts().contacts_after(user, asked).map_err(|error| unreadable(&error))?;
        if changed.len() <= PUSHES_MAX {
            let pushes = changed.iter().map(|(address, contact)| pushed(&account, &session, address, contact));
            session.state().behind = pushes.collect();
            return Ok(None);
        }
    }
    let contacts = core.accounts().contacts(user).map_err(|error| unreadable(&error))?;
    let items = contacts.iter().filter(|(_, contact)| contact.listed).map(|(address, contact)| item(address, contact));
    Ok(Some(Element::new("query", ns::ROSTER).with_attr("ver", version.to_string()).with_children(items)))
}

/// [RFC6121 §2.1.5]
async fn set(core: Arc<Core>, request: Request) -> Answer {
    let session = request.own_session()?.clone();
    let user = session.user();
    let bad = |text: &str| StanzaError::new(Condition::BadRequest, text);
    let mut items = request.payload.children().filter(|child| child.is("item", ns::ROSTER));
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(bad("a change of the list is about one contact"));
    };
    let address = item.attr("jid").ok_or_else(|| bad("a contact has an address in `jid`"))?;
    let address = BareJid::new(address).or_else(|_| koine_stanza::Jid::new(address).map(|jid| jid.to_bare()));
    let address = address.map_err(|_| StanzaError::new(Condition::JidMalformed, "`jid` is no address"))?;
    if core.jid_of(user).as_ref() == Some(&address) {
        return Err(StanzaError::new(Condition::NotAllowed, "nobody is their own contact"));
    }
    if item.attr("subscription") == Some("remove") {
        return remove(&core, user, &address).await;
    }
    let name = item.attr("name").filter(|name| !name.is_empty()).map(ToOwned::to_owned);
    let mut groups: Vec<String> = Vec::new();
    for group in item.children().filter(|child| child.is("group", ns::ROSTER)).map(Element::text) {
        if group.is_empty() {
            return Err(StanzaError::new(Condition::NotAcceptable, "a group has a name"));
        }
        if groups.contains(&group) {
            return Err(bad("a contact is in each group once"));
        }
        groups.push(group);
    }
    let is_long = |text: &String| text.len() > CONTACT_NAME_BYTES_MAX;
    if groups.len() > CONTACT_GROUPS_MAX || groups.iter().chain(&name).any(is_long) {
        return Err(StanzaError::new(Condition::NotAcceptable, "the name is too long, or there are too many groups"));
    }
    let edit = move |contact: &mut Contact| {
        (contact.listed, contact.name, contact.groups) = (true, name, groups);
    };
    core.accounts().edit_contact(user, &address.to_string(), edit).await.map_err(|error| refused(&error))?;
    // [RFC6121 §2.1.6] Also where nothing changed: the client waits for it.
    push(&core, user, &address.to_string()).await;
    Ok(None)
}

/// [RFC6121 §2.5]
async fn remove(core: &Arc<Core>, user: &UserId, address: &BareJid) -> Answer {
    let text = address.to_string();
    let known = core.accounts().contact(user, &text).map_err(|error| unreadable(&error))?;
    let Some(known) = known.filter(|known| known.listed) else {
        return Err(StanzaError::new(Condition::ItemNotFound, "this contact is not on the list"));
    };
    if known.to || known.asked {
        core.say(user, address, Word::Unsubscribe).await;
    }
    if known.from || known.request.is_some() {
        core.say(user, address, Word::Unsubscribed).await;
    }
    let edit = |contact: &mut Contact| {
        let request = contact.request.take();
        *contact = Contact { request, position: contact.position, ..Contact::default() };
    };
    core.accounts().edit_contact(user, &text, edit).await.map_err(|error| refused(&error))?;
    push(core, user, &text).await;
    Ok(None)
}

/// Tells sessions that asked for the list of one contact as it is now. [RFC6121 §2.1.6]
pub(super) async fn push(core: &Arc<Core>, user: &UserId, address: &str) {
    let Some(account) = core.jid_of(user) else { return };
    let contact = match core.accounts().contact(user, address) {
        Ok(contact) => contact.unwrap_or_default(),
        Err(error) => {
            tracing::error!(user_id = %user, reason = %error, "a contact could not be read");
            return;
        }
    };
    for session in core.sessions.of(&account) {
        if session.state().wants_roster {
            session.send(pushed(&account, &session, address, &contact));
        }
    }
}

fn pushed(account: &BareJid, session: &Session, address: &str, contact: &Contact) -> Element {
    let query = Element::new("query", ns::ROSTER)
        .with_attr("ver", contact.position.to_string())
        .with_child(item(address, contact));
    Element::new("iq", ns::CLIENT)
        .with_attr("from", account.to_string())
        .with_attr("to", session.jid().to_string())
        .with_attr("id", format!("r{:x}", rand::random::<u64>()))
        .with_attr("type", "set")
        .with_child(query)
}

pub(crate) fn item(address: &str, contact: &Contact) -> Element {
    let mut item = Element::new("item", ns::ROSTER).with_attr("jid", address);
    if !contact.listed {
        return item.with_attr("subscription", "remove");
    }
    item.set_attr("name", contact.name.clone());
    item.set_attr("subscription", Some(contact.subscription()));
    item.set_attr("ask", contact.asked.then_some("subscribe"));
    item.set_attr("approved", contact.approved.then_some("true"));
    item.with_children(contact.groups.iter().map(|group| Element::text_of("group", ns::ROSTER, group.as_str())))
}

fn unreadable(error: &koine_account::StoreUnavailable) -> StanzaError {
    tracing::error!(reason = %error, "contacts could not be read");
    StanzaError::new(Condition::InternalServerError, "the list could not be read: try again later")
}
