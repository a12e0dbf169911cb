//! The recovery key: getting trust and old messages back with it, making a new one, or starting over without it.

use matrix_sdk::{
    Client,
    encryption::{CrossSigningResetAuthType, recovery::RecoveryError, secret_storage::SecretStorageError},
    ruma::api::client::uiaa::{self, MatrixUserIdentifier, UserIdentifier},
    ruma::events::secret::request::SecretName,
};
use serde::Serialize;

use super::whoami::backup_state;
use crate::{ask, failure::Failure, output::Output, session::Session};

/// `koine-chat recover`
#[derive(clap::Args)]
pub struct Args {
    /// Make a new recovery key, on a device that is verified; the old one opens nothing any more.
    #[arg(long)]
    pub new_key: bool,
    /// No key and no verified device are left: make a new identity. Old messages stay lost, people must verify you again.
    #[arg(long, conflicts_with = "new_key")]
    pub start_over: bool,
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    verified: bool,
    backup: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
    /// `another-key`: the backup on the server is none of the key that the recovery key opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
}

/// What is said when the backup on the server belongs to another key.
pub const ANOTHER_KEY: &str = "The backup on the server belongs to another key than the one this recovery key opens, so nothing of \
it can be read or trusted. Your account may have made a new one elsewhere: use the newest recovery key. Or it was put there by \
somebody else: `recover --new-key` on a verified device makes a new backup.";

/// Recovers.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    session.client.encryption().wait_for_e2ee_initialization_tasks().await;
    session.catch_up().await?;
    let recovery = session.client.encryption().recovery();
    let mut problem = None;
    let key = if args.new_key {
        Some(match session.client.encryption().secret_storage().is_enabled().await? {
            true => recovery.reset_key().await?,
            false => recovery.enable().await?,
        })
    } else if args.start_over {
        start_over(session).await?;
        Some(recovery.enable().await?)
    } else {
        let key = ask::secret("KOINE_CHAT_RECOVERY_KEY", "Recovery key").await?;
        problem = with_key(&session.client, key.trim()).await?;
        None
    };
    session.catch_up().await?;
    let own = session.client.encryption().get_own_device().await.map_err(matrix_sdk::Error::from)?;
    let line = Line {
        r#type: "recovered",
        verified: own.is_some_and(|device| device.is_verified_with_cross_signing()),
        backup: backup_state(session.client.encryption().backups().state()),
        recovery_key: key,
        problem,
    };
    out.say(&line, || match &line.recovery_key {
        Some(key) => format!("This is the recovery key, shown this once:\n\n    {key}\n"),
        None => {
            let trusted = if line.verified { "verified" } else { "not verified" };
            let problem = line.problem.map(|_| format!("\n{ANOTHER_KEY}")).unwrap_or_default();
            format!("This device is {trusted}; the backup is {}.{problem}", line.backup)
        }
    })
}

/// Trust comes first, then the backup: if that is another one, or nonsense, the device is trusted all the same. What is wrong, as a code.
pub async fn with_key(client: &Client, key: &str) -> Result<Option<&'static str>, Failure> {
    match client.encryption().recovery().recover(key).await {
        Ok(()) => Ok(None),
        Err(RecoveryError::SecretStorage(
            SecretStorageError::InconsistentBackupDecryptionKey
            | SecretStorageError::ImportError { name: SecretName::RecoveryKey, .. },
        )) => Ok(Some("another-key")),
        Err(error) => Err(error.into()),
    }
}

async fn start_over(session: &Session) -> Result<(), Failure> {
    let recovery = session.client.encryption().recovery();
    let Some(handle) = recovery.reset_identity().await? else { return Ok(()) };
    match handle.auth_type() {
        CrossSigningResetAuthType::Uiaa(asked) => {
            let own = session.client.user_id().ok_or_else(|| Failure::Local("the session has no user".to_owned()))?;
            let secret = ask::secret("KOINE_CHAT_PASSWORD", "Password").await?;
            let identifier = UserIdentifier::Matrix(MatrixUserIdentifier::new(own.to_string()));
            let mut password = uiaa::Password::new(identifier, secret);
            password.session.clone_from(&asked.session);
            Ok(handle.reset(Some(uiaa::AuthData::Password(password))).await?)
        }
        CrossSigningResetAuthType::OAuth(_) => {
            handle.cancel().await;
            Err(Failure::Usage("this server wants the new identity confirmed on its account page".to_owned()))
        }
    }
}
