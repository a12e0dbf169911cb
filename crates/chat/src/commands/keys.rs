//! The keys of messages as a file, in the format that all Matrix clients read; and beginning a room's next session.
//! [CS-API §key-exports]

use std::{fs, path::PathBuf};

use matrix_sdk::encryption::RoomKeyImportError;
use serde::Serialize;

use super::Done;
use crate::{ask, failure::Failure, output::Output, session::Session};

/// Characters of a passphrase that is worth its name.
const PASSPHRASE_MIN: usize = 8;

/// `koine-chat export-keys`
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The file to write. It must not be there yet.
    pub file: PathBuf,
    /// Of this room alone.
    #[arg(long)]
    pub room: Option<String>,
}

/// `koine-chat import-keys`
#[derive(clap::Args)]
pub struct ImportArgs {
    /// The file to read.
    pub file: PathBuf,
}

/// `koine-chat new-session`
#[derive(clap::Args)]
pub struct NewSessionArgs {
    /// Id, address or name.
    pub room: String,
}

#[derive(Serialize)]
struct Exported {
    r#type: &'static str,
    path: String,
}

#[derive(Serialize)]
struct Imported {
    r#type: &'static str,
    imported: usize,
    total: usize,
}

/// Writes them.
pub async fn export(args: &ExportArgs, session: &Session, out: &Output) -> Result<(), Failure> {
    if args.file.exists() {
        return Err(Failure::Local(format!("{} is there already", args.file.display())));
    }
    session.catch_up().await?;
    let only = match &args.room {
        Some(room) => Some(session.room(room).await?.room_id().to_owned()),
        None => None,
    };
    let passphrase = ask::secret("KOINE_CHAT_PASSPHRASE", "Passphrase for the file").await?;
    if passphrase.chars().count() < PASSPHRASE_MIN {
        return Err(Failure::Usage(format!("the passphrase has fewer than {PASSPHRASE_MIN} characters")));
    }
    let wanted = |session: &matrix_sdk_crypto::olm::InboundGroupSession| {
        only.as_ref().is_none_or(|only| session.room_id() == *only)
    };
    session.client.encryption().export_room_keys(args.file.clone(), &passphrase, wanted).await?;
    let line = Exported { r#type: "exported", path: args.file.display().to_string() };
    out.say(&line, || format!("Keys are in {}.", line.path))
}

/// Reads them.
pub async fn import(args: &ImportArgs, session: &Session, out: &Output) -> Result<(), Failure> {
    fs::metadata(&args.file).map_err(|error| Failure::Local(format!("{}: {error}", args.file.display())))?;
    let passphrase = ask::secret("KOINE_CHAT_PASSPHRASE", "Passphrase of the file").await?;
    let result = session.client.encryption().import_room_keys(args.file.clone(), &passphrase).await;
    let result = result.map_err(|error| match error {
        RoomKeyImportError::Export(_) => {
            Failure::CannotDecrypt("the passphrase does not open this file, or it is no file of keys".to_owned())
        }
        other => Failure::Store(other.to_string()),
    })?;
    let line = Imported { r#type: "imported", imported: result.imported_count, total: result.total_count };
    out.say(&line, || format!("{} of {} keys were new.", line.imported, line.total))
}

/// Begins a new session with the next message.
pub async fn new_session(args: &NewSessionArgs, session: &Session, out: &Output) -> Result<(), Failure> {
    let room = session.room(&args.room).await?;
    room.discard_room_key().await?;
    out.say(&Done::new("new-session").room(room.room_id()), || "The next message begins a new session.".to_owned())
}
