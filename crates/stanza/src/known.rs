//! Names that are used all the time, so that reading them needs no memory of their own.

use std::{collections::HashSet, sync::LazyLock};

use crate::{element::Name, ns};

static NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let spaces = [
        ns::CLIENT,
        ns::SERVER,
        ns::STREAM,
        ns::STREAM_ERRORS,
        ns::STANZA_ERRORS,
        ns::TLS,
        ns::SASL,
        ns::BIND,
        ns::ROSTER,
        ns::DATA_FORMS,
        ns::DISCO_INFO,
        ns::DISCO_ITEMS,
        ns::MUC,
        ns::MUC_USER,
        ns::MUC_ADMIN,
        ns::MUC_OWNER,
        ns::RSM,
        ns::PUBSUB,
        ns::PUBSUB_EVENT,
        ns::PUBSUB_OWNER,
        ns::CHAT_STATES,
        ns::RECEIPTS,
        ns::PING,
        ns::DELAY,
        ns::CARBONS,
        ns::FORWARD,
        ns::CORRECT,
        ns::MAM,
        ns::CHAT_MARKERS,
        ns::HINTS,
        ns::STANZA_ID,
        ns::EME,
        ns::OCCUPANT_ID,
        ns::FALLBACK,
        ns::REACTIONS,
        ns::REPLY,
        "urn:xmpp:sm:3",
        "http://jabber.org/protocol/caps",
        "vcard-temp:x:update",
        "eu.siacs.conversations.axolotl",
    ];
    let names = [
        "message", "presence", "iq", "id", "to", "from", "type", "xml:lang", "body", "subject", "thread", "show", "status",
        "priority", "c", "hash", "node", "ver", "x", "query", "item", "jid", "name", "affiliation", "role", "photo",
        "active", "composing", "paused", "inactive", "gone", "request", "received", "displayed", "markable", "r", "a", "h",
        "origin-id", "stanza-id", "occupant-id", "by", "delay", "stamp", "forwarded", "sent", "private", "store", "no-store",
        "no-copy", "no-permanent-store", "ping", "pubsub", "publish", "items", "event", "retract", "replace", "reply",
        "reactions", "reaction", "fallback", "field", "var", "value", "form", "error", "text", "set", "max", "before",
        "after", "encryption", "encrypted", "header", "payload", "key", "iv", "rid", "sid", "namespace", "subscription",
        "group", "ask", "history", "maxstanzas", "feature", "identity", "category", "url",
    ];
    spaces.into_iter().chain(names).collect()
});

/// The text as a name.
pub(crate) fn name(text: &str) -> Name {
    match NAMES.get(text) {
        Some(known) => Name::Borrowed(known),
        None => Name::Owned(text.to_owned()),
    }
}
