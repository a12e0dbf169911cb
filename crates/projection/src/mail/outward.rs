//! Out of a room into mail: what events say in a mail's words. The way back is `inward.rs`; names are `id.rs`.
//!
//! | Matrix | mail |
//! |---|---|
//! | lines of one author | one text, and the same as HTML where a line had any |
//! | thread, answer | `In-Reply-To`, `References`, subject `Re: …` |
//! | name of the room, or nothing | subject of a conversation that begins here: the name, or `Chat with …` |
//! | file | attachment, or a link that runs out |
//! | reaction | a part of its own kind [RFC 9078] |
//! | edit after sending | a further mail that says so |
//!
//! # Losses
//!
//! | what | |
//! |---|---|
//! | colours, spoilers, mentions as links | their text remains |
//! | polls, places | their text remains |
//! | that something was taken back after it was sent | a mail stays where it is |
//!
//! Everything that goes into a header passes [`header_text`]: no line can be broken there, whoever wrote it.

use std::collections::HashSet;

use serde_json::Value;

use crate::cost::looked;

/// Longest subject, in characters: what fits on a line of most programs.
pub const SUBJECT_CHARS_MAX: usize = 120;
/// Longest display name, in characters.
pub const NAME_CHARS_MAX: usize = 80;
/// Longest name of a file, in characters.
pub const FILE_NAME_CHARS_MAX: usize = 120;
/// Message-IDs that `References` names at most: the first, and the newest. [RFC 5322 §3.6.4]
pub const REFERENCES_MAX: usize = 20;
/// Elements of HTML that may stand open within each other.
const OPEN_MAX: usize = 64;

/// A file that an event shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its address in Matrix.
    pub mxc: String,
    /// Its name, fit for a header.
    pub name: String,
    /// Its content type, fit for a header.
    pub mime: String,
}

/// What one event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// As text.
    pub text: String,
    /// As HTML, if the author wrote any; of [`tame`] kind.
    pub html: Option<String>,
    /// The file.
    pub file: Option<Shown>,
    /// The file cannot be had: it is encrypted.
    pub sealed: bool,
    /// Said by a program.
    pub automatic: bool,
}

/// What the content of an event of type `m.room.message` or `m.sticker` says; `None` where that is nothing for a mail.
pub fn line(kind: &str, content: &Value) -> Option<Line> {
    let field = |name: &str| content.get(name).and_then(Value::as_str);
    let msgtype = if kind == "m.sticker" { "m.image" } else { field("msgtype")? };
    let body = field("body").unwrap_or_default();
    if matches!(msgtype, "m.image" | "m.file" | "m.audio" | "m.video") {
        let name = field("filename").unwrap_or(body);
        let caption = (field("filename").is_some() && body != name).then(|| body.to_owned());
        let mime = content.get("info").and_then(|info| info.get("mimetype")).and_then(Value::as_str);
        let file = field("url").map(|mxc| Shown {
            mxc: mxc.to_owned(),
            name: file_name(name),
            mime: mime.filter(|mime| is_mime(mime)).unwrap_or("application/octet-stream").to_owned(),
        });
        let sealed = file.is_none() && content.get("file").is_some();
        return Some(Line { text: caption.unwrap_or_default(), html: None, file, sealed, automatic: false });
    }
    let answers = content.get("m.relates_to").and_then(|relation| relation.get("m.in_reply_to")).is_some();
    let mut text = if answers { without_quote(body) } else { body }.to_owned();
    let is_html = field("format") == Some("org.matrix.custom.html");
    let mut html = field("formatted_body").filter(|_| is_html).map(tame);
    match msgtype {
        "m.emote" => {
            text = format!("* {text}");
            html = html.map(|html| format!("* {html}"));
        }
        "m.location" => {
            if let Some(place) = field("geo_uri") {
                text = format!("{text}\n{place}");
            }
        }
        _ => {}
    }
    Some(Line { text, html, file: None, sealed: false, automatic: msgtype == "m.notice" })
}

