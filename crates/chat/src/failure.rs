//! What can go wrong, in words, and the exit code that scripts can rely on. docs/chat.md repeats the table.

use std::io;

use matrix_sdk::{
    ClientBuildError, HttpError,
    encryption::{identities::RequestVerificationError, recovery::RecoveryError, secret_storage::SecretStorageError},
    ruma::api::error::{ErrorKind, FromHttpResponseError},
};
use serde::Serialize;
use thiserror::Error;

/// Why a command did not do what it was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// Something on this machine: a file that cannot be read, a bug.
    #[error("{0}")]
    Local(String),
    /// The command line, or an answer typed in.
    #[error("{0}")]
    Usage(String),
    /// No account, or the server no longer knows this device.
    #[error("{0}")]
    NotLoggedIn(String),
    /// The server understood and said no.
    #[error("the server refused: {message} ({errcode}, status {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Matrix error code.
        errcode: String,
        /// The server's own words.
        message: String,
    },
    /// The server cannot be reached, or does not speak Matrix.
    #[error("the server cannot be reached: {0}")]
    Network(String),
    /// Keys are missing or do not fit.
    #[error("{0}")]
    CannotDecrypt(String),
    /// Another process uses this account.
    #[error("{0}")]
    Busy(String),
    /// The local store cannot be opened.
    #[error("{0}")]
    Store(String),
    /// A verification was cancelled, refused, or did not match.
    #[error("{0}")]
    NotConfirmed(String),
    /// What was waited for did not happen in time.
    #[error("{0}")]
    TimedOut(String),
    /// A room, event, person or device that is not known here.
    #[error("{0}")]
    NotFound(String),
    /// Nobody reads the output any more. Not a failure.
    #[error("the output was closed")]
    Closed,
}

/// One failure as a JSON line.
#[derive(Serialize)]
pub struct Line<'a> {
    r#type: &'static str,
    code: u8,
    failure: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    errcode: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

impl Failure {
    /// The program's exit code. These numbers are a promise.
    pub fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Local(_) => 1,
            Self::Usage(_) => 2,
            Self::NotLoggedIn(_) => 3,
            Self::Refused { .. } => 4,
            Self::Network(_) => 5,
            Self::CannotDecrypt(_) => 6,
            Self::Busy(_) => 7,
            Self::Store(_) => 8,
            Self::NotConfirmed(_) => 9,
            Self::TimedOut(_) => 10,
            Self::NotFound(_) => 11,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Local(_) => "local",
            Self::Usage(_) => "usage",
            Self::NotLoggedIn(_) => "not-logged-in",
            Self::Refused { .. } => "refused",
            Self::Network(_) => "network",
            Self::CannotDecrypt(_) => "cannot-decrypt",
            Self::Busy(_) => "busy",
            Self::Store(_) => "store",
            Self::NotConfirmed(_) => "not-confirmed",
            Self::TimedOut(_) => "timed-out",
            Self::NotFound(_) => "not-found",
        }
    }

    /// The failure as a JSON line.
    pub fn line(&self) -> Line<'_> {
        let (errcode, status) = match self {
            Self::Refused { errcode, status, .. } => (Some(errcode.as_str()), Some(*status)),
            _ => (None, None),
        };
        Line { r#type: "failure", code: self.code(), failure: self.name(), message: self.to_string(), errcode, status }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Local(error.to_string()),
        }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match &error {
            HttpError::Reqwest(error) => Self::Network(innermost(error)),
            HttpError::Cached(error) => refused(error).unwrap_or_else(|| Self::Network(error.to_string())),
            HttpError::Api(api) if !matches!(**api, FromHttpResponseError::Server(_)) => {
                Self::Network(format!("its answer is not one of Matrix: {error}"))
            }
            _ => refused(&error).unwrap_or_else(|| Self::Local(error.to_string())),
        }
    }
}

/// What the server said, if it said anything.
fn refused(error: &HttpError) -> Option<Failure> {
    if let Some(api) = error.as_client_api_error() {
        let status = api.status_code.as_u16();
        let kind = error.client_api_error_kind();
        let errcode = kind.map_or_else(|| "M_UNKNOWN".to_owned(), |kind| kind.errcode().to_string());
        let message = message(api);
        return Some(match kind {
            Some(ErrorKind::UnknownToken { .. }) => Failure::NotLoggedIn(format!(
                "the server no longer knows this device ({message}); log in again, old messages come back with the \
                 recovery key"
            )),
            _ => Failure::Refused { status, errcode, message },
        });
    }
    error.as_uiaa_response().map(|_| Failure::Refused {
        status: 401,
        errcode: "M_UNAUTHORIZED".to_owned(),
        message: "the password is needed for this".to_owned(),
    })
}

