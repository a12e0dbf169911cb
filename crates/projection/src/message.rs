//! Messages: events of a room, and what stanzas say. Both directions; who they are from and to is the caller's.
//!
//! | XMPP | Matrix |
//! |---|---|
//! | `<body/>`, with marks [XEP-0393], or with markup beside it [XEP-0394] | `m.text`, with HTML where there are marks |
//! | `/me ` [XEP-0245] | `m.emote` |
//! | `<replace/>` [XEP-0308] | `m.replace` |
//! | `<reply/>`, with the quote marked as fallback [XEP-0461] [XEP-0428] | `m.in_reply_to` |
//! | `<thread/>` named like an event [XEP-0201] | `m.thread` |
//! | `<reactions/>`, the whole set [XEP-0444] | one `m.reaction` each |
//! | `<retract/>` [XEP-0424], moderated [XEP-0425] | `m.room.redaction` |
//! | mentions (`mention.rs`) | `m.mentions` |
//! | a file of ours (`sharing.rs`) | `m.image`, `m.video`, `m.audio`, `m.file` |
//! | encrypted, with a text that says so [XEP-0380] | the same the other way round: `m.room.encrypted` |
//!
//! What a stanza says beyond its projection stays with the event as it came, in [`KEEPSAKE`]; readers in XMPP get it back.
//!
//! # Losses
//!
//! | what | in which direction |
//! |---|---|
//! | what HTML has beyond marks | to XMPP |
//! | polls, places, stickers: their text remains | to XMPP |
//! | chat states, hints, forms and everything unknown to Matrix | to Matrix clients; XMPP clients get them |
//! | marks within a span over several lines: they are no marks | to Matrix |
//! | what is said in an encrypted message: each network tells its people that it is, and for whom | in both |
//! | files that are encrypted: their name remains | to XMPP |

use koine_graph::event::EVENT_BYTES_MAX;
use koine_stanza::{
    BareJid, Element, ns,
    reader::{Limits, document},
};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use crate::{
    mail, markup, mention,
    sharing::{self, SFS},
    styling,
};

/// Where an event keeps what came by XMPP: `id` of the stanza, `type` where it is not `chat`, and `payload`, its children.
pub const KEEPSAKE: &str = "koine.xmpp";
/// Type of an event that says nothing to Matrix clients, and is there for XMPP alone.
pub const PLAIN_KEEPSAKE: &str = "koine.xmpp.message";
/// Most bytes of a payload that are read back.
const PAYLOAD_BYTES_MAX: usize = 65_536;
/// Most reactions of one sender to one message that count.
pub const REACTIONS_MAX: usize = 64;
/// Longest part of a message that is quoted in an answer, in characters.
const QUOTE_CHARS_MAX: usize = 200;

/// Marks that are none. [XEP-0393 §disable]
const UNSTYLED: &str = "urn:xmpp:styling:0";
/// Namespaces of encrypted payloads, with a name for people.
const ENCRYPTED: &[(&str, &str)] = &[
    ("eu.siacs.conversations.axolotl", "OMEMO"),
    ("urn:xmpp:omemo:2", "OMEMO"),
    ("urn:xmpp:omemo:1", "OMEMO"),
    ("urn:xmpp:openpgp:0", "OpenPGP"),
    ("jabber:x:encrypted", "OpenPGP"),
];
/// Namespaces of what only servers say of a message: never taken from an event, whoever made it.
const OF_SERVERS: &[&str] = &[
    ns::STANZA_ID,
    ns::CARBONS,
    ns::MAM,
    ns::FORWARD,
    ns::MUC_USER,
    ns::MUC_ADMIN,
    ns::MUC_OWNER,
    ns::PUBSUB_EVENT,
    ns::OCCUPANT_ID,
    ns::STANZA_ERRORS,
    "urn:xmpp:privilege:2",
    "urn:xmpp:mds:displayed:0",
];

/// A file of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its address in Matrix.
    pub mxc: String,
    /// Its content type.
    pub mime: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its name.
    pub name: Option<String>,
}

