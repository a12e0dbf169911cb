//! Addresses: `local@domain/resource`. [RFC 7622]
//!
//! The one place where an address is read, whoever wrote it. An address is held in its one form, so that two are the same if
//! their bytes are; the form of each part is in [`precis`](crate::precis). [`Jid`] is any address, [`BareJid`] one without
//! resource, [`FullJid`] one with it; the latter two are used as the first.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
};

use crate::precis;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JidError {
    /// Something stands before `@`, or after `/`, or is the domain, and is nothing.
    #[error("a part of the address is empty")]
    Empty,
    /// A part is longer than 1023 bytes.
    #[error("a part of the address is longer than 1023 bytes")]
    TooLong,
    /// The local part has characters that no name may have, or no stable form.
    #[error("what stands before @ cannot be a name")]
    Local,
    /// The domain is none of DNS.
    #[error("the domain of the address is none")]
    Domain,
    /// The resource has characters that none may have.
    #[error("the resource of the address cannot be one")]
    Resource,
    /// A resource where none may be, or none where there must be one.
    #[error("the address has a resource, or has none, where it must be the other way")]
    Kind,
}

/// An address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jid {
    text: String,
    /// Where the domain begins and ends. The rest follows: `@` stands before it, `/` after it.
    domain: (u16, u16),
}

/// An address without resource.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BareJid(Jid);

/// An address with a resource.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FullJid(Jid);

impl Jid {
    /// The address that a text is.
    ///
    /// # Errors
    /// Which part cannot be what it is to be.
    pub fn new(text: &str) -> Result<Self, JidError> {
        // [RFC 7622 §3.2] The first slash ends the domain; the first @ before it begins it.
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(precis::resource(resource)?)),
            None => (text, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(precis::local(local)?), domain),
            None => (None, bare),
        };
        let domain = match domain {
            "" => return Err(JidError::Empty),
            domain => precis::domain(domain)?,
        };
        Ok(Self::of(local.as_deref(), &domain, resource.as_deref()))
    }

    /// Parts that are in their form, together.
    fn of(local: Option<&str>, domain: &str, resource: Option<&str>) -> Self {
        let length = |part: Option<&str>| part.map_or(0, |part| part.len() + 1);
        let mut text = String::with_capacity(length(local) + domain.len() + length(resource));
        if let Some(local) = local {
            text.push_str(local);
            text.push('@');
        }
        let begin = text.len();
        text.push_str(domain);
        let end = text.len();
        if let Some(resource) = resource {
            text.push('/');
            text.push_str(resource);
        }
        let at = |place: usize| u16::try_from(place).expect("a local part and a domain are at most 1023 bytes each");
        Self { text, domain: (at(begin), at(end)) }
    }

    /// The text in its one form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before `@`.
    pub fn node(&self) -> Option<&str> {
        self.text[..usize::from(self.domain.0)].strip_suffix('@')
    }

    /// The domain, its labels as people read them. DNS and certificates have others in their coded form.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.domain.0)..usize::from(self.domain.1)]
    }

    /// What stands after `/`.
    pub fn resource(&self) -> Option<&str> {
        self.text[usize::from(self.domain.1)..].strip_prefix('/')
    }

    /// Without the resource.
    pub fn to_bare(&self) -> BareJid {
        BareJid(Self { text: self.text[..usize::from(self.domain.1)].to_owned(), domain: self.domain })
    }

    /// The address, if it has a resource.
    ///
    /// # Errors
    /// The address, if it has none.
    pub fn try_into_full(self) -> Result<FullJid, BareJid> {
        match self.resource().is_some() {
            true => Ok(FullJid(self)),
            false => Err(BareJid(self)),
        }
    }
}

impl BareJid {
    /// The address without resource that a text is.
    ///
    /// # Errors
    /// Which part cannot be what it is to be; also if there is a resource.
    pub fn new(text: &str) -> Result<Self, JidError> {
        Jid::new(text)?.try_into_full().err().ok_or(JidError::Kind)
    }

    /// With a resource.
    ///
    /// # Errors
    /// If it cannot be one.
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, JidError> {
        Ok(FullJid(Jid::of(self.node(), self.domain(), Some(&precis::resource(resource)?))))
    }
}

impl FullJid {
    /// The address with a resource that a text is.
    ///
    /// # Errors
    /// Which part cannot be what it is to be; also if there is no resource.
    pub fn new(text: &str) -> Result<Self, JidError> {
        Jid::new(text)?.try_into_full().map_err(|_| JidError::Kind)
    }

    /// What stands after `/`.
    pub fn resource(&self) -> &str {
        self.0.resource().unwrap_or_default()
    }
}

/// The form of a text as the local part of an address.
///
/// # Errors
/// If it cannot be one.
pub fn local_part(text: &str) -> Result<Cow<'_, str>, JidError> {
    precis::local(text)
}

