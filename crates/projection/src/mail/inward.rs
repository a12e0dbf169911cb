//! A mail as events of a room: one for what it says, one for each file; or a reaction, or that something was read.
//!
//! | in the mail | in the room |
//! |---|---|
//! | `text/plain`, else `text/html` | `body`, without what is quoted and signed |
//! | `text/html`, else marks of quotes | `formatted_body`, with that folded (`html.rs`, `quote.rs`) |
//! | `Auto-Submitted`, other than `no` | `m.notice`, which programs do not answer [RFC 3834] |
//! | files, pictures, mails within the mail | `m.file`, `m.image` and so on, each an event |
//! | a part with the disposition `reaction` | `m.reaction` [RFC 9078] |
//! | a report that a mail was shown | `m.read` [RFC 8098] |
//! | `Message-ID`, `References`, lists, calendars | [`KEEPSAKE`] |
//!
//! # Losses
//!
//! | what | where it is still |
//! |---|---|
//! | text beyond [`BODY_BYTES_MAX`], files beyond [`FILES_MAX`] | in the source |
//! | signatures of S/MIME and OpenPGP: files, judged by nobody here; encrypted mails likewise | with who has the key |
//! | what archives hold: nothing is ever unpacked | in the file |

use std::fmt::Write as _;

use mail_parser::{
    Address as ParsedAddress, HeaderName, HeaderValue, Message, MessagePart, MimeHeaders as _, PartType,
};
use ruma_common::EventId;
use serde_json::{Map, Value, json};

use super::{Address, KEEPSAKE, html, quote};
use crate::styling;

/// Most bytes of text that an event says; an event has room for 65,536 of everything.
pub const BODY_BYTES_MAX: usize = 16_000;
/// Most bytes of HTML that an event says.
pub const HTML_BYTES_MAX: usize = 24_000;
/// Most files that become events.
pub const FILES_MAX: usize = 32;
/// Most parts of a mail that are looked at.
const PARTS_LOOK_MAX: usize = 10_000;
/// Most references that are kept: the first, and the newest.
const REFERENCES_MAX: usize = 20;
/// Most recipients that are kept.
pub const PEOPLE_MAX: usize = 100;
/// Longest Message-ID. [RFC 5322 §2.1.1]
const MESSAGE_ID_BYTES_MAX: usize = 500;
/// Longest subject, in characters.
const SUBJECT_CHARS_MAX: usize = 500;
/// Longest name of a person or file, in characters.
const NAME_CHARS_MAX: usize = 200;
/// Longest header that is kept as it is.
const HEADER_BYTES_MAX: usize = 500;
/// Most reactions of one mail.
const REACTIONS_MAX: usize = 8;
/// Longest reaction, in bytes: families of emoji are long.
const REACTION_BYTES_MAX: usize = 64;
/// Headers that are kept, for programs that know what to do with them.
const KEPT_HEADERS: &[&str] = &[
    "List-Id",
    "List-Post",
    "List-Archive",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Help",
    "List-Subscribe",
    "Auto-Submitted",
    "Precedence",
    "Content-Class",
    "X-Mailer",
    "User-Agent",
    "Chat-Version",
    "Importance",
    "Reply-To",
    // Who wants to be told that it was read. [RFC 8098 §2.1]
    "Disposition-Notification-To",
];

/// Somebody that a mail names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Their address.
    pub address: Address,
    /// What they are called, by whoever wrote the mail.
    pub name: Option<String>,
}

/// A file of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its part.
    pub part: u32,
    /// Its name.
    pub name: String,
    /// Its content type.
    pub mime: String,
    /// By what the HTML names it.
    pub content_id: Option<String>,
}

/// What a mail is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Somebody says something.
    Said {
        /// In plain text.
        text: quote::Parts,
        /// In HTML.
        html: Option<String>,
        /// With files.
        files: Vec<File>,
        /// Files that are only in the source.
        left_out: usize,
    },
    /// Reactions to the mail that this one answers.
    Reactions(Vec<String>),
    /// The mails with these names were shown to somebody.
    Read(Vec<String>),
    /// What became of a mail that somebody sent.
    Report,
}

/// What a mail says, apart from where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inward {
    /// Its name, in brackets.
    pub message_id: Option<String>,
    /// What it answers.
    pub in_reply_to: Vec<String>,
    /// The conversation that it is in, oldest first.
    pub references: Vec<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// When it was written, by its own account.
    pub date_ms: Option<u64>,
    /// Its author, where there is exactly one.
    pub author: Option<Named>,
    /// To whom it is.
    pub to: Vec<Named>,
    /// And to whom else.
    pub cc: Vec<Named>,
    /// Headers that are kept.
    pub headers: Map<String, Value>,
    /// No person wrote it.
    pub is_automatic: bool,
    /// The rest.
    pub what: What,
}

