//! An open account: the client of matrix-sdk over the local store, and catching up with the server.
//!
//! One store, one flavour of sync: everything here uses the classic `/sync`, which every homeserver has and whose token
//! covers messages to devices too. Mixing it with sliding sync in one store would skip or repeat those.

use std::{path::Path, time::Duration};

use matrix_sdk::{
    Client, Room, SessionMeta, SqliteStoreConfig, ThreadingSupport,
    authentication::{SessionTokens, matrix::MatrixSession},
    config::{RequestConfig, SyncSettings},
    cross_process_lock::CrossProcessLockConfig,
    encryption::{BackupDownloadStrategy, EncryptionSettings},
    ruma::{
        OwnedRoomId, RoomId, RoomOrAliasId,
        api::client::filter::{FilterDefinition, RoomEventFilter, RoomFilter},
        api::client::sync::sync_events::v3::Filter,
        presence::PresenceState,
    },
    store::RoomLoadSettings,
    sync::SyncResponse,
};
use matrix_sdk_crypto::CollectStrategy;

use crate::{
    account::{Account, Accounts, Lock, Sharing},
    failure::Failure,
    replay,
};

/// Rounds of catching up: each brings up to a hundred messages to this device. Whoever floods it does not keep it from its work for ever.
const ROUNDS_MAX: usize = 2_000;
/// Events a room may bring at once; what is before stays on the server until somebody looks.
const TIMELINE_LIMIT: u32 = 50;
/// How long a backup of new keys is waited for before a command ends. What is left is uploaded by the next one.
const BACKUP_PATIENCE: Duration = Duration::from_secs(10);

/// How an account is opened.
#[derive(Clone, Copy)]
pub struct Opening {
    /// Whether whoever is invited gets the keys of what was said before, where the room's rules allow that.
    pub share_history: bool,
    /// Whether the server is asked at all.
    pub offline: bool,
    /// Requests that fail for the network are repeated for this long.
    pub patience: Duration,
}

/// An account whose store this process has open.
pub struct Session {
    /// The engine.
    pub client: Client,
    /// Under which label it is kept.
    pub label: String,
    /// All accounts of this data folder.
    pub accounts: Accounts,
    /// Whether the server is left alone.
    pub offline: bool,
    _lock: Option<Lock>,
}

impl Session {
    /// Opens an account that is logged in. Asks the server nothing.
    pub async fn open(accounts: &Accounts, label: &str, lock: Lock, opening: Opening) -> Result<Self, Failure> {
        let account = accounts.load(label)?;
        let store = accounts.folder(label).join("store");
        let client = build(&account, &store, opening).await.map_err(|failure| explain(failure, label, &store))?;
        client
            .matrix_auth()
            .restore_session(
                MatrixSession {
                    meta: SessionMeta { user_id: account.user_id, device_id: account.device_id },
                    tokens: SessionTokens { access_token: account.access_token, refresh_token: None },
                },
                RoomLoadSettings::default(),
            )
            .await
            .map_err(|error| explain(error.into(), label, &store))?;
        client.event_cache().subscribe().map_err(|error| explain(Failure::Store(error.to_string()), label, &store))?;
        Ok(Self {
            client,
            label: label.to_owned(),
            accounts: accounts.clone(),
            offline: opening.offline,
            _lock: Some(lock),
        })
    }

