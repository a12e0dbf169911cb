//! Formatted text: HTML as Matrix has it, and marks within plain text. XEP-0393; [CS-API §mroommessage-msgtypes].
//!
//! | text | HTML |
//! |---|---|
//! | `*strong*` | `<strong>` (also `<b>`) |
//! | `_emphasis_` | `<em>` (also `<i>`) |
//! | `~gone~` | `<del>` (also `<s>`) |
//! | `` `code` `` | `<code>` |
//! | ```` ``` ```` block | `<pre><code>` |
//! | `> quote` | `<blockquote>` |
//! | line feed | `<br>`; out of HTML also the ends of paragraphs and the like |
//!
//! # Losses
//!
//! Out of HTML: colours, sizes, tables' lines, the places that links go to where the text names them already. Into HTML:
//! nothing; what looks like a mark and is none stays text.

use crate::cost::looked;

/// Deepest nesting that is looked at, of quotes as of tags; what lies deeper stays plain.
pub const DEPTH_MAX: usize = 16;
/// Longest entity, with both its ends: `&#x10ffff;` and some zeros.
const ENTITY_BYTES_MAX: usize = 11;

/// Text with marks as HTML; `None` where there are no marks, so that plain text can stay plain.
pub fn to_html(text: &str) -> Option<String> {
    let mut html = String::with_capacity(text.len() + 32);
    let lines: Vec<&str> = text.split('\n').collect();
    let marked = blocks(&lines, 0, &mut html);
    marked.then_some(html)
}

/// Writes the blocks that lines make; whether any of it is marked. [XEP-0393 §block]
fn blocks(lines: &[&str], depth: usize, html: &mut String) -> bool {
    let mut marked = false;
    let mut at = 0;
    // Blocks bring their own line; between plain lines there is a break.
    let mut after_line = false;
    while let Some(line) = lines.get(at) {
        if line.starts_with("```") {
            let inner = lines.get(at + 1..).unwrap_or_default();
            let end = inner.iter().position(|line| *line == "```").unwrap_or(inner.len());
            html.push_str("<pre><code>");
            escape(&inner.get(..end).unwrap_or_default().join("\n"), html);
            html.push_str("</code></pre>");
            at += end + 2;
            (marked, after_line) = (true, false);
        } else if line.starts_with('>') && depth < DEPTH_MAX {
            let quoted = lines.get(at..).unwrap_or_default().iter().take_while(|line| line.starts_with('>'));
            let quoted: Vec<&str> = quoted.map(|line| line.get(1..).unwrap_or_default()).collect();
            let bare: Vec<&str> = quoted.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
            html.push_str("<blockquote>");
            blocks(&bare, depth + 1, html);
            html.push_str("</blockquote>");
            at += quoted.len();
            (marked, after_line) = (true, false);
        } else {
            if after_line {
                html.push_str("<br>");
            }
            marked |= spans(line, 0, html);
            at += 1;
            after_line = true;
        }
    }
    marked
}

/// Writes the spans of one line; whether there are any. [XEP-0393 §span]
fn spans(line: &str, depth: usize, html: &mut String) -> bool {
    let mut marked = false;
    let mut plain = 0;
    let mut at = 0;
    // Marks that nothing ends from here on: looked for once, or many of them would cost the line each.
    let mut unended = String::new();
    while let Some(mark) = line.get(at..).and_then(|rest| rest.chars().next()) {
        let next = at + mark.len_utf8();
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        let opens = before.is_none_or(|before| before.is_whitespace() || is_mark(before)) && depth < DEPTH_MAX;
        let (Some(tag), true) = (tag_of(mark), opens && !unended.contains(mark) && holds(line, next, mark)) else {
            at = next;
            continue;
        };
        let Some(end) = closing(line, next, mark) else {
            unended.push(mark);
            at = next;
            continue;
        };
        escape(line.get(plain..at).unwrap_or_default(), html);
        let inner = line.get(next..end).unwrap_or_default();
        html.push_str(&format!("<{tag}>"));
        match mark {
            '`' => escape(inner, html),
            _ => drop(spans(inner, depth + 1, html)),
        }
        html.push_str(&format!("</{tag}>"));
        (at, plain, marked) = (end + 1, end + 1, true);
    }
    escape(line.get(plain..).unwrap_or_default(), html);
    marked
}