/// Reads a mail.
pub fn read(message: &Message<'_>) -> Inward {
    let authors = message.headers().iter().filter(|header| header.name == HeaderName::From).count();
    let author = match people(message.from()) {
        mut from if from.len() == 1 && authors == 1 => from.pop(),
        _ => None,
    };
    let names = |value: &HeaderValue<'_>| -> Vec<String> {
        let texts: Vec<&str> = match value {
            HeaderValue::Text(text) => vec![text],
            HeaderValue::TextList(texts) => texts.iter().map(AsRef::as_ref).collect(),
            _ => Vec::new(),
        };
        texts.into_iter().filter_map(bracketed).collect()
    };
    let mut references = names(message.references());
    if references.len() > REFERENCES_MAX {
        references.drain(1..references.len() - REFERENCES_MAX + 1);
    }
    let mut in_reply_to = names(message.in_reply_to());
    in_reply_to.truncate(REFERENCES_MAX);
    let headers = kept_headers(message);
    let automatic = headers.get("Auto-Submitted").and_then(Value::as_str).map(str::to_ascii_lowercase);
    Inward {
        message_id: message.message_id().and_then(bracketed),
        in_reply_to,
        references,
        subject: message
            .subject()
            .map(|subject| clean(subject, SUBJECT_CHARS_MAX))
            .filter(|subject| !subject.is_empty()),
        date_ms: message
            .date()
            .and_then(|date| u64::try_from(date.to_timestamp()).ok())
            .map(|at| at.saturating_mul(1000)),
        author,
        to: people(message.to()),
        cc: people(message.cc()),
        is_automatic: automatic.is_some_and(|value| !value.starts_with("no")),
        headers,
        what: what(message),
    }
}

/// The list that a mail came by, if it did. [RFC 2369] [RFC 2919]
pub fn list(mail: &Inward) -> Option<Named> {
    let id = mail.headers.get("List-Id")?.as_str()?;
    let post = mail.headers.get("List-Post")?.as_str()?;
    let address = post.split_once("<mailto:")?.1.split(['>', '?']).next()?;
    let name = id.split('<').next().unwrap_or_default().trim().trim_matches('"');
    Some(Named { address: Address::parse(address)?, name: (!name.is_empty()).then(|| clean(name, NAME_CHARS_MAX)) })
}

/// The subject without what answers and forwards put in front of it, for comparing.
pub fn bare_subject(subject: &str) -> String {
    const MARKS: &[&str] =
        &["re", "aw", "wg", "fw", "fwd", "sv", "vs", "antw", "tr", "rif", "odp", "ynt", "res", "enc"];
    let mut rest = subject.trim();
    while let Some((mark, after)) = rest.split_once([':', '：']) {
        let mark = mark.trim().split('[').next().unwrap_or_default().to_lowercase();
        if !MARKS.contains(&mark.as_str()) {
            break;
        }
        rest = after.trim();
    }
    rest.to_lowercase()
}

fn bracketed(id: &str) -> Option<String> {
    let id = id.trim().trim_start_matches('<').trim_end_matches('>');
    let fine =
        !id.is_empty() && id.len() <= MESSAGE_ID_BYTES_MAX && !id.chars().any(|c| c.is_control() || c.is_whitespace());
    fine.then(|| format!("<{id}>"))
}

fn people(addresses: Option<&ParsedAddress<'_>>) -> Vec<Named> {
    let Some(addresses) = addresses else { return Vec::new() };
    let named = addresses.iter().filter_map(|one| {
        let text = one.address.as_deref()?.trim();
        // Quotes may have gone with the reading.
        let bare = || text.rsplit_once('@').and_then(|(local, domain)| Address::new(local.trim_matches('"'), domain));
        let name = one.name.as_deref();
        if let Some(address) = Address::parse(text).or_else(bare) {
            let name = name.map(|name| clean(name, NAME_CHARS_MAX)).filter(|name| !name.is_empty());
            return Some(Named { address, name });
        }
        // A local part in quotes (`"bob b"@mail.example`) was taken for a name.
        let address = Address::new(name?, text.strip_prefix('@')?)?;
        Some(Named { address, name: None })
    });
    named.take(PEOPLE_MAX + 1).collect()
}

