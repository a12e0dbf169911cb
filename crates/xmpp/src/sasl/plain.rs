//! PLAIN: name and password, over TLS only. RFC 4616.

use koine_account::{LoginError, Secret};

use super::{Attempt, Failure, Proven, check_authzid, check_state, named, permit};

pub(super) async fn check(message: &[u8], attempt: &Attempt<'_>) -> Result<Proven, Failure> {
    let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
    let mut parts = text.split('\0');
    let (Some(authzid), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::MalformedRequest);
    };
    if name.is_empty() || password.is_empty() {
        return Err(Failure::MalformedRequest);
    }
    let aimed = named(name, attempt);
    permit(attempt, aimed.as_ref())?;
    // A name that cannot be one takes as long as one that nobody has.
    let localpart = aimed.as_ref().map_or("\0", |user| user.localpart());
    match attempt.core.accounts().log_in(localpart, Secret::from(password)).await {
        Ok(user) => {
            check_authzid(authzid, Some(&user), attempt)?;
            check_state(&user, attempt)?;
            Ok(Proven { user, data: None, token: None, came_by: None })
        }
        Err(LoginError::WrongPassword | LoginError::UserDeactivated) => Err(Failure::NotAuthorized),
        Err(LoginError::Busy(_)) => Err(Failure::TemporaryAuthFailure),
        Err(LoginError::Store(error)) => {
            tracing::error!(reason = %error, "an account cannot be read: nobody can log in");
            Err(Failure::TemporaryAuthFailure)
        }
    }
}
