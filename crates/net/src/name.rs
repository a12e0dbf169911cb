//! Hosts and ports as server names write them: `example.org`, `192.0.2.1:8448`, `[2001:db8::1]`.
//!
//! The grammar is that of [appendices §server-name], checked by `ruma-common`; here it becomes something to compute with.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use ruma_common::ServerName;
use rustls::pki_types;

/// The port of a server that names none [SS-API §resolving-server-names].
pub const PORT_DEFAULT: u16 = 8448;

/// A host: an address, or a name that DNS knows an address for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP literal.
    Address(IpAddr),
    /// A name, in small letters.
    Name(String),
}

impl Host {
    /// Reads a host as it stands in a server name or URL: IPv6 addresses in brackets.
    pub fn parse(text: &str) -> Self {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()) {
            return Self::Address(address.into());
        }
        match text.parse::<std::net::Ipv4Addr>() {
            Ok(address) => Self::Address(address.into()),
            Err(_) => Self::Name(text.to_ascii_lowercase()),
        }
    }

    /// The name that the certificate has to be for. `None` if it cannot be the name of anything.
    pub(crate) fn certificate_name(&self) -> Option<pki_types::ServerName<'static>> {
        match self {
            Self::Address(address) => Some(pki_types::ServerName::from(*address)),
            Self::Name(name) => pki_types::ServerName::try_from(name.clone()).ok(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A server name in its parts, and as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// As it was written: what goes into the `Host` header.
    pub text: String,
    /// Where.
    pub host: Host,
    /// The port, if one was written.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads what another server wrote. `None` if it is no server name.
    pub fn parse(text: &str) -> Option<Self> {
        <&ServerName>::try_from(text).ok().map(Self::from)
    }
}

impl From<&ServerName> for Authority {
    fn from(name: &ServerName) -> Self {
        Self { text: name.as_str().to_owned(), host: Host::parse(name.host()), port: name.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_falls_into_its_parts() {
        let name = |text: &str| Host::Name(text.to_owned());
        let address = |text: &str| Host::Address(text.parse().expect("an address"));
        for (text, host, port) in [
            ("example.org", name("example.org"), None),
            ("Example.ORG:443", name("example.org"), Some(443)),
            ("192.0.2.1", address("192.0.2.1"), None),
            ("192.0.2.1:80", address("192.0.2.1"), Some(80)),
            ("[2001:db8::1]", address("2001:db8::1"), None),
            ("[2001:db8::1]:80", address("2001:db8::1"), Some(80)),
            // Not an address, whatever the C library makes of it.
            ("127.1", name("127.1"), None),
            ("0x7f000001", name("0x7f000001"), None),
        ] {
            let authority = Authority::parse(text).unwrap_or_else(|| panic!("{text} is a server name"));
            assert_eq!(authority, Authority { text: text.to_owned(), host, port });
        }
        for bad in ["", ":8448", "example.org/", "user@example.org", "https://example.org", "example.org:99999"] {
            assert_eq!(Authority::parse(bad), None, "{bad}");
        }
    }
}
