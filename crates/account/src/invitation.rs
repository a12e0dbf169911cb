//! Registration tokens: they let people make an account where not everybody may. [CS-API §token-authenticated-registration]

use koine_store::{Direction, DomainId, StoreError, Txn};

use crate::{
    Accounts, StoreUnavailable,
    tables::{INVITATION, InvitationRecord},
};

/// How long a token may be. [CS-API §token-authenticated-registration]
pub const REGISTRATION_TOKEN_BYTES_MAX: usize = 64;
/// How long the tokens are that we make up.
const TOKEN_LENGTH: usize = 16;

/// A registration token as admins see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationToken {
    /// The token.
    pub token: String,
    /// How many accounts it is good for; any number if not said.
    pub uses_allowed: Option<u64>,
    /// How many people are using it right now.
    pub pending: u64,
    /// How many accounts were made with it.
    pub completed: u64,
    /// When it stops being good, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

/// The registration token does not permit an account, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum InvitationRefused {
    /// Unknown, expired or used up.
    #[error("the registration token is not valid")]
    NotValid,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Why a registration token was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateTokenError {
    /// Empty, too long, or with other characters than A-Z a-z 0-9 . _ ~ -
    #[error("a registration token is 1 to {REGISTRATION_TOKEN_BYTES_MAX} of the characters A-Z a-z 0-9 . _ ~ -")]
    BadToken,
    /// There is one.
    #[error("this registration token exists already")]
    Exists,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Accounts {
    /// Makes a registration token, of chance unless said.
    pub async fn create_registration_token(
        &self,
        token: Option<String>,
        uses_allowed: Option<u64>,
        expires_ms: Option<u64>,
    ) -> Result<String, CreateTokenError> {
        let token =
            token.unwrap_or_else(|| crate::secret::new_name(TOKEN_LENGTH, crate::secret::UPPER_CASE, &mut rand::rng()));
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if token.is_empty() || token.len() > REGISTRATION_TOKEN_BYTES_MAX || !token.bytes().all(is_allowed) {
            return Err(CreateTokenError::BadToken);
        }
        let (domain, key) = (self.domain, token.clone());
        let commit = move |txn: &mut Txn| -> Result<(), CreateTokenError> {
            if txn.get(&INVITATION, domain, key.as_str()).map_err(StoreUnavailable::from)?.is_some() {
                return Err(CreateTokenError::Exists);
            }
            txn.put(&INVITATION, domain, key.as_str(), &InvitationRecord { uses_allowed, completed: 0, expires_ms });
            Ok(())
        };
        self.change(commit).await??;
        Ok(token)
    }

    /// Says anew how often and how long a registration token is good. `false`: there is none.
    pub async fn update_registration_token(
        &self,
        token: &str,
        uses_allowed: Option<u64>,
        expires_ms: Option<u64>,
    ) -> Result<bool, StoreUnavailable> {
        let (domain, key) = (self.domain, token.to_owned());
        let commit = move |txn: &mut Txn| -> Result<bool, StoreError> {
            let Some(record) = txn.get(&INVITATION, domain, key.as_str())? else { return Ok(false) };
            txn.put(&INVITATION, domain, key.as_str(), &InvitationRecord { uses_allowed, expires_ms, ..record });
            Ok(true)
        };
        Ok(self.change(commit).await??)
    }

    /// Takes a registration token back.
    pub async fn delete_registration_token(&self, token: &str) -> Result<(), StoreUnavailable> {
        let (domain, key) = (self.domain, token.to_owned());
        self.change(move |txn| txn.delete(&INVITATION, domain, key.as_str())).await
    }

    /// All registration tokens.
    pub fn registration_tokens(&self) -> Result<Vec<RegistrationToken>, StoreUnavailable> {
        let view = self.shard.view();
        let rows = view.scan(&INVITATION, self.domain, .., Direction::Forward);
        rows.map(|row| {
            let (token, record) = row?;
            Ok(RegistrationToken {
                pending: self.interactive.pending(&token, self.uptime()),
                token,
                uses_allowed: record.uses_allowed,
                completed: record.completed,
                expires_ms: record.expires_ms,
            })
        })
        .collect()
    }

    /// Whether an account could be made with this token now: known, not expired, and not used up by those who made one
    /// or are about to.
    pub fn is_registration_token_valid(&self, token: &str) -> Result<bool, StoreUnavailable> {
        let record = self.shard.get(&INVITATION, self.domain, token)?;
        let pending = self.interactive.pending(token, self.uptime());
        Ok(record.is_some_and(|record| is_valid(&record, pending, self.now_ms())))
    }
}

fn is_valid(record: &InvitationRecord, pending: u64, now_ms: u64) -> bool {
    record.uses_allowed.is_none_or(|allowed| record.completed.saturating_add(pending) < allowed)
        && record.expires_ms.is_none_or(|moment| now_ms < moment)
}

/// Counts an account made with this token, in the same commit.
pub(crate) fn complete(txn: &mut Txn, domain: DomainId, token: &str, now_ms: u64) -> Result<(), InvitationRefused> {
    let record = txn.get(&INVITATION, domain, token).map_err(StoreUnavailable::from)?;
    // Those who are about to are not counted here: whoever comes first has it.
    let mut record = record.filter(|record| is_valid(record, 0, now_ms)).ok_or(InvitationRefused::NotValid)?;
    record.completed += 1;
    txn.put(&INVITATION, domain, token, &record);
    Ok(())
}