/// The body of an answer without the quote that older clients put in front of it.
fn without_quote(body: &str) -> &str {
    if !body.starts_with("> <") {
        return body;
    }
    let mut rest = body;
    while rest.starts_with("> ") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.strip_prefix('\n').unwrap_or(rest)
}

/// The lines as one text, and as HTML if any of them has some.
pub fn joined(lines: &[Line]) -> (String, Option<String>) {
    let said = || lines.iter().filter(|line| !line.text.trim().is_empty() || line.html.is_some());
    let text: Vec<&str> = said().map(|line| line.text.as_str()).collect();
    let text = text.join("\n");
    let html = said().any(|line| line.html.is_some()).then(|| {
        let parts = said().map(|line| match &line.html {
            Some(html) => format!("<div>{html}</div>\n"),
            None => format!("<div>{}</div>\n", escaped(&line.text)),
        });
        parts.collect()
    });
    (text, html)
}

/// The text as HTML says it.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 8);
    crate::styling::escape(text, &mut html);
    html
}

/// Text that may stand in a header: no line ends in it, nor anything else that steers; blanks in a row are one.
pub fn header_text(text: &str, chars_max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(chars_max * 4));
    let mut taken = 0;
    let mut blank = true;
    for c in text.chars() {
        // Also what turns writing round, and what is not seen at all: names are to be what they look like.
        let unseen =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        let c = if c.is_control() || c.is_whitespace() || unseen { ' ' } else { c };
        if c == ' ' && blank {
            continue;
        }
        if taken == chars_max {
            clean.truncate(clean.trim_end().len());
            clean.push('…');
            return clean;
        }
        blank = c == ' ';
        clean.push(c);
        taken += 1;
    }
    clean.truncate(clean.trim_end().len());
    clean
}

/// A name for an attachment: no path, nothing hidden, nothing empty.
pub fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean = header_text(last, FILE_NAME_CHARS_MAX).replace(['"', '\u{0}'], "_");
    let clean = clean.trim_start_matches('.');
    if clean.is_empty() { "file".to_owned() } else { clean.to_owned() }
}

/// Whether a text is a content type and nothing more. [RFC 2045 §5.1]
fn is_mime(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part.len() <= 127
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    // A part of many parts is for who takes them apart, and a message in a message is no file of ours.
    let is_composed = text.starts_with("multipart/") || text.starts_with("message/");
    !is_composed && text.split_once('/').is_some_and(|(kind, sub)| token(kind) && token(sub))
}

