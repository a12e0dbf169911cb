//! XEP-0115: Entity Capabilities: what a client is, by a hash in its presence. Here: which nodes it wants to be told of.
//!
//! A client is asked once for each hash; what it says counts for others with the same hash only if it is what was hashed.
//! Clients of contacts elsewhere are asked by the account that is told of their presence. [XEP-0163 §notify]

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_stanza::{BareJid, Element, FullJid, Jid, form::Form, ns};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma_common::OwnedUserId;
use sha1::{Digest as _, Sha1};

use super::{may_read, notify};
use crate::{address::Place, core::Core, session::Session};

/// The protocol.
const CAPS: &str = "http://jabber.org/protocol/caps";
/// Hashes that are remembered.
const KNOWN_MAX: usize = 5_000;
/// Features of a client that count.
const FEATURES_MAX: usize = 1_000;
/// How ids of our questions begin.
const ID: &str = "koine-caps-";

/// Clients of one contact elsewhere of which it is remembered what they want.
const RESOURCES_MAX: usize = 20;
/// Contacts elsewhere of whom it is remembered what they want.
const REMOTE_MAX: usize = 20_000;

/// What clients of a contact elsewhere want.
type Remote = HashMap<FullJid, Arc<HashSet<String>>>;

/// Which nodes clients want to be told of.
pub(crate) struct Wants {
    by_hash: Cache<String, Arc<HashSet<String>>>,
    /// What clients of contacts elsewhere want.
    remote: Cache<BareJid, Arc<Remote>>,
    /// By the id of a question to one of them: whom it is about, its hash, and who asked.
    asked_remote: Cache<String, (FullJid, String, OwnedUserId)>,
    of: Mutex<HashMap<FullJid, Arc<HashSet<String>>>>,
    /// What was asked and not answered: the hash that the session named.
    asked: Mutex<HashMap<FullJid, String>>,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            by_hash: Cache::new(KNOWN_MAX),
            remote: Cache::new(REMOTE_MAX),
            asked_remote: Cache::new(REMOTE_MAX),
            of: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

/// Whether the client of a session wants to be told of a node.
pub(super) fn wants(core: &Core, session: &Session, node: &str) -> bool {
    core.wants.of.lock().get(session.jid()).is_some_and(|nodes| nodes.contains(node))
}

/// A session came, or says something new of itself.
pub(crate) async fn greet(core: &Arc<Core>, session: &Arc<Session>, presence: &Element, first: bool) {
    let Some(caps) = presence.child("c", CAPS) else { return };
    let (Some(hash), Some(node), Some(ver)) = (caps.attr("hash"), caps.attr("node"), caps.attr("ver")) else { return };
    let key = format!("{hash} {node} {ver}");
    if !first && core.wants.asked.lock().get(session.jid()).is_some_and(|asked| *asked == key) {
        return;
    }
    core.wants.asked.lock().insert(session.jid().clone(), key.clone());
    if let Some(known) = core.wants.by_hash.get(&key) {
        learn(core, session, &known);
        return;
    }
    let query = Element::new("query", ns::DISCO_INFO).with_attr("node", format!("{node}#{ver}"));
    let question = Element::new("iq", ns::CLIENT)
        .with_attr("from", session.jid().to_bare().to_string())
        .with_attr("to", session.jid().to_string())
        .with_attr("id", format!("{ID}{:x}", rand::random::<u64>()))
        .with_attr("type", "get")
        .with_child(query);
    session.send(question);
}

/// A session ended.
pub(crate) fn forget(core: &Core, session: &FullJid) {
    core.wants.of.lock().remove(session);
    core.wants.asked.lock().remove(session);
}

/// An answer of a session, if it is one to a question of ours.
pub(crate) fn answered(core: &Arc<Core>, stanza: &Element, session: &Arc<Session>) -> bool {
    if !stanza.id().is_some_and(|id| id.starts_with(ID)) {
        return false;
    }
    let Some(info) = stanza.child("query", ns::DISCO_INFO) else { return true };
    let Some(key) = core.wants.asked.lock().get(session.jid()).cloned() else { return true };
    let wanted = wanted_of(core, info, key);
    learn(core, session, &wanted);
    true
}

/// The client of a session wants these nodes: it gets the newest items.
fn learn(core: &Arc<Core>, session: &Arc<Session>, wanted: &Arc<HashSet<String>>) {
    core.wants.of.lock().insert(session.jid().clone(), wanted.clone());
    if wanted.is_empty() {
        return;
    }
    let asker = session.jid().to_bare();
    let mut owners = vec![session.user().clone()];
    for (address, contact) in core.accounts().contacts(session.user()).unwrap_or_default() {
        if contact.to
            && let Ok(address) = Jid::new(&address)
            && let Place::Account(user) = core.place(&address)
        {
            owners.push(user);
        }
    }
    for owner in owners {
        for (node, config) in core.accounts().nodes(&owner).unwrap_or_default() {
            if wanted.contains(&node) && may_read(core, &owner, (&node, &config), &asker).is_ok() {
                notify::last_for(core, &owner, (&node, &config), session);
            }
        }
    }
}

/// Clients of a contact elsewhere that want a node.
pub(super) fn remote_wanting(core: &Core, contact: &BareJid, node: &str) -> Vec<FullJid> {
    let known = core.wants.remote.get(contact);
    let wanting = known.iter().flat_map(|known| known.iter()).filter(|(_, nodes)| nodes.contains(node));
    wanting.map(|(client, _)| client.clone()).collect()
}

/// A client of somebody elsewhere came, says something new of itself, or goes, as an account of ours is told.
pub(crate) async fn greet_remote(core: &Arc<Core>, presence: &Element, from: &Jid, user: &OwnedUserId) {
    let Ok(client) = from.clone().try_into_full() else { return };
    if presence.kind() == Some("unavailable") {
        return change_remote(core, &client, None);
    }
    let Some(caps) = presence.child("c", CAPS).filter(|_| presence.kind().is_none()) else { return };
    let (Some(hash), Some(node), Some(ver)) = (caps.attr("hash"), caps.attr("node"), caps.attr("ver")) else { return };
    // Only contacts who may be told anything are asked.
    let contact = core.accounts().contact(user, &client.to_bare().to_string()).ok().flatten();
    if !contact.is_some_and(|contact| contact.from) {
        return;
    }
    let key = format!("{hash} {node} {ver}");
    if let Some(known) = core.wants.by_hash.get(&key) {
        return learn_remote(core, &client, &known, user).await;
    }
    let Some(account) = core.jid_of(user) else { return };
    let id = format!("{ID}{:032x}", rand::random::<u128>());
    core.wants.asked_remote.insert(id.clone(), (client.clone(), key, user.clone()));
    let query = Element::new("query", ns::DISCO_INFO).with_attr("node", format!("{node}#{ver}"));
    let question = Element::new("iq", ns::CLIENT)
        .with_attr("from", account.to_string())
        .with_attr("to", client.to_string())
        .with_attr("id", id)
        .with_attr("type", "get")
        .with_child(query);
    Box::pin(core.send_elsewhere(question)).await;
}

/// An answer from elsewhere, if it is one to a question of ours.
pub(crate) async fn answered_remote(core: &Arc<Core>, stanza: &Element, from: &Jid) -> bool {
    let Some(id) = stanza.id().filter(|id| id.starts_with(ID)) else { return false };
    let Some((client, key, user)) = core.wants.asked_remote.get(id) else { return true };
    if *from != client {
        return true;
    }
    core.wants.asked_remote.remove(id);
    let Some(info) = stanza.child("query", ns::DISCO_INFO) else { return true };
    let wanted = wanted_of(core, info, key);
    learn_remote(core, &client, &wanted, &user).await;
    true
}

fn change_remote(core: &Core, client: &FullJid, wanted: Option<Arc<HashSet<String>>>) {
    let bare = client.to_bare();
    let mut known = core.wants.remote.get(&bare).map(|known| (*known).clone()).unwrap_or_default();
    match wanted {
        Some(wanted) if known.len() < RESOURCES_MAX || known.contains_key(client) => {
            known.insert(client.clone(), wanted);
        }
        Some(_) => return,
        None => drop(known.remove(client)),
    }
    match known.is_empty() {
        true => drop(core.wants.remote.remove(&bare)),
        false => core.wants.remote.insert(bare, Arc::new(known)),
    }
}

/// A client elsewhere wants these nodes: it gets the newest items of the account that learnt of it.
async fn learn_remote(core: &Arc<Core>, client: &FullJid, wanted: &Arc<HashSet<String>>, owner: &OwnedUserId) {
    let is_new = core.wants.remote.get(&client.to_bare()).is_none_or(|known| known.get(client) != Some(wanted));
    change_remote(core, client, Some(wanted.clone()));
    if !is_new {
        return;
    }
    for (node, config) in core.accounts().nodes(owner).unwrap_or_default() {
        if wanted.contains(&node) && may_read(core, owner, (&node, &config), &client.to_bare()).is_ok() {
            notify::last_elsewhere(core, owner, (&node, &config), client).await;
        }
    }
}

/// What a client says that it wants, remembered for all that are the same.
fn wanted_of(core: &Core, info: &Element, key: String) -> Arc<HashSet<String>> {
    let wanted = info.children().filter(|child| child.is("feature", ns::DISCO_INFO)).take(FEATURES_MAX);
    let wanted = wanted.filter_map(|feature| feature.attr("var")?.strip_suffix("+notify").map(ToOwned::to_owned));
    let wanted: Arc<HashSet<String>> = Arc::new(wanted.collect());
    let mut parts = key.split(' ');
    // [XEP-0115 §ver-proc] Only what was hashed counts for others.
    if (parts.next(), parts.next_back()) == (Some("sha-1"), Some(verification(info).as_str())) {
        core.wants.by_hash.insert(key, wanted.clone());
    }
    wanted
}

/// What a client hashes. [XEP-0115 §ver-gen]
pub(crate) fn verification(info: &Element) -> String {
    let attr = |element: &Element, name: &str| element.attr(name).unwrap_or_default().to_owned();
    let mut text = String::new();
    let identities: BTreeSet<String> = info
        .children()
        .filter(|child| child.is("identity", ns::DISCO_INFO))
        .map(|one| {
            format!("{}/{}/{}/{}<", attr(one, "category"), attr(one, "type"), attr(one, "xml:lang"), attr(one, "name"))
        })
        .collect();
    text.extend(identities);
    let features: BTreeSet<String> =
        info.children().filter(|child| child.is("feature", ns::DISCO_INFO)).map(|one| attr(one, "var")).collect();
    text.extend(features.into_iter().map(|feature| format!("{feature}<")));
    let mut forms: Vec<Form> =
        info.children().filter_map(Form::parse).filter(|form| form.form_type.is_some()).collect();
    forms.sort_by(|a, b| a.form_type.cmp(&b.form_type));
    for mut form in forms {
        text.push_str(&form.form_type.unwrap_or_default());
        text.push('<');
        form.fields.sort_by(|a, b| a.var.cmp(&b.var));
        for mut field in form.fields {
            text.push_str(&field.var);
            text.push('<');
            field.values.sort();
            text.extend(field.values.into_iter().map(|value| format!("{value}<")));
        }
    }
    BASE64_STANDARD.encode(Sha1::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_specification() {
        // [XEP-0115 §ver-gen-simple]
        let feature = |var: &str| Element::new("feature", ns::DISCO_INFO).with_attr("var", var);
        let info = Element::new("query", ns::DISCO_INFO)
            .with_child(
                Element::new("identity", ns::DISCO_INFO)
                    .with_attr("category", "client")
                    .with_attr("type", "pc")
                    .with_attr("name", "Exodus 0.9.1"),
            )
            .with_children(
                [
                    "http://jabber.org/protocol/caps",
                    "http://jabber.org/protocol/disco#info",
                    "http://jabber.org/protocol/disco#items",
                    "http://jabber.org/protocol/muc",
                ]
                .map(feature),
            );
        assert_eq!(verification(&info), "QgayPKawpkPSDYmwT/WM94uAlu0=");
    }
}