/// One line of text that a stranger wrote: without what is not to be seen, or turns the line round.
fn clean(text: &str, chars_max: usize) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let spaced: String =
        text.chars().map(|c| if c == '\n' || c == '\t' { ' ' } else { c }).filter(|c| !is_odd(*c)).collect();
    spaced.trim().chars().take(chars_max).collect()
}

fn kept_headers(message: &Message<'_>) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in message.headers_raw() {
        let Some(name) = KEPT_HEADERS.iter().find(|kept| kept.eq_ignore_ascii_case(name.trim())) else { continue };
        let value = clean(value, HEADER_BYTES_MAX);
        if !value.is_empty() && value.len() <= HEADER_BYTES_MAX {
            kept.entry(*name).or_insert_with(|| json!(value));
        }
    }
    let parts = message.parts.iter().take(PARTS_LOOK_MAX);
    let calendar = parts.filter_map(|part| part.content_type()).find(|kind| is_kind(kind, "text", "calendar"));
    if let Some(calendar) = calendar {
        let method = clean(calendar.attribute("method").unwrap_or("PUBLISH"), 32);
        kept.insert("Calendar-Method".into(), json!(method));
    }
    kept
}

fn is_kind(kind: &mail_parser::ContentType<'_>, ctype: &str, subtype: &str) -> bool {
    kind.ctype().eq_ignore_ascii_case(ctype) && kind.subtype().is_some_and(|sub| sub.eq_ignore_ascii_case(subtype))
}

fn what(message: &Message<'_>) -> What {
    if let Some(kind) = message.root_part().content_type().filter(|kind| is_kind(kind, "multipart", "report")) {
        match kind.attribute("report-type").map(str::to_ascii_lowercase).as_deref() {
            Some("disposition-notification") => return What::Read(shown(message)),
            Some("delivery-status") => return What::Report,
            _ => {}
        }
    }
    let reaction = message.parts.iter().take(PARTS_LOOK_MAX).find(|part| {
        part.content_disposition().is_some_and(|disposition| disposition.ctype().eq_ignore_ascii_case("reaction"))
    });
    if let Some(reactions) = reaction.and_then(reactions) {
        return What::Reactions(reactions);
    }
    words(message)
}

/// What a mail says in words, be it a reaction or not: as programs show it that know nothing else. [RFC 9078 §3]
pub fn words(message: &Message<'_>) -> What {
    let (files, left_out) = files(message);
    What::Said { text: text(message), html: rich(message), files, left_out }
}

/// The mails that a report says were shown. [RFC 8098 §3]
fn shown(message: &Message<'_>) -> Vec<String> {
    let report = message
        .parts
        .iter()
        .take(PARTS_LOOK_MAX)
        .find(|part| part.content_type().is_some_and(|kind| is_kind(kind, "message", "disposition-notification")));
    let Some(report) = report else { return Vec::new() };
    let raw = message.raw_message.get(report.offset_body as usize..report.offset_end as usize).unwrap_or_default();
    let text = match report.contents() {
        [] => String::from_utf8_lossy(raw),
        contents => String::from_utf8_lossy(contents),
    };
    let mut names = Vec::new();
    let mut was_shown = false;
    for line in text.lines().take(100) {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "original-message-id" => names.extend(bracketed(value)),
            "disposition" => was_shown |= value.to_ascii_lowercase().contains("displayed"),
            _ => {}
        }
    }
    if was_shown { names } else { Vec::new() }
}

/// The reactions of such a part: emoji and nothing else. [RFC 9078 §2]
fn reactions(part: &MessagePart<'_>) -> Option<Vec<String>> {
    let text = part.text_contents()?;
    let keys: Vec<String> = text.split_whitespace().take(REACTIONS_MAX + 1).map(ToOwned::to_owned).collect();
    let is_emoji =
        |key: &String| key.len() <= REACTION_BYTES_MAX && !key.is_ascii() && !key.chars().any(char::is_alphabetic);
    (!keys.is_empty() && keys.len() <= REACTIONS_MAX && keys.iter().all(is_emoji)).then_some(keys)
}

/// The text of a mail, in its parts.
fn text(message: &Message<'_>) -> quote::Parts {
    let mut together = String::new();
    for part in message.text_body.iter().take(FILES_MAX).filter_map(|id| message.part(*id)) {
        let (PartType::Text(text), true) = (&part.body, together.len() < BODY_BYTES_MAX * 8) else { continue };
        let kind = part.content_type();
        let flowed =
            kind.and_then(|kind| kind.attribute("format")).is_some_and(|format| format.eq_ignore_ascii_case("flowed"));
        let del_sp = kind.and_then(|kind| kind.attribute("delsp")).is_some_and(|sp| sp.eq_ignore_ascii_case("yes"));
        if !together.is_empty() {
            together.push('\n');
        }
        // What is cut off here no event has room for.
        let text = cut(text, BODY_BYTES_MAX * 8).0;
        together.push_str(&if flowed { quote::unflowed(text, del_sp) } else { text.to_owned() });
    }
    let visible: String = together.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t')).collect();
    quote::parts(&visible)
}

