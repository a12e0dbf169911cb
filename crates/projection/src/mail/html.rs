//! HTML of mails as what Matrix allows, and what of it is quoted or signature folded away. [CS-API §mroommessage-msgtypes]
//!
//! Nothing of the original is copied: tags of a short list are written anew, with the attributes of a shorter one, every text
//! is escaped, and what was opened is closed. So what comes out is right however wrong what went in was. A whole parser of
//! pages would know better how browsers mend broken nesting, which after this list is gone makes no difference.
//!
//! | in the mail | in the room |
//! |---|---|
//! | the tags that Matrix allows | the same; tables within tables are taken apart, for they are layout |
//! | `<a>` to the web or an address | the same; to anything else, its text |
//! | a picture that came with the mail | that picture |
//! | a picture of elsewhere | its description: loading it would tell the sender |
//! | what is hidden, scripts, styles, forms | nothing |
//! | what was quoted by the author's program, signatures | `<details>` |
//!
//! # Losses
//!
//! Colours, fonts, sizes, alignment; layout by tables; pictures of elsewhere. The source of the mail has them.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

use crate::styling;

/// Most bytes of HTML that are read.
pub const HTML_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting that is kept; tags below it are left out, their text is not.
pub const DEPTH_MAX: usize = 64;
/// What stands in front of what is folded.
const QUOTED: &str = "<summary>Quoted text</summary>";
const SIGNATURE: &str = "<summary>Signature</summary>";
/// Longest address of a link.
const HREF_BYTES_MAX: usize = 2_048;

/// Tags that are kept.
const KEPT: &[&str] = &[
    "del",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "blockquote",
    "p",
    "a",
    "ul",
    "ol",
    "sup",
    "sub",
    "li",
    "b",
    "i",
    "u",
    "strong",
    "em",
    "s",
    "code",
    "div",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "caption",
    "pre",
];
/// Tags that stand for one that is kept.
const MEANT: &[(&str, &str)] =
    &[("strike", "s"), ("tt", "code"), ("kbd", "code"), ("center", "div"), ("section", "div"), ("article", "div")];
/// Tags whose content is none for people.
const UNSEEN: &[&str] = &[
    "script", "style", "head", "title", "template", "noscript", "object", "embed", "applet", "iframe", "frame",
    "frameset", "svg", "math", "textarea", "select", "option", "button", "audio", "video", "canvas", "map", "noframes",
    "xmp",
];
/// Tags without an end.
const VOID: &[&str] =
    &["br", "hr", "img", "area", "base", "col", "input", "link", "meta", "source", "track", "wbr", "param"];

/// What is folded away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    /// What the author's program quoted.
    Quote,
    Signature,
}

/// A mail's HTML as it can be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// All of it, with what is folded.
    pub html: String,
    /// Without what is folded.
    pub visible: String,
}

/// Makes HTML of a mail fit to be shown. `picture` gives the address of a picture of the mail by its Content-ID.
pub fn shown(html: &str, picture: &impl Fn(&str) -> Option<String>) -> Shown {
    let mut end = html.len().min(HTML_BYTES_MAX);
    while !html.is_char_boundary(end) {
        end -= 1;
    }
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut writer =
        Writer { picture, shown: Shown::default(), open: Vec::new(), unseen: None, folded: None, quoted: false };
    for Ok(token) in Tokenizer::new_with_emitter(html.get(..end).unwrap_or_default(), emitter) {
        match token {
            Token::StartTag(tag) => writer.begin(&tag),
            Token::EndTag(tag) => writer.end(&String::from_utf8_lossy(&tag.name)),
            Token::String(text) => writer.text(&String::from_utf8_lossy(&text.value)),
            _ => {}
        }
    }
    writer.finish()
}

/// A tag that is open.
struct Open {
    /// Its name in the mail.
    name: String,
    /// Its name in what is written, if it is.
    written: Option<&'static str>,
    /// It began what is folded, which ends with it.
    folds: bool,
    /// It is within what is folded.
    within: bool,
}

