//! Names of people and rooms: Matrix ids, JIDs, addresses of mail.
//!
//! | from | to | rule |
//! |---|---|---|
//! | local name | node of a JID | the characters that XEP-0106 escapes, and `A` to `Z`, become `\hh` |
//! | JID of elsewhere | local name here | `_xmpp_`, then the JID with every byte but `a-z0-9.-` as `=hh` |
//! | address of mail of elsewhere | local name here | `_mail_`, then the address coded the same |
//! | the same | node at our gateway to mail | the address, with what XEP-0106 escapes escaped |
//! | MXID of elsewhere `@u:s` | node at our gateway to Matrix | `u` and `s` escaped as above, joined by `%` |
//!
//! Decoding and encoding again must give the same bytes, or the name is refused: each id has one other name.

use koine_stanza::BareJid;
use ruma_common::{OwnedUserId, ServerName, UserId};

/// Characters that XEP-0106 escapes in a node. [XEP-0106 §escaping]
const ESCAPED: &[u8] = b" \"&'/:<>@\\";

/// The node of the JID of an account, `None` for a localpart that a JID cannot carry.
pub fn node_from_local(localpart: &str) -> Option<String> {
    let mut node = String::with_capacity(localpart.len());
    for (at, c) in localpart.char_indices() {
        let escape = match c {
            // A backslash stays one, except where it would read as an escape of something else.
            '\\' => is_escape(&localpart[at..]),
            'A'..='Z' => true,
            _ => c.is_ascii() && ESCAPED.contains(&(c as u8)),
        };
        match escape {
            true => node.push_str(&format!("\\{:02x}", c as u32)),
            false => node.push(c),
        }
    }
    (local_from_node(&node).as_deref() == Some(localpart)).then_some(node)
}

/// The localpart that a node stands for; `None` where another node stands for the same.
pub fn local_from_node(node: &str) -> Option<String> {
    let mut localpart = String::with_capacity(node.len());
    let mut rest = node;
    while let Some(c) = rest.chars().next() {
        if is_escape(rest) {
            localpart.push(char::from(u8::from_str_radix(&rest[1..3], 16).ok()?));
            rest = &rest[3..];
            continue;
        }
        if c.is_ascii_uppercase() {
            return None;
        }
        localpart.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Some(localpart)
}

/// Whether text begins with an escape of ours: a backslash and two lower-case hexadecimal digits of a character that we escape.
fn is_escape(text: &str) -> bool {
    let Some([b'\\', high @ (b'0'..=b'9' | b'a'..=b'f'), low @ (b'0'..=b'9' | b'a'..=b'f')]) = text.as_bytes().get(..3)
    else {
        return false;
    };
    let digit = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
    let byte = digit(*high) * 16 + digit(*low);
    byte.is_ascii_uppercase() || ESCAPED.contains(&byte)
}

/// How local names of people of XMPP servers begin. No account can have such a name.
pub const GHOST: &str = "_xmpp_";
/// Longest user id. [appendices §user-identifiers]
const USER_ID_BYTES_MAX: usize = 255;

/// The local name by which Matrix knows somebody of another XMPP server, `None` where it would be too long for one.
pub fn ghost_from_jid(jid: &BareJid, server: &ServerName) -> Option<String> {
    coded(GHOST, &jid.to_string(), server)
}

/// The address that the local name of a ghost stands for; `None` for other names, and for ghosts that are none.
pub fn jid_from_ghost(localpart: &str, server: &ServerName) -> Option<BareJid> {
    let jid = BareJid::new(&decoded(GHOST, localpart)?).ok()?;
    (ghost_from_jid(&jid, server).as_deref() == Some(localpart)).then_some(jid)
}

/// How local names of people begin who have an address of mail and nothing else. No account can have such a name.
pub const MAIL_GHOST: &str = "_mail_";

/// The local name by which rooms know whoever has an address of mail; `None` where it would be too long for one. The
/// address is in its one form, see [`Address`](crate::mail::Address).
pub fn ghost_from_address(address: &crate::mail::Address, server: &ServerName) -> Option<String> {
    coded(MAIL_GHOST, &address.to_string(), server)
}

/// The address that the local name of a correspondent stands for; `None` for other names, and for such that are none.
pub fn address_from_ghost(localpart: &str, server: &ServerName) -> Option<crate::mail::Address> {
    let address = crate::mail::Address::parse(&decoded(MAIL_GHOST, localpart)?)?;
    (ghost_from_address(&address, server).as_deref() == Some(localpart)).then_some(address)
}

/// A local name that holds a text of another network.
fn coded(prefix: &str, text: &str, server: &ServerName) -> Option<String> {
    let mut name = prefix.to_owned();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("={byte:02x}")),
        }
    }
    (name.len() + server.as_str().len() + 2 <= USER_ID_BYTES_MAX).then_some(name)
}