fn message(error: &matrix_sdk::ruma::api::error::Error) -> String {
    match &error.body {
        matrix_sdk::ruma::api::error::ErrorBody::Standard(body) => body.message.clone(),
        other => format!("{other:?}"),
    }
}

/// An error of the engine in words.
pub fn words(error: &matrix_sdk::Error) -> String {
    match error {
        matrix_sdk::Error::Http(http) => match refused(http) {
            Some(failure) => failure.to_string(),
            None => innermost(error),
        },
        other => other.to_string(),
    }
}

/// The last cause, which says what happened ("connection refused"); those before it say where.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl From<matrix_sdk::Error> for Failure {
    fn from(error: matrix_sdk::Error) -> Self {
        use matrix_sdk::Error;
        match error {
            Error::Http(error) => (*error).into(),
            Error::CryptoStoreError(_) | Error::StateStore(_) | Error::EventCacheStore(_) | Error::MediaStore(_) => {
                Self::Store(format!("the local store fails: {error}"))
            }
            Error::MegolmError(_) | Error::DecryptorError(_) => Self::CannotDecrypt(error.to_string()),
            Error::OlmError(_) => Self::CannotDecrypt(format!("no key could be shared: {error}")),
            Error::Timeout => Self::TimedOut("the server did not answer in time".to_owned()),
            Error::WrongRoomState(_) => {
                Self::Refused { status: 403, errcode: "M_FORBIDDEN".to_owned(), message: format!("{error}") }
            }
            other => Self::Local(other.to_string()),
        }
    }
}

impl From<ClientBuildError> for Failure {
    fn from(error: ClientBuildError) -> Self {
        match error {
            ClientBuildError::Http(error) => error.into(),
            ClientBuildError::SqliteStore(error) => Self::Store(error.to_string()),
            ClientBuildError::AutoDiscovery(error) => {
                Self::Network(format!("there is no Matrix server to be found there: {error}"))
            }
            ClientBuildError::Url(_) | ClientBuildError::InvalidServerName | ClientBuildError::MissingHomeserver => {
                Self::Usage(format!("that is no address of a homeserver: {error}"))
            }
            other => Self::Network(other.to_string()),
        }
    }
}

impl From<RequestVerificationError> for Failure {
    fn from(error: RequestVerificationError) -> Self {
        match error {
            RequestVerificationError::Sdk(error) => error.into(),
            other => Self::Refused { status: 403, errcode: "M_UNKNOWN".to_owned(), message: other.to_string() },
        }
    }
}

impl From<RecoveryError> for Failure {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Sdk(error) => error.into(),
            RecoveryError::SecretStorage(error) => error.into(),
            RecoveryError::BackupExistsOnServer => Self::Usage(
                "there is a backup on the server already; `recover` opens it, `backup off` deletes it".to_owned(),
            ),
        }
    }
}

impl From<SecretStorageError> for Failure {
    fn from(error: SecretStorageError) -> Self {
        match error {
            SecretStorageError::Sdk(error) => error.into(),
            SecretStorageError::SecretStorageKey(_) => {
                Self::CannotDecrypt("that is not the recovery key of this account".to_owned())
            }
            SecretStorageError::MissingKeyInfo { .. } => {
                Self::CannotDecrypt("this account has no recovery key yet; a verified device can make one".to_owned())
            }
            other => Self::CannotDecrypt(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_a_promise_and_each_is_its_own() {
        let text = String::new;
        let all = [
            Failure::Closed,
            Failure::Local(text()),
            Failure::Usage(text()),
            Failure::NotLoggedIn(text()),
            Failure::Refused { status: 403, errcode: text(), message: text() },
            Failure::Network(text()),
            Failure::CannotDecrypt(text()),
            Failure::Busy(text()),
            Failure::Store(text()),
            Failure::NotConfirmed(text()),
            Failure::TimedOut(text()),
            Failure::NotFound(text()),
        ];
        let codes: Vec<u8> = all.iter().map(Failure::code).collect();
        assert_eq!(codes, (0..12).collect::<Vec<u8>>());
    }
}