/// Invariant: what is written and not closed is what `open` says, in that order, and `visible` lacks what is within a fold.
struct Writer<'a, P> {
    picture: &'a P,
    shown: Shown,
    open: Vec<Open>,
    /// How many tags are open within one whose content nobody sees, and its name.
    unseen: Option<(String, usize)>,
    /// Something is being folded; whether that ends only with the mail.
    folded: Option<bool>,
    /// What was folded last was a quote.
    quoted: bool,
}

impl<P: Fn(&str) -> Option<String>> Writer<'_, P> {
    fn write(&mut self, html: &str) {
        self.shown.html.push_str(html);
        if self.folded.is_none() {
            self.shown.visible.push_str(html);
        }
    }

    fn begin(&mut self, tag: &StartTag<()>) {
        let name = String::from_utf8_lossy(&tag.name).into_owned();
        let is_void = VOID.contains(&name.as_str());
        if let Some((unseen, depth)) = &mut self.unseen {
            *depth += usize::from(*unseen == name && !is_void);
            return;
        }
        let attribute = |key: &str| {
            tag.attributes.get(key.as_bytes()).map(|value| String::from_utf8_lossy(&value.value).into_owned())
        };
        let style: String = attribute("style").unwrap_or_default().to_ascii_lowercase().split_whitespace().collect();
        let is_hidden =
            style.contains("display:none") || style.contains("visibility:hidden") || attribute("hidden").is_some();
        if !is_void && (UNSEEN.contains(&name.as_str()) || is_hidden) {
            self.unseen = Some((name, 1));
            return;
        }
        match name.as_str() {
            "br" => return self.write("<br>"),
            "hr" => return self.write("<hr>"),
            "img" => return self.image(attribute("src"), attribute("alt")),
            _ if is_void || self.open.len() >= DEPTH_MAX => return,
            _ => {}
        }
        let kind = fold_of(&name, &style, &attribute);
        let folds = self.folded.is_none() && kind.is_some();
        if folds && let Some((kind, to_the_end)) = kind {
            self.folded = Some(to_the_end);
            // What follows what was quoted, and is quoted too, is one with it.
            match self.shown.html.trim_end().strip_suffix("</details>").filter(|_| kind == Fold::Quote && self.quoted) {
                Some(before) => self.shown.html.truncate(before.len()),
                None => {
                    let summary = if kind == Fold::Quote { QUOTED } else { SIGNATURE };
                    self.shown.html.push_str(&format!("<details>{summary}"));
                }
            }
            self.quoted = kind == Fold::Quote;
        }
        let written = self.written(&name, attribute("role").as_deref());
        let opened = match written {
            Some("a") => attribute("href").filter(|href| is_safe(href)).map(|href| {
                let mut tag = String::from("<a href=\"");
                styling::escape(&href.replace(['\n', '\r'], ""), &mut tag);
                tag.push_str("\">");
                tag
            }),
            Some("ol") => Some(match attribute("start").and_then(|start| start.parse::<u32>().ok()) {
                Some(start) => format!("<ol start=\"{start}\">"),
                None => "<ol>".to_owned(),
            }),
            Some(name) => Some(format!("<{name}>")),
            None => None,
        };
        if let Some(opened) = &opened {
            self.write(opened);
        }
        let within = self.folded.is_some();
        self.open.push(Open { name, written: written.filter(|_| opened.is_some()), folds, within });
    }

    /// What a tag is written as.
    fn written(&self, name: &str, role: Option<&str>) -> Option<&'static str> {
        let name = MEANT.iter().find(|(theirs, _)| *theirs == name).map_or(name, |(_, ours)| ours);
        let is_table = matches!(name, "table" | "thead" | "tbody" | "tr" | "th" | "td" | "caption");
        if is_table {
            let within = self.open.iter().filter(|open| open.name == "table").count();
            let is_layout = self.open.iter().any(|open| open.name == "table" && open.written.is_none());
            if is_layout
                || (name == "table"
                    && (within > 0 || role.is_some_and(|role| role == "presentation" || role == "none")))
            {
                // Its rows are lines.
                return (name == "tr").then_some("div");
            }
        }
        KEPT.iter().find(|kept| **kept == name).copied()
    }

    fn image(&mut self, src: Option<String>, alt: Option<String>) {
        let src = src.unwrap_or_default();
        let mxc = src.strip_prefix("cid:").and_then(|id| (self.picture)(id));
        let mut written = String::new();
        match (mxc, alt.filter(|alt| !alt.trim().is_empty())) {
            (Some(mxc), alt) => {
                written.push_str("<img src=\"");
                styling::escape(&mxc, &mut written);
                written.push_str("\" alt=\"");
                styling::escape(alt.as_deref().unwrap_or("picture").trim(), &mut written);
                written.push_str("\">");
            }
            (None, Some(alt)) => styling::escape(alt.trim(), &mut written),
            (None, None) => {}
        }
        self.write(&written);
    }

    fn end(&mut self, name: &str) {
        if let Some((unseen, depth)) = &mut self.unseen {
            if *unseen == name {
                *depth -= 1;
                if *depth == 0 {
                    self.unseen = None;
                }
            }
            return;
        }
        // What is not open is not closed; what was left open within is.
        let Some(at) = self.open.iter().rposition(|open| open.name == name) else { return };
        while self.open.len() > at {
            self.close_last();
        }
    }

    fn close_last(&mut self) {
        let Some(open) = self.open.pop() else { return };
        if let Some(written) = open.written {
            let end = format!("</{written}>");
            if self.folded == Some(true) && !open.within {
                // The fold goes on to the end of the mail, and what ends here began before it: the fold is closed in front of
                // its end and opened again behind it, so that both are well nested.
                self.shown.html.push_str(&format!("</details>{end}<details>{QUOTED}"));
                self.shown.visible.push_str(&end);
            } else {
                self.write(&end);
            }
        }
        if open.folds && self.folded == Some(false) {
            self.folded = None;
            self.shown.html.push_str("</details>");
        }
    }

    fn text(&mut self, text: &str) {
        if self.unseen.is_some() {
            return;
        }
        let mut escaped = String::with_capacity(text.len());
        let in_pre = self.open.iter().any(|open| open.name == "pre");
        for c in text.chars() {
            match c {
                '<' => escaped.push_str("&lt;"),
                '>' => escaped.push_str("&gt;"),
                '&' => escaped.push_str("&amp;"),
                '"' => escaped.push_str("&quot;"),
                '\n' if in_pre => escaped.push('\n'),
                // Runs of white space are one space, as a browser shows them.
                c if c.is_ascii_whitespace() && !in_pre => {
                    if !escaped.ends_with(' ') {
                        escaped.push(' ');
                    }
                }
                c if c.is_control() => {}
                // Fillers of newsletters.
                '\u{200b}'..='\u{200f}'
                | '\u{feff}'
                | '\u{34f}'
                | '\u{ad}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' => {}
                c => escaped.push(c),
            }
        }
        self.write(&escaped);
    }

    fn finish(mut self) -> Shown {
        while !self.open.is_empty() {
            self.close_last();
        }
        if self.folded.is_some() {
            self.shown.html.push_str("</details>");
        }
        let empty = format!("<details>{QUOTED}</details>");
        Shown { html: self.shown.html.replace(&empty, ""), visible: self.shown.visible }
    }
}