/// What the projection asks of whoever knows the room and the people in it.
pub trait Names {
    /// Who has an address.
    fn user_of(&self, address: &BareJid) -> Option<OwnedUserId>;
    /// The address of somebody.
    fn address_of(&self, user: &UserId) -> Option<BareJid>;
    /// Whom an id in a room stands for. [XEP-0421]
    fn user_of_occupant(&self, _id: &str) -> Option<OwnedUserId> {
        None
    }
    /// The id of somebody in a room; `None` where it is no room of many.
    fn occupant_of(&self, _user: &UserId) -> Option<String> {
        None
    }
    /// The event that the sender of a stanza names so.
    fn event_of(&self, id: &str) -> Option<OwnedEventId>;
    /// How stanzas name an event.
    fn name_of(&self, event: &EventId) -> String;
    /// The address of the author of an event, as answers give it, and what the event said.
    fn author_of(&self, event: &EventId) -> Option<(String, String)>;
    /// The file of ours that an address leads to.
    fn file_of(&self, url: &str) -> Option<File>;
    /// An address at which a file can be had.
    fn url_of(&self, mxc: &str, name: &str) -> Option<String>;
}

/// What a message does to its room.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Adds an event.
    Send {
        /// Its type.
        kind: &'static str,
        /// Its content.
        content: Value,
    },
    /// From now on these are the sender's reactions to an event.
    React {
        /// The event.
        target: OwnedEventId,
        /// The reactions.
        keys: Vec<String>,
    },
    /// Takes an event back.
    Retract {
        /// The event.
        target: OwnedEventId,
    },
    /// Refers to something that is not there: nothing follows.
    Nothing,
}

/// Whether a message says something that lasts. [XEP-0313 §business-storeorigin] [XEP-0334]
pub fn lasts(message: &Element) -> bool {
    if matches!(message.kind(), Some("error" | "headline"))
        || message.has_child("no-store", ns::HINTS)
        || message.has_child("no-permanent-store", ns::HINTS)
    {
        return false;
    }
    let said = message.child("body", ns::CLIENT).is_some();
    said || encryption(message).is_some()
        || message.has_child("store", ns::HINTS)
        || message.has_child("reactions", ns::REACTIONS)
        || message.has_child("retract", ns::RETRACT)
        || message.has_ns(SFS)
        // Calls must reach who was away. [XEP-0353]
        || message.has_ns("urn:xmpp:jingle-message:0")
        || message.has_child("x", "jabber:x:conference")
}

/// How a message is encrypted, by a name for people. [XEP-0380]
pub fn encryption(message: &Element) -> Option<String> {
    let of_ns = |space: &str| ENCRYPTED.iter().find(|(known, _)| *known == space).map(|(_, name)| (*name).to_owned());
    if let Some(name) = message.children().find_map(|child| of_ns(child.ns())) {
        return Some(name);
    }
    let said = message.child("encryption", ns::EME)?;
    let name = said.attr("name").map(ToOwned::to_owned);
    name.or_else(|| of_ns(said.attr("namespace")?)).or_else(|| Some("a scheme unknown here".to_owned()))
}

