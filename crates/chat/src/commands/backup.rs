//! The backup of message keys on the server: encrypted, opened by the recovery key.

use serde::Serialize;

use super::whoami::{backup_state, recovery_state};
use crate::{failure::Failure, heard, output::Output, session::Session};

/// `koine-chat backup`
#[derive(clap::Args)]
pub struct Args {
    /// What to do; shows how it stands without this.
    #[arg(value_enum, default_value = "status")]
    pub what: What,
    /// For `fetch`: which room; all without this.
    pub room: Option<String>,
}

/// What can be done with the backup.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// How it stands.
    Status,
    /// Make one, if there is none.
    On,
    /// Delete it, and the recovery key's secrets with it.
    Off,
    /// Fetch the keys of a room, or of all joined rooms, now.
    Fetch,
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    /// on, off, starting, downloading, unknown: on this device.
    backup: &'static str,
    recovery: &'static str,
    exists_on_server: bool,
    /// Keys that were fetched and do not open: their MAC is wrong, or they are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<usize>,
}

/// What is to be said about keys of the backup that did not open; nothing if all did.
pub fn about_damage(damaged: usize) -> Option<String> {
    match damaged {
        0 => None,
        1 => Some(
            "One key in the backup does not open: it was damaged, or somebody else put it there. The others are here."
                .to_owned(),
        ),
        many => Some(format!(
            "{many} keys in the backup do not open: they were damaged, or somebody else put them there. The others are here."
        )),
    }
}

/// Does it, and shows how it stands.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    let encryption = session.client.encryption();
    encryption.wait_for_e2ee_initialization_tasks().await;
    session.catch_up().await?;
    match args.what {
        What::Status => {}
        What::On => encryption.recovery().enable_backup().await?,
        What::Off => encryption.recovery().disable().await?,
        What::Fetch => {
            if !encryption.backups().are_enabled().await {
                return Err(Failure::CannotDecrypt("this device cannot open the backup; `recover` first".to_owned()));
            }
            let rooms = match &args.room {
                Some(room) => vec![session.room(room).await?],
                None => session.client.joined_rooms(),
            };
            heard::begin_to_count();
            for room in rooms {
                match encryption.backups().download_room_keys_for_room(room.room_id()).await.map_err(Failure::from) {
                    // The backup has nothing of that room.
                    Ok(()) | Err(Failure::Refused { status: 404, .. }) => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
    let line = Line {
        r#type: "backup",
        backup: backup_state(encryption.backups().state()),
        recovery: recovery_state(encryption.recovery().state()),
        exists_on_server: encryption.backups().fetch_exists_on_server().await?,
        damaged: Some(heard::unopened()).filter(|damaged| args.what == What::Fetch && *damaged > 0),
    };
    out.say(&line, || {
        let there = if line.exists_on_server { "there is one on the server" } else { "there is none on the server" };
        let damage = line.damaged.and_then(about_damage).map(|words| format!("\n{words}")).unwrap_or_default();
        format!("Backup: {} here, {there}. Recovery: {}.{damage}", line.backup, line.recovery)
    })
}