/// Whether a link leads to the web or to an address.
fn is_safe(href: &str) -> bool {
    let href = href.trim();
    let scheme = href.split(':').next().unwrap_or_default().to_ascii_lowercase();
    href.len() <= HREF_BYTES_MAX
        && href.contains(':')
        && matches!(scheme.as_str(), "http" | "https" | "ftp" | "mailto" | "magnet" | "xmpp" | "matrix")
}

/// What a tag begins that is folded, by the marks that programs leave; and whether that goes on to the end of the mail.
fn fold_of(name: &str, style: &str, attribute: &impl Fn(&str) -> Option<String>) -> Option<(Fold, bool)> {
    let class = attribute("class").unwrap_or_default();
    let id = attribute("id").unwrap_or_default();
    let classes: Vec<&str> = class.split_whitespace().collect();
    let has = |wanted: &[&str]| wanted.iter().any(|wanted| classes.contains(wanted));
    // COMPAT(Outlook, 2026): what is quoted follows the mark and is not within it.
    if matches!(
        id.as_str(),
        "divRplyFwdMsg" | "x_divRplyFwdMsg" | "appendonsend" | "mail-editor-reference-message-container"
    ) || (name == "div" && (style.contains("border-top:solid#e1e1e1") || style.contains("border-top:solid#b5c4df")))
    {
        return Some((Fold::Quote, true));
    }
    let is_quote = (name == "blockquote" && attribute("type").is_some_and(|kind| kind.eq_ignore_ascii_case("cite")))
        || has(&[
            "gmail_quote",
            "gmail_quote_container",
            "gmail_attr",
            "yahoo_quoted",
            "moz-cite-prefix",
            "protonmail_quote",
            "zmail_extra",
            "tutanota_quote",
        ])
        || (name == "blockquote" && has(&["cite", "iosymail"]));
    if is_quote {
        return Some((Fold::Quote, false));
    }
    let is_signature = has(&["gmail_signature", "moz-signature", "protonmail_signature_block"])
        || matches!(id.as_str(), "Signature" | "AppleMailSignature" | "ms-outlook-mobile-signature");
    is_signature.then_some((Fold::Signature, false))
}