/// What a message that [`lasts`] does to its room.
pub fn read(message: &Element, names: &impl Names) -> Act {
    if let Some(retract) = message.child("retract", ns::RETRACT) {
        return match retract.id().and_then(|id| names.event_of(id)) {
            Some(target) => Act::Retract { target },
            None => Act::Nothing,
        };
    }
    if let Some(reactions) = message.child("reactions", ns::REACTIONS) {
        let Some(target) = reactions.id().and_then(|id| names.event_of(id)) else { return Act::Nothing };
        let mut keys: Vec<String> = Vec::new();
        for key in reactions.children().filter(|child| child.is("reaction", ns::REACTIONS)).take(REACTIONS_MAX) {
            let key = key.text();
            if !key.is_empty() && !keys.contains(&key) {
                keys.push(key);
            }
        }
        return Act::React { target, keys };
    }
    let mut content = said(message, names);
    let Some(fields) = content.as_object_mut() else { return Act::Nothing };
    let kind = if fields.contains_key("msgtype") { "m.room.message" } else { PLAIN_KEEPSAKE };
    let edited = message.child("replace", ns::CORRECT).and_then(|replace| names.event_of(replace.id()?));
    if let Some(target) = edited {
        let new = Value::Object(fields.clone());
        if let Some(body) = fields.get("body").and_then(Value::as_str).map(|body| format!("* {body}")) {
            fields.insert("body".into(), json!(body));
        }
        fields.insert("m.new_content".into(), new);
        fields.insert("m.relates_to".into(), json!({ "rel_type": "m.replace", "event_id": target }));
    } else if let Some(relation) = relation(message, names) {
        fields.insert("m.relates_to".into(), relation);
    }
    let body = fields.get("m.new_content").unwrap_or(&Value::Null).get("body").or_else(|| fields.get("body"));
    let body = body.and_then(Value::as_str).map(ToOwned::to_owned);
    fields.insert(KEEPSAKE.into(), keepsake(message, body.as_deref()));
    Act::Send { kind, content }
}

/// What a message says, as the content of an event, without relations. An object.
fn said(message: &Element, names: &impl Names) -> Value {
    if let Some(scheme) = encryption(message) {
        let text = format!("This message is encrypted with {scheme}, for the XMPP devices of its recipients.");
        return json!({ "msgtype": "m.notice", "body": text });
    }
    let body = message.child("body", ns::CLIENT).map(Element::text);
    if let Some(body) = body.as_ref().filter(|body| body.len() > EVENT_BYTES_MAX) {
        // No event has room for it, and the room says so: until then nobody needs to know what it means.
        return json!({ "msgtype": "m.text", "body": body });
    }
    if let Some(file) = sharing::read(message, body.as_deref(), names) {
        return file;
    }
    let Some(body) = body else { return Value::Object(Map::new()) };
    let replies = message.has_child("reply", ns::REPLY);
    let body = match replies {
        true => without_fallback(message, &body),
        false => body,
    };
    let (msgtype, text) = match body.strip_prefix("/me ") {
        Some(action) => ("m.emote", action),
        None => ("m.text", body.as_str()),
    };
    let mut content = json!({ "msgtype": msgtype, "body": text });
    let unstyled = message.has_child("unstyled", UNSTYLED);
    // [XEP-0394] Marks beside the text count before those within it; they count from where it begins.
    let beside = message.child("markup", markup::MARKUP).filter(|_| msgtype == "m.text" && !replies);
    let html = match beside {
        Some(markup) => markup::to_html(text, markup),
        None => Some(text).filter(|_| !unstyled).and_then(styling::to_html),
    };
    if let Some(html) = html {
        content["format"] = json!("org.matrix.custom.html");
        content["formatted_body"] = json!(html);
    }
    if let Some(mentions) = mention::read(message, names) {
        content["m.mentions"] = mentions;
    }
    content
}

/// `m.relates_to` of an answer, or of a message in a thread that began with an event.
fn relation(message: &Element, names: &impl Names) -> Option<Value> {
    let answered = message.child("reply", ns::REPLY).and_then(|reply| names.event_of(reply.id()?));
    // Only who took the name from an event knows it: other names of threads are theirs alone.
    let thread = message.child_text("thread", ns::CLIENT).filter(|thread| thread.starts_with('$'));
    let root = thread.and_then(|thread| names.event_of(&thread));
    match (root, answered) {
        (Some(root), answered) => {
            let is_falling_back = answered.is_none();
            let answered = answered.unwrap_or_else(|| root.clone());
            Some(json!({
                "rel_type": "m.thread", "event_id": root, "is_falling_back": is_falling_back,
                "m.in_reply_to": { "event_id": answered },
            }))
        }
        (None, Some(answered)) => Some(json!({ "m.in_reply_to": { "event_id": answered } })),
        (None, None) => None,
    }
}

