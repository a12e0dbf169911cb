//! How each part of an address is brought into its one form. [RFC 7622 §3] [RFC 8265]
//!
//! Parts of ASCII, which nearly all are, are looked at byte by byte and stay where they are. The tables of PRECIS are those
//! of Unicode 6.3, as IANA has them; in resources, which people choose to look like something, letters and symbols that were
//! added to Unicode since are taken too.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use precis_profiles::{
    OpaqueString, UsernameCaseMapped,
    precis_core::{DerivedPropertyValue, FreeformClass, StringClass, profile::PrecisFastInvocation},
};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::jid::JidError;

/// Most bytes of a part. [RFC 7622 §3.2]
const PART_BYTES_MAX: usize = 1023;
/// Most bytes that are looked at: what is longer cannot become short enough.
const READ_BYTES_MAX: usize = 4 * PART_BYTES_MAX;
/// How often a form is brought into its form before it counts as having none. [RFC 8264 §7]
const ROUNDS_MAX: usize = 4;
/// What a local part must not have beside what no name may have. [RFC 7622 §3.3.1]
const EXCLUDED: [char; 8] = ['"', '&', '\'', '/', ':', '<', '>', '@'];

/// The local part: a name without regard to case.
pub(crate) fn local(text: &str) -> Result<Cow<'_, str>, JidError> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    let local = match text.bytes().all(is_plain) {
        true => Cow::Borrowed(text),
        false => stable(text, |text| UsernameCaseMapped::enforce(text).ok()).ok_or(JidError::Local)?,
    };
    match local.contains(EXCLUDED) {
        true => Err(JidError::Local),
        false => fitting(local),
    }
}

/// The resource: a text with regard to case.
pub(crate) fn resource(text: &str) -> Result<Cow<'_, str>, JidError> {
    match text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        true => fitting(Cow::Borrowed(text)),
        false => fitting(stable(text, opaque).ok_or(JidError::Resource)?),
    }
}

/// The domain: a name of DNS, its labels as they are read, or an address of IP.
pub(crate) fn domain(text: &str) -> Result<Cow<'_, str>, JidError> {
    // A dot at the end is the root's, and no part of the name. [RFC 7622 §3.2]
    let text = text.strip_suffix('.').unwrap_or(text);
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Cow::Owned(address.to_string()));
    }
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| JidError::Domain)?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    match is_plain_domain(text) {
        true => Ok(Cow::Borrowed(text)),
        false => stable(text, labels).ok_or(JidError::Domain),
    }
}

/// Whether a domain is in its form already, as all of ASCII without labels of IDNA are.
fn is_plain_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(is_letter)
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
            && bytes.get(2..4) != Some(b"--")
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn labels(text: &str) -> Option<Cow<'_, str>> {
    let (names, rules) = (Uts46::new(), (AsciiDenyList::URL, Hyphens::Check));
    names.to_ascii(text.as_bytes(), rules.0, rules.1, DnsLength::Verify).ok()?;
    let (read, checked) = names.to_unicode(text.as_bytes(), rules.0, rules.1);
    checked.ok().map(|()| read)
}

/// OpaqueString, for symbols and letters of any age. [RFC 8265 §4.2]
fn opaque(text: &str) -> Option<Cow<'_, str>> {
    if let Ok(text) = OpaqueString::enforce(text) {
        return Some(text);
    }
    let old: String = text.chars().filter(|c| !is_young(*c)).collect();
    if old.len() == text.len() || !(old.is_empty() || OpaqueString::prepare(old.as_str()).is_ok()) {
        return None;
    }
    let spaced = text.chars().map(|c| match c.general_category() {
        GeneralCategory::SpaceSeparator => ' ',
        _ => c,
    });
    Some(Cow::Owned(spaced.nfc().collect()))
}

/// Whether the tables of PRECIS know nothing of a letter or symbol.
fn is_young(c: char) -> bool {
    use GeneralCategory as G;
    FreeformClass::default().get_value_from_char(c) == DerivedPropertyValue::Unassigned
        && matches!(
            c.general_category(),
            G::LowercaseLetter
                | G::UppercaseLetter
                | G::OtherLetter
                | G::ModifierLetter
                | G::DecimalNumber
                | G::OtherSymbol
                | G::MathSymbol
                | G::CurrencySymbol
                | G::ModifierSymbol
        )
}

/// The form that stays as it is when it is brought into its form once more; `None` if there is none.
fn stable<'a>(text: &'a str, form: impl for<'t> Fn(&'t str) -> Option<Cow<'t, str>>) -> Option<Cow<'a, str>> {
    if text.len() > READ_BYTES_MAX {
        return None;
    }
    let mut last = form(text)?;
    for _ in 0..ROUNDS_MAX {
        let next = form(&last)?;
        if next == last {
            return Some(last);
        }
        last = Cow::Owned(next.into_owned());
    }
    None
}

fn fitting(part: Cow<'_, str>) -> Result<Cow<'_, str>, JidError> {
    match part.len() {
        0 => Err(JidError::Empty),
        1..=PART_BYTES_MAX => Ok(part),
        _ => Err(JidError::TooLong),
    }
}