/// The form of a text as the resource of an address.
///
/// # Errors
/// If it cannot be one.
pub fn resource_part(text: &str) -> Result<Cow<'_, str>, JidError> {
    precis::resource(text)
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// A kind of address is an address.
macro_rules! is_a_jid {
    ($($kind:ident),*) => { $(
        impl Deref for $kind {
            type Target = Jid;

            fn deref(&self) -> &Jid {
                &self.0
            }
        }

        impl Borrow<Jid> for $kind {
            fn borrow(&self) -> &Jid {
                &self.0
            }
        }

        impl From<$kind> for Jid {
            fn from(address: $kind) -> Jid {
                address.0
            }
        }

        impl PartialEq<$kind> for Jid {
            fn eq(&self, other: &$kind) -> bool {
                *self == other.0
            }
        }

        impl PartialEq<Jid> for $kind {
            fn eq(&self, other: &Jid) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )* };
}

is_a_jid!(BareJid, FullJid);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The form of an address; what is refused is empty.
    fn form(text: &str) -> String {
        Jid::new(text).map(|jid| jid.to_string()).unwrap_or_default()
    }

    #[test]
    fn addresses_of_the_rfc_are_taken() {
        // [RFC 7622 §3.5] Table 1.
        for address in [
            "juliet@example.com",
            "juliet@example.com/foo",
            "juliet@example.com/foo bar",
            "juliet@example.com/foo@bar",
            "foo\\20bar@example.com",
            "fussball@example.com",
            "fu\u{df}ball@example.com",
            "\u{3c0}@example.com",
            "\u{3c0}@example.com/\u{3a3}",
            "\u{3c0}@example.com/\u{3c3}",
            "\u{3c3}@example.com/\u{3c2}",
            "king@example.com/\u{265a}",
            "example.com",
            "example.com/foobar",
            "a.example.com/b@example.net",
        ] {
            assert_eq!(form(address), address);
        }
        assert_eq!(form("\u{3a3}@example.com/foo"), "\u{3c3}@example.com/foo");
        assert_ne!(form("fussball@example.com"), form("fu\u{df}ball@example.com"), "two people");
    }

    #[test]
    fn addresses_of_the_rfc_are_refused() {
        // [RFC 7622 §3.5] Table 2.
        for address in [
            "\"juliet\"@example.com",
            "foo bar@example.com",
            "juliet@example.com/",
            "@example.com/",
            "henry\u{2163}@example.com",
            "\u{265a}@example.com",
            "juliet@",
            "/foobar",
        ] {
            assert_eq!(form(address), "", "{address}");
        }
    }

    #[test]
    fn what_has_no_stable_form_is_no_name() {
        assert_eq!(form("\u{3f9}@example.com"), "");
        assert_eq!(form("example.com/\u{1}"), "");
        assert_eq!(form("example.com/a\u{200b}"), "", "nobody sees that it is there");
        assert_eq!(form("a\u{ff20}b@example.com"), "", "a wide @ is one");
    }

    #[test]
    fn each_part_has_one_form() {
        assert_eq!(form("JULIET@EXAMPLE.com/Foo"), "juliet@example.com/Foo");
        assert_eq!(form("juliet@example.com."), "juliet@example.com");
        assert_eq!(form("\u{ff4a}uliet@example.com"), "juliet@example.com");
        assert_eq!(form("e\u{301}@example.com/e\u{301}"), "\u{e9}@example.com/\u{e9}");
        assert_eq!(form("a@xn--bcher-kva.example"), "a@b\u{fc}cher.example");
        assert_eq!(form("a@B\u{dc}CHER.example"), "a@b\u{fc}cher.example");
        assert_eq!(form("[0:0::1]/r"), "[::1]/r");
        assert_eq!(form("127.0.0.1"), "127.0.0.1");
        for domain in ["-a.example", "a..example", "a b", "a@b@c", &"a".repeat(64)] {
            assert_eq!(form(domain), "", "{domain}");
        }
    }

    #[test]
    fn nicknames_may_be_of_today() {
        // Added to Unicode after the tables of PRECIS.
        assert_eq!(form("room@example.com/\u{1f916}\u{a0}e\u{301}"), "room@example.com/\u{1f916} \u{e9}");
        assert_eq!(form("room@example.com/\u{1f916}\u{202e}"), "", "it turns what follows round");
    }

    #[test]
    fn parts_are_bounded() {
        let long = "a".repeat(1023);
        assert_eq!(Jid::new(&format!("{long}@example.com/{long}")).map(|jid| jid.domain().len()), Ok(11));
        assert_eq!(Jid::new(&format!("{long}a@example.com")), Err(JidError::TooLong));
        assert_eq!(Jid::new(&format!("example.com/{long}a")), Err(JidError::TooLong));
        assert_eq!(Jid::new(&"\u{e9}".repeat(100_000)), Err(JidError::Domain));
    }

    #[test]
    fn parts_come_back_as_they_are() {
        let full = FullJid::new("a@b.example/c/d@e").expect("an address");
        assert_eq!((full.node(), full.domain(), full.resource()), (Some("a"), "b.example", "c/d@e"));
        assert_eq!(full.to_bare(), BareJid::new("a@b.example").expect("an address"));
        assert_eq!(full.to_bare().with_resource("c/d@e"), Ok(full));
        assert_eq!(BareJid::new("a@b.example/c"), Err(JidError::Kind));
        assert_eq!(FullJid::new("a@b.example"), Err(JidError::Kind));
    }

    proptest! {
        #[test]
        fn the_form_of_a_form_is_itself(text in "\\PC{0,8}@?[a-zß-ü.-]{1,12}/?\\PC{0,8}") {
            if let Ok(jid) = Jid::new(&text) {
                prop_assert_eq!(Jid::new(jid.as_str()), Ok(jid));
            }
        }

        #[test]
        fn any_name_has_one_form_or_none(local in "\\PC{1,12}") {
            if let Ok(form) = local_part(&local) {
                prop_assert_eq!(local_part(&form), Ok(form.clone()));
                prop_assert_eq!(form.contains('@') || form.contains('/'), false);
            }
        }
    }
}