/// The body without what stands in it for clients that know no replies. [XEP-0428]
fn without_fallback(message: &Element, body: &str) -> String {
    let fallback =
        message.children().find(|child| child.is("fallback", ns::FALLBACK) && child.attr("for") == Some(ns::REPLY));
    let Some(part) = fallback.and_then(|fallback| fallback.child("body", ns::FALLBACK)) else { return body.to_owned() };
    let number = |name: &str| part.attr(name).and_then(|number| number.parse::<usize>().ok());
    // Counted in code points.
    let (start, end) = (number("start").unwrap_or(0), number("end").unwrap_or(usize::MAX));
    let kept = body.chars().enumerate().filter(|(at, _)| *at < start || *at >= end);
    kept.map(|(_, c)| c).collect()
}

/// What of a stanza its event keeps.
fn keepsake(message: &Element, body: Option<&str>) -> Value {
    let mut kept = Map::new();
    let origin = message.child("origin-id", ns::STANZA_ID).and_then(Element::id);
    if let Some(id) = message.id().or(origin) {
        kept.insert("id".into(), json!(id));
    }
    if let Some(kind) = message.kind().filter(|kind| !matches!(*kind, "chat" | "groupchat")) {
        kept.insert("type".into(), json!(kind));
    } else if message.kind().is_none() {
        kept.insert("type".into(), json!("normal"));
    }
    let mut bodies = 0;
    let mut payload = String::new();
    for child in message.children() {
        let is_body = child.is("body", ns::CLIENT);
        bodies += usize::from(is_body);
        let said = is_body && bodies == 1 && child.attributes().is_empty() && body == Some(child.text().as_str());
        // An origin-id that is the stanza's id says nothing new.
        let known = child.is("origin-id", ns::STANZA_ID) && child.id() == message.id();
        if !said && !known && !is_of_servers(child) && !(child.is("private", ns::CARBONS)) {
            child.write(&mut payload, ns::CLIENT);
        }
    }
    let action =
        bodies == 1 && body.is_some_and(|body| message.child_text("body", ns::CLIENT) == Some(format!("/me {body}")));
    if action && payload.matches("<body").count() == 1 && message.children().count() == 1 {
        payload.clear();
    }
    if !payload.is_empty() {
        kept.insert("payload".into(), json!(payload));
    }
    Value::Object(kept)
}

fn is_of_servers(child: &Element) -> bool {
    let is_origin = child.is("origin-id", ns::STANZA_ID);
    OF_SERVERS.contains(&child.ns()) && !is_origin
}

/// The id that a stanza had whose event this is.
pub fn kept_id(content: &Value) -> Option<&str> {
    content.get(KEEPSAKE)?.get("id")?.as_str().filter(|id| !id.is_empty() && id.len() <= 1023)
}

/// The type of the stanza that an event becomes: what it was, or `chat`.
pub fn kept_type(content: &Value) -> &'static str {
    match content.get(KEEPSAKE).and_then(|kept| kept.get("type")).and_then(Value::as_str) {
        Some("normal") => "normal",
        _ => "chat",
    }
}