    /// Learns everything that happened since this device last asked: rooms, keys, messages to this device.
    pub async fn catch_up(&self) -> Result<(), Failure> {
        if self.offline {
            return Ok(());
        }
        for _ in 0..ROUNDS_MAX {
            let news = self.wait_for_news(Duration::ZERO).await?;
            if news.to_device.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// One long poll.
    pub async fn wait_for_news(&self, patience: Duration) -> Result<SyncResponse, Failure> {
        let news = self.client.sync_once(settings(patience)).await?;
        replay::settle(&self.client).await;
        Ok(news)
    }

    /// Refuses what cannot be done without the server.
    pub fn needs_server(&self) -> Result<(), Failure> {
        match self.offline {
            true => Err(Failure::Usage("this cannot be done with --offline".to_owned())),
            false => Ok(()),
        }
    }

    /// A room this account knows, by id, alias or name.
    pub async fn room(&self, wanted: &str) -> Result<Room, Failure> {
        if let Ok(id) = RoomId::parse(wanted) {
            return self.client.get_room(&id).ok_or_else(|| not_here(wanted));
        }
        let rooms = self.client.rooms();
        if wanted.starts_with('#') {
            let here = rooms.iter().find(|room| {
                room.canonical_alias().is_some_and(|alias| alias == wanted)
                    || room.alt_aliases().iter().any(|alias| *alias == wanted)
            });
            if let Some(room) = here {
                return Ok(room.clone());
            }
            let id = self.resolve(wanted).await?;
            return self.client.get_room(&id).ok_or_else(|| not_here(wanted));
        }
        let mut named = Vec::new();
        for room in rooms {
            if name_of(&room).await == wanted {
                named.push(room);
            }
        }
        match named.len() {
            1 => named.pop().ok_or_else(|| not_here(wanted)),
            0 => Err(not_here(wanted)),
            several => {
                Err(Failure::Usage(format!("{several} rooms are called {wanted}; use the room's id or address")))
            }
        }
    }

    /// The room an address leads to.
    pub async fn resolve(&self, wanted: &str) -> Result<OwnedRoomId, Failure> {
        self.needs_server()?;
        let parsed = RoomOrAliasId::parse(wanted).map_err(|_| no_room_address(wanted))?;
        match <&matrix_sdk::ruma::RoomAliasId>::try_from(&*parsed) {
            Ok(alias) => Ok(self.client.resolve_room_alias(alias).await?.room_id),
            Err(_) => RoomId::parse(wanted).map_err(|_| no_room_address(wanted)),
        }
    }

    /// Before the process ends: new keys go to the backup, if there is one.
    pub async fn finish(&self) {
        if self.offline {
            return;
        }
        let backups = self.client.encryption().backups();
        if backups.are_enabled().await {
            // A backup that fails now is tried again next time; the command has done its work.
            let _ = tokio::time::timeout(BACKUP_PATIENCE, backups.wait_for_steady_state()).await;
        }
    }
}

fn not_here(wanted: &str) -> Failure {
    Failure::NotFound(format!("{wanted} is no room this account knows; `rooms` lists them, `join` joins one"))
}

/// What an address of a room looks like.
pub fn no_room_address(wanted: &str) -> Failure {
    Failure::Usage(format!("{wanted} is no address of a room; it looks like #name:server or !id:server"))
}

/// What a room is called.
pub async fn name_of(room: &Room) -> String {
    match room.cached_display_name() {
        Some(name) => name.to_string(),
        None => room.display_name().await.map_or_else(|_| room.room_id().to_string(), |name| name.to_string()),
    }
}

/// What this device asks of `/sync`: members as they are needed.
pub fn settings(patience: Duration) -> SyncSettings {
    let mut timeline = RoomEventFilter::default();
    timeline.limit = Some(TIMELINE_LIMIT.into());
    timeline.lazy_load_options =
        matrix_sdk::ruma::api::client::filter::LazyLoadOptions::Enabled { include_redundant_members: false };
    let mut state = RoomEventFilter::default();
    state.lazy_load_options =
        matrix_sdk::ruma::api::client::filter::LazyLoadOptions::Enabled { include_redundant_members: false };
    let mut rooms = RoomFilter::default();
    rooms.timeline = timeline;
    rooms.state = state;
    let mut filter = FilterDefinition::default();
    filter.room = rooms;
    let presence = if patience.is_zero() { PresenceState::Offline } else { PresenceState::Online };
    SyncSettings::new().timeout(patience).filter(Filter::FilterDefinition(filter)).set_presence(presence)
}

/// A client over a store on disk, logged in to nothing yet.
pub async fn build(account: &Account, store: &Path, opening: Opening) -> Result<Client, Failure> {
    let config = SqliteStoreConfig::new(store).key(Some(&account.key()?));
    let client = Client::builder()
        .homeserver_url(&account.homeserver)
        .sqlite_store_with_config_and_cache_path(config, None::<&Path>)
        .cross_process_store_config(CrossProcessLockConfig::SingleProcess)
        .with_encryption_settings(EncryptionSettings {
            auto_enable_cross_signing: false,
            backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
            auto_enable_backups: false,
        })
        .with_room_key_recipient_strategy(match account.sharing {
            Sharing::All => CollectStrategy::AllDevices,
            Sharing::Signed => CollectStrategy::IdentityBasedStrategy,
            Sharing::Verified => CollectStrategy::OnlyTrustedDevices,
        })
        .with_enable_share_history_on_invite(opening.share_history)
        .with_threading_support(ThreadingSupport::Enabled { with_subscriptions: false })
        .request_config(RequestConfig::new().max_retry_time(opening.patience).timeout(Duration::from_secs(30)))
        .user_agent(concat!("koine-chat/", env!("CARGO_PKG_VERSION")))
        .build()
        .await?;
    Ok(client)
}

/// A store that cannot be opened: what happened, and the way out.
fn explain(failure: Failure, label: &str, store: &Path) -> Failure {
    match failure {
        Failure::Store(reason) => Failure::Store(format!(
            "the local store {} cannot be opened: {reason}. Nothing was changed. `koine-chat repair --account {label}` \
             sets the damaged part aside and fetches it anew; if the keys themselves are damaged it says so, and logging \
             in again with the recovery key brings the messages back",
            store.display()
        )),
        other => other,
    }
}
