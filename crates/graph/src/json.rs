//! JSON as a borrowed tree, and its canonical form. [appendices §canonical-json]
//!
//! The tree borrows from the text it was parsed from, keeps objects sorted, and can be written in canonical form
//! straight away: hashing and signing an event take three passes over such a tree and no other intermediate form.
//! Room versions 1 to 5 must not enforce canonical JSON, so numbers outside of it are kept as they were written.

use std::borrow::Cow;

mod parse;

pub use parse::{DEPTH_MAX, JsonError, parse};

/// Greatest integer in canonical JSON, and by its sign the smallest.
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// A JSON value that borrows what it can.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer within ±[`INTEGER_MAX`].
    Integer(i64),
    /// Any other number, as it was written.
    OtherNumber(&'a str),
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Json<'a>>),
    /// An object.
    Object(Object<'a>),
}

/// A JSON object: sorted by key, each key once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Json<'a> {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one within ±[`INTEGER_MAX`].
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            _ => None,
        }
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<&[Json<'a>]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Whether every number in here is one of canonical JSON.
    pub fn is_canonical(&self) -> bool {
        match self {
            Self::OtherNumber(_) => false,
            Self::Array(items) => items.iter().all(Json::is_canonical),
            Self::Object(object) => object.iter().all(|(_, value)| value.is_canonical()),
            _ => true,
        }
    }

    /// Appends the canonical form: shortest, keys sorted, UTF-8.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Integer(integer) => write_integer(*integer, out),
            Self::OtherNumber(text) => out.extend_from_slice(text.as_bytes()),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(object) => object.write(out),
        }
    }
}

impl<'a> Object<'a> {
    /// An empty object with room for `capacity` keys.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// From entries in any order; of equal keys the last one counts, as in nearly every JSON parser.
    fn from_entries(mut entries: Vec<(Cow<'a, str>, Json<'a>)>) -> Self {
        if !entries.is_sorted_by(|(one, _), (other, _)| one < other) {
            // A stable sort keeps the order among equal keys.
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            entries.reverse();
            entries.dedup_by(|(one, _), (other, _)| one == other);
            entries.reverse();
        }
        Self(entries)
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(key))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.position(key).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, key: impl Into<Cow<'a, str>>, value: Json<'a>) {
        let key = key.into();
        match self.position(&key) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    entry.1 = value;
                }
            }
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Json<'a>> {
        self.position(key).ok().map(|at| self.0.remove(at).1)
    }

    /// Keeps the entries for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Json<'a>) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    /// A copy of the entries whose key passes `keep`.
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(key, _)| keep(key)).cloned().collect())
    }

    /// Entries, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the canonical form.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_without(&[], out);
    }

    /// Appends the canonical form, without the entries whose keys are in `left_out`.
    pub fn write_without(&self, left_out: &[&str], out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        for (key, value) in self.0.iter().filter(|(key, _)| !left_out.contains(&&**key)) {
            if !first {
                out.push(b',');
            }
            first = false;
            write_string(key, out);
            out.push(b':');
            value.write(out);
        }
        out.push(b'}');
    }

    /// Appends the canonical form; says where in `out` the value of `key` lies.
    pub(crate) fn write_and_find(&self, key: &str, out: &mut Vec<u8>) -> Option<std::ops::Range<usize>> {
        let mut found = None;
        out.push(b'{');
        for (at, (name, value)) in self.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_string(name, out);
            out.push(b':');
            let from = out.len();
            value.write(out);
            if name == key {
                found = Some(from..out.len());
            }
        }
        out.push(b'}');
        found
    }

    /// The canonical form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.write(&mut out);
        out
    }
}

fn write_integer(integer: i64, out: &mut Vec<u8>) {
    // Twenty digits are enough for any i64.
    let mut digits = [0_u8; 20];
    let mut rest = integer.unsigned_abs();
    let mut length = 0;
    for digit in &mut digits {
        *digit = b'0' + u8::try_from(rest % 10).expect("a remainder of ten is below ten");
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    if integer < 0 {
        out.push(b'-');
    }
    out.extend(digits.iter().take(length).rev());
}

/// Appends `text` as a JSON string with the escapes of canonical JSON: the short ones where they exist, `\u00xx` in
/// lower case for the other control characters, nothing else.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\')) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, tail)) = tail.split_first() else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
