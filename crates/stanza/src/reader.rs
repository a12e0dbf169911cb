//! A strict reader of streams. RFC 6120, sections 4 and 11.
//!
//! Bytes go in as they come, whole elements come out. Nothing is allowed that XMPP forbids (document types, comments,
//! processing instructions, entities but the five), and nothing may grow beyond [`Limits`], however slowly it comes: what
//! waits for its end is searched from where the search ended before, and an error is final.
//!
//! The same reader takes streams of TCP, where a header encloses everything ([`Reader::stream`]), and single documents, as
//! WebSocket has them ([`document`]).

mod syntax;

use self::syntax::Within;
use crate::{
    Element,
    element::{Attribute, Name},
    known, ns,
};

/// Bounds of what one element of the first level may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes from its first to its last.
    pub bytes: usize,
    /// Levels within each other.
    pub depth: usize,
    /// Attributes of one element, declarations of namespaces among them.
    pub attributes: usize,
    /// Elements altogether: each takes far more memory than the four bytes it may come in.
    pub elements: usize,
}

/// What nobody who speaks XMPP comes near.
pub const DEPTH_MAX: usize = 128;
/// The same for attributes.
pub const ATTRIBUTES_MAX: usize = 128;
/// The same for elements within one stanza.
pub const ELEMENTS_MAX: usize = 20_000;
/// Declarations of namespaces that are in force at one place: every prefix is looked for among them.
const DECLARED_MAX: usize = 512;
/// The longest namespace. Every element has its own: what is declared once is held for each that is within.
const NS_BYTES_MAX: usize = 256;
/// The longest `<?xml ...?>`.
const DECLARATION_BYTES_MAX: usize = 256;
/// A buffer that grew beyond this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 1024;

impl Limits {
    /// The usual ones, with a bound on bytes.
    pub fn bytes(bytes: usize) -> Self {
        Self { bytes, depth: DEPTH_MAX, attributes: ATTRIBUTES_MAX, elements: ELEMENTS_MAX }
    }
}

