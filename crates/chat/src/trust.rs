//! Who a message comes from, and why one cannot be read: the engine's findings as codes for scripts and words for people.

use matrix_sdk::{
    Client,
    deserialized_responses::{
        AlgorithmInfo, DeviceLinkProblem, EncryptionInfo, UnableToDecryptInfo, UnableToDecryptReason,
        VerificationLevel, VerificationState, WithheldCode,
    },
    ruma::{events::AnySyncTimelineEvent, serde::Raw},
};
use matrix_sdk_crypto::types::events::{CryptoContextInfo, UtdCause};

/// A code that scripts compare, and the words for it.
pub type Finding = (&'static str, &'static str);

/// Why a message cannot be read whose key is in the backup, but is none.
pub const DAMAGED_BACKUP: Finding =
    ("backup-damaged", "its key in the backup does not open: it was damaged, or somebody else put it there");

/// How sure it is who sent a message that was decrypted.
pub fn of(info: &EncryptionInfo) -> Finding {
    state(&info.verification_state)
}

/// As [`of`], by what is known now: with a session the engine keeps how far its sender was trusted when its key came, and people
/// are verified later.
pub async fn now(client: &Client, info: &EncryptionInfo) -> Finding {
    let then = of(info);
    let (Some(id), AlgorithmInfo::MegolmV1AesSha2 { curve25519_key, .. }) = (&info.sender_device, &info.algorithm_info)
    else {
        return then;
    };
    if then.0 != "unverified-person" {
        return then;
    }
    match client.encryption().get_device(&info.sender, id).await {
        Ok(Some(device))
            if device.is_verified_with_cross_signing()
                && device.curve25519_key().is_some_and(|key| key.to_base64() == *curve25519_key) =>
        {
            state(&VerificationState::Verified)
        }
        _ => then,
    }
}

/// As [`of`].
pub fn state(state: &VerificationState) -> Finding {
    match state {
        VerificationState::Verified => ("verified", "from a verified device of a verified person"),
        VerificationState::Unverified(level) => match level {
            VerificationLevel::UnverifiedIdentity => {
                ("unverified-person", "from a device its owner has verified; you have not verified this person")
            }
            VerificationLevel::VerificationViolation => {
                ("identity-changed", "you had verified this person, and their identity has changed since")
            }
            VerificationLevel::UnsignedDevice => ("unsigned-device", "this device is not verified by its owner"),
            VerificationLevel::None(DeviceLinkProblem::MissingDevice) => {
                ("unknown-device", "from a device that is not known, or was deleted")
            }
            VerificationLevel::None(DeviceLinkProblem::InsecureSource) => {
                ("unsure-source", "its key came from a backup or a file, so who sent it is not certain")
            }
            VerificationLevel::MismatchedSender => {
                ("wrong-sender", "the name on it is not that of the device it came from")
            }
        },
    }
}

/// Whether a mark of warning belongs beside the message.
pub fn is_warning(code: &str) -> bool {
    matches!(code, "identity-changed" | "unsigned-device" | "unknown-device" | "wrong-sender")
}

/// One mark for the terminal.
pub fn mark(code: &str) -> &'static str {
    match code {
        "verified" => "✔",
        "unverified-person" | "unsure-source" => "·",
        "plain" => " ",
        _ => "!",
    }
}

/// Why a message cannot be read.
pub fn why(event: &Raw<AnySyncTimelineEvent>, info: &UnableToDecryptInfo, context: CryptoContextInfo) -> Finding {
    match &info.reason {
        UnableToDecryptReason::MissingMegolmSession { withheld_code: Some(code) } => {
            if let Some(finding) = withheld(code) {
                return finding;
            }
        }
        UnableToDecryptReason::MalformedEncryptedEvent => {
            return ("malformed", "it is not a well-formed encrypted message");
        }
        UnableToDecryptReason::MegolmDecryptionFailure => {
            return ("broken", "its key is here but does not open it: it is damaged, forged or was sent twice");
        }
        UnableToDecryptReason::PayloadDeserializationFailure => {
            return ("malformed", "it was decrypted, and what is inside is no message");
        }
        UnableToDecryptReason::MismatchedIdentityKeys => {
            return ("wrong-sender", "the keys in it are not those of the device it names");
        }
        _ => {}
    }
    let later_index = matches!(info.reason, UnableToDecryptReason::UnknownMegolmMessageIndex);
    precise(cause(UtdCause::determine(event, context, info), later_index), event, context)
}

