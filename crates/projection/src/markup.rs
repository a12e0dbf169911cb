//! Text with marks beside it, by ranges: XEP-0394 as HTML. The other way round, marks are within the text (`styling.rs`), which
//! every client shows.
//!
//! | markup | HTML |
//! |---|---|
//! | `<span><strong/></span>` | `<strong>` |
//! | `<span><emphasis/></span>` | `<em>` |
//! | `<span><deleted/></span>` | `<del>` |
//! | `<span><code/></span>` | `<code>` |
//! | `<bcode/>` | `<pre><code>` |
//! | `<bquote/>` | `<blockquote>` |
//!
//! # Losses
//!
//! To Matrix: lists, which stay lines; ranges that are none, which do not count. To XMPP: it is never written.

use koine_stanza::Element;

use crate::styling::escape;

/// The protocol.
pub const MARKUP: &str = "urn:xmpp:markup:0";
/// Most ranges of one message.
const RANGES_MAX: usize = 200;

/// A range of code points and the tags that stand for it; the outer first.
struct Range {
    start: usize,
    end: usize,
    tags: Vec<&'static str>,
}

/// The text with its markup as HTML; `None` where none of it counts.
pub fn to_html(text: &str, markup: &Element) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut ranges: Vec<Range> =
        markup.children().take(RANGES_MAX).filter_map(|child| range(child, chars.len())).collect();
    if ranges.is_empty() {
        return None;
    }
    // The longer around the shorter.
    ranges.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    let mut html = String::with_capacity(text.len() * 2);
    let mut open: Vec<&Range> = Vec::new();
    let mut waiting = ranges.iter().peekable();
    for at in 0..=chars.len() {
        // What overlaps is closed and opened again, so that tags nest.
        if let Some(outermost) = open.iter().position(|range| range.end <= at) {
            let again = open.split_off(outermost);
            again.iter().rev().for_each(|range| close(range, &mut html));
            for range in again.into_iter().filter(|range| range.end > at) {
                begin(range, &mut html);
                open.push(range);
            }
        }
        while let Some(range) = waiting.next_if(|range| range.start <= at) {
            begin(range, &mut html);
            open.push(range);
        }
        let Some(c) = chars.get(at) else { break };
        match c {
            '\n' if open.iter().any(|range| range.tags.first() == Some(&"pre")) => html.push('\n'),
            c => escape(c.encode_utf8(&mut [0; 4]), &mut html),
        }
    }
    Some(html)
}

fn begin(range: &Range, html: &mut String) {
    range.tags.iter().for_each(|tag| html.push_str(&format!("<{tag}>")));
}

fn close(range: &Range, html: &mut String) {
    range.tags.iter().rev().for_each(|tag| html.push_str(&format!("</{tag}>")));
}

fn range(child: &Element, length: usize) -> Option<Range> {
    let number = |name: &str| child.attr(name)?.trim().parse::<usize>().ok();
    let (start, end) = (number("start")?, number("end")?.min(length));
    let tags: Vec<&'static str> = match child.name() {
        _ if child.ns() != MARKUP => return None,
        "span" => child
            .children()
            .filter(|kind| kind.ns() == MARKUP)
            .filter_map(|kind| match kind.name() {
                "strong" => Some("strong"),
                "emphasis" => Some("em"),
                "deleted" => Some("del"),
                "code" => Some("code"),
                _ => None,
            })
            .take(4)
            .collect(),
        "bcode" => vec!["pre", "code"],
        "bquote" => vec!["blockquote"],
        _ => return None,
    };
    (start < end && !tags.is_empty()).then_some(Range { start, end, tags })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(start: usize, end: usize, kind: &'static str) -> Element {
        let span = Element::new("span", MARKUP).with_child(Element::new(kind, MARKUP));
        span.with_attr("start", start.to_string()).with_attr("end", end.to_string())
    }

    #[test]
    fn ranges_become_tags_that_nest() {
        let markup = Element::new("markup", MARKUP).with_child(span(0, 3, "strong")).with_child(span(2, 5, "emphasis"));
        assert_eq!(
            to_html("a<cdé", &markup).as_deref(),
            Some("<strong>a&lt;<em>c</em></strong><em>dé</em>"),
            "what overlaps is closed and opened again"
        );
        let block = Element::new("bcode", MARKUP).with_attr("start", "0").with_attr("end", "3");
        let markup = Element::new("markup", MARKUP).with_child(block);
        assert_eq!(to_html("a\nb", &markup).as_deref(), Some("<pre><code>a\nb</code></pre>"));
        assert_eq!(to_html("abc", &Element::new("markup", MARKUP).with_child(span(2, 1, "strong"))), None);
    }

    proptest! {
        #[test]
        fn tags_are_balanced_and_the_text_stays(
            text in "[a-z é]{1,20}",
            spans in proptest::collection::vec((0_usize..22, 0_usize..22, 0_usize..4), 1..6),
        ) {
            let kinds = ["strong", "emphasis", "deleted", "code"];
            let spans = spans.into_iter().map(|(start, end, kind)| span(start, end, kinds[kind]));
            if let Some(html) = to_html(&text, &Element::new("markup", MARKUP).with_children(spans)) {
                let (mut open, mut plain, mut rest) = (Vec::new(), String::new(), html.as_str());
                while let Some(at) = rest.find('<') {
                    plain.push_str(&rest[..at]);
                    let end = rest.find('>').expect("a tag ends");
                    match rest[at + 1..end].strip_prefix('/') {
                        Some(tag) => prop_assert_eq!(open.pop(), Some(tag)),
                        None => open.push(&rest[at + 1..end]),
                    }
                    rest = &rest[end + 1..];
                }
                plain.push_str(rest);
                prop_assert!(open.is_empty());
                prop_assert_eq!(plain, text);
            }
        }
    }
}
