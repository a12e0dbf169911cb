//! Names of people and rooms: Matrix ids, JIDs.
//!
//! | from | to | rule |
//! |---|---|---|
//! | local name | node of a JID | the characters that XEP-0106 escapes, and `A` to `Z`, become `\hh` |
//!
//! Decoding and encoding again must give the same bytes, or the name is refused: each id has one other name.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
}
