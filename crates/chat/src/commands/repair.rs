//! The way out of a damaged local store. Rooms, messages and files are copies of what the server has: their databases are
//! set aside and filled anew. Keys are not: if theirs is damaged, this device is lost, and the recovery key helps a new one.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use matrix_sdk::SqliteCryptoStore;
use serde::Serialize;

use crate::{account::Accounts, cli::Common, commands::opening, failure::Failure, output::Output, session::Session};

/// Databases that hold copies.
const COPIES: [&str; 3] = ["matrix-sdk-state", "matrix-sdk-event-cache", "matrix-sdk-media"];

/// `koine-chat repair`
#[derive(clap::Args)]
pub struct Args {
    /// Set the copies aside even if they can be opened.
    #[arg(long)]
    pub anew: bool,
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    account: String,
    /// What was set aside, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    aside: Option<String>,
}

/// Repairs.
pub async fn run(args: &Args, common: &Common, out: &Output) -> Result<(), Failure> {
    let accounts = Accounts::new(common.data_dir.clone())?;
    let label = accounts.choose(common.account.as_deref())?;
    let lock = accounts.lock(&label, common.wait)?;
    let account = accounts.load(&label)?;
    let store = accounts.folder(&label).join("store");
    keys_are_fine(&store, &account.key()?, &label).await?;
    let opens = Session::open(&accounts, &label, lock, opening(common)).await;
    let healthy = match opens {
        Ok(session) => session.client.state_store().get_room_infos(&Default::default()).await.is_ok(),
        Err(Failure::Store(_)) => false,
        Err(other) => return Err(other),
    };
    let aside = match healthy && !args.anew {
        true => None,
        false => Some(set_aside(&store)?.display().to_string()),
    };
    let line = Line { r#type: "repaired", account: label, aside };
    out.say(&line, || match &line.aside {
        Some(aside) => format!("What was damaged lies in {aside}. The next command fetches its contents anew."),
        None => "The local store opens; nothing was changed.".to_owned(),
    })
}

async fn keys_are_fine(store: &Path, key: &[u8; 32], label: &str) -> Result<(), Failure> {
    use matrix_sdk_crypto::store::CryptoStore;
    let lost = |reason: String| {
        Failure::Store(format!(
            "the keys of this device are damaged ({reason}) and cannot be had from anywhere: log in again (`logout --forget \
             --account {label}`, then `login`), then `recover` with the recovery key brings old messages back"
        ))
    };
    let config = matrix_sdk::SqliteStoreConfig::new(store).key(Some(key));
    let keys = SqliteCryptoStore::open_with_config(&config).await.map_err(|error| lost(error.to_string()))?;
    keys.load_account().await.map_err(|error| lost(error.to_string()))?;
    Ok(())
}

/// Moves the copies into a folder of their own, with SQLite's companions.
fn set_aside(store: &Path) -> Result<PathBuf, Failure> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let aside = store.join(format!("damaged-{seconds}"));
    fs::create_dir_all(&aside)?;
    for name in COPIES {
        for ending in [".sqlite3", ".sqlite3-wal", ".sqlite3-shm"] {
            let file = store.join(format!("{name}{ending}"));
            match fs::rename(&file, aside.join(format!("{name}{ending}"))) {
                // SQLite takes its companions away when the last connection closes, which may be now.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(aside)
}