/// Where the engine only knows that there is no key: what the event itself says about it.
pub fn precise(finding: Finding, event: &Raw<AnySyncTimelineEvent>, context: CryptoContextInfo) -> Finding {
    if finding.0 != "no-key" {
        return finding;
    }
    // [CS-API §room-events] What one was to the room when it was said. Who is only invited gets keys if their device is known then.
    let unsigned = event.get_field::<serde_json::Value>("unsigned").ok().flatten();
    let membership = unsigned.as_ref().and_then(|unsigned| unsigned.get("membership")).and_then(|one| one.as_str());
    let sent_ms = event.get_field::<u64>("origin_server_ts").ok().flatten();
    let is_older = sent_ms.is_some_and(|sent_ms| sent_ms < u64::from(context.device_creation_ts.get()));
    match membership {
        Some("invite") => cause(UtdCause::SentBeforeWeJoined, false),
        _ if is_older => {
            ("before-this-device", "sent before this device was logged in, and its key is not in the backup")
        }
        _ => finding,
    }
}

/// Words for a cause that the engine found out.
pub fn cause(cause: UtdCause, later_index: bool) -> Finding {
    match cause {
        UtdCause::SentBeforeWeJoined => ("before-you-joined", "sent before you joined"),
        UtdCause::VerificationViolation => {
            ("identity-changed", "you had verified its sender, whose identity has changed since")
        }
        UtdCause::UnsignedDevice => ("unsigned-device", "the device that sent it is not verified by its owner"),
        UtdCause::UnknownDevice => ("unknown-device", "the device that sent it is not known"),
        UtdCause::HistoricalMessageAndBackupIsDisabled => {
            ("before-this-device", "sent before this device was logged in, and there is no key backup")
        }
        UtdCause::HistoricalMessageAndDeviceIsUnverified => (
            "this-device-unverified",
            "sent before this device was logged in; verify this device or give the recovery key to read it",
        ),
        UtdCause::WithheldForUnverifiedOrInsecureDevice => {
            ("withheld-unverified", "its sender gives keys to verified devices only, and this device is not verified")
        }
        UtdCause::WithheldBySender => ("withheld", "its sender did not give this device the key"),
        UtdCause::Unknown if later_index => ("key-begins-later", "the key that is here begins after this message"),
        UtdCause::Unknown => ("no-key", "its key has not arrived"),
    }
}

fn withheld(code: &WithheldCode) -> Option<Finding> {
    match code {
        WithheldCode::Blacklisted => Some(("withheld-blocked", "its sender has blocked this device")),
        WithheldCode::Unverified => Some((
            "withheld-unverified",
            "its sender gives keys to verified devices only, and this device is not verified",
        )),
        WithheldCode::Unauthorised => {
            Some(("withheld-unauthorised", "its sender says this device may not have the key"))
        }
        WithheldCode::Unavailable => Some(("withheld-unavailable", "the device that was asked does not have the key")),
        WithheldCode::NoOlm => Some(("withheld-no-channel", "its sender could not reach this device securely")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use matrix_sdk::ruma::MilliSecondsSinceUnixEpoch;
    use serde_json::json;

    use super::*;

    fn context() -> CryptoContextInfo {
        CryptoContextInfo {
            device_creation_ts: MilliSecondsSinceUnixEpoch(1000_u32.into()),
            this_device_is_verified: false,
            backup_exists_on_server: true,
            is_backup_configured: false,
        }
    }

    fn event(sent_ms: u32, membership: &str) -> Raw<AnySyncTimelineEvent> {
        Raw::new(&json!({
            "type": "m.room.encrypted", "event_id": "$a", "sender": "@b:c", "origin_server_ts": sent_ms,
            "content": {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "", "session_id": "s"},
            "unsigned": {"membership": membership},
        }))
        .unwrap()
        .cast_unchecked()
    }

    fn missing(withheld_code: Option<WithheldCode>) -> UnableToDecryptInfo {
        UnableToDecryptInfo {
            session_id: Some("s".to_owned()),
            reason: UnableToDecryptReason::MissingMegolmSession { withheld_code },
        }
    }

    #[test]
    fn each_reason_has_its_words() {
        let code = |event: Raw<AnySyncTimelineEvent>, info| why(&event, &info, context()).0;
        assert_eq!(code(event(5000, "leave"), missing(None)), "before-you-joined");
        assert_eq!(code(event(500, "join"), missing(None)), "this-device-unverified");
        assert_eq!(code(event(5000, "join"), missing(None)), "no-key");
        assert_eq!(code(event(5000, "invite"), missing(None)), "before-you-joined");
        let in_backup = CryptoContextInfo { this_device_is_verified: true, is_backup_configured: true, ..context() };
        assert_eq!(why(&event(500, "join"), &missing(None), in_backup).0, "before-this-device");
        assert_eq!(code(event(5000, "join"), missing(Some(WithheldCode::Blacklisted))), "withheld-blocked");
        assert_eq!(code(event(5000, "join"), missing(Some(WithheldCode::Unverified))), "withheld-unverified");
    }

    #[test]
    fn warnings_are_for_what_somebody_should_look_at() {
        assert!(is_warning(state(&VerificationState::Unverified(VerificationLevel::UnsignedDevice)).0));
        assert!(!is_warning(state(&VerificationState::Verified).0));
        assert!(!is_warning(state(&VerificationState::Unverified(VerificationLevel::UnverifiedIdentity)).0));
    }
}