/// Why bytes are no stream of XMPP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// No XML.
    #[error("not well-formed: {0}")]
    NotWellFormed(&'static str),
    /// XML, but of a kind that XMPP forbids.
    #[error("not allowed in XMPP: {0}")]
    Restricted(&'static str),
    /// A prefix that is not declared.
    #[error("a prefix is not declared")]
    Prefix,
    /// Text where only elements can be.
    #[error("text between stanzas")]
    Text,
    /// Not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// Longer than allowed.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// More than allowed.
    #[error("more than {1} {0}")]
    TooMany(&'static str, usize),
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The header of the stream.
    Open(Header),
    /// An element of the first level: a stanza, or something of the stream.
    Element(Element),
    /// The end of the stream.
    Close,
}

/// The header of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its element, without children.
    pub element: Element,
    /// The namespace that it declares for its content.
    pub content_ns: Option<String>,
}

/// The reader. An idle one holds no buffer.
pub struct Reader {
    limits: Limits,
    /// What has come and is not understood yet.
    buffer: Vec<u8>,
    /// Where in the buffer that begins.
    begin: usize,
    /// Where, from there, the search for the end of the next token goes on.
    searched: usize,
    /// The quotation mark that the search is within.
    quote: Option<u8>,
    /// Bytes of the current element of the first level that were taken from the buffer.
    taken: usize,
    elements: usize,
    /// The name of the root as it was written; the root of a document is an element like others.
    root: Root,
    open: Vec<Open>,
    declared: Vec<Declared>,
}

enum Root {
    /// Nothing was read yet; a declaration may come.
    Begin,
    /// The header may come.
    Declared,
    /// Within a stream.
    Stream(Box<str>),
    /// Its end was read.
    Closed,
    /// A document: there is no header.
    None,
}

/// An element whose end has not come yet.
struct Open {
    element: Element,
    /// As it was written, for the comparison with its end.
    name: Box<str>,
    /// Declarations in force around it.
    declared: usize,
}

/// A declaration of a namespace.
struct Declared {
    prefix: Box<str>,
    ns: Name,
}

impl Reader {
    /// For a stream with a header.
    pub fn stream(limits: Limits) -> Self {
        Self::new(limits, Root::Begin)
    }

    fn new(limits: Limits, root: Root) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
            begin: 0,
            searched: 0,
            quote: None,
            taken: 0,
            elements: 0,
            root,
            open: Vec::new(),
            declared: Vec::new(),
        }
    }

    /// Other limits from the next element on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Begins a new stream in the place of the old one, after TLS or authentication. What has come already is kept: see
    /// [`is_empty`](Self::is_empty).
    pub fn restart(&mut self) {
        self.root = Root::Begin;
        self.open.clear();
        self.declared.clear();
        (self.searched, self.quote, self.taken, self.elements) = (0, None, 0, 0);
    }

    /// Whether all that has come was read.
    pub fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }

    /// Takes bytes. Call [`read`](Self::read) until it has nothing before taking more, or the bounds do not bound.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next of what has come, if all of it has.
    pub fn read(&mut self) -> Result<Option<Parsed>, XmlError> {
        loop {
            match self.step()? {
                Step::Parsed(parsed) => return Ok(Some(parsed)),
                Step::Again => {}
                Step::Wait => break,
            }
        }
        self.buffer.drain(..std::mem::take(&mut self.begin));
        if self.taken + self.buffer.len() > self.limits.bytes {
            return Err(XmlError::TooLong(self.limits.bytes));
        }
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
        Ok(None)
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.begin..]
    }

    fn step(&mut self) -> Result<Step, XmlError> {
        match self.pending() {
            [] | [b'<'] => Ok(Step::Wait),
            [b'<', b'?', ..] => self.declaration(),
            [b'<', b'!', ..] => self.cdata(),
            [b'<', ..] => self.tag(),
            _ => self.text(),
        }
    }

    fn text(&mut self) -> Result<Step, XmlError> {
        if self.open.is_empty() {
            // Between stanzas: white space that keeps the connection open, and nothing else. [RFC6120 §4.6.1]
            let spaces = self.pending().iter().take_while(|byte| syntax::is_space(**byte)).count();
            if spaces == 0 {
                return Err(match self.root {
                    Root::Stream(_) => XmlError::Text,
                    _ => XmlError::NotWellFormed("text outside of the root"),
                });
            }
            if matches!(self.root, Root::Begin) {
                self.root = Root::Declared;
            }
            self.begin += spaces;
            return Ok(Step::Again);
        }
        let Some(end) = find(self.pending(), self.searched, b'<') else {
            self.searched = self.pending().len();
            return Ok(Step::Wait);
        };
        let raw = std::str::from_utf8(&self.pending()[..end]).map_err(|_| XmlError::Encoding)?;
        let text = syntax::unescape(raw, Within::Content)?;
        self.push_text(text);
        self.take(end)?;
        Ok(Step::Again)
    }

    fn push_text(&mut self, text: String) {
        if let Some(open) = self.open.last_mut() {
            open.element.push_text(text);
        }
    }

    fn declaration(&mut self) -> Result<Step, XmlError> {
        if !matches!(self.root, Root::Begin) {
            return Err(XmlError::Restricted("a processing instruction"));
        }
        let after = self.pending().windows(2).take(DECLARATION_BYTES_MAX).skip(2);
        let Some(end) = after.into_iter().position(|two| two == b"?>").map(|at| at + 2) else {
            return match self.pending().len() > DECLARATION_BYTES_MAX {
                true => Err(XmlError::NotWellFormed("an XML declaration without end")),
                false => Ok(Step::Wait),
            };
        };
        let inner = std::str::from_utf8(&self.pending()[2..end]).map_err(|_| XmlError::Encoding)?;
        syntax::declaration(inner)?;
        self.begin += end + 2;
        self.root = Root::Declared;
        Ok(Step::Again)
    }

    /// `<![CDATA[...]]>`, or something that is not allowed.
    fn cdata(&mut self) -> Result<Step, XmlError> {
        const START: &[u8] = b"<![CDATA[";
        let there = self.pending().len().min(START.len());
        if self.pending()[..there] != START[..there] {
            return Err(XmlError::Restricted("a comment or a document type"));
        }
        if self.open.is_empty() {
            return Err(XmlError::NotWellFormed("CDATA outside of an element"));
        }
        if there < START.len() {
            return Ok(Step::Wait);
        }
        let from = self.searched.max(START.len());
        let Some(end) = self.pending()[from..].windows(3).position(|three| three == b"]]>").map(|at| from + at) else {
            self.searched = self.pending().len().saturating_sub(2);
            return Ok(Step::Wait);
        };
        let raw = std::str::from_utf8(&self.pending()[START.len()..end]).map_err(|_| XmlError::Encoding)?;
        let text = raw.replace('&', "&amp;");
        let text = syntax::unescape(&text, Within::Content)?;
        self.push_text(text);
        self.take(end + 3)?;
        Ok(Step::Again)
    }

    fn tag(&mut self) -> Result<Step, XmlError> {
        let Some(end) = self.tag_end()? else { return Ok(Step::Wait) };
        let buffer = std::mem::take(&mut self.buffer);
        let parsed = self.tag_within(&buffer[self.begin + 1..self.begin + end]);
        self.buffer = buffer;
        let parsed = parsed?;
        self.take(end + 1)?;
        if self.open.is_empty() {
            (self.taken, self.elements) = (0, 0);
        }
        Ok(parsed)
    }

    /// Where the `>` of the tag is that the buffer begins with.
    fn tag_end(&mut self) -> Result<Option<usize>, XmlError> {
        let (from, mut quote) = (self.searched.max(1), self.quote);
        for (at, byte) in self.pending().iter().enumerate().skip(from) {
            match (quote, byte) {
                (_, b'<') => return Err(XmlError::NotWellFormed("< within a tag")),
                (Some(mark), byte) if mark == *byte => quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => quote = Some(*byte),
                (None, b'>') => return Ok(Some(at)),
                (None, _) => {}
            }
        }
        (self.searched, self.quote) = (self.pending().len(), quote);
        Ok(None)
    }

    fn tag_within(&mut self, inner: &[u8]) -> Result<Step, XmlError> {
        let inner = std::str::from_utf8(inner).map_err(|_| XmlError::Encoding)?;
        match inner.strip_prefix('/') {
            Some(name) => self.end_tag(syntax::trim_end(name)),
            None => self.start_tag(inner),
        }
    }

    fn end_tag(&mut self, name: &str) -> Result<Step, XmlError> {
        let Some(open) = self.open.pop() else {
            return match &self.root {
                Root::Stream(root) if **root == *name => {
                    self.root = Root::Closed;
                    Ok(Step::Parsed(Parsed::Close))
                }
                _ => Err(XmlError::NotWellFormed("the end of something that did not begin")),
            };
        };
        if *open.name != *name {
            return Err(XmlError::NotWellFormed("the end of another element than the one that began last"));
        }
        self.declared.truncate(open.declared);
        Ok(self.finished(open.element))
    }

    /// An element is whole.
    fn finished(&mut self, element: Element) -> Step {
        match self.open.last_mut() {
            Some(parent) => {
                parent.element.push(element);
                Step::Again
            }
            None => Step::Parsed(Parsed::Element(element)),
        }
    }

    fn start_tag(&mut self, inner: &str) -> Result<Step, XmlError> {
        let is_root = match self.root {
            Root::Begin | Root::Declared => true,
            Root::Stream(_) | Root::None => false,
            Root::Closed => return Err(XmlError::NotWellFormed("something after the end of the stream")),
        };
        self.elements += 1;
        if self.elements > self.limits.elements {
            return Err(XmlError::TooMany("elements", self.limits.elements));
        }
        if self.open.len() >= self.limits.depth {
            return Err(XmlError::TooMany("levels", self.limits.depth));
        }
        let tag = syntax::start_tag(inner, self.limits.attributes)?;
        let declared = self.declared.len();
        let content_ns = self.declare(&tag)?;
        let element = self.element(&tag)?;
        if is_root {
            if tag.is_empty {
                return Err(XmlError::NotWellFormed("a stream that ends as it begins"));
            }
            self.root = Root::Stream(tag.name.into());
            return Ok(Step::Parsed(Parsed::Open(Header { element, content_ns })));
        }
        if tag.is_empty {
            self.declared.truncate(declared);
            return Ok(self.finished(element));
        }
        self.open.push(Open { element, name: tag.name.into(), declared });
        Ok(Step::Again)
    }

    /// Puts the declarations of a tag into force; answers the one for names without prefix.
    fn declare(&mut self, tag: &syntax::Tag<'_>) -> Result<Option<String>, XmlError> {
        let mut default = None;
        for (name, value) in &tag.attributes {
            let prefix = match name.split_once(':') {
                None if *name == "xmlns" => "",
                Some(("xmlns", prefix)) => prefix,
                _ => continue,
            };
            let is_xml = value == ns::XML;
            let is_wrong = match prefix {
                "" => is_xml || value == XMLNS,
                "xml" => !is_xml,
                "xmlns" => true,
                _ => value.is_empty() || is_xml || value == XMLNS,
            };
            if is_wrong {
                return Err(XmlError::NotWellFormed("a declaration of a namespace that cannot be"));
            }
            if value.len() > NS_BYTES_MAX {
                return Err(XmlError::TooMany("bytes of a namespace", NS_BYTES_MAX));
            }
            if self.declared.len() >= DECLARED_MAX {
                return Err(XmlError::TooMany("namespaces", DECLARED_MAX));
            }
            if prefix.is_empty() {
                default = Some(value.clone());
            } else {
                syntax::split_name(prefix)?;
            }
            self.declared.push(Declared { prefix: prefix.into(), ns: known::name(value) });
        }
        Ok(default)
    }

    fn element(&self, tag: &syntax::Tag<'_>) -> Result<Element, XmlError> {
        let (prefix, local) = syntax::split_name(tag.name)?;
        let space = match self.resolve(prefix) {
            Some(space) => space,
            None if prefix.is_empty() => Name::Borrowed(""),
            None => return Err(XmlError::Prefix),
        };
        let mut element = Element::new(known::name(local), space);
        for (at, (name, value)) in tag.attributes.iter().enumerate() {
            if tag.attributes[..at].iter().any(|(other, _)| other == name) {
                return Err(XmlError::NotWellFormed("an attribute twice"));
            }
            let (prefix, local) = syntax::split_name(name)?;
            let (ns, name) = match prefix {
                "" if local == "xmlns" => continue,
                "xmlns" => continue,
                "" => (None, known::name(local)),
                "xml" if local == "lang" => (None, Name::Borrowed("xml:lang")),
                prefix => (Some(self.resolve(prefix).ok_or(XmlError::Prefix)?), known::name(local)),
            };
            if ns.is_some() && element.attributes().iter().any(|a| a.ns == ns && a.name == name) {
                return Err(XmlError::NotWellFormed("an attribute twice"));
            }
            element.push_attribute(Attribute { ns, name, value: value.clone() });
        }
        Ok(element)
    }

    fn resolve(&self, prefix: &str) -> Option<Name> {
        match prefix {
            "xml" => Some(Name::Borrowed(ns::XML)),
            "xmlns" => None,
            _ => self.declared.iter().rev().find(|declared| *declared.prefix == *prefix).map(|found| found.ns.clone()),
        }
    }

    /// Removes what was understood from the buffer.
    fn take(&mut self, bytes: usize) -> Result<(), XmlError> {
        self.begin += bytes;
        (self.searched, self.quote) = (0, None);
        self.taken += bytes;
        match self.taken > self.limits.bytes {
            true => Err(XmlError::TooLong(self.limits.bytes)),
            false => Ok(()),
        }
    }
}

/// The namespace of declarations themselves.
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

enum Step {
    Parsed(Parsed),
    Again,
    Wait,
}

fn find(buffer: &[u8], from: usize, byte: u8) -> Option<usize> {
    buffer.get(from..)?.iter().position(|there| *there == byte).map(|at| from + at)
}

/// One whole element, with at most white space around it.
pub fn document(bytes: &[u8], limits: Limits) -> Result<Element, XmlError> {
    let mut reader = Reader::new(limits, Root::None);
    reader.push(bytes);
    let Some(Parsed::Element(element)) = reader.read()? else {
        return Err(XmlError::NotWellFormed("an element without end"));
    };
    match reader.pending().iter().all(|byte| syntax::is_space(*byte)) {
        true => Ok(element),
        false => Err(XmlError::NotWellFormed("more than one element")),
    }
}

#[cfg(test)]
mod tests;
