//! Login tokens: a session that exists lets another device in, once and soon. [CS-API §post_matrixclientv1loginget_token]
//!
//! Kept in memory alone, as hashes: they are good for two minutes, and who finds theirs gone asks for another.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use ruma_common::{OwnedUserId, UserId};

use crate::{
    Accounts, Secret,
    secret::{self, TokenHash},
};

/// How long a login token is good for.
pub const LOGIN_TOKEN_LIFE: Duration = Duration::from_secs(120);
/// Login tokens that wait to be used; past it the one that ends first makes room.
pub const LOGIN_TOKENS_MAX: usize = 10_000;
/// What a login token begins with.
const PREFIX: &str = "kol_";

/// Login tokens that were given and not used, with whose they are and the time at which they end.
#[derive(Default)]
pub(crate) struct LoginTokens(Mutex<HashMap<TokenHash, (OwnedUserId, Duration)>>);

impl LoginTokens {
    fn add(&self, token: TokenHash, user_id: OwnedUserId, now: Duration) {
        let mut waiting = self.0.lock();
        if waiting.len() >= LOGIN_TOKENS_MAX {
            waiting.retain(|_, (_, end)| *end > now);
        }
        if waiting.len() >= LOGIN_TOKENS_MAX {
            let first = waiting.iter().min_by_key(|(_, (_, end))| *end).map(|(token, _)| *token);
            first.and_then(|token| waiting.remove(&token));
        }
        waiting.insert(token, (user_id, now + LOGIN_TOKEN_LIFE));
    }

    fn take(&self, token: &TokenHash, now: Duration) -> Option<OwnedUserId> {
        let (user_id, end) = self.0.lock().remove(token)?;
        (end > now).then_some(user_id)
    }
}

impl Accounts {
    /// A token by which `user_id` logs in once more within [`LOGIN_TOKEN_LIFE`].
    pub fn new_login_token(&self, user_id: &UserId) -> Secret {
        let token = secret::new_token(PREFIX, &mut rand::rng());
        self.login_tokens.add(secret::hash_token(token.expose()), user_id.to_owned(), self.uptime());
        token
    }

    /// Whose login token this is. Thereafter it is nobody's.
    pub fn take_login_token(&self, token: &Secret) -> Option<OwnedUserId> {
        self.login_tokens.take(&secret::hash_token(token.expose()), self.uptime())
    }
}

#[cfg(test)]
mod tests {
    use ruma_common::owned_user_id;

    use super::*;

    #[test]
    fn a_login_token_is_good_once_and_for_two_minutes() {
        let tokens = LoginTokens::default();
        let alice = owned_user_id!("@alice:example.org");
        let now = Duration::from_secs(100);
        tokens.add([1; 32], alice.clone(), now);
        tokens.add([2; 32], alice.clone(), now);
        assert_eq!(tokens.take(&[1; 32], now), Some(alice));
        assert_eq!(tokens.take(&[1; 32], now), None);
        assert_eq!(tokens.take(&[2; 32], now + LOGIN_TOKEN_LIFE), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let tokens = LoginTokens::default();
        for number in 0..=LOGIN_TOKENS_MAX {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&(number as u64).to_le_bytes());
            tokens.add(hash, owned_user_id!("@alice:example.org"), Duration::from_millis(number as u64));
        }
        assert_eq!(tokens.0.lock().len(), LOGIN_TOKENS_MAX);
        assert_eq!(tokens.take(&[0; 32], Duration::ZERO), None);
    }
}
