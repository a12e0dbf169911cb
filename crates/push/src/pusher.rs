//! Pushers: where an application wants to be told, set by the device that it runs on and gone with it.
//!
//! [CS-API §post_matrixclientv3pushersset]

use std::{collections::HashMap, sync::Arc};

use koine_account::{Accounts, StoreUnavailable};
use koine_net::url::Url;
use koine_store::{CommitError, Direction, DomainId, KeyRange, Shard, StoreError};
use parking_lot::{Mutex, RwLock};
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::tables::{PUSHER, PUSHER_AT, PusherKey, PusherRecord};

/// Pushers of one account.
pub const PUSHERS_MAX: usize = 100;
/// Longest application id, in characters. [CS-API §post_matrixclientv3pushersset]
pub const APP_ID_CHARS_MAX: usize = 64;
/// Longest push key, in bytes. [CS-API §post_matrixclientv3pushersset]
pub const PUSHKEY_BYTES_MAX: usize = 512;
/// Most bytes of the data of a pusher, and of each of its names.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// What an application says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Pusher {
    /// The application.
    pub app_id: String,
    /// What tells this installation of it from others; a token of Apple or Google, for instance.
    pub pushkey: String,
    /// The application's name.
    pub app_display_name: String,
    /// The device's name.
    pub device_display_name: String,
    /// Which set of rules the device follows.
    pub profile_tag: Option<String>,
    /// The language for notifications.
    pub lang: String,
    /// Where to tell it, and whatever the application wants to find in notifications.
    pub data: Map<String, Value>,
    /// The device that set it.
    pub device_id: OwnedDeviceId,
    /// When it was set, in milliseconds since 1970.
    pub created_ms: u64,
}

/// Why a pusher was not set.
#[derive(Debug, Error)]
pub enum SetPusherError {
    /// Something about it is not as it should be.
    #[error("{0}")]
    Invalid(&'static str),
    /// The account has [`PUSHERS_MAX`].
    #[error("an account has at most {PUSHERS_MAX} pushers")]
    TooMany,
    /// The store cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Pusher {
    /// The gateway. `None` if there is none that could be.
    pub(crate) fn url(&self) -> Option<Url> {
        let url = Url::parse(self.data.get("url")?.as_str()?).ok()?;
        (matches!(url.scheme(), "https" | "http") && url.has_host()).then_some(url)
    }

    /// Whether the gateway gets ids only. [CS-API §post_matrixclientv3pushersset] `format`
    pub(crate) fn is_event_id_only(&self) -> bool {
        self.data.get("format").is_some_and(|format| format == "event_id_only")
    }

    fn check(&self) -> Result<(), SetPusherError> {
        let invalid = |what| Err(SetPusherError::Invalid(what));
        if self.app_id.is_empty() || self.app_id.chars().count() > APP_ID_CHARS_MAX {
            return invalid("app_id has at most 64 characters, and at least one");
        }
        if self.pushkey.is_empty() || self.pushkey.len() > PUSHKEY_BYTES_MAX {
            return invalid("pushkey has at most 512 bytes, and at least one");
        }
        let Some(url) = self.url() else { return invalid("data.url is the address of a push gateway") };
        // [CS-API §post_matrixclientv3pushersset] `https` too, which a gateway inside one's own network may not have.
        if url.path() != "/_matrix/push/v1/notify" {
            return invalid("the path of data.url is /_matrix/push/v1/notify");
        }
        let texts = [&self.app_display_name, &self.device_display_name, &self.lang];
        let tag = self.profile_tag.as_deref().unwrap_or_default();
        let data = Value::Object(self.data.clone()).to_string();
        if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX)
            || tag.len() > TEXT_BYTES_MAX
            || data.len() > TEXT_BYTES_MAX
        {
            return invalid("names and data have at most 8 KiB each");
        }
        Ok(())
    }
}

