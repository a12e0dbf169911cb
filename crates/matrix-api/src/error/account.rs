//! What `koine-account` refuses, in Matrix's words.

use http::StatusCode;
use koine_account::AuthenticateError;

use crate::Error;

impl From<AuthenticateError> for Error {
    fn from(error: AuthenticateError) -> Self {
        let unauthorized =
            |errcode: &'static str, message: &'static str| Error::new(StatusCode::UNAUTHORIZED, errcode, message);
        match error {
            AuthenticateError::UnknownToken => unauthorized("M_UNKNOWN_TOKEN", "The access token is not known"),
            // [CS-API §soft-logout] The session lives on: the client refreshes or logs in again, and keeps its keys.
            AuthenticateError::TokenExpired => {
                unauthorized("M_UNKNOWN_TOKEN", "The access token has expired").with("soft_logout", true)
            }
            // [CS-API §account-locking]
            AuthenticateError::UserLocked => {
                unauthorized("M_USER_LOCKED", "This account has been locked").with("soft_logout", true)
            }
            AuthenticateError::Store(error) => Error::internal(error),
        }
    }
}