/// Whether a span can begin with `mark` in front of `from`: no space follows it, and it is not empty.
fn holds(line: &str, from: usize, mark: char) -> bool {
    line.get(from..).is_some_and(|inner| !inner.starts_with(char::is_whitespace) && !inner.starts_with(mark))
}

/// Where a span that [`holds`] ends: at the next such mark that is not behind a space. Whether one ends a span does not
/// depend on where that began, so where one finds no end, those behind it find none either.
fn closing(line: &str, from: usize, mark: char) -> Option<usize> {
    let inner = line.get(from..)?;
    let mut before = mark;
    for (at, c) in inner.char_indices() {
        looked(1);
        if c == mark && !before.is_whitespace() {
            return Some(from + at);
        }
        before = c;
    }
    None
}

fn is_mark(c: char) -> bool {
    tag_of(c).is_some()
}

fn tag_of(mark: char) -> Option<&'static str> {
    match mark {
        '*' => Some("strong"),
        '_' => Some("em"),
        '~' => Some("del"),
        '`' => Some("code"),
        _ => None,
    }
}

/// Text as it stands in HTML.
pub fn escape(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            '"' => html.push_str("&quot;"),
            '\n' => html.push_str("<br>"),
            c => html.push(c),
        }
    }
}

/// HTML as text with marks. What a reply quotes of the message it answers is left out.
pub fn to_text(html: &str) -> String {
    let mut writer = Writer::default();
    let mut rest = html;
    while !rest.is_empty() {
        match rest.find('<') {
            Some(0) => {
                let Some(end) = rest.find('>') else {
                    writer.text(rest);
                    break;
                };
                writer.tag(rest.get(1..end).unwrap_or_default());
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            Some(at) => {
                writer.text(rest.get(..at).unwrap_or_default());
                rest = rest.get(at..).unwrap_or_default();
            }
            None => {
                writer.text(rest);
                break;
            }
        }
    }
    writer.finish()
}

/// Puts text together from tags. Invariant: `quotes` is how many `<blockquote>` are open, at most [`DEPTH_MAX`].
#[derive(Default)]
struct Writer {
    lines: Vec<String>,
    line: String,
    quotes: usize,
    /// Inside of `<pre>`: line feeds count, marks do not.
    pre: bool,
    /// Inside of what a reply quotes.
    skipped: usize,
    /// Lists that are open, with the number of the next item where they are numbered.
    lists: Vec<Option<u64>>,
    /// Where the links that are open go, and where their text begins.
    links: Vec<(String, usize)>,
}

impl Writer {
    fn tag(&mut self, tag: &str) {
        let (closes, tag) = tag.strip_prefix('/').map_or((false, tag), |tag| (true, tag));
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default().to_ascii_lowercase();
        if name == "mx-reply" {
            self.skipped = if closes { 0 } else { 1 };
            return;
        }
        if self.skipped > 0 {
            return;
        }
        match name.as_str() {
            "strong" | "b" if !self.pre => self.line.push('*'),
            "em" | "i" if !self.pre => self.line.push('_'),
            "del" | "s" | "strike" if !self.pre => self.line.push('~'),
            "code" if !self.pre => self.line.push('`'),
            "br" => self.end_line(true),
            "pre" => {
                self.end_line(false);
                self.line.push_str("```");
                self.end_line(true);
                self.pre = !closes;
            }
            "blockquote" => {
                self.end_line(false);
                self.quotes = match closes {
                    true => self.quotes.saturating_sub(1),
                    false => (self.quotes + 1).min(DEPTH_MAX),
                };
            }
            "p" | "div" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "tr" | "table" | "summary" | "details" => {
                self.end_line(false);
            }
            "ul" | "ol" => {
                self.end_line(false);
                match closes {
                    true => drop(self.lists.pop()),
                    false if self.lists.len() < DEPTH_MAX => self.lists.push((name == "ol").then_some(1)),
                    false => {}
                }
            }
            "li" => {
                self.end_line(false);
                if !closes {
                    let bullet = match self.lists.last_mut() {
                        Some(Some(number)) => {
                            *number += 1;
                            format!("{}. ", *number - 1)
                        }
                        _ => "- ".to_owned(),
                    };
                    self.line.push_str(&bullet);
                }
            }
            "hr" => {
                self.end_line(false);
                self.line.push_str("---");
                self.end_line(false);
            }
            "td" | "th" if closes => self.line.push(' '),
            "img" => self.line.push_str(&attribute(tag, "alt").unwrap_or_default()),
            "a" if !closes && self.links.len() < DEPTH_MAX => {
                self.links.push((attribute(tag, "href").unwrap_or_default(), self.line.len()));
            }
            "a" => {
                let Some((href, from)) = self.links.pop() else { return };
                let text = self.line.get(from..).unwrap_or_default();
                // Mentions are links to people: their name is enough.
                let is_mention = href.starts_with("https://matrix.to/") || href.starts_with("matrix:");
                if !is_mention && !href.is_empty() && !text.contains(&href) {
                    self.line.push_str(&format!(" ({href})"));
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.skipped > 0 {
            return;
        }
        let text = unescape(text);
        if !self.pre {
            // Line feeds in HTML are spaces, and those around blocks nothing.
            let text = text.replace(['\n', '\r', '\t'], " ");
            if !(self.line.is_empty() && text.trim().is_empty()) {
                self.line.push_str(&text);
            }
            return;
        }
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                self.end_line(true);
            }
            self.line.push_str(line);
        }
    }

    /// Ends a line; an empty one only where it was asked for.
    fn end_line(&mut self, even_empty: bool) {
        if self.line.is_empty() && !even_empty {
            return;
        }
        let line = std::mem::take(&mut self.line);
        self.links.iter_mut().for_each(|(_, from)| *from = 0);
        self.lines.push(format!("{}{line}", "> ".repeat(self.quotes)));
    }

    fn finish(mut self) -> String {
        self.end_line(false);
        self.lines.join("\n")
    }
}

/// The value of an attribute of a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some(at) = rest.find(name) {
        let free = rest.get(..at)?.ends_with(char::is_whitespace);
        rest = rest.get(at + name.len()..)?;
        let Some(value) = rest.trim_start().strip_prefix('=').filter(|_| free) else { continue };
        let value = value.trim_start();
        let quote = value.chars().next()?;
        return Some(match quote {
            '"' | '\'' => unescape(value.get(1..)?.split(quote).next()?),
            _ => unescape(value.split(char::is_whitespace).next()?),
        });
    }
    None
}

