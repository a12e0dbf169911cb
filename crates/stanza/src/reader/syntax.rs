//! The letters of XML: characters, names, references, tags. Extensible Markup Language 1.0 and Namespaces in XML 1.0, as far
//! as XMPP has them. [RFC6120 §11]

use super::XmlError;

/// Whether XML may contain it at all.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn is_name_start(c: char) -> bool {
    matches!(c, 'A'..='Z' | 'a'..='z' | '_'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}'
        | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

fn is_name_char(c: char) -> bool {
    is_name_start(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

fn is_ncname(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(is_name_start) && chars.all(is_name_char)
}

/// White space of XML.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Prefix and local name.
pub(super) fn split_name(name: &str) -> Result<(&str, &str), XmlError> {
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) if is_ncname(prefix) => (prefix, local),
        Some(_) => return Err(XmlError::NotWellFormed("a prefix that is no name")),
        None => ("", name),
    };
    match is_ncname(local) {
        true => Ok((prefix, local)),
        false => Err(XmlError::NotWellFormed("a name that is none")),
    }
}

/// Where text stands, for what becomes of its white space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Content,
    Attribute,
}

/// What raw text means: references resolved, line ends made one, every character allowed.
pub(super) fn unescape(raw: &str, within: Within) -> Result<String, XmlError> {
    if within == Within::Content && raw.contains("]]>") {
        return Err(XmlError::NotWellFormed("]]> in text"));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('&') {
        plain(&rest[..at], within, &mut out)?;
        let reference = &rest[at + 1..];
        let end = reference.find(';').ok_or(XmlError::NotWellFormed("a reference without end"))?;
        out.push(resolve(&reference[..end])?);
        rest = &reference[end + 1..];
    }
    plain(rest, within, &mut out)?;
    Ok(out)
}

fn plain(text: &str, within: Within, out: &mut String) -> Result<(), XmlError> {
    let is_simple = |byte: u8| (b' '..0x7f).contains(&byte);
    if text.bytes().all(is_simple) {
        out.push_str(text);
        return Ok(());
    }
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' | '\n' | '\t' => {
                if c == '\r' && chars.peek() == Some(&'\n') {
                    chars.next();
                }
                out.push(match (within, c) {
                    (Within::Attribute, _) => ' ',
                    (Within::Content, '\t') => '\t',
                    (Within::Content, _) => '\n',
                });
            }
            c if is_char(c) => out.push(c),
            _ => return Err(XmlError::NotWellFormed("a character that XML does not have")),
        }
    }
    Ok(())
}

fn resolve(reference: &str) -> Result<char, XmlError> {
    let number = match reference {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "apos" => return Ok('\''),
        "quot" => return Ok('"'),
        _ => reference.strip_prefix('#'),
    };
    let Some(number) = number else {
        // [RFC6120 §11.1] None but the five. One that is not even a name is no XML at all.
        return Err(match is_ncname(reference) {
            true => XmlError::Restricted("a reference to an entity"),
            false => XmlError::NotWellFormed("a reference that is none"),
        });
    };
    let code = match number.strip_prefix('x') {
        Some(hex) if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
        None if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => number.parse().ok(),
        _ => None,
    };
    code.and_then(char::from_u32)
        .filter(|c| is_char(*c))
        .ok_or(XmlError::NotWellFormed("a reference to no character of XML"))
}

/// What is between `<` and `>` of a start tag.
pub(super) struct Tag<'a> {
    pub(super) name: &'a str,
    /// Names with prefixes, and values with references resolved; in order.
    pub(super) attributes: Vec<(&'a str, String)>,
    /// `<so/>`.
    pub(super) is_empty: bool,
}

/// Takes a start tag apart. `inner` is what is between `<` and `>`.
pub(super) fn start_tag(inner: &str, attributes_max: usize) -> Result<Tag<'_>, XmlError> {
    let (inner, is_empty) = match inner.strip_suffix('/') {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let end = inner.bytes().position(is_space).unwrap_or(inner.len());
    let name = &inner[..end];
    let mut attributes = Vec::new();
    let mut rest = &inner[end..];
    loop {
        let trimmed = trim_start(rest);
        if trimmed.is_empty() {
            return Ok(Tag { name, attributes, is_empty });
        }
        if trimmed.len() == rest.len() {
            return Err(XmlError::NotWellFormed("attributes without a space between them"));
        }
        if attributes.len() == attributes_max {
            return Err(XmlError::TooMany("attributes", attributes_max));
        }
        let equals = trimmed.find('=').ok_or(XmlError::NotWellFormed("an attribute without a value"))?;
        let name = trim_end(&trimmed[..equals]);
        let value = trim_start(&trimmed[equals + 1..]);
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let quote = quote.ok_or(XmlError::NotWellFormed("a value without quotation marks"))?;
        let end = value[1..].find(quote).ok_or(XmlError::NotWellFormed("a value without an end"))?;
        let raw = &value[1..1 + end];
        if raw.contains('<') {
            return Err(XmlError::NotWellFormed("< in a value"));
        }
        attributes.push((name, unescape(raw, Within::Attribute)?));
        rest = &value[end + 2..];
    }
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\r', '\n'])
}

pub(super) fn trim_end(text: &str) -> &str {
    text.trim_end_matches([' ', '\t', '\r', '\n'])
}

/// Checks `<?xml ...?>`, of which `inner` is what is between `<?` and `?>`. [RFC6120 §11.4]
pub(super) fn declaration(inner: &str) -> Result<(), XmlError> {
    let Some(rest) = inner.strip_prefix("xml").filter(|rest| rest.bytes().next().is_some_and(is_space)) else {
        return Err(XmlError::Restricted("a processing instruction"));
    };
    let tag = format!("xml{}", trim_end(rest));
    let tag = start_tag(&tag, 3)?;
    for (name, value) in &tag.attributes {
        match (*name, value.as_str()) {
            ("version", "1.0") | ("standalone", "yes" | "no") => {}
            ("encoding", encoding) if encoding.eq_ignore_ascii_case("utf-8") => {}
            ("encoding", _) => return Err(XmlError::Encoding),
            _ => return Err(XmlError::NotWellFormed("an XML declaration that is none")),
        }
    }
    Ok(())
}
