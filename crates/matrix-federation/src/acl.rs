//! Which servers a room shuts out. [SS-API §server-access-control-lists-acls]

use koine_room::{ReadError, Room};
use ruma_common::ServerName;

use crate::{Error, answer::Result};

/// Most patterns of one list that are looked at.
const PATTERNS_MAX: usize = 10_000;

/// Refuses a server that the room's `m.room.server_acl` shuts out.
pub fn check(room: &Room, server: &ServerName) -> Result<()> {
    match allows(room, server)? {
        true => Ok(()),
        false => Err(Error::forbidden(format!("{server} is shut out of this room"))),
    }
}

/// Whether the room's `m.room.server_acl` lets a server take part. [CS-API §mroomserver_acl]
pub fn allows(room: &Room, server: &ServerName) -> std::result::Result<bool, ReadError> {
    let Some(acl) = room.current("m.room.server_acl", "")? else { return Ok(true) };
    let list = |name: &str| -> Vec<serde_json::Value> { acl.event.content_field(name).unwrap_or_default() };
    let host = server.host();
    let named = |name: &str| {
        let patterns = list(name);
        patterns.iter().take(PATTERNS_MAX).filter_map(|pattern| pattern.as_str()).any(|pattern| matches(pattern, host))
    };
    let literals = acl.event.content_field::<bool>("allow_ip_literals").unwrap_or(true);
    if !literals && server.is_ip_literal() {
        return Ok(false);
    }
    Ok(!named("deny") && named("allow"))
}

/// `*` stands for any text, `?` for one character; letters of either case are the same.
fn matches(pattern: &str, text: &str) -> bool {
    let lower = |text: &str| text.chars().map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (pattern, text) = (lower(pattern), lower(text));
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, eaten)) => {
                    star = Some((at, eaten + 1));
                    (p, t) = (at + 1, eaten + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_specification_says() {
        for (pattern, text, wanted) in [
            ("*", "anything.example", true),
            ("*.evil.example", "a.evil.example", true),
            ("*.evil.example", "evil.example", false),
            ("EVIL.example", "evil.example", true),
            ("host?.example", "host1.example", true),
            ("host?.example", "host.example", false),
            ("*a*b", "xaxxb", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