/// Text out of HTML: the entities that are used in practice.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(rest.get(..at).unwrap_or_default());
        rest = rest.get(at..).unwrap_or_default();
        // Looked for no further than an entity is long.
        let end = rest.bytes().take(ENTITY_BYTES_MAX).inspect(|_| looked(1)).position(|byte| byte == b';');
        let entity = end.and_then(|end| Some((end, rest.get(1..end)?)));
        match entity.and_then(|(end, name)| Some((end, entity_char(name)?))) {
            Some((end, c)) => {
                out.push(c);
                rest = rest.get(end + 1..).unwrap_or_default();
            }
            None => {
                out.push('&');
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn entity_char(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code).filter(|c| !c.is_control() || *c == '\n')
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cost::steps;

    #[test]
    fn marks_become_tags_and_back() {
        for (text, html) in [
            ("a *b* c", "a <strong>b</strong> c"),
            ("_a_ ~b~ `*c*`", "<em>a</em> <del>b</del> <code>*c*</code>"),
            ("*_both_*", "<strong><em>both</em></strong>"),
            ("> said\nanswer *x*", "<blockquote>said</blockquote>answer <strong>x</strong>"),
            ("> > deep\n> less", "<blockquote><blockquote>deep</blockquote>less</blockquote>"),
            ("see\n```\nfn a<b>()\n  x\n```\nend", "see<pre><code>fn a&lt;b&gt;()<br>  x</code></pre>end"),
            ("one\n*two*", "one<br><strong>two</strong>"),
        ] {
            assert_eq!(to_html(text).as_deref(), Some(html), "{text}");
            assert_eq!(to_text(html), text, "{html}");
        }
    }

    #[test]
    fn what_only_looks_like_a_mark_stays_text() {
        for text in ["2*3*4 is 24", "a * b * c", "snake_case_name", "**", "*", "", "no\nmarks"] {
            assert_eq!(to_html(text), None, "{text}");
        }
    }

    #[test]
    fn html_of_clients_is_readable_as_text() {
        let html = "<p>Hello <a href=\"https://matrix.to/#/@bob:example.org\">Bob</a>, see \
                    <a href='https://example.org/x?a=1&amp;b=2'>this</a>:</p>\n<ul>\n<li>one</li>\n<li>two &amp; three</li>\n</ul>";
        assert_eq!(to_text(html), "Hello Bob, see this (https://example.org/x?a=1&b=2):\n- one\n- two & three");
        assert_eq!(to_text("<mx-reply><blockquote>old</blockquote></mx-reply>new"), "new");
        assert_eq!(to_text("<ol><li>a</li><li>b</li></ol>"), "1. a\n2. b");
    }

    /// The rule as it stands in the specification, each mark by itself, however long that takes. [XEP-0393 §span]
    fn slowly(line: &str, depth: usize, html: &mut String) {
        let chars: Vec<char> = line.chars().collect();
        let text = |from: usize, to: usize| chars[from..to].iter().collect::<String>();
        let (mut plain, mut at) = (0, 0);
        while at < chars.len() {
            let mark = chars[at];
            let opens = at == 0 || chars[at - 1].is_whitespace() || is_mark(chars[at - 1]);
            let is_empty = chars.get(at + 1).is_none_or(|next| *next == mark || next.is_whitespace());
            let end = (at + 2..chars.len()).find(|end| chars[*end] == mark && !chars[*end - 1].is_whitespace());
            let (Some(tag), Some(end)) = (tag_of(mark), end.filter(|_| opens && !is_empty && depth < DEPTH_MAX)) else {
                at += 1;
                continue;
            };
            escape(&text(plain, at), html);
            html.push_str(&format!("<{tag}>"));
            match mark {
                '`' => escape(&text(at + 1, end), html),
                _ => slowly(&text(at + 1, end), depth + 1, html),
            }
            html.push_str(&format!("</{tag}>"));
            (at, plain) = (end + 1, end + 1);
        }
        escape(&text(plain, chars.len()), html);
    }

    #[test]
    fn a_text_is_looked_at_a_few_times_whatever_it_repeats() {
        const TIMES: usize = 3_000;
        for piece in [
            "*a ",
            "_a ",
            "~a ",
            "`a ",
            "*a _b ~c `d ",
            "*_~` ",
            "*_~`a",
            "*a *",
            "a* ",
            "*a* ",
            "_*a ",
            "* ",
            "**",
            "> *a ",
            ">",
            "> ",
            ">\n",
            "> > a\n",
            "```\n",
            "```a\n",
            "```\n> ",
            "*\n",
            "é*é ",
            "&",
            "&a",
            "&#",
            "&amp",
            "&amp;",
            "<",
            "<a",
            "<a>",
            "<a href=",
            "<a href=\"x\">",
            "</a>",
            "<blockquote>",
            "<pre>",
            "<li>",
            "<ol>",
            "<mx-reply>",
            "<img alt=",
            "\n",
        ] {
            let text = piece.repeat(TIMES);
            let (_, html) = steps(|| to_html(&text));
            let (_, back) = steps(|| to_text(&text));
            // Marks of four kinds within each other, and each looked for once in vain.
            assert!(html <= 20 * text.len(), "{piece:?}: {html} steps for {} bytes", text.len());
            assert!(back <= 12 * text.len(), "{piece:?}: {back} steps for {} bytes of HTML", text.len());
        }
    }

    proptest! {
        #[test]
        fn marks_mean_what_the_specification_says(line in "[ab é*_~`\u{a0}]{0,40}") {
            let (mut fast, mut slow) = (String::new(), String::new());
            spans(&line, 0, &mut fast);
            slowly(&line, 0, &mut slow);
            prop_assert_eq!(fast, slow);
        }

        #[test]
        fn nothing_is_lost_on_the_way_to_html_and_back(text in "[a-z *_~`>\n]{0,60}") {
            // Blocks end where lines do, and space at the edge of a line is nothing.
            let solid = |text: &str| text.replace([' ', '\n'], "");
            if let Some(html) = to_html(&text) && !html.contains("<pre>") && !html.contains("<blockquote>") {
                prop_assert_eq!(solid(&to_text(&html)), solid(&text));
            }
        }

        #[test]
        fn any_text_can_be_read(text in ".{0,200}") {
            let _ = (to_html(&text), to_text(&text));
        }
    }
}