/// What a conversation is about.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// It answers a mail with this subject.
    Answer(&'a str),
    /// It stands in a thread that began with this text.
    Thread(&'a str),
    /// It is said in a room with this name.
    Room(&'a str),
    /// Nothing is known but who speaks.
    Chat(&'a str),
}

/// The subject; `again` for all mails of a conversation but the first.
pub fn subject(about: About<'_>, again: bool) -> String {
    let (text, again) = match about {
        About::Answer(subject) => (header_text(without_re(subject), SUBJECT_CHARS_MAX), true),
        About::Thread(text) => (header_text(text.lines().next().unwrap_or_default(), 60), again),
        About::Room(name) => (header_text(name, SUBJECT_CHARS_MAX), again),
        About::Chat(name) => (format!("Chat with {}", header_text(name, NAME_CHARS_MAX)), again),
    };
    let text = if text.is_empty() { "(no subject)".to_owned() } else { text };
    if again { format!("Re: {text}") } else { text }
}

/// A subject without the marks of answers in front of it.
fn without_re(subject: &str) -> &str {
    let mut rest = subject.trim();
    // COMPAT: some programs say it in their own language.
    for _ in 0..8 {
        let Some((mark, more)) = rest.split_once(':') else { break };
        if !["re", "aw", "sv", "antw", "odp", "rif", "res", "vs"].contains(&mark.trim().to_ascii_lowercase().as_str()) {
            break;
        }
        rest = more.trim_start();
    }
    rest
}

/// `References` of a mail that answers one with these references and this Message-ID. [RFC 5322 §3.6.4]
pub fn references(of_parent: &[String], parent: &str) -> Vec<String> {
    let ids = of_parent.iter().map(String::as_str).chain([parent]).filter(|id| is_message_id(id));
    let mut known = HashSet::new();
    let mut all: Vec<&str> = ids.filter(|id| known.insert(*id)).collect();
    if all.len() > REFERENCES_MAX {
        all.drain(1..=all.len() - REFERENCES_MAX);
    }
    all.into_iter().map(ToOwned::to_owned).collect()
}

/// Whether a text, without angle brackets, may stand as a Message-ID: what others sent is not always one.
pub fn is_message_id(id: &str) -> bool {
    id.len() <= 900
        && id.contains('@')
        && id.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, '<' | '>' | ','))
}

/// HTML of which nothing is left but marks on text: no scripts, no styles, no pictures, no addresses but of the web and of
/// mail. What is opened is closed. A tag that does not end is text, and so is all behind it: for readers of HTML it would be
/// within that tag.
pub fn tame(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut open: Vec<&'static str> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        text(&mut out, &rest[..at]);
        rest = &rest[at..];
        let tag = match Tag::read(rest) {
            Ok(tag) => tag,
            Err(NoTag::Text) => {
                out.push_str("&lt;");
                rest = &rest[1..];
                continue;
            }
            Err(NoTag::Unended) => break,
        };
        rest = &rest[tag.length..];
        if !tag.closes && matches!(tag.name.as_str(), "mx-reply" | "script" | "style" | "title" | "template") {
            rest = behind(rest, &tag.name);
            continue;
        }
        let Some(name) = TAMED.iter().find(|known| **known == tag.name) else { continue };
        if matches!(*name, "br" | "hr") {
            out.push_str(&format!("<{name}>"));
        } else if !tag.closes {
            if open.len() == OPEN_MAX {
                continue;
            }
            match tag.address.filter(|_| *name == "a") {
                Some(address) => out.push_str(&format!("<a href=\"{}\">", escaped(&address))),
                None => out.push_str(&format!("<{name}>")),
            }
            open.push(name);
        } else if let Some(depth) = open.iter().rposition(|opened| opened == name) {
            for name in open.drain(depth..).rev() {
                out.push_str(&format!("</{name}>"));
            }
        }
    }
    text(&mut out, rest);
    for name in open.into_iter().rev() {
        out.push_str(&format!("</{name}>"));
    }
    out
}

/// Elements that stay.
const TAMED: &[&str] = &[
    "a",
    "b",
    "strong",
    "i",
    "em",
    "u",
    "s",
    "del",
    "strike",
    "code",
    "pre",
    "p",
    "br",
    "hr",
    "ul",
    "ol",
    "li",
    "blockquote",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "sub",
    "sup",
    "table",
    "thead",
    "tbody",
    "tr",
    "td",
    "th",
    "details",
    "summary",
];

/// Text between marks; entities stay what they are.
fn text(out: &mut String, text: &str) {
    out.push_str(&text.replace('<', "&lt;").replace('>', "&gt;"));
}

/// What is left after the end of an element whose content is not for reading.
fn behind<'a>(html: &'a str, name: &str) -> &'a str {
    let ends = |at: &usize| {
        let named = html.as_bytes().get(at + 2..at + 2 + name.len());
        named.is_some_and(|named| named.eq_ignore_ascii_case(name.as_bytes()))
    };
    let at = html.match_indices("</").map(|(at, _)| at).find(ends);
    looked(at.unwrap_or(html.len()));
    let Some(at) = at else { return "" };
    let end = html[at..].find('>').map_or(html.len(), |end| at + end + 1);
    &html[end..]
}

/// Why a `<` begins no tag.
enum NoTag {
    /// What follows is no name.
    Text,
    /// It has no end.
    Unended,
}

struct Tag {
    name: String,
    closes: bool,
    address: Option<String>,
    length: usize,
}

