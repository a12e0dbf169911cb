//! HT-*: a token instead of a password, in one message. draft-schmaus-kitten-sasl-ht, for XEP-0484.
//!
//! A token is made of a secret of the server and its number; what is kept beside the account cannot log in.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use ruma_common::{DeviceId, UserId};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::{Attempt, Failure, Proven, check_state, named, permit};
use crate::stream::{sasl2::device_of, transport::Security};

/// What a mechanism ties itself to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ht {
    Exporter,
    EndPoint,
    Nothing,
}

impl Ht {
    const ALL: [Self; 3] = [Self::Exporter, Self::EndPoint, Self::Nothing];

    /// Those that a connection can have. Never without TLS. [XEP-0484 §6]
    pub(crate) fn offered(security: &Security) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|ht| security.is_encrypted && ht.binding(security).is_some())
    }

    /// The one with that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ht| ht.name() == name)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exporter => "HT-SHA-256-EXPR",
            Self::EndPoint => "HT-SHA-256-ENDP",
            Self::Nothing => "HT-SHA-256-NONE",
        }
    }

    fn binding(self, security: &Security) -> Option<&[u8]> {
        match self {
            Self::Exporter => security.exporter.as_deref(),
            Self::EndPoint => security.end_point.as_deref(),
            Self::Nothing => Some(&[]),
        }
    }

    /// `authcid NUL HMAC(token, "Initiator" || binding)`
    pub(super) async fn check(self, message: &[u8], attempt: &Attempt<'_>) -> Result<Proven, Failure> {
        let end = message.iter().position(|byte| *byte == 0).ok_or(Failure::MalformedRequest)?;
        let name = std::str::from_utf8(&message[..end]).map_err(|_| Failure::MalformedRequest)?;
        let proof = &message[end + 1..];
        let aimed = named(name, attempt);
        permit(attempt, aimed.as_ref())?;
        let (Some(user), Some(agent)) = (aimed, attempt.agent) else { return Err(Failure::NotAuthorized) };
        let device = device_of(agent, &user, &attempt.core.secret);
        let device = &*device;
        let binding = self.binding(attempt.security).ok_or(Failure::NotAuthorized)?;
        let unavailable = |error: koine_account::StoreUnavailable| {
            tracing::error!(reason = %error, "an account cannot be read: nobody can log in");
            Failure::TemporaryAuthFailure
        };
        let accounts = attempt.core.accounts();
        for token in accounts.stream_tokens(&user, device).map_err(unavailable)? {
            let text = token_text(&attempt.core.secret, &user, device, token.serial);
            let is_it = proof.ct_eq(&hmac(text.as_bytes(), &[b"Initiator", binding]));
            // A token is good for the mechanism that it was asked for, and no other. [XEP-0484 §3.4]
            if !bool::from(is_it) || token.mechanism != self.name() {
                continue;
            }
            check_state(&user, attempt)?;
            let used = accounts.use_stream_token(&user, device, token.serial, attempt.count).await;
            if !used.map_err(unavailable)? {
                return Err(Failure::NotAuthorized);
            }
            let data = hmac(text.as_bytes(), &[b"Responder", binding]);
            return Ok(Proven { user, data: Some(data), token: Some(token.serial), came_by: None });
        }
        // [XEP-0484 §4.2] It had one, maybe; the password will do.
        Err(Failure::CredentialsExpired)
    }
}

/// The token with that number, as the client has it.
pub(crate) fn token_text(secret: &[u8; 32], user: &UserId, device: &DeviceId, serial: u64) -> String {
    let about = format!("token {serial} {device} {user}");
    BASE64_URL_SAFE_NO_PAD.encode(hmac(secret, &[about.as_bytes()]))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
