//! OpenID tokens: how a third party learns who somebody is, without getting into their account. [CS-API §openid]
//!
//! The store has the hash of each token and the time it ends; every new token sweeps out some that ended.

use std::time::Duration;

use koine_store::{Direction, StoreError, Txn};
use ruma_common::{OwnedUserId, UserId};

use crate::{
    Accounts, ChangeError, Secret, StoreUnavailable,
    secret::{self, TokenHash},
    tables::{OPENID, OPENID_END, OpenIdRecord},
};

/// How long an OpenID token is good for.
pub const OPENID_TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);
/// What an OpenID token begins with.
const PREFIX: &str = "koi_";
/// Tokens that have ended and are deleted when one is made: more than one, so that they become fewer.
const SWEPT_MAX: usize = 8;

impl Accounts {
    /// A token that proves to whoever asks this server that its bearer speaks for `user_id`, and nothing else.
    pub async fn new_openid_token(&self, user_id: &UserId) -> Result<Secret, ChangeError> {
        let localpart = self.key(user_id).ok_or(ChangeError::UnknownUser)?.to_owned();
        let token = secret::new_token(PREFIX, &mut rand::rng());
        let hash = secret::hash_token(token.expose());
        let now_ms = self.now_ms();
        let life_ms = u64::try_from(OPENID_TOKEN_LIFE.as_millis()).unwrap_or(u64::MAX);
        let record = OpenIdRecord { localpart, expires_ms: now_ms.saturating_add(life_ms) };
        let ended = self.ended_openid_tokens(now_ms)?;
        let domain = self.domain;
        let commit = move |txn: &mut Txn| {
            for (end, hash) in ended {
                txn.delete(&OPENID_END, domain, &(end, hash));
                txn.delete(&OPENID, domain, &hash);
            }
            txn.put(&OPENID_END, domain, &(record.expires_ms, hash), &());
            txn.put(&OPENID, domain, &hash, &record);
        };
        self.change(commit).await?;
        Ok(token)
    }

    /// Who gave this OpenID token away, if it is still good. [SS-API §get_matrixfederationv1openiduserinfo]
    pub fn openid_user(&self, token: &Secret) -> Result<Option<OwnedUserId>, StoreUnavailable> {
        let found = self.shard.get(&OPENID, self.domain, &secret::hash_token(token.expose()))?;
        let Some(found) = found.filter(|found| found.expires_ms > self.now_ms()) else { return Ok(None) };
        let user_id = self.user_id(&found.localpart)?;
        Ok(self.is_active(&user_id)?.then_some(user_id))
    }

    fn ended_openid_tokens(&self, now_ms: u64) -> Result<Vec<(u64, TokenHash)>, StoreError> {
        let view = self.shard.view();
        let rows = view.scan(&OPENID_END, self.domain, .., Direction::Forward).take(SWEPT_MAX);
        let mut ended = Vec::new();
        for row in rows {
            let (key, ()) = row?;
            if key.0 > now_ms {
                break;
            }
            ended.push(key);
        }
        Ok(ended)
    }
}
