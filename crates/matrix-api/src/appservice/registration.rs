//! The file that makes an application service known: who it is, where it is, and what is its own.
//!
//! [AS-API §registration] YAML, in the form that all bridges write.

use regex::{Regex, RegexBuilder};
use ruma_common::{OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use url::Url;

/// Bytes that a compiled expression of a namespace may take.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// An application service, as its file describes it.
#[derive(Clone)]
pub struct Registration {
    /// Tells it from others, and never changes.
    pub id: String,
    /// Where it is reached; `None`: nothing is sent to it.
    pub url: Option<Url>,
    /// By which it proves itself to us.
    pub(crate) as_token: String,
    /// By which we prove ourselves to it.
    pub(crate) hs_token: String,
    /// The user that it acts as when it names nobody.
    pub sender: OwnedUserId,
    pub(crate) users: Vec<Namespace>,
    pub(crate) aliases: Vec<Namespace>,
    pub(crate) rooms: Vec<Namespace>,
    /// Its requests are counted like everybody's.
    pub(crate) is_rate_limited: bool,
    /// It is told of receipts, typing and presence, and of messages to the devices of its users.
    pub(crate) wants_ephemeral: bool,
    /// It is told whose devices changed, and how many keys those of its users have left. [MSC3202]
    pub(crate) wants_devices: bool,
    /// The networks that it leads to.
    pub(crate) protocols: Vec<String>,
}

/// Without its tokens.
impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("id", &self.id).field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// Ids that match an expression.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    pub(crate) is_exclusive: bool,
    pub(crate) regex: Regex,
}

/// Why a file is not understood.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Not YAML, or something is missing.
    #[error("{0}")]
    Yaml(String),
    /// `sender_localpart` is none.
    #[error("sender_localpart {0:?} cannot be the name of a user")]
    Sender(String),
    /// An expression that is none.
    #[error("the expression {regex:?} of a namespace: {reason}")]
    Regex {
        /// The expression.
        regex: String,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
struct File {
    id: String,
    url: Option<Url>,
    as_token: String,
    hs_token: String,
    sender_localpart: String,
    #[serde(default)]
    namespaces: Namespaces,
    rate_limited: Option<bool>,
    #[serde(default)]
    protocols: Option<Vec<String>>,
    #[serde(default)]
    receive_ephemeral: bool,
    /// COMPAT(bridges from before Matrix 1.13): the unstable name.
    #[serde(default, rename = "de.sorunome.msc2409.push_ephemeral")]
    push_ephemeral: bool,
    /// Not yet part of the specification.
    #[serde(default, rename = "org.matrix.msc3202")]
    wants_devices: bool,
}

#[derive(Default, Deserialize)]
struct Namespaces {
    #[serde(default)]
    users: Option<Vec<Entry>>,
    #[serde(default)]
    aliases: Option<Vec<Entry>>,
    #[serde(default)]
    rooms: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    exclusive: bool,
    regex: String,
}

impl Registration {
    /// Reads a file. Its users are of this server.
    pub fn parse(yaml: &str, server_name: &ServerName) -> Result<Self, RegistrationError> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| RegistrationError::Yaml(error.to_string()))?;
        let sender = UserId::parse_with_server_name(file.sender_localpart.as_str(), server_name)
            .map_err(|_| RegistrationError::Sender(file.sender_localpart.clone()))?;
        let Namespaces { users, aliases, rooms } = file.namespaces;
        Ok(Self {
            id: file.id,
            url: file.url,
            as_token: file.as_token,
            hs_token: file.hs_token,
            sender,
            users: compile(users)?,
            aliases: compile(aliases)?,
            rooms: compile(rooms)?,
            is_rate_limited: file.rate_limited.unwrap_or(true),
            wants_ephemeral: file.receive_ephemeral || file.push_ephemeral,
            wants_devices: file.wants_devices,
            protocols: file.protocols.unwrap_or_default(),
        })
    }
}

fn compile(entries: Option<Vec<Entry>>) -> Result<Vec<Namespace>, RegistrationError> {
    let compiled = entries.unwrap_or_default().into_iter().map(|entry| {
        // From the beginning of an id on, as bridges expect it.
        let regex = RegexBuilder::new(&format!("^(?:{})", entry.regex)).size_limit(REGEX_BYTES_MAX).build();
        let refuse =
            |error: regex::Error| RegistrationError::Regex { regex: entry.regex.clone(), reason: error.to_string() };
        Ok(Namespace { is_exclusive: entry.exclusive, regex: regex.map_err(refuse)? })
    });
    compiled.collect()
}

#[cfg(test)]
mod tests {
    use ruma_common::server_name;

    use super::*;

    const FILE: &str = r"
id: IRC Bridge
url: 'http://127.0.0.1:1234'
as_token: '30c05ae90a248a4188e620216fa72e349803310ec83e2a77b34fe90be6081f46'
hs_token: '312df522183efd404ec1cd22d2ffa4bbc76a8c1ccf541dd692eef281356bb74e'
sender_localpart: _irc_bot
de.sorunome.msc2409.push_ephemeral: true
namespaces:
  users:
    - exclusive: true
      regex: '@_irc_bridge_.*'
  aliases:
    - exclusive: false
      regex: '#_irc_bridge_.*'
  rooms: []
";

    #[test]
    fn a_file_is_read() {
        let service = Registration::parse(FILE, server_name!("example.org")).expect("a good file");
        assert_eq!(service.sender, "@_irc_bot:example.org");
        assert!(service.is_rate_limited && service.wants_ephemeral && service.protocols.is_empty());
        assert!(service.users[0].is_exclusive && service.users[0].regex.is_match("@_irc_bridge_bob:example.org"));
        assert!(!service.users[0].regex.is_match("x@_irc_bridge_bob:example.org"));
        assert!(!service.aliases[0].is_exclusive);
    }

    #[test]
    fn what_is_no_registration_is_refused() {
        for (from, to) in [
            ("id: IRC Bridge", ""),
            ("'@_irc_bridge_.*'", "'@_irc_(.*'"),
            ("_irc_bot", "'a:b'"),
            ("users:", "users: ["),
        ] {
            let file = FILE.replacen(from, to, 1);
            assert!(Registration::parse(&file, server_name!("example.org")).is_err(), "{to}");
        }
    }
}