/// What an event says, as children of a message; `None` where it says nothing to people in XMPP. Reactions and redactions
/// are [`reactions`] and [`retraction`].
pub fn write(kind: &str, content: &Value, names: &impl Names) -> Option<Vec<Element>> {
    if let Some(payload) = kept(content) {
        return Some(payload);
    }
    match kind {
        "m.room.message" | "m.sticker" => {}
        "m.room.encrypted" => return Some(encrypted(content)),
        "m.poll.start" | "org.matrix.msc3381.poll.start" => {
            return Some(vec![text_child(&fallback_text(content)?)]);
        }
        _ => return None,
    }
    let relation = content.get("m.relates_to");
    let rel_type = relation.and_then(|relation| relation.get("rel_type")).and_then(Value::as_str);
    let target = |relation: &Value| OwnedEventId::try_from(relation.get("event_id")?.as_str()?).ok();
    if rel_type == Some("m.replace") {
        let new = content.get("m.new_content").unwrap_or(content);
        let mut children = body(kind, new, None, names)?;
        let edited = relation.and_then(target)?;
        children.push(Element::new("replace", ns::CORRECT).with_attr("id", names.name_of(&edited)));
        return Some(children);
    }
    let in_reply_to = relation.and_then(|relation| relation.get("m.in_reply_to"));
    let falls_back = relation.and_then(|relation| relation.get("is_falling_back")).and_then(Value::as_bool);
    let answered = in_reply_to.filter(|_| falls_back != Some(true)).and_then(target);
    let mut children = body(kind, content, answered.as_deref(), names)?;
    if let Some(root) = relation.filter(|_| rel_type == Some("m.thread")).and_then(target) {
        children.push(Element::text_of("thread", ns::CLIENT, root.as_str()));
    }
    Some(children)
}

/// The children that came with the stanza, if the event keeps any; with the body, wherever that was left out.
fn kept(content: &Value) -> Option<Vec<Element>> {
    let kept = content.get(KEEPSAKE)?;
    let of_edit = content.get("m.new_content");
    let said = of_edit.unwrap_or(content);
    let Some(payload) = kept.get("payload").and_then(Value::as_str) else {
        // Nothing but a body came: as it was, marks and all.
        let body = said.get("body")?.as_str()?;
        let is_emote = said.get("msgtype").and_then(Value::as_str) == Some("m.emote");
        return Some(vec![text_child(&if is_emote { format!("/me {body}") } else { body.to_owned() })]);
    };
    if payload.len() > PAYLOAD_BYTES_MAX {
        return None;
    }
    let xml = format!("<message xmlns='{}'>{payload}</message>", ns::CLIENT);
    let mut parsed = document(xml.as_bytes(), Limits::bytes(PAYLOAD_BYTES_MAX * 2)).ok()?;
    let mut children = parsed.take_children();
    children.retain(|child| !is_of_servers(child));
    let said_elsewhere = children.iter().any(|child| child.is("body", ns::CLIENT) && child.attributes().is_empty());
    if !said_elsewhere
        && !children.iter().any(|child| ENCRYPTED.iter().any(|(space, _)| *space == child.ns()))
        && let Some(body) = said.get("body").and_then(Value::as_str)
    {
        children.insert(0, text_child(body));
    }
    Some(children)
}

fn text_child(text: &str) -> Element {
    Element::text_of("body", ns::CLIENT, text)
}