/// The HTML of a mail, where it has any of its own.
fn rich(message: &Message<'_>) -> Option<String> {
    let parts = message.html_body.iter().take(FILES_MAX).filter_map(|id| message.part(*id));
    let rich: Vec<&str> =
        parts.filter_map(|part| if let PartType::Html(html) = &part.body { Some(&**html) } else { None }).collect();
    (!rich.is_empty()).then(|| rich.join("<br>"))
}

/// The files of a mail, and how many more there are.
fn files(message: &Message<'_>) -> (Vec<File>, usize) {
    let mut files = Vec::new();
    let mut left_out = 0;
    for id in message.attachments.iter().copied() {
        let Some(part) = message.part(id) else { continue };
        if matches!(part.body, PartType::Multipart(_)) || part.is_empty() {
            continue;
        }
        if files.len() >= FILES_MAX {
            left_out += 1;
            continue;
        }
        let mime = part.content_type().map(|kind| {
            let subtype = kind.subtype().unwrap_or("octet-stream");
            clean(&format!("{}/{subtype}", kind.ctype()).to_ascii_lowercase(), 100)
        });
        let mime = mime.unwrap_or_else(|| "application/octet-stream".to_owned());
        let name = part.attachment_name().map(|name| clean(name, NAME_CHARS_MAX));
        // A name is a name, and no path.
        let name = name.map(|name| name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned());
        let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| unnamed(&mime).to_owned());
        let content_id = part.content_id().map(|id| id.trim_matches(['<', '>']).to_owned());
        files.push(File { part: id, name, mime, content_id });
    }
    (files, left_out)
}

fn unnamed(mime: &str) -> &'static str {
    match mime {
        "image/png" => "picture.png",
        "image/jpeg" => "picture.jpg",
        "image/gif" => "picture.gif",
        "text/calendar" => "invitation.ics",
        "message/rfc822" => "mail.eml",
        "text/plain" => "text.txt",
        "text/html" => "page.html",
        "application/pgp-signature" => "signature.asc",
        "application/pkcs7-signature" => "signature.p7s",
        _ => "file",
    }
}

/// The bytes of a file.
pub fn bytes<'a>(message: &'a Message<'_>, file: &File) -> &'a [u8] {
    let Some(part) = message.part(file.part) else { return &[] };
    match &part.body {
        PartType::Message(_) => {
            message.raw_message.get(part.offset_body as usize..part.offset_end as usize).unwrap_or_default()
        }
        _ => part.contents(),
    }
}

/// Where a file of a mail was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its address.
    pub mxc: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What an event of a mail depends on beside the mail.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Where its files were put, in their order.
    pub files: &'a [Stored],
    /// Where the whole mail was put.
    pub source: &'a str,
    /// What was found out about the sender.
    pub verdict: &'a Value,
    /// Lines above the text: a warning, the subject where a conversation begins.
    pub above: Vec<String>,
    /// `m.relates_to`.
    pub relation: Option<&'a Value>,
}

impl Inward {
    /// The contents of the events of `m.room.message` that a mail which says something becomes: what it says, and its files.
    pub fn contents(&self, place: &Place<'_>) -> Vec<Value> {
        let What::Said { text, html, files, left_out } = &self.what else { return Vec::new() };
        let mut contents = Vec::new();
        let said = self.said(text, html.as_deref(), (files, *left_out), place);
        if let Some(said) = said {
            contents.push(said);
        }
        for (number, (file, stored)) in files.iter().zip(place.files).enumerate() {
            let kind = match file.mime.split('/').next() {
                Some("image") => "m.image",
                Some("video") => "m.video",
                Some("audio") => "m.audio",
                _ => "m.file",
            };
            let mut content = json!({
                "msgtype": kind, "body": file.name, "filename": file.name, "url": stored.mxc,
                "info": { "mimetype": file.mime, "size": stored.size },
            });
            self.mark(&mut content, place, Some(number));
            contents.push(content);
        }
        contents
    }

