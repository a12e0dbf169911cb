//! Whose invitations somebody wants. [CS-API §invite-permission] [MSC4155]
//!
//! Both are account data: `m.invite_permission_config` shuts everybody out at once; the lists of MSC4155 name people and
//! servers, with wildcards. Clients write them, so what cannot be understood says nothing.

use ruma_common::UserId;
use serde::Deserialize;

use crate::{Accounts, StoreUnavailable};

/// The account data of the specification.
const PERMISSION: &str = "m.invite_permission_config";
/// The account data of the proposal.
const LISTS: &str = "org.matrix.msc4155.invite_permission_config";
/// Most entries of one list that are looked at.
const ENTRIES_MAX: usize = 1_000;

/// What becomes of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteRule {
    /// It arrives.
    Allow,
    /// Its sender thinks so.
    Ignore,
    /// Its sender is told that it does not.
    Block,
}

/// Whose invitations somebody wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InviteRules {
    blocks_all: bool,
    lists: Lists,
}

#[derive(Debug, Default, Deserialize)]
struct Permission {
    default_action: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Lists {
    allowed_users: Option<Vec<String>>,
    ignored_users: Option<Vec<String>>,
    blocked_users: Option<Vec<String>>,
    allowed_servers: Option<Vec<String>>,
    ignored_servers: Option<Vec<String>>,
    blocked_servers: Option<Vec<String>>,
}

impl InviteRules {
    /// What becomes of an invitation by `sender`. What names people comes before what names servers, and what lets in
    /// before what keeps out.
    pub fn rule_for(&self, sender: &UserId) -> InviteRule {
        if self.blocks_all {
            return InviteRule::Block;
        }
        let (user, server) = (sender.as_str(), sender.server_name().as_str());
        let lists = [
            (&self.lists.allowed_users, user, InviteRule::Allow),
            (&self.lists.ignored_users, user, InviteRule::Ignore),
            (&self.lists.blocked_users, user, InviteRule::Block),
            (&self.lists.allowed_servers, server, InviteRule::Allow),
            (&self.lists.ignored_servers, server, InviteRule::Ignore),
            (&self.lists.blocked_servers, server, InviteRule::Block),
        ];
        let names = |list: &Option<Vec<String>>, name: &str| {
            list.iter().flatten().take(ENTRIES_MAX).any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
        };
        lists.into_iter().find(|(list, name, _)| names(list, name)).map_or(InviteRule::Allow, |(_, _, rule)| rule)
    }

    /// Whether everybody's invitations arrive.
    pub fn allow_all(&self) -> bool {
        !self.blocks_all && self.lists.is_empty()
    }
}

impl Lists {
    fn is_empty(&self) -> bool {
        let keeping_out = [&self.ignored_users, &self.blocked_users, &self.ignored_servers, &self.blocked_servers];
        keeping_out.into_iter().all(|list| list.as_ref().is_none_or(Vec::is_empty))
    }
}

impl Accounts {
    /// Whose invitations somebody of ours wants.
    pub fn invite_rules(&self, user_id: &UserId) -> Result<InviteRules, StoreUnavailable> {
        let permission: Permission = self.read_setting(user_id, PERMISSION)?;
        let lists = self.read_setting(user_id, LISTS)?;
        Ok(InviteRules { blocks_all: permission.default_action.as_deref() == Some("block"), lists })
    }

    fn read_setting<T: Default + serde::de::DeserializeOwned>(
        &self,
        user_id: &UserId,
        kind: &str,
    ) -> Result<T, StoreUnavailable> {
        let content = self.account_data(user_id, None, kind)?;
        Ok(content.and_then(|content| serde_json::from_str(&content).ok()).unwrap_or_default())
    }
}

/// `*` stands for any text and `?` for one character. Takes time in proportion to both lengths at worst.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c == &text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;
    use serde_json::{Value, json};

    use super::*;

    fn rule(lists: Value, sender: &UserId) -> InviteRule {
        InviteRules { blocks_all: false, lists: serde_json::from_value(lists).expect("lists") }.rule_for(sender)
    }

    #[test]
    fn people_come_before_servers_and_letting_in_before_keeping_out() {
        let bob = user_id!("@bob:evil.org");
        let cases = [
            (json!({}), InviteRule::Allow),
            (json!({ "blocked_users": ["@bob:evil.org"] }), InviteRule::Block),
            (json!({ "ignored_users": ["@b?b:*"] }), InviteRule::Ignore),
            (json!({ "blocked_servers": ["evil.*"], "allowed_users": ["@bob:evil.org"] }), InviteRule::Allow),
            (json!({ "allowed_servers": ["*"], "blocked_users": ["@bob:*"] }), InviteRule::Block),
            (json!({ "ignored_servers": ["*.org"], "blocked_servers": ["*"] }), InviteRule::Ignore),
            (json!({ "blocked_servers": ["evil"], "ignored_users": null }), InviteRule::Allow),
        ];
        for (lists, expected) in cases {
            assert_eq!(rule(lists.clone(), bob), expected, "{lists}");
        }
    }

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "a1b2b3c", true),
            ("**x", "aax", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
