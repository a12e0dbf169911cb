//! Names of accounts: which a new one may have, and what somebody means who types one.

use ruma_common::{OwnedUserId, ServerName, UserId};

/// How long the name of a new account may be. Leaves room for any server name in a user id of 255 bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a new account cannot have this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameRefused {
    /// Nothing left of it.
    #[error("a name needs at least one character")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("the name has {0} bytes, at most {NAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A character that not all networks allow.
    #[error("{0:?} cannot be part of a name: a-z, 0-9 and . _ = + - can")]
    Character(char),
    /// Names with this beginning stand for people of other networks.
    #[error("names that begin with _ are reserved")]
    Reserved,
}

/// The local part of a new account, in lower case.
///
/// One namespace for all networks, so only what every one of them allows: no `/`, which Matrix has and XMPP has not, and
/// no upper case, which some of them fold. Accounts from before these rules keep their names.
pub fn new_localpart(name: &str) -> Result<String, NameRefused> {
    let folded = name.to_ascii_lowercase();
    if folded.is_empty() {
        return Err(NameRefused::Empty);
    }
    if let Some(refused) = folded.chars().find(|character| !is_allowed(*character)) {
        return Err(NameRefused::Character(refused));
    }
    if folded.len() > NAME_BYTES_MAX {
        return Err(NameRefused::TooLong(folded.len()));
    }
    if folded.starts_with('_') {
        return Err(NameRefused::Reserved);
    }
    Ok(folded)
}

/// The same for an account that the server makes for itself, or a program that it trusts: it may begin with `_`, which nobody
/// else's does, but not as people of other networks are called.
pub fn own_localpart(name: &str) -> Result<String, NameRefused> {
    match name.strip_prefix('_') {
        Some(rest) if rest.starts_with("xmpp") || rest.starts_with("mail_") => Err(NameRefused::Reserved),
        Some(rest) => Ok(format!("_{}", new_localpart(rest)?)),
        None => new_localpart(name),
    }
}

fn is_allowed(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9' | '.' | '_' | '=' | '+' | '-')
}

/// The local parts that somebody may mean who types `text` to log in: as it is, for accounts with old names, and in
/// lower case. Empty if it names another server.
pub fn meant_localparts(text: &str, server_name: &ServerName) -> Vec<String> {
    let text = text.trim();
    let localpart = match text.strip_prefix('@') {
        Some(rest) => match rest.split_once(':') {
            Some((localpart, server)) if server.eq_ignore_ascii_case(server_name.as_str()) => localpart,
            Some(_) => return Vec::new(),
            None => rest,
        },
        None => text,
    };
    let folded = localpart.to_lowercase();
    if folded == localpart { vec![folded] } else { vec![localpart.to_owned(), folded] }
}

/// The user id of a local part, if the two make one.
pub fn user_id(localpart: &str, server_name: &ServerName) -> Option<OwnedUserId> {
    UserId::parse(format!("@{localpart}:{server_name}")).ok()
}

#[cfg(test)]
mod tests {
    use ruma_common::server_name;

    use super::*;

    #[test]
    fn new_names_fit_every_network() {
        assert_eq!(new_localpart("User-UPPER").as_deref(), Ok("user-upper"));
        assert_eq!(new_localpart("q3._=-+").as_deref(), Ok("q3._=-+"));
        for refused in ["!", "\"", ":", "?", "\\", "@", "[", "{", "|", "£", "é", "\n", "'", "/", " ", "us,er"] {
            assert!(matches!(new_localpart(&format!("a{refused}")), Err(NameRefused::Character(_))), "{refused}");
        }
        assert_eq!(new_localpart("_xmpp_x"), Err(NameRefused::Reserved));
        assert_eq!(new_localpart(""), Err(NameRefused::Empty));
        assert_eq!(new_localpart(&"a".repeat(65)), Err(NameRefused::TooLong(65)));
    }

    #[test]
    fn logging_in_accepts_ids_names_and_the_wrong_case() {
        let here = server_name!("example.org");
        assert_eq!(meant_localparts("alice", here), ["alice"]);
        assert_eq!(meant_localparts("@alice:example.org", here), ["alice"]);
        assert_eq!(meant_localparts("@ALICE:example.org", here), ["ALICE", "alice"]);
        assert!(meant_localparts("@alice:elsewhere.org", here).is_empty());
    }
}
