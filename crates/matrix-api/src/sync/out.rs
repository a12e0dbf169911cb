//! JSON written straight into bytes: an answer of `/sync` is mostly events that are JSON already.

use serde::Serialize;

/// JSON in the making. Commas are put where they belong; opening and closing is the caller's.
#[derive(Debug, Default)]
pub(crate) struct Out(Vec<u8>);

impl Out {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Starts an object or a list as the next thing.
    pub(crate) fn open(&mut self, bracket: u8) {
        self.separate();
        self.0.push(bracket);
    }

    /// Starts an object or a list under `name`.
    pub(crate) fn open_field(&mut self, name: &str, bracket: u8) {
        self.name(name);
        self.0.push(bracket);
    }

    /// Ends an object or a list.
    pub(crate) fn close(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// `"name":value`.
    pub(crate) fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        serde_json::to_writer(&mut self.0, value).expect("what is written here has string keys and no failing parts");
    }

    /// Something that is JSON already, as the next thing.
    pub(crate) fn raw(&mut self, json: &[u8]) {
        self.separate();
        self.0.extend_from_slice(json);
    }

    /// Something that is JSON already under `name`.
    pub(crate) fn raw_field(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(json);
    }

    /// A list of pieces of JSON under `name`.
    pub(crate) fn list_field<T: AsRef<[u8]>>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        self.open_field(name, b'[');
        for item in items {
            self.raw(item.as_ref());
        }
        self.close(b']');
    }

    /// Where the writing stands, for [`undo`](Self::undo).
    pub(crate) fn mark(&self) -> usize {
        self.0.len()
    }

    /// Takes back everything written since `mark`.
    pub(crate) fn undo(&mut self, mark: usize) {
        self.0.truncate(mark);
    }

    pub(crate) fn into_bytes(self) -> bytes::Bytes {
        self.0.into()
    }

    fn name(&mut self, name: &str) {
        self.separate();
        serde_json::to_writer(&mut self.0, name).expect("a string can always be written");
        self.0.push(b':');
    }

    fn separate(&mut self) {
        if !matches!(self.0.last(), None | Some(b'{' | b'[' | b':')) {
            self.0.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between_things_only() {
        let mut out = Out::default();
        out.open(b'{');
        out.field("a", &1);
        out.list_field("b", [b"{}".as_slice(), b"[]"]);
        let mark = out.mark();
        out.field("gone", &true);
        out.undo(mark);
        out.open_field("c", b'{');
        out.close(b'}');
        out.close(b'}');
        assert_eq!(out.into_bytes(), r#"{"a":1,"b":[{},[]],"c":{}}"#.as_bytes());
    }
}