impl Tag {
    fn read(html: &str) -> Result<Self, NoTag> {
        let inner = html.strip_prefix('<').ok_or(NoTag::Text)?;
        if let Some(comment) = inner.strip_prefix("!--") {
            let length = comment.find("-->").map_or(html.len(), |end| end + 7);
            return Ok(Self { name: String::new(), closes: false, address: None, length });
        }
        let (closes, inner) = inner.strip_prefix('/').map_or((false, inner), |inner| (true, inner));
        if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(NoTag::Text);
        }
        let name_length = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(inner.len());
        let name = inner[..name_length].to_ascii_lowercase();
        let attributes = &inner[name_length..];
        let end = end_of_tag(attributes).ok_or(NoTag::Unended)?;
        let address = attribute(&attributes[..end], "href").filter(|address| is_harmless(address));
        Ok(Self { name, closes, address, length: 1 + usize::from(closes) + name_length + end + 1 })
    }
}

/// Where the `>` is that ends a tag: not within quotes.
fn end_of_tag(attributes: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in attributes.char_indices() {
        looked(1);
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

fn attribute(attributes: &str, name: &str) -> Option<String> {
    let lower = attributes.to_ascii_lowercase();
    let at = lower.find(&format!("{name}="))?;
    // `data-href=` is another.
    if !lower[..at].ends_with(|c: char| c.is_ascii_whitespace() || c == '"' || c == '\'') {
        return None;
    }
    let value = &attributes[at + name.len() + 1..];
    let value = match value.chars().next()? {
        quote @ ('"' | '\'') => value[1..].split(quote).next()?,
        _ => value.split(|c: char| c.is_ascii_whitespace()).next()?,
    };
    Some(value.replace("&amp;", "&").replace("&quot;", "\"").replace("&#39;", "'"))
}

fn is_harmless(address: &str) -> bool {
    let lower = address.trim().to_ascii_lowercase();
    ["https://", "http://", "mailto:"].iter().any(|scheme| lower.starts_with(scheme))
        && !lower.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cost::steps;

    #[test]
    fn html_is_looked_at_a_few_times_whatever_it_repeats() {
        for piece in [
            "<a",
            "<a ",
            "<",
            "<a \"",
            "<a '\"",
            "<a>",
            "</a>",
            "<a href=",
            "<script>",
            "<script></script>",
            "</script",
            "<!--",
            "<!-->",
            "<mx-reply></mx-reply>",
            "<b",
            "<1",
            ">",
            "&",
        ] {
            let html = piece.repeat(3_000);
            let (_, steps) = steps(|| tame(&html));
            assert!(steps <= 4 * html.len(), "{piece:?}: {steps} steps for {} bytes", html.len());
        }
        // What others say that a mail refers to may be much, too.
        let many: Vec<String> = (0..100_000).map(|n| format!("{n}@x.example")).collect();
        assert_eq!(references(&many, "last@x.example").len(), REFERENCES_MAX);
    }

    #[test]
    fn subjects_say_what_it_is_about() {
        assert_eq!(subject(About::Answer("RE: AW: Lunch"), false), "Re: Lunch");
        assert_eq!(subject(About::Thread("Plans\nfor May"), true), "Re: Plans");
        assert_eq!(subject(About::Room("Team"), false), "Team");
        assert_eq!(subject(About::Chat("Alice"), false), "Chat with Alice");
        assert_eq!(subject(About::Answer(""), true), "Re: (no subject)");
        assert_eq!(subject(About::Answer("Request: help"), true), "Re: Request: help");
    }

    #[test]
    fn nothing_breaks_out_of_a_header() {
        assert_eq!(header_text("a\r\nBcc: x@y.z\0\u{202e}b", 100), "a Bcc: x@y.z b");
        assert_eq!(header_text("abcdef", 3), "abc…");
        assert_eq!(file_name("../../etc/passwd"), "passwd");
        assert_eq!(file_name("..\\.bashrc"), "bashrc");
        assert_eq!(file_name("\r\n"), "file");
        assert!(is_mime("image/png") && !is_mime("image/png\r\nX: y") && !is_mime("multipart/mixed") && !is_mime("a/"));
    }

    #[test]
    fn references_stay_short_and_keep_their_root() {
        let many: Vec<String> = (0..50).map(|n| format!("{n}@x.example")).collect();
        let all = references(&many, "last@x.example");
        assert_eq!(all.len(), REFERENCES_MAX);
        assert_eq!((all[0].as_str(), all[19].as_str()), ("0@x.example", "last@x.example"));
        assert_eq!(references(&["a b@c".into(), "d@e\r\nX: y".into()], "f@g"), ["f@g"]);
    }

    #[test]
    fn tamed_html_keeps_marks_and_loses_the_rest() {
        for (wild, tamed) in [
            ("<b>a</b> & <i>c", "<b>a</b> & <i>c</i>"),
            (
                "<a href=\"https://x.example/?a=1&amp;b\" onclick=x>y</a>",
                "<a href=\"https://x.example/?a=1&amp;b\">y</a>",
            ),
            ("<a href='javascript:alert(1)'>y</a>", "<a>y</a>"),
            ("<script>alert(1)</script>z<!-- <b> -->", "z"),
            ("<mx-reply><blockquote>old</blockquote></mx-reply>new", "new"),
            ("<img src=x onerror=y>1 < 2 > 0", "1 &lt; 2 &gt; 0"),
            ("</b></p>x", "x"),
            ("<b", "&lt;b"),
            ("<b>x</b> <a \"<i>y</i>", "<b>x</b> &lt;a \"&lt;i&gt;y&lt;/i&gt;"),
            ("1 <2 <b>x</b>", "1 &lt;2 <b>x</b>"),
            ("<SCRIPT>x</Script >y", "y"),
            ("<span data-mx-color='#f00'>red</span>", "red"),
        ] {
            assert_eq!(tame(wild), tamed, "{wild}");
        }
    }

    #[test]
    fn lines_become_one_text() {
        let said = |content: Value| line("m.room.message", &content).expect("it says something");
        let plain = said(json!({ "msgtype": "m.text", "body": "Hello <you>" }));
        let marked = said(json!({ "msgtype": "m.text", "body": "*bye*", "format": "org.matrix.custom.html",
            "formatted_body": "<em>bye</em>" }));
        let emote = said(json!({ "msgtype": "m.emote", "body": "waves" }));
        let (text, html) = joined(&[plain.clone(), marked, emote]);
        assert_eq!(text, "Hello <you>\n*bye*\n* waves");
        assert_eq!(
            html.as_deref(),
            Some("<div>Hello &lt;you&gt;</div>\n<div><em>bye</em></div>\n<div>* waves</div>\n")
        );
        assert_eq!(joined(&[plain]).1, None, "text alone needs no HTML");
        let picture = said(json!({ "msgtype": "m.image", "body": "Us", "filename": "a/b.png", "url": "mxc://x/y",
            "info": { "mimetype": "image/png" } }));
        assert_eq!(picture.text, "Us");
        assert_eq!(picture.file.map(|file| (file.name, file.mime)), Some(("b.png".into(), "image/png".into())));
        assert!(said(json!({ "msgtype": "m.file", "body": "x", "file": {} })).sealed);
        assert_eq!(line("m.room.message", &json!({ "body": "x" })), None);
    }

    proptest! {
        #[test]
        fn whatever_html_comes_no_script_is_left(html in "[<>/a-z \"'=!&;-]{0,60}") {
            let tamed = tame(&html);
            prop_assert!(!tamed.contains("<script") && !tamed.contains("<img"));
            let again = tame(&tamed);
            prop_assert_eq!(again, tamed);
        }

        #[test]
        fn whatever_comes_a_header_has_one_line(text in ".{0,200}") {
            prop_assert!(header_text(&text, 80).chars().all(|c| !c.is_control()));
        }
    }
}