/// The text that such a local name holds.
fn decoded(prefix: &str, localpart: &str) -> Option<String> {
    let mut coded = localpart.strip_prefix(prefix)?.bytes();
    let mut bytes = Vec::with_capacity(localpart.len());
    while let Some(byte) = coded.next() {
        match byte {
            b'=' => {
                let digits = [coded.next()?, coded.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The node at our gateway to Matrix of somebody of a Matrix server.
pub fn node_from_user(user: &UserId) -> Option<String> {
    let server = node_from_local(user.server_name().as_str())?;
    Some(format!("{}%{server}", node_from_local(user.localpart())?))
}

/// Whom a node at our gateway to Matrix stands for.
pub fn user_from_node(node: &str) -> Option<OwnedUserId> {
    let (local, server) = node.rsplit_once('%')?;
    let user = UserId::parse(format!("@{}:{}", local_from_node(local)?, local_from_node(server)?)).ok()?;
    (node_from_user(&user).as_deref() == Some(node)).then_some(user)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma_common::{server_name, user_id};

    use super::*;

    proptest! {
        #[test]
        fn a_local_name_comes_back_from_its_node(localpart in "[ -~]{1,40}") {
            let node = node_from_local(&localpart).expect("every printable name has a node");
            prop_assert_eq!(local_from_node(&node), Some(localpart));
        }
    }

    #[test]
    fn plain_names_stay_as_they_are() {
        assert_eq!(node_from_local("alice.b_c=d+e-f").as_deref(), Some("alice.b_c=d+e-f"));
        assert_eq!(node_from_local("Ab/c").as_deref(), Some("\\41b\\2fc"));
    }

    proptest! {
        #[test]
        fn a_jid_comes_back_from_its_ghost(node in "[a-z0-9_=.+-]{1,30}", host in "[a-z]{1,20}\\.example") {
            let jid = BareJid::new(&format!("{node}@{host}")).expect("it is an address");
            let name = ghost_from_jid(&jid, server_name!("example.org")).expect("it is short");
            prop_assert_eq!(jid_from_ghost(&name, server_name!("example.org")), Some(jid));
        }
    }

    #[test]
    fn people_of_other_networks_have_one_name_here() {
        let (romeo, server) =
            (BareJid::new("romeo@montague.example").expect("an address"), server_name!("example.org"));
        assert_eq!(ghost_from_jid(&romeo, server).as_deref(), Some("_xmpp_romeo=40montague.example"));
        assert_eq!(jid_from_ghost("_xmpp_romeo=40montague=2eexample", server), None, "a dot is not to be coded");
        let bob = user_id!("@Bob/x:matrix.org:8448");
        let node = node_from_user(bob).expect("it can be written");
        assert_eq!(node, "\\42ob\\2fx%matrix.org\\3a8448");
        assert_eq!(user_from_node(&node).as_deref(), Some(bob));
        assert_eq!(user_from_node("bob"), None);
    }
}
