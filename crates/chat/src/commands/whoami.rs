//! Who this is, and how its encryption stands.

use matrix_sdk::encryption::{backups::BackupState, recovery::RecoveryState};
use serde::Serialize;

use crate::{account::Sharing, failure::Failure, output::Output, session::Session};

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    account: String,
    user_id: String,
    device_id: String,
    homeserver: String,
    verified: bool,
    identity: bool,
    backup: &'static str,
    recovery: &'static str,
    sharing: Sharing,
    #[serde(skip_serializing_if = "Option::is_none")]
    ed25519: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curve25519: Option<String>,
}

/// How the backup stands, as a code.
pub fn backup_state(state: BackupState) -> &'static str {
    match state {
        BackupState::Unknown => "unknown",
        BackupState::Creating | BackupState::Enabling | BackupState::Resuming => "starting",
        BackupState::Enabled => "on",
        BackupState::Downloading => "downloading",
        BackupState::Disabling => "stopping",
    }
}

/// How recovery stands, as a code.
pub fn recovery_state(state: RecoveryState) -> &'static str {
    match state {
        RecoveryState::Unknown => "unknown",
        RecoveryState::Enabled => "on",
        RecoveryState::Disabled => "off",
        RecoveryState::Incomplete => "incomplete",
    }
}

/// Tells.
pub async fn run(session: &Session, out: &Output) -> Result<(), Failure> {
    let client = &session.client;
    let encryption = client.encryption();
    if !session.offline {
        encryption.wait_for_e2ee_initialization_tasks().await;
        session.catch_up().await?;
    }
    let device = encryption.get_own_device().await.map_err(matrix_sdk::Error::from)?;
    let own = client.user_id().ok_or_else(|| Failure::Local("the session has no user".to_owned()))?;
    let account = session.accounts.load(&session.label)?;
    let line = Line {
        r#type: "whoami",
        account: session.label.clone(),
        user_id: own.to_string(),
        device_id: account.device_id.to_string(),
        homeserver: account.homeserver,
        verified: device.is_some_and(|device| device.is_verified_with_cross_signing()),
        identity: encryption.get_user_identity(own).await.map_err(matrix_sdk::Error::from)?.is_some(),
        backup: backup_state(encryption.backups().state()),
        recovery: recovery_state(encryption.recovery().state()),
        sharing: account.sharing,
        ed25519: encryption.ed25519_key().await,
        curve25519: encryption.curve25519_key().await.map(|key| key.to_base64()),
    };
    out.say(&line, || {
        format!(
            "{} on {}\ndevice {} ({}), backup {}, recovery {}\nfingerprint {}",
            line.user_id,
            line.homeserver,
            line.device_id,
            if line.verified { "verified" } else { "not verified" },
            line.backup,
            line.recovery,
            line.ed25519.as_deref().unwrap_or("none"),
        )
    })
}
