//! Addresses of mail in their one form, by which people are known: letters are small, quotes are gone where they are not
//! needed. [RFC 5321 §4.1.2] [RFC 6531 §3.3]
//!
//! Whether `Bob@` and `bob@` are two people is for their own server to say, and none says so any more; two ghosts of one
//! person would be worse than what this loses.

use std::fmt;

/// Longest local part. [RFC 5321 §4.5.3.1.1]
const LOCAL_BYTES_MAX: usize = 64;
/// Longest domain. [RFC 5321 §4.5.3.1.2]
const DOMAIN_BYTES_MAX: usize = 255;
/// Longest address, as a path of SMTP has it without its brackets. [RFC 5321 §4.5.3.1.3]
const ADDRESS_BYTES_MAX: usize = 254;

/// An address of mail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// What stands before the `@`, unquoted.
    local: String,
    domain: String,
}

impl Address {
    /// Reads an address: `bob@example.org`, `"bob b"@example.org`, `bob@[192.0.2.1]`; no comments, no names, no route.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > ADDRESS_BYTES_MAX {
            return None;
        }
        let (local, domain) = text.rsplit_once('@')?;
        let local = match local.strip_prefix('"') {
            Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
            None => is_dot_atom(local).then(|| local.to_owned())?,
        };
        Self::new(&local, domain)
    }

    /// An address of its two halves; the local part as it is meant, without quotes.
    pub fn new(local: &str, domain: &str) -> Option<Self> {
        let (local, domain) = (local.to_lowercase(), domain.strip_suffix('.').unwrap_or(domain).to_lowercase());
        let fine_local = !local.is_empty() && local.len() <= LOCAL_BYTES_MAX && !local.chars().any(char::is_control);
        (fine_local && is_domain(&domain)).then_some(Self { local, domain })
    }

    /// What stands before the `@`, without quotes.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain, in small letters.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The same without what follows the first `+` of the local part, and what that was. [RFC 5233]
    pub fn without_detail(&self) -> (Self, Option<&str>) {
        match self.local.split_once('+') {
            Some((local, detail)) if !local.is_empty() => {
                (Self { local: local.to_owned(), domain: self.domain.clone() }, Some(detail))
            }
            _ => (self.clone(), None),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_atom(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

/// Whether a local part can stand without quotes. [RFC 5322 §3.2.3] [RFC 6532 §3.2]
fn is_dot_atom(text: &str) -> bool {
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom.chars().all(|c| {
                c.is_ascii_alphanumeric()
                    || "!#$%&'*+-/=?^_`{|}~".contains(c)
                    || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
            })
    };
    text.split('.').all(is_atom)
}

/// What stands between quotes.
fn unquoted(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next()?),
            '"' => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

/// A name of DNS, also one of other letters than English ones, or an address in brackets.
fn is_domain(domain: &str) -> bool {
    if let Some(literal) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let literal = literal.strip_prefix("IPv6:").or_else(|| literal.strip_prefix("ipv6:")).unwrap_or(literal);
        return literal.parse::<std::net::IpAddr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (!c.is_ascii() && c.is_alphanumeric()))
    };
    domain.len() <= DOMAIN_BYTES_MAX && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_in_odd_forms_have_one_form() {
        for (text, one) in [
            ("Bob@Example.ORG", "bob@example.org"),
            ("\"bob\"@example.org", "bob@example.org"),
            ("\"bob b\"@example.org", "\"bob b\"@example.org"),
            ("\"a\\\"b@c\"@example.org", "\"a\\\"b@c\"@example.org"),
            ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~@example.org"),
            ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
            ("bob@[IPv6:2001:db8::1]", "bob@[ipv6:2001:db8::1]"),
            ("jörg@bücher.example", "jörg@bücher.example"),
            ("bob@localhost", "bob@localhost"),
            ("bob@example.org.", "bob@example.org"),
        ] {
            let address = Address::parse(text).unwrap_or_else(|| panic!("{text} is an address"));
            assert_eq!(address.to_string(), one);
            assert_eq!(Address::parse(one), Some(address));
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        let long = format!("{}@example.org", "a".repeat(65));
        for text in [
            "",
            "bob",
            "@example.org",
            "bob@",
            "bob@-a.org",
            "bob@a..org",
            "a..b@c.org",
            ".a@c.org",
            "a b@c.org",
            "a@b@c.org",
            "\"a\"b\"@c.org",
            "bob@[1.2.3]",
            "a\r\nb@c.org",
            "\"a\nb\"@c.org",
            &long,
        ] {
            assert_eq!(Address::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_detail_is_no_part_of_a_person() {
        let address = Address::parse("alice+list+x@example.org").expect("an address");
        let (person, detail) = address.without_detail();
        assert_eq!((person.to_string().as_str(), detail), ("alice@example.org", Some("list+x")));
        assert_eq!(Address::parse("+x@example.org").expect("an address").without_detail().1, None);
    }

    proptest! {
        #[test]
        fn any_text_can_be_asked(text in ".{0,80}") {
            if let Some(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Some(address));
            }
        }
    }
}
