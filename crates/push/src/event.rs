//! An event as push rules see it: properties by path, read only when a rule asks.
//!
//! Paths are specified in the appendix on dot-separated property paths.

use std::{borrow::Cow, cell::OnceCell, fmt};

use ruma_common::{EventId, RoomId, UserId};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use crate::glob::lowered;

/// How many properties of a content are looked at; what comes after that is not there for rules.
pub const CONTENT_FIELDS_MAX: usize = 1_000;

/// An event, as far as rules may look into it. Reading the content costs one pass over its outer properties, once; a
/// long ciphertext or an HTML body is passed over and not copied.
#[derive(Debug)]
pub struct EventView<'a> {
    sender: &'a UserId,
    kind: &'a str,
    state_key: Option<&'a str>,
    room_id: &'a RoomId,
    event_id: &'a EventId,
    content: &'a RawValue,
    fields: OnceCell<Fields<'a>>,
    body: OnceCell<Option<Vec<char>>>,
}

impl<'a> EventView<'a> {
    /// A view of an event with these parts.
    pub fn new(
        event_id: &'a EventId,
        room_id: &'a RoomId,
        sender: &'a UserId,
        kind: &'a str,
        state_key: Option<&'a str>,
        content: &'a RawValue,
    ) -> Self {
        Self { sender, kind, state_key, room_id, event_id, content, fields: OnceCell::new(), body: OnceCell::new() }
    }

    /// Who sent it.
    pub fn sender(&self) -> &UserId {
        self.sender
    }

    /// Which room it is in.
    pub fn room_id(&self) -> &RoomId {
        self.room_id
    }

    /// The text of the message in lower case, for rules that look for words.
    pub(crate) fn body(&self) -> Option<&[char]> {
        let body = self.body.get_or_init(|| {
            let raw = self.field("body")?;
            serde_json::from_str::<Cow<'_, str>>(raw.get()).ok().map(|text| lowered(&text))
        });
        body.as_deref()
    }

    /// Calls `look` with the value of a string property. `None` if there is none or it is no string.
    pub(crate) fn text<T>(&self, path: &Path, look: impl FnOnce(&str) -> T) -> Option<T> {
        match path {
            Path::Kind => Some(look(self.kind)),
            Path::Sender => Some(look(self.sender.as_str())),
            Path::RoomId => Some(look(self.room_id.as_str())),
            Path::EventId => Some(look(self.event_id.as_str())),
            Path::StateKey => self.state_key.map(look),
            Path::Content(first, rest) if rest.is_empty() => {
                // The usual case, without a copy: most strings have no escapes.
                let raw = self.field(first)?;
                serde_json::from_str::<BorrowedText<'_>>(raw.get()).ok().map(|text| look(&text.0))
            }
            Path::Content(..) => match self.value(path)? {
                Value::String(text) => Some(look(&text)),
                _ => None,
            },
            Path::Nowhere => None,
        }
    }

    /// The value of any property.
    pub(crate) fn value(&self, path: &Path) -> Option<Value> {
        let Path::Content(first, rest) = path else {
            return self.text(path, |text| Value::String(text.to_owned()));
        };
        let outer = serde_json::from_str::<Value>(self.field(first)?.get()).ok()?;
        rest.iter().try_fold(outer, |value, name| match value {
            Value::Object(mut fields) => fields.remove(&**name),
            _ => None,
        })
    }

    fn field(&self, name: &str) -> Option<&'a RawValue> {
        let fields = self.fields.get_or_init(|| serde_json::from_str(self.content.get()).unwrap_or_default());
        // Of a property that is there twice, the last counts, as everywhere else.
        fields.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| *value)
    }
}

/// Where a property is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    Kind,
    Sender,
    RoomId,
    EventId,
    StateKey,
    /// A property of the content, and the way down from there.
    Content(Box<str>, Vec<Box<str>>),
    /// Nothing that rules can see, such as `unsigned`.
    Nowhere,
}