/// `<body/>` and what belongs to it.
fn body(kind: &str, content: &Value, answered: Option<&EventId>, names: &impl Names) -> Option<Vec<Element>> {
    let field = |name: &str| content.get(name).and_then(Value::as_str);
    let msgtype = if kind == "m.sticker" { "m.image" } else { field("msgtype")? };
    let mut children = Vec::new();
    if matches!(msgtype, "m.image" | "m.video" | "m.audio" | "m.file")
        && let Some(children) = sharing::write(content, names)
    {
        return Some(children);
    }
    let is_html = field("format") == Some("org.matrix.custom.html");
    let of_mail = content.get(mail::KEEPSAKE);
    let (text, styled) = match (field("formatted_body").filter(|_| is_html), of_mail) {
        // What a mail quotes is folded in Matrix; here it is where the mail is.
        (Some(html), Some(of_mail)) => {
            let (seen, is_quoted) = mail::without_folds(html);
            let text = styling::to_text(&seen).trim().to_owned();
            let source = of_mail.get("source").and_then(Value::as_str).filter(|_| is_quoted);
            let source = source.and_then(|source| names.url_of(source, "mail.eml"));
            (source.map_or_else(|| text.clone(), |source| format!("{text}\n\n[with what it quotes: {source}]")), true)
        }
        (Some(html), None) => (styling::to_text(html), true),
        (None, _) => (field("body")?.to_owned(), false),
    };
    let text = match answered {
        Some(_) if !styled => without_old_quote(&text),
        _ => text,
    };
    let text = match msgtype {
        "m.emote" => format!("/me {text}"),
        "m.location" => field("geo_uri").map_or_else(|| text.clone(), |place| format!("{text} ({place})")),
        _ => text,
    };
    let quoted = answered.map(|event| (names.name_of(event), names.author_of(event)));
    let quote = match &quoted {
        Some((_, Some((_, said)))) if !said.is_empty() => {
            let said: String = said.chars().take(QUOTE_CHARS_MAX).collect();
            said.lines().map(|line| format!("> {line}\n")).collect()
        }
        _ => String::new(),
    };
    children.push(text_child(&format!("{quote}{text}")));
    if !styled && styling::to_html(&text).is_some() {
        children.push(Element::new("unstyled", UNSTYLED));
    }
    if let Some((id, author)) = quoted {
        let to = author.map(|(address, _)| address);
        children.push(Element::new("reply", ns::REPLY).with_attr_opt("to", to).with_attr("id", id));
        if !quote.is_empty() {
            // [XEP-0428] Counted in code points.
            let part = Element::new("body", ns::FALLBACK)
                .with_attr("start", "0")
                .with_attr("end", quote.chars().count().to_string());
            children.push(Element::new("fallback", ns::FALLBACK).with_attr("for", ns::REPLY).with_child(part));
        }
    }
    children.extend(mention::write(content, names));
    Some(children)
}

/// [XEP-0380] A message for other devices than those of XMPP says so.
fn encrypted(content: &Value) -> Vec<Element> {
    let scheme = content.get("algorithm").and_then(Value::as_str).unwrap_or("m.megolm.v1.aes-sha2");
    let label =
        Element::new("encryption", ns::EME).with_attr("namespace", scheme).with_attr("name", "Matrix encryption");
    vec![text_child("This message is encrypted, for the Matrix devices of its recipients."), label]
}

/// What an event of a type that we do not know says in words. [MSC1767]
fn fallback_text(content: &Value) -> Option<String> {
    let text = ["org.matrix.msc1767.text", "body"].iter().find_map(|key| content.get(*key)?.as_str());
    let nested = || content.get("m.text")?.get(0)?.get("body")?.as_str();
    text.or_else(nested).map(ToOwned::to_owned)
}

/// The body of an answer without the quote that older clients put in front of it.
fn without_old_quote(body: &str) -> String {
    if !body.starts_with("> <") {
        return body.to_owned();
    }
    let mut rest = body;
    while rest.starts_with("> ") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.strip_prefix('\n').unwrap_or(rest).to_owned()
}

/// The whole set of somebody's reactions to a message. [XEP-0444]
pub fn reactions(target: &str, keys: impl IntoIterator<Item = String>) -> Vec<Element> {
    let keys = keys.into_iter().take(REACTIONS_MAX).map(|key| Element::text_of("reaction", ns::REACTIONS, key));
    let reactions = Element::new("reactions", ns::REACTIONS).with_attr("id", target).with_children(keys);
    vec![reactions, Element::new("store", ns::HINTS)]
}

/// A message is taken back by who wrote it. [XEP-0424]
pub fn retraction(target: &str) -> Vec<Element> {
    let words = "A message was taken back, but your program does not show that.";
    vec![
        Element::new("retract", ns::RETRACT).with_attr("id", target),
        Element::new("fallback", ns::FALLBACK).with_attr("for", ns::RETRACT),
        text_child(words),
        Element::new("store", ns::HINTS),
    ]
}

/// What stands in the archive where a message was. [XEP-0424 §tombstones]
pub fn tombstone(stamp: &str, redaction: Option<&str>) -> Element {
    Element::new("retracted", ns::RETRACT).with_attr("stamp", stamp).with_attr_opt("id", redaction)
}

#[cfg(test)]
mod tests;
