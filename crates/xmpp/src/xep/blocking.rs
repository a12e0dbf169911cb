//! XEP-0191: Blocking Command. The list is the one of people whom the account ignores in Matrix.

use std::sync::Arc;

use koine_stanza::{BareJid, Condition, Element, Jid, StanzaError, ns};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use crate::{
    core::Core,
    im,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const BLOCKING: &str = "urn:xmpp:blocking";
/// The account data that is the list. [CS-API §mignored_user_list]
const LIST: &str = "m.ignored_user_list";
/// Most addresses on the list.
const BLOCKED_MAX: usize = 10_000;

/// Asked of one's own account.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, BLOCKING), (At::Account, BLOCKING)],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "blocklist",
            ns: BLOCKING,
            run: |core, request| Box::pin(async move { list(&core, &request) }),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "block",
            ns: BLOCKING,
            run: |core, request| Box::pin(change(core, request, true)),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "unblock",
            ns: BLOCKING,
            run: |core, request| Box::pin(change(core, request, false)),
        },
    ],
};

fn item(address: &BareJid) -> Element {
    Element::new("item", BLOCKING).with_attr("jid", address.to_string())
}

fn list(core: &Core, request: &Request) -> Answer {
    let session = request.own_session()?;
    session.state().wants_blocklist = true;
    let blocked = core.accounts().ignored_users(session.user()).map_err(|error| unkept(&error))?;
    let mut addresses: Vec<BareJid> = blocked.iter().filter_map(|user| core.address_of(user)).collect();
    addresses.sort();
    Ok(Some(Element::new("blocklist", BLOCKING).with_children(addresses.iter().map(item))))
}

async fn change(core: Arc<Core>, request: Request, block: bool) -> Answer {
    let session = request.own_session()?.clone();
    let me = session.user();
    let mut named: Vec<(BareJid, OwnedUserId)> = Vec::new();
    for item in request.payload.children().filter(|child| child.is("item", BLOCKING)).take(BLOCKED_MAX) {
        let address = item.attr("jid").and_then(|jid| Jid::new(jid).ok());
        let address = address.ok_or_else(|| StanzaError::new(Condition::JidMalformed, "`jid` is no address"))?;
        let user = core.person_of(&address.to_bare()).filter(|user| address.resource().is_none() && user != me);
        let user = user.ok_or_else(|| {
            StanzaError::new(
                Condition::NotAcceptable,
                "this address cannot be blocked: name somebody, without a resource",
            )
        })?;
        named.push((address.to_bare(), user));
    }
    if block && named.is_empty() {
        // [XEP-0191 §block]
        return Err(StanzaError::new(Condition::BadRequest, "say whom to block"));
    }
    let changed: Vec<(BareJid, OwnedUserId)> = match named.is_empty() {
        false => named.clone(),
        // [XEP-0191 §unblockall]
        true => {
            let blocked = core.accounts().ignored_users(me).map_err(|error| unkept(&error))?;
            blocked.iter().filter_map(|user| Some((core.address_of(user)?, user.clone()))).collect()
        }
    };
    if block {
        for (address, _) in &changed {
            // [XEP-0191 §block] To them, the account goes offline.
            if knows(&core, me, address) {
                im::show_to(&core, me, address, false).await;
            }
        }
    }
    let users: Vec<String> = changed.iter().map(|(_, user)| user.to_string()).collect();
    let edit = move |old: Option<&str>| {
        let mut content: Map<String, Value> = old.and_then(|old| serde_json::from_str(old).ok()).unwrap_or_default();
        let list = content.entry("ignored_users").or_insert_with(|| json!({}));
        if !list.is_object() {
            *list = json!({});
        }
        let list = list.as_object_mut()?;
        for user in users {
            match block {
                true if list.len() < BLOCKED_MAX => drop(list.insert(user, json!({}))),
                true => {}
                false => drop(list.remove(&user)),
            }
        }
        Some(Value::Object(content).to_string())
    };
    core.accounts().edit_account_data(me, None, LIST, edit).await.map_err(|error| {
        tracing::error!(user_id = %me, reason = %error, "a block list could not be kept");
        StanzaError::new(Condition::InternalServerError, "the list could not be kept: try again later")
    })?;
    if !block {
        for (address, _) in &changed {
            if knows(&core, me, address) {
                im::show_to(&core, me, address, true).await;
            }
        }
    }
    push(&core, me, block, &named);
    Ok(None)
}

/// Whether somebody is told of the account's presence.
fn knows(core: &Core, me: &UserId, address: &BareJid) -> bool {
    core.accounts().contact(me, &address.to_string()).is_ok_and(|contact| contact.is_some_and(|contact| contact.from))
}

/// Tells sessions that asked for the list. [XEP-0191 §block]
fn push(core: &Core, me: &UserId, block: bool, named: &[(BareJid, OwnedUserId)]) {
    let Some(account) = core.jid_of(me) else { return };
    let name = if block { "block" } else { "unblock" };
    let payload = Element::new(name, BLOCKING).with_children(named.iter().map(|(address, _)| item(address)));
    for session in core.sessions.of(&account) {
        if !session.state().wants_blocklist {
            continue;
        }
        let push = Element::new("iq", ns::CLIENT)
            .with_attr("from", account.to_string())
            .with_attr("to", session.jid().to_string())
            .with_attr("id", format!("b{:x}", rand::random::<u64>()))
            .with_attr("type", "set")
            .with_child(payload.clone());
        session.send(push);
    }
}

fn unkept(error: &koine_account::StoreUnavailable) -> StanzaError {
    tracing::error!(reason = %error, "a block list could not be read");
    StanzaError::new(Condition::InternalServerError, "the list could not be read: try again later")
}