impl Path {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = split(text).into_iter();
        let first = parts.next().unwrap_or_default();
        let mut rest: Vec<Box<str>> = parts.map(Into::into).collect();
        match (first.as_str(), rest.len()) {
            ("type", 0) => Self::Kind,
            ("sender", 0) => Self::Sender,
            ("room_id", 0) => Self::RoomId,
            ("event_id", 0) => Self::EventId,
            ("state_key", 0) => Self::StateKey,
            ("content", 1..) => Self::Content(rest.remove(0), rest),
            _ => Self::Nowhere,
        }
    }

    /// The one property in which words are looked for instead of the whole value.
    pub(crate) fn is_body(&self) -> bool {
        matches!(self, Self::Content(first, rest) if &**first == "body" && rest.is_empty())
    }
}

/// Splits at dots; `\.` is a dot, `\\` a backslash, and any other backslash stands for itself.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let part = parts.last_mut().expect("there is always a part being written");
        match character {
            '.' => parts.push(String::new()),
            '\\' => part.push(characters.next_if(|next| matches!(next, '.' | '\\')).unwrap_or('\\')),
            other => part.push(other),
        }
    }
    parts
}

/// The outer properties of a JSON object, in their order.
#[derive(Debug, Default)]
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while fields.len() < CONTENT_FIELDS_MAX
                    && let Some((name, value)) = map.next_entry::<BorrowedText<'de>, &'de RawValue>()?
                {
                    fields.push((name.0, value));
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// A string that is borrowed unless it has escapes.
#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use ruma_common::{event_id, room_id, user_id};
    use serde_json::json;

    use super::*;

    fn with_content<T>(content: &Value, look: impl FnOnce(&EventView<'_>) -> T) -> T {
        let raw = serde_json::value::to_raw_value(content).expect("JSON");
        let event = EventView::new(
            event_id!("$1:example.org"),
            room_id!("!r:example.org"),
            user_id!("@bob:example.org"),
            "m.room.message",
            None,
            &raw,
        );
        look(&event)
    }

    fn text(content: &Value, path: &str) -> Option<String> {
        with_content(content, |event| event.text(&Path::parse(path), str::to_owned))
    }

    #[test]
    fn dots_in_names_are_escaped_in_paths() {
        assert_eq!(split(r"content.m\.relates_to.rel_type"), ["content", "m.relates_to", "rel_type"]);
        assert_eq!(split(r"content.m\\foo"), ["content", r"m\foo"]);
        assert_eq!(split(r"content.m\xfoo"), ["content", r"m\xfoo"]);
        assert_eq!(split(r"content.end\"), ["content", r"end\"]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn properties_are_found_by_path() {
        let content = json!({
            "body": "with \"quotes\"", "m.relates_to": { "rel_type": "m.replace", "deep": { "er": "x" } }, "n": 1,
        });
        for (path, expected) in [
            ("type", Some("m.room.message")),
            ("sender", Some("@bob:example.org")),
            ("room_id", Some("!r:example.org")),
            ("event_id", Some("$1:example.org")),
            ("state_key", None),
            ("content.body", Some("with \"quotes\"")),
            (r"content.m\.relates_to.rel_type", Some("m.replace")),
            (r"content.m\.relates_to.deep.er", Some("x")),
            ("content.m.relates_to.rel_type", None),
            ("content.n", None),
            ("content", None),
            ("content.body.more", None),
            ("unsigned.age", None),
        ] {
            assert_eq!(text(&content, path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn of_a_property_that_is_there_twice_the_last_counts() {
        let raw = RawValue::from_string(r#"{"msgtype":"m.text","msgtype":"m.notice"}"#.to_owned()).expect("JSON");
        let (id, room, bob) = (event_id!("$1:example.org"), room_id!("!r:example.org"), user_id!("@b:example.org"));
        let event = EventView::new(id, room, bob, "m.room.message", None, &raw);
        assert_eq!(event.text(&Path::parse("content.msgtype"), str::to_owned).as_deref(), Some("m.notice"));
    }
}
