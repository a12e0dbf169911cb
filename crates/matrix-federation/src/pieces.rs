//! A large JSON object taken apart while it arrives: the items of its lists are handed on one by one, and of the rest
//! only what was asked for is kept. Nothing here grows with the answer.
//!
//! Only as much of JSON is understood as it takes to see where a value ends; whether an item is what it should be, its
//! own parser says.

use koine_graph::event::RAW_BYTES_MAX;

/// Longest item, and longest field that is kept.
const PIECE_BYTES_MAX: usize = RAW_BYTES_MAX;
/// Longest name of a field.
const NAME_BYTES_MAX: usize = 256;
/// Most bytes of fields that nobody asked for, and of spaces.
const SKIPPED_BYTES_MAX: usize = 1024 * 1024;

/// Why bytes are not an answer that can be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PieceError {
    #[error("it is not a JSON object: unexpected byte {found:#04x} after {at} bytes")]
    Unexpected { found: u8, at: u64 },
    #[error("it ends in the middle, after {at} bytes")]
    Incomplete { at: u64 },
    #[error("a part of `{name}` is larger than the {PIECE_BYTES_MAX} bytes that any event has")]
    TooLarge { name: String },
    #[error("it has more than {SKIPPED_BYTES_MAX} bytes of what nobody asked for")]
    TooMuch,
}

/// A part of the object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The field: a list whose item this is, or a field that is kept whole.
    pub(crate) name: &'static str,
    /// Its JSON.
    pub(crate) json: Vec<u8>,
}

/// Which fields are wanted, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Lists, handed on item by item.
    pub(crate) lists: &'static [&'static str],
    /// Fields handed on whole.
    pub(crate) fields: &'static [&'static str],
}