/// What is seen of the HTML of a mail while nothing is unfolded, and whether something quoted is not.
pub(crate) fn without_folds(html: &str) -> (String, bool) {
    let (mut seen, mut depth, mut is_quoted, mut rest) = (String::with_capacity(html.len()), 0_usize, false, html);
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        let end = tag.find('>').map_or(tag.len(), |end| end + 1);
        let (tag, after) = tag.split_at(end);
        if depth == 0 {
            seen.push_str(text);
        }
        match tag {
            "<details>" => {
                depth += 1;
                is_quoted |= after.starts_with(QUOTED);
            }
            "</details>" => depth = depth.saturating_sub(1),
            tag if depth == 0 => seen.push_str(tag),
            _ => {}
        }
        rest = after;
    }
    if depth == 0 {
        seen.push_str(rest);
    }
    (seen, is_quoted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn html(text: &str) -> String {
        shown(text, &|id| (id == "pic@x").then(|| "mxc://example.org/abc".to_owned())).html
    }

    #[test]
    fn what_is_not_for_people_is_gone() {
        for (mail, room) in [
            ("<p onclick=x>Hi <b>Bob</b></p>", "<p>Hi <b>Bob</b></p>"),
            ("<script>alert(1)</script>a<style>p{}</style>b", "ab"),
            ("<a href='javascript:alert(1)'>x</a>", "x"),
            ("<a href='https://e.org/?a=1&amp;b=\"2'>x</a>", "<a href=\"https://e.org/?a=1&amp;b=&quot;2\">x</a>"),
            ("<img src='https://track.er/1.gif'>", ""),
            ("<img src='https://e.org/logo.png' alt='Logo <b>'>", "Logo &lt;b&gt;"),
            ("<img src='cid:pic@x' alt='a cat'>", "<img src=\"mxc://example.org/abc\" alt=\"a cat\">"),
            ("<div style='display: none'>pre<div>view</div></div>x", "x"),
            ("<b>open <i>more", "<b>open <i>more</i></b>"),
            ("</b></div>x", "x"),
            ("<b><p>x</b>y", "<b><p>x</p></b>y"),
            ("<svg><a href='https://x.org'>y</a></svg>z", "z"),
            ("&lt;script&gt;", "&lt;script&gt;"),
            ("a\u{202e}b\u{200b}c\u{0}", "abc"),
        ] {
            assert_eq!(html(mail), room, "{mail}");
        }
    }

    #[test]
    fn layout_by_tables_is_taken_apart_and_data_is_not() {
        assert_eq!(html("<table><tr><td>1</td></tr></table>"), "<table><tr><td>1</td></tr></table>");
        let mail = "<table role=presentation><tr><td><table><tr><td>1</td></tr></table></td></tr></table>";
        assert_eq!(html(mail), "<div><div>1</div></div>");
    }

    #[test]
    fn what_programs_quote_is_folded() {
        let gmail = "<div>New</div><div class=\"gmail_quote\"><div>On Monday Bob wrote:</div><blockquote>old</blockquote></div>";
        let gmail = shown(gmail, &|_| None);
        assert_eq!(gmail.visible, "<div>New</div>");
        assert_eq!(
            gmail.html,
            "<div>New</div><details><summary>Quoted text</summary><div><div>On Monday Bob wrote:</div>\
             <blockquote>old</blockquote></div></details>"
        );
        let below = shown("<blockquote type=cite>old</blockquote><p>below</p>", &|_| None);
        assert_eq!(below.visible, "<p>below</p>");
        let outlook = "<body><div><p>New</p><div id='divRplyFwdMsg'><b>From:</b> Bob</div><div>old</div></div></body>";
        let outlook = shown(outlook, &|_| None);
        assert_eq!(outlook.visible, "<div><p>New</p></div>");
        assert!(outlook.html.contains("old"), "{}", outlook.html);
    }

    #[test]
    fn deep_nesting_ends_somewhere() {
        let deep = format!("{}x{}", "<div>".repeat(100_000), "</div>".repeat(100_000));
        let html = html(&deep);
        assert!(html.contains('x') && html.len() < 2_000, "{}", html.len());
    }

    /// Whether tags are closed in the order in which they were opened, and none is there that is not allowed.
    fn is_well_nested(html: &str) -> bool {
        let mut open = Vec::new();
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            let Some(end) = rest[at..].find('>') else { return false };
            let tag = &rest[at + 1..at + end];
            let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
            if !KEPT.contains(&name.as_str()) && !["br", "hr", "img", "details", "summary"].contains(&name.as_str()) {
                return false;
            }
            if tag.starts_with('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !["br", "hr", "img"].contains(&name.as_str()) {
                open.push(name);
            }
            rest = &rest[at + end + 1..];
        }
        open.is_empty()
    }

    proptest! {
        #[test]
        fn whatever_goes_in_what_comes_out_is_well_nested(
            parts in proptest::collection::vec(proptest::sample::select(vec![
                "<div>", "</div>", "<b>", "</b>", "<blockquote type=cite>", "</blockquote>", "text", "<br>", "<", ">", "&",
                "<div id=divRplyFwdMsg>", "<div class=gmail_quote>", "<table>", "<tr>", "<td>", "</table>", "<style>", "</style>",
                "<a href=https://x.org>", "</a>", "<p>", "</p>", "<script>", "</script>", "<!--", "-->", "\"", "<div class=gmail_signature>",
            ]), 0..40)
        ) {
            let shown = shown(&parts.concat(), &|_| None);
            prop_assert!(is_well_nested(&shown.html), "{}", shown.html);
            prop_assert!(is_well_nested(&shown.visible), "{}", shown.visible);
        }

        #[test]
        fn any_text_can_be_read(text in ".{0,200}") {
            let shown = shown(&text, &|_| None);
            prop_assert!(is_well_nested(&shown.html));
        }
    }
}
