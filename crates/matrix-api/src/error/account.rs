//! What `koine-account` refuses, in Matrix's words.

use http::StatusCode;
use koine_account::{
    AuthenticateError, Busy, ChangeError, CreateError, InvitationRefused, LimitExceeded, LoginError, NameRefused,
    PasswordRefused, ProfileError, PutDeviceError, RenameError, SetAccountDataError, StartSessionError,
    StoreUnavailable, SubscribeError,
};

use crate::Error;

pub(super) fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl From<StoreUnavailable> for Error {
    fn from(error: StoreUnavailable) -> Self {
        match error {
            StoreUnavailable::Commit(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

impl From<LimitExceeded> for Error {
    fn from(error: LimitExceeded) -> Self {
        Self::limit_exceeded(error.retry_after)
    }
}

impl From<Busy> for Error {
    fn from(_: Busy) -> Self {
        Self::limit_exceeded(std::time::Duration::from_secs(2))
    }
}

impl From<AuthenticateError> for Error {
    fn from(error: AuthenticateError) -> Self {
        let unauthorized = |errcode: &'static str| Self::new(StatusCode::UNAUTHORIZED, errcode, sentence(&error));
        match error {
            AuthenticateError::UnknownToken => unauthorized("M_UNKNOWN_TOKEN"),
            // [CS-API §soft-logout] The session lives on: the client refreshes or logs in again, and keeps its keys.
            AuthenticateError::TokenExpired => unauthorized("M_UNKNOWN_TOKEN").with("soft_logout", true),
            // [CS-API §account-locking]
            AuthenticateError::UserLocked => unauthorized("M_USER_LOCKED").with("soft_logout", true),
            AuthenticateError::Store(error) => error.into(),
        }
    }
}

impl From<StartSessionError> for Error {
    fn from(error: StartSessionError) -> Self {
        match error {
            StartSessionError::UnknownUser => Self::forbidden(sentence(&error)),
            StartSessionError::UserDeactivated => {
                Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", sentence(&error))
            }
            StartSessionError::BadDeviceId => Self::invalid_param(sentence(&error)),
            StartSessionError::Store(error) => error.into(),
        }
    }
}

impl From<NameRefused> for Error {
    fn from(error: NameRefused) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", sentence(&error))
    }
}

impl From<PasswordRefused> for Error {
    fn from(error: PasswordRefused) -> Self {
        match error {
            // [CS-API §password-management]
            PasswordRefused::Empty => Self::new(StatusCode::BAD_REQUEST, "M_WEAK_PASSWORD", sentence(&error)),
            PasswordRefused::TooLong(_) => Self::invalid_param(sentence(&error)),
        }
    }
}

impl From<InvitationRefused> for Error {
    fn from(error: InvitationRefused) -> Self {
        match error {
            InvitationRefused::NotValid => Self::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", sentence(&error)),
            InvitationRefused::Store(error) => error.into(),
        }
    }
}

impl From<CreateError> for Error {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Name(error) => error.into(),
            CreateError::NameTaken => Self::new(StatusCode::BAD_REQUEST, "M_USER_IN_USE", sentence(&error)),
            CreateError::Reserved => Self::new(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", sentence(&error)),
            CreateError::Password(error) => error.into(),
            CreateError::Invitation(error) => error.into(),
            CreateError::Session(error) => error.into(),
            CreateError::Busy(error) => error.into(),
            CreateError::Store(error) => error.into(),
        }
    }
}

impl From<LoginError> for Error {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::WrongPassword => Self::forbidden(sentence(&error)),
            LoginError::UserDeactivated => Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", sentence(&error)),
            LoginError::Busy(error) => error.into(),
            LoginError::Store(error) => error.into(),
        }
    }
}

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::UnknownUser => Self::not_found(sentence(&error)),
            ChangeError::UserDeactivated => Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", sentence(&error)),
            ChangeError::Password(error) => error.into(),
            ChangeError::Busy(error) => error.into(),
            ChangeError::Store(error) => error.into(),
        }
    }
}

impl From<RenameError> for Error {
    fn from(error: RenameError) -> Self {
        match error {
            RenameError::UnknownDevice => Self::not_found(sentence(&error)),
            RenameError::NameTooLong(_) => Self::new(StatusCode::BAD_REQUEST, "M_TOO_LARGE", sentence(&error)),
            RenameError::Store(error) => error.into(),
        }
    }
}

impl From<PutDeviceError> for Error {
    fn from(error: PutDeviceError) -> Self {
        match error {
            PutDeviceError::BadDeviceId => Self::invalid_param(sentence(&error)),
            PutDeviceError::Name(error) => error.into(),
            PutDeviceError::Store(error) => error.into(),
        }
    }
}

impl From<ProfileError> for Error {
    /// [CS-API §put_matrixclientv3profileuseridkeyname]
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::UnknownUser => Self::not_found(sentence(&error)),
            ProfileError::BadKey | ProfileError::BadValue(_) => Self::invalid_param(sentence(&error)),
            ProfileError::KeyTooLarge(_) => Self::new(StatusCode::BAD_REQUEST, "M_KEY_TOO_LARGE", sentence(&error)),
            ProfileError::ProfileTooLarge(_) => {
                Self::new(StatusCode::BAD_REQUEST, "M_PROFILE_TOO_LARGE", sentence(&error))
            }
            ProfileError::Store(error) => error.into(),
        }
    }
}

impl From<SubscribeError> for Error {
    /// [MSC4306]
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::UnknownUser => Self::forbidden(sentence(&error)),
            SubscribeError::LeftSince => {
                Self::new(StatusCode::CONFLICT, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", sentence(&error))
            }
            SubscribeError::TooMany => Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", sentence(&error)),
            SubscribeError::Store(error) => error.into(),
        }
    }
}

impl From<SetAccountDataError> for Error {
    fn from(error: SetAccountDataError) -> Self {
        match error {
            SetAccountDataError::UnknownUser => Self::forbidden(sentence(&error)),
            SetAccountDataError::KindTooLong(_) => Self::invalid_param(sentence(&error)),
            SetAccountDataError::Store(error) => error.into(),
        }
    }
}