    /// What the text says. `None` for a mail of files alone.
    fn said(
        &self,
        text: &quote::Parts,
        html: Option<&str>,
        (files, left_out): (&[File], usize),
        place: &Place<'_>,
    ) -> Option<Value> {
        let picture = |id: &str| {
            let at = files.iter().position(|file| file.content_id.as_deref() == Some(id))?;
            place.files.get(at).map(|stored| stored.mxc.clone())
        };
        let shown = html.map(|html| html::shown(html, &picture));
        let mut body = match (&shown, text.said.trim().is_empty()) {
            (Some(shown), true) => styling::to_text(&shown.visible).trim().to_owned(),
            _ => text.said.clone(),
        };
        let mut rich = match shown {
            Some(shown) if shown.html.len() <= HTML_BYTES_MAX => Some(shown.html.trim().to_owned()),
            _ => folded(text),
        };
        let (kept, is_cut) = cut(&body, BODY_BYTES_MAX);
        if is_cut {
            body = format!("{}\n\n[cut here: the whole text is in the source of the mail]", kept.trim_end());
            rich = None;
        }
        if left_out > 0 {
            let note = format!("[{left_out} more files are in the source of the mail]");
            let _ = write!(body, "\n\n{note}");
            if let Some(rich) = &mut rich {
                let _ = write!(rich, "<p>{note}</p>");
            }
        }
        if body.is_empty() && place.above.is_empty() && !files.is_empty() {
            return None;
        }
        for line in place.above.iter().rev() {
            body = if body.is_empty() { line.clone() } else { format!("{line}\n\n{body}") };
            if let Some(rich) = &mut rich {
                let mut above = String::from("<p><strong>");
                styling::escape(line, &mut above);
                above.push_str("</strong></p>");
                rich.insert_str(0, &above);
            }
        }
        if body.is_empty() {
            body.push_str("(an empty mail)");
        }
        let mut content = json!({ "msgtype": if self.is_automatic { "m.notice" } else { "m.text" }, "body": body });
        if let Some(rich) = rich {
            content["format"] = json!("org.matrix.custom.html");
            content["formatted_body"] = json!(rich);
        }
        self.mark(&mut content, place, None);
        Some(content)
    }

    /// Writes down where an event came from, and what it belongs to.
    fn mark(&self, content: &mut Value, place: &Place<'_>, part: Option<usize>) {
        let addresses = |people: &[Named]| -> Vec<String> {
            people.iter().take(PEOPLE_MAX).map(|one| one.address.to_string()).collect()
        };
        let mut kept = json!({ "verdict": place.verdict, "source": place.source });
        if let Some(id) = &self.message_id {
            kept["message_id"] = json!(id);
        }
        if let Some(author) = &self.author {
            kept["from"] = json!(author.address.to_string());
            if let Some(name) = &author.name {
                kept["name"] = json!(name);
            }
        }
        if let Some(subject) = &self.subject {
            kept["subject"] = json!(subject);
        }
        match part {
            Some(part) => kept["part"] = json!(part),
            None => {
                kept["in_reply_to"] = json!(self.in_reply_to);
                kept["references"] = json!(self.references);
                kept["to"] = json!(addresses(&self.to));
                kept["cc"] = json!(addresses(&self.cc));
                kept["headers"] = json!(self.headers);
                if let Some(date) = self.date_ms {
                    kept["date"] = json!(date);
                }
            }
        }
        content[KEEPSAKE] = kept;
        if let Some(relation) = place.relation {
            content["m.relates_to"] = relation.clone();
        }
    }
}

/// Plain text with its quotes and signature folded; `None` where there are none, so that plain text stays plain.
fn folded(text: &quote::Parts) -> Option<String> {
    if text.quoted.is_empty() && text.signature.is_empty() {
        return None;
    }
    let mut html = String::new();
    styling::escape(&text.said, &mut html);
    for (summary, folded) in [("Signature", &text.signature), ("Quoted text", &text.quoted)] {
        if folded.is_empty() {
            continue;
        }
        let _ = write!(html, "<details><summary>{summary}</summary>");
        styling::escape(folded, &mut html);
        html.push_str("</details>");
    }
    (html.len() <= HTML_BYTES_MAX).then_some(html)
}

/// The first bytes of a text, whole characters only; and whether that is not all.
fn cut(text: &str, bytes_max: usize) -> (&str, bool) {
    if text.len() <= bytes_max {
        return (text, false);
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (text.get(..end).unwrap_or_default(), true)
}

/// `m.relates_to` of a mail that answers `parent` in the thread that began with `root`.
pub fn relation(root: &EventId, parent: &EventId) -> Value {
    json!({
        "rel_type": "m.thread", "event_id": root, "is_falling_back": false,
        "m.in_reply_to": { "event_id": parent },
    })
}

#[cfg(test)]
mod tests;