/// Everybody's pushers, as they are on disk and in memory.
pub(crate) struct Book {
    shard: Shard,
    domain: DomainId,
    accounts: Arc<Accounts>,
    /// Everybody who has some. Asked for every event, so in memory.
    known: Arc<RwLock<Known>>,
}

type Known = HashMap<OwnedUserId, Vec<Set>>;

/// A pusher, and where the log stood when it was set: it is told of nothing from before.
#[derive(Clone)]
struct Set {
    pusher: Arc<Pusher>,
    at: u64,
}

impl Book {
    pub(crate) fn open(shard: Shard, domain: DomainId, accounts: Arc<Accounts>) -> Result<Self, StoreError> {
        let mut known = Known::new();
        for row in shard.view().scan(&PUSHER, domain, .., Direction::Forward) {
            let ((localpart, app_id, pushkey), record) = row?;
            let user = UserId::parse(format!("@{localpart}:{}", accounts.server_name()));
            let Ok(user) = user else { continue };
            let pusher = Arc::new(pusher(app_id, pushkey, record));
            known.entry(user).or_default().push(Set { pusher, at: 0 });
        }
        Ok(Self { shard, domain, accounts, known: Arc::new(RwLock::new(known)) })
    }

    /// Whose device is still there. Those of others go as soon as that is noticed.
    pub(crate) fn of(&self, user: &UserId) -> Result<Vec<Arc<Pusher>>, StoreUnavailable> {
        self.set_before(user, u64::MAX)
    }

    /// The same, without those that were set after `position`.
    pub(crate) fn set_before(&self, user: &UserId, position: u64) -> Result<Vec<Arc<Pusher>>, StoreUnavailable> {
        let all = self.known.read().get(user).cloned().unwrap_or_default();
        let mut present = Vec::with_capacity(all.len());
        for Set { pusher, .. } in all.into_iter().filter(|set| set.at < position) {
            if self.accounts.device(user, &pusher.device_id)?.is_some() {
                present.push(pusher);
            }
        }
        Ok(present)
    }

    pub(crate) fn one(&self, user: &UserId, app_id: &str, pushkey: &str) -> Option<Arc<Pusher>> {
        let known = self.known.read();
        let all = known.get(user)?.iter().map(|set| &set.pusher);
        all.into_iter().find(|pusher| pusher.app_id == app_id && pusher.pushkey == pushkey).cloned()
    }

    pub(crate) fn has_any(&self, user: &UserId) -> bool {
        self.known.read().contains_key(user)
    }

    /// Of the people `all` names and `is_one` knows, those who have pushers; asks the smaller side.
    pub(crate) fn owners(
        &self,
        count: u64,
        all: impl FnOnce() -> Vec<OwnedUserId>,
        is_one: impl Fn(&UserId) -> bool,
    ) -> Vec<OwnedUserId> {
        let known = self.known.read();
        if known.is_empty() {
            Vec::new()
        } else if (known.len() as u64) < count {
            known.keys().filter(|user| is_one(user)).cloned().collect()
        } else {
            all().into_iter().filter(|user| known.contains_key(user)).collect()
        }
    }

