//! What the keys of `koine-account` refuse, in Matrix's words.

use http::StatusCode;
use koine_account::{BackupError, DehydrateError, SendToDeviceError, UploadCrossSigningError, UploadKeysError};

use super::{Error, account::sentence};

impl From<UploadKeysError> for Error {
    /// [CS-API §post_matrixclientv3keysupload]
    fn from(error: UploadKeysError) -> Self {
        match error {
            UploadKeysError::Malformed(_) => Self::bad_json(sentence(&error)),
            UploadKeysError::NotYours | UploadKeysError::IdInUse(_) => Self::invalid_param(sentence(&error)),
            UploadKeysError::TooLarge { .. } => Self::too_large(sentence(&error)),
            UploadKeysError::TooMany { .. } => Self::invalid_param(sentence(&error)),
            UploadKeysError::UnknownDevice => Self::not_found(sentence(&error)),
            UploadKeysError::Store(error) => error.into(),
        }
    }
}

impl From<UploadCrossSigningError> for Error {
    /// [CS-API §post_matrixclientv3keysdevice_signingupload]
    fn from(error: UploadCrossSigningError) -> Self {
        use UploadCrossSigningError as Refused;
        match error {
            Refused::NoMasterKey => Self::missing_param(sentence(&error)),
            Refused::Malformed(..) => Self::invalid_param(sentence(&error)),
            Refused::InvalidSignature(_) => Self::new(StatusCode::BAD_REQUEST, "M_INVALID_SIGNATURE", sentence(&error)),
            Refused::KeyIdInUse(_) | Refused::ProofNeeded | Refused::UnknownUser => Self::forbidden(sentence(&error)),
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<DehydrateError> for Error {
    /// [MSC3814]
    fn from(error: DehydrateError) -> Self {
        match error {
            DehydrateError::UnknownUser => Self::forbidden(sentence(&error)),
            DehydrateError::BadDeviceId => Self::invalid_param(sentence(&error)),
            DehydrateError::TooLarge(_) => Self::too_large(sentence(&error)),
            DehydrateError::NoKeys => Self::missing_param(sentence(&error)),
            DehydrateError::Keys(error) => error.into(),
            DehydrateError::Store(error) => error.into(),
        }
    }
}

impl From<BackupError> for Error {
    /// [CS-API §put_matrixclientv3room_keyskeys]
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::UnknownVersion => Self::not_found(sentence(&error)),
            BackupError::NotNewest { current } => {
                Self::new(StatusCode::FORBIDDEN, "M_WRONG_ROOM_KEYS_VERSION", sentence(&error))
                    .with("current_version", current.to_string())
            }
            BackupError::OtherAlgorithm => Self::invalid_param(sentence(&error)),
            BackupError::TooLarge { .. } => Self::too_large(sentence(&error)),
            BackupError::Full => Self::new(StatusCode::FORBIDDEN, "M_RESOURCE_LIMIT_EXCEEDED", sentence(&error)),
            BackupError::UnknownUser => Self::forbidden(sentence(&error)),
            BackupError::Store(error) => error.into(),
        }
    }
}

impl From<SendToDeviceError> for Error {
    /// [CS-API §put_matrixclientv3sendtodeviceeventtypetxnid]
    fn from(error: SendToDeviceError) -> Self {
        match error {
            SendToDeviceError::NameTooLong(_) => Self::invalid_param(sentence(&error)),
            SendToDeviceError::NotAnObject => Self::bad_json(sentence(&error)),
            SendToDeviceError::MessageTooLarge(_) | SendToDeviceError::TooMuch { .. } => {
                Self::too_large(sentence(&error))
            }
            SendToDeviceError::Store(error) => error.into(),
        }
    }
}