/// Takes an object apart.
#[derive(Debug)]
pub(crate) struct Pieces {
    wanted: Wanted,
    expect: Expect,
    /// Where values go that are being read.
    into: Into,
    value: Value,
    /// Whether the value stands in a list.
    in_list: bool,
    name: Vec<u8>,
    json: Vec<u8>,
    skipped: usize,
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Object,
    /// A name, or the end; `true`: after a comma, so no end.
    Name(bool),
    InName {
        escaped: bool,
    },
    Colon,
    Value,
    InValue,
    /// An item of a list, or its end; `true`: after a comma, so no end.
    Item(bool),
    CommaOrEnd,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Into {
    Nowhere,
    Piece(&'static str),
}

/// How far into a value we are.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// A number or a word, which ends where something else begins.
    is_bare: bool,
}

impl Pieces {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            expect: Expect::Object,
            into: Into::Nowhere,
            value: Value::default(),
            in_list: false,
            name: Vec::new(),
            json: Vec::new(),
            skipped: 0,
            at: 0,
        }
    }

    /// Takes the next bytes and adds the pieces that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<(), PieceError> {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let taken = match self.expect {
                Expect::InValue => self.value(rest, out)?,
                _ => {
                    self.step(byte)?;
                    1
                }
            };
            self.at += taken as u64;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Says whether that was all.
    pub(crate) fn end(&self) -> Result<(), PieceError> {
        if self.expect == Expect::Nothing { Ok(()) } else { Err(PieceError::Incomplete { at: self.at }) }
    }

    fn step(&mut self, byte: u8) -> Result<(), PieceError> {
        let unexpected = PieceError::Unexpected { found: byte, at: self.at };
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') && !matches!(self.expect, Expect::InName { .. }) {
            return self.skip(1);
        }
        self.expect = match (self.expect, byte) {
            (Expect::Object, b'{') => Expect::Name(false),
            (Expect::Name(_), b'"') => {
                self.name.clear();
                Expect::InName { escaped: false }
            }
            (Expect::Name(false), b'}') => Expect::Nothing,
            (Expect::InName { escaped: false }, b'"') => Expect::Colon,
            (Expect::InName { escaped }, byte) => {
                if self.name.len() == NAME_BYTES_MAX {
                    return Err(unexpected);
                }
                self.name.push(byte);
                Expect::InName { escaped: byte == b'\\' && !escaped }
            }
            (Expect::Colon, b':') => Expect::Value,
            (Expect::Value, b'[') if self.named(self.wanted.lists).is_some() => {
                self.in_list = true;
                Expect::Item(false)
            }
            (Expect::Item(false), b']') => {
                self.in_list = false;
                Expect::CommaOrEnd
            }
            (Expect::Value | Expect::Item(_), byte) => return self.begin(byte),
            (Expect::CommaOrEnd, b',') if self.in_list => Expect::Item(true),
            (Expect::CommaOrEnd, b']') if self.in_list => {
                self.in_list = false;
                Expect::CommaOrEnd
            }
            (Expect::CommaOrEnd, b',') => Expect::Name(true),
            (Expect::CommaOrEnd, b'}') if !self.in_list => Expect::Nothing,
            _ => return Err(unexpected),
        };
        Ok(())
    }

    fn named(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().find(|name| name.as_bytes() == self.name).copied()
    }

    /// The first byte of a value.
    fn begin(&mut self, byte: u8) -> Result<(), PieceError> {
        let wanted = if self.in_list { self.wanted.lists } else { self.wanted.fields };
        self.into = self.named(wanted).map_or(Into::Nowhere, Into::Piece);
        self.value = Value::default();
        match byte {
            b'{' | b'[' => self.value.depth = 1,
            b'"' => self.value.in_string = true,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.value.is_bare = true,
            _ => return Err(PieceError::Unexpected { found: byte, at: self.at }),
        }
        self.expect = Expect::InValue;
        self.put(&[byte])
    }

    /// Takes as much of a value as is there; how many bytes that was. What ends a bare value is not part of it.
    fn value(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<usize, PieceError> {
        let mut value = self.value;
        let mut end = None;
        for (at, &byte) in bytes.iter().enumerate() {
            if value.in_string {
                match byte {
                    _ if value.escaped => value.escaped = false,
                    b'\\' => value.escaped = true,
                    b'"' => {
                        value.in_string = false;
                        if value.depth == 0 {
                            end = Some(at + 1);
                            break;
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r' if value.is_bare => {
                    end = Some(at);
                    break;
                }
                b'"' => value.in_string = true,
                b'{' | b'[' => value.depth += 1,
                b'}' | b']' => {
                    value.depth -= 1;
                    if value.depth == 0 {
                        end = Some(at + 1);
                        break;
                    }
                }
                _ => {}
            }
        }
        self.value = value;
        let taken = end.unwrap_or(bytes.len());
        self.put(bytes.get(..taken).unwrap_or_default())?;
        if end.is_some() {
            self.expect = Expect::CommaOrEnd;
            if let Into::Piece(name) = self.into {
                out.push(Piece { name, json: std::mem::take(&mut self.json) });
            }
        }
        Ok(taken)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), PieceError> {
        let Into::Piece(name) = self.into else { return self.skip(bytes.len()) };
        if self.json.len() + bytes.len() > PIECE_BYTES_MAX {
            return Err(PieceError::TooLarge { name: name.to_owned() });
        }
        self.json.extend_from_slice(bytes);
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> Result<(), PieceError> {
        self.skipped += bytes;
        if self.skipped > SKIPPED_BYTES_MAX { Err(PieceError::TooMuch) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { lists: &["state", "auth_chain"], fields: &["event", "members_omitted"] };

    fn taken_apart(chunks: &[&str]) -> Result<Vec<(String, String)>, PieceError> {
        let (mut pieces, mut out) = (Pieces::new(WANTED), Vec::new());
        for chunk in chunks {
            pieces.feed(chunk.as_bytes(), &mut out)?;
        }
        pieces.end()?;
        let text = |piece: Piece| (piece.name.to_owned(), String::from_utf8(piece.json).expect("UTF-8"));
        Ok(out.into_iter().map(text).collect())
    }

    #[test]
    fn an_answer_is_taken_apart_wherever_its_chunks_end() {
        let whole = r#" { "x":[1,{"state":[]}], "state" : [ {"a":"]}\"\\","b":[1,{}]} ,{"c":-1.5e3} ],"event":{"d":null},
            "auth_chain":[],"members_omitted":true,"y":"z" }"#;
        let expected = [
            ("state", r#"{"a":"]}\"\\","b":[1,{}]}"#),
            ("state", r#"{"c":-1.5e3}"#),
            ("event", r#"{"d":null}"#),
            ("members_omitted", "true"),
        ];
        let expected: Vec<_> = expected.iter().map(|(name, json)| ((*name).to_owned(), (*json).to_owned())).collect();
        assert_eq!(taken_apart(&[whole]).expect("an answer"), expected);
        for at in 0..whole.len() {
            let (one, other) = whole.split_at(at);
            assert_eq!(taken_apart(&[one, other]).expect("an answer"), expected, "cut at {at}");
        }
        let bytes: Vec<String> = whole.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(taken_apart(&bytes).expect("an answer"), expected);
    }

    #[test]
    fn what_is_no_object_is_refused_at_once() {
        for text in ["[]", "junk", "{\"state\":[}", "{\"state\":[{},]}", "{,}", "{\"a\":1,}", "{} {}", "{\"a\" 1}"] {
            assert!(matches!(taken_apart(&[text]), Err(PieceError::Unexpected { .. })), "{text}");
        }
        for text in ["", "{", "{\"state\":[", "{\"state\":[{}", "{\"event\":tru"] {
            assert!(matches!(taken_apart(&[text]), Err(PieceError::Incomplete { .. })), "{text}");
        }
    }

    #[test]
    fn junk_without_end_is_cut_off() {
        let junk = "x".repeat(100_000);
        let feed = |start: &str, filling: &str| {
            let (mut pieces, mut out) = (Pieces::new(WANTED), Vec::new());
            pieces.feed(start.as_bytes(), &mut out).expect("a beginning");
            let mut fed = 0;
            loop {
                if let Err(error) = pieces.feed(filling.as_bytes(), &mut out) {
                    return (error, fed);
                }
                fed += filling.len();
                assert!(fed < 2 * SKIPPED_BYTES_MAX, "it goes on for ever");
            }
        };
        assert!(matches!(feed("{\"state\":[\"", &junk).0, PieceError::TooLarge { .. }));
        assert_eq!(feed("{\"other\":\"", &junk).0, PieceError::TooMuch);
        assert_eq!(feed("{", &" ".repeat(100_000)).0, PieceError::TooMuch);
        assert!(matches!(feed("{\"", &junk).0, PieceError::Unexpected { .. }));
    }
}