    /// Sets a pusher. Unless `append`, it is taken from whoever else has it.
    pub(crate) async fn set(&self, user: &UserId, pusher: Pusher, append: bool) -> Result<(), SetPusherError> {
        pusher.check()?;
        let (domain, localpart) = (self.domain, user.localpart().to_owned());
        let server_name = self.accounts.server_name().to_owned();
        let (known, owner) = (self.known.clone(), user.to_owned());
        let refused = Arc::new(Mutex::new(false));
        let is_refused = refused.clone();
        let commit = self.shard.submit(move |txn| {
            let key = (localpart, pusher.app_id.clone(), pusher.pushkey.clone());
            let own = txn.scan(&PUSHER, domain, KeyRange::prefix(&(&*key.0,)))?;
            if own.len() >= PUSHERS_MAX && !own.iter().any(|(other, _)| *other == key) {
                *is_refused.lock() = true;
                return Ok(());
            }
            let mut robbed = Vec::new();
            if !append {
                for ((_, _, other), ()) in txn.scan(&PUSHER_AT, domain, KeyRange::prefix(&(&*key.1, &*key.2)))? {
                    if other != key.0 {
                        txn.delete(&PUSHER, domain, &(&*other, &*key.1, &*key.2));
                        txn.delete(&PUSHER_AT, domain, &(&*key.1, &*key.2, &*other));
                        robbed.extend(UserId::parse(format!("@{other}:{server_name}")));
                    }
                }
            }
            txn.put(&PUSHER, domain, &key, &record(&pusher));
            txn.put(&PUSHER_AT, domain, &(&*key.1, &*key.2, &*key.0), &());
            txn.on_durable(move |at| {
                let mut known = known.write();
                for other in robbed {
                    remove(&mut known, &other, &key.1, &key.2);
                }
                remove(&mut known, &owner, &key.1, &key.2);
                known.entry(owner).or_default().push(Set { pusher: Arc::new(pusher), at: at.0 });
            });
            Ok(())
        });
        commit.await?;
        let refused = *refused.lock();
        if refused { Err(SetPusherError::TooMany) } else { Ok(()) }
    }

    /// Removes a pusher, if it is there.
    pub(crate) async fn delete(&self, user: &UserId, app_id: &str, pushkey: &str) -> Result<(), CommitError> {
        let (domain, known, user) = (self.domain, self.known.clone(), user.to_owned());
        let key: PusherKey = (user.localpart().to_owned(), app_id.to_owned(), pushkey.to_owned());
        let commit = self.shard.submit(move |txn| {
            txn.delete(&PUSHER, domain, &key);
            txn.delete(&PUSHER_AT, domain, &(&*key.1, &*key.2, &*key.0));
            txn.on_durable(move |_| remove(&mut known.write(), &user, &key.1, &key.2));
        });
        commit.await.map(|_| ())
    }

    /// The pushers of a device that is gone, if it is.
    pub(crate) fn orphans(&self, user: &UserId, device: &DeviceId) -> Result<Vec<Arc<Pusher>>, StoreUnavailable> {
        let known = self.known.read().get(user).cloned().unwrap_or_default();
        let of_device = known.into_iter().map(|set| set.pusher).filter(|pusher| pusher.device_id == device);
        let of_device: Vec<_> = of_device.collect();
        if of_device.is_empty() || self.accounts.device(user, device)?.is_some() {
            return Ok(Vec::new());
        }
        Ok(of_device)
    }
}

fn remove(known: &mut Known, user: &UserId, app_id: &str, pushkey: &str) {
    let Some(pushers) = known.get_mut(user) else { return };
    pushers.retain(|Set { pusher, .. }| pusher.app_id != app_id || pusher.pushkey != pushkey);
    if pushers.is_empty() {
        known.remove(user);
    }
}

fn record(pusher: &Pusher) -> PusherRecord {
    PusherRecord {
        app_display_name: pusher.app_display_name.clone(),
        device_display_name: pusher.device_display_name.clone(),
        profile_tag: pusher.profile_tag.clone(),
        lang: pusher.lang.clone(),
        data: Value::Object(pusher.data.clone()).to_string(),
        device_id: pusher.device_id.to_string(),
        created_ms: pusher.created_ms,
    }
}

fn pusher(app_id: String, pushkey: String, record: PusherRecord) -> Pusher {
    Pusher {
        app_id,
        pushkey,
        app_display_name: record.app_display_name,
        device_display_name: record.device_display_name,
        profile_tag: record.profile_tag,
        lang: record.lang,
        data: serde_json::from_str(&record.data).unwrap_or_default(),
        device_id: record.device_id.into(),
        created_ms: record.created_ms,
    }
}
