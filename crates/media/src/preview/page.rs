//! Reads what a page says of itself: Open Graph properties, or else title, description and text.
//!
//! <https://ogp.me/>. The page is a stranger's: it is read once, from front to back, by a tokenizer that takes anything;
//! only so much of it is kept.

use std::collections::BTreeMap;

use encoding_rs::{Encoding, UTF_8};
use html5gum::{DefaultEmitter, HtmlString, Spanned, Token, Tokenizer};
use serde_json::{Map, Value};

/// Characters of one property that are kept.
const PROPERTY_CHARS_MAX: usize = 1_000;
/// Properties that are kept.
const PROPERTIES_MAX: usize = 50;
/// Characters of a description that is made of the page's text.
const EXCERPT_CHARS_MAX: usize = 300;
/// Where an encoding may be named in a page.
const CHARSET_WITHIN: usize = 1_024;

/// Elements whose text is no text of the page.
const SILENT: [&[u8]; 9] =
    [b"script", b"style", b"noscript", b"template", b"svg", b"nav", b"header", b"footer", b"aside"];

/// The properties of a page; `kind` is the content type that it came with.
pub(super) fn properties(bytes: &[u8], kind: &str) -> Map<String, Value> {
    let text = decode(bytes, kind);
    let mut found = Found::default();
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    for Ok(token) in Tokenizer::new_with_emitter(&*text, emitter) {
        found.take(token);
    }
    found.properties()
}

#[derive(Default)]
struct Found {
    properties: Map<String, Value>,
    title: String,
    description: Option<String>,
    text: String,
    in_title: bool,
    in_body: bool,
    silent: usize,
}

impl Found {
    fn take(&mut self, token: Token<()>) {
        match token {
            Token::StartTag(tag) => match &**tag.name {
                b"title" => self.in_title = self.title.is_empty(),
                b"meta" => self.meta(&tag.attributes),
                b"body" => self.in_body = true,
                name if SILENT.contains(&name) && !tag.self_closing => self.silent += 1,
                _ => self.text.push(' '),
            },
            Token::EndTag(tag) => match &**tag.name {
                b"title" => self.in_title = false,
                name if SILENT.contains(&name) => self.silent = self.silent.saturating_sub(1),
                _ => self.text.push(' '),
            },
            Token::String(text) => {
                let text = String::from_utf8_lossy(&text.value);
                if self.in_title {
                    self.title.extend(text.chars().take(PROPERTY_CHARS_MAX));
                } else if self.in_body && self.silent == 0 && self.text.len() < EXCERPT_CHARS_MAX * 16 {
                    self.text.push_str(&text);
                }
            }
            _ => {}
        }
    }

    fn meta(&mut self, attributes: &BTreeMap<HtmlString, Spanned<HtmlString, ()>>) {
        let get = |name: &[u8]| {
            let value = attributes.get(name)?;
            Some(String::from_utf8_lossy(&value.value).trim().to_owned()).filter(|text| !text.is_empty())
        };
        let Some(content) = get(b"content") else { return };
        let content: String = content.chars().take(PROPERTY_CHARS_MAX).collect();
        let name = get(b"property").or_else(|| get(b"name")).unwrap_or_default();
        if name.eq_ignore_ascii_case("description") {
            self.description.get_or_insert(content);
        } else if name.starts_with("og:") && name.len() <= 100 && self.properties.len() < PROPERTIES_MAX {
            // The first of several pictures is the one to show.
            self.properties.entry(name).or_insert(content.into());
        }
    }

    fn properties(mut self) -> Map<String, Value> {
        let title = tidy(&self.title, PROPERTY_CHARS_MAX);
        if !title.is_empty() {
            self.properties.entry("og:title").or_insert(title.into());
        }
        let described = self.description.map(|text| tidy(&text, PROPERTY_CHARS_MAX));
        let described = described.unwrap_or_else(|| tidy(&self.text, EXCERPT_CHARS_MAX));
        if !described.is_empty() {
            self.properties.entry("og:description").or_insert(described.into());
        }
        self.properties
    }
}

/// One space between words, and no more than so many characters.
fn tidy(text: &str, chars_max: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.chars().count() <= chars_max {
        return words;
    }
    let mut cut: String = words.chars().take(chars_max - 1).collect();
    cut.push('…');
    cut
}

/// By the byte order mark, the header, what the page says itself, or as UTF-8.
fn decode<'a>(bytes: &'a [u8], kind: &str) -> std::borrow::Cow<'a, str> {
    let named = |text: &str| {
        let rest = text.to_ascii_lowercase();
        let rest = rest.split_once("charset")?.1.trim_start().strip_prefix('=')?.trim_start().to_owned();
        let label = rest.trim_start_matches(['"', '\'']);
        let end = label.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.+".contains(c))).unwrap_or(label.len());
        Encoding::for_label(&label.as_bytes()[..end])
    };
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(CHARSET_WITHIN)]);
    named(kind).or_else(|| named(&start)).unwrap_or(UTF_8).decode(bytes).0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(page: &str) -> Value {
        Value::Object(properties(page.as_bytes(), "text/html"))
    }

    #[test]
    fn a_page_tells_of_itself_by_open_graph() {
        let page = r#"<html prefix="og: http://ogp.me/ns#"><head><title>The Rock (1996)</title>
            <meta property="og:title" content="The &amp; Rock"><meta property="og:type" content="video.movie" />
            <meta property='og:image' content='a.png'><meta property='og:image' content='b.png'>
            <script>var x = "<meta property='og:url' content='http://evil/'>";</script></head><body>Hi</body></html>"#;
        let expected = json!({
            "og:title": "The & Rock", "og:type": "video.movie", "og:image": "a.png", "og:description": "Hi",
        });
        assert_eq!(read(page), expected);
    }

    #[test]
    fn a_page_that_says_nothing_is_described_by_its_title_and_text() {
        let page = "<title> A  page\n</title><style>p{}</style><body><nav>Home</nav><p>One</p><p>two</p>";
        assert_eq!(read(page), json!({ "og:title": "A page", "og:description": "One two" }));
        assert_eq!(read("<meta name=Description content='  said  so '>"), json!({ "og:description": "said so" }));
        assert_eq!(read(""), json!({}));
        let long = format!("<body>{}", "word ".repeat(1_000));
        let description = read(&long)["og:description"].as_str().expect("a text").to_owned();
        assert_eq!(description.chars().count(), EXCERPT_CHARS_MAX);
        assert!(description.ends_with('…'));
    }

    #[test]
    fn pages_in_other_encodings_are_read() {
        let title = |bytes: &[u8], kind: &str| properties(bytes, kind)["og:title"].as_str().map(str::to_owned);
        let shift_jis = b"<title>\x93\xfa\x96{</title>";
        assert_eq!(title(shift_jis, "text/html; charset=Shift_JIS").as_deref(), Some("日本"));
        let latin = b"<meta charset=\"iso-8859-1\"><title>Gr\xfc\xdfe</title>";
        assert_eq!(title(latin, "text/html").as_deref(), Some("Grüße"));
        assert_eq!(title("<title>Grüße</title>".as_bytes(), "text/html").as_deref(), Some("Grüße"));
    }

    #[test]
    fn what_is_damaged_is_read_as_far_as_it_goes() {
        for page in
            ["<", "<meta", "<meta property=og:title content=", "<title>never closed", "</title></title>", "\0\0"]
        {
            let _ = read(page);
        }
        assert_eq!(read("<title>never closed")["og:title"], "never closed");
    }
}
