//! Whose key is whose, and since when. [SS-API §retrieving-server-keys]
//!
//! A key signs requests while its server publishes it and says how long that holds. It vouches for events made before
//! it ran out, for ever; room versions below 5 do not even ask when. What was learned is kept durably and told to
//! others (we are a notary, too). Fetching is joined: however many requests wait for one server's keys, it is asked
//! once.

mod fetch;
mod own;
mod query;
mod tables;

use std::{collections::HashMap, sync::Arc};

use koine_graph::PublicKey;
use koine_store::{DomainId, Shard};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};

use tables::{KEY, KeyRecord};

pub(crate) use own::get_server_keys;
pub(crate) use query::{get_query, post_query};

/// Keys kept in memory.
const KEYS_CACHED_MAX: usize = 50_000;
/// Most keys of one server's answer that are looked at.
pub const KEYS_PER_SERVER_MAX: usize = 64;
/// Longest time that a server's word about its keys is believed. [SS-API §publishing-keys]
pub const VALIDITY_MAX_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// How long a server that could not tell its keys is not asked again.
const FAILURE_REST_MS: u64 = 30_000;
/// How long a server is not asked for a key that it did not publish a moment ago.
const FRESH_MS: u64 = 10_000;
/// Servers of whose last fetch we know.
const FETCHES_KNOWN_MAX: usize = 20_000;

/// The keys of other servers.
pub struct Ring {
    shard: Shard,
    domain: DomainId,
    cache: Cache<(OwnedServerName, String), Known>,
    /// Held by who fetches a server's keys; others wait for it and then look again.
    fetching: Mutex<HashMap<OwnedServerName, Arc<tokio::sync::Mutex<()>>>>,
    /// When a server was last asked, and whether it answered.
    asked: Cache<OwnedServerName, (u64, bool)>,
}

#[derive(Clone)]
struct Known {
    key: PublicKey,
    valid_until: u64,
    expired: Option<u64>,
}

impl Ring {
    pub(crate) fn new(shard: Shard, domain: DomainId) -> Self {
        Self {
            shard,
            domain,
            cache: Cache::new(KEYS_CACHED_MAX),
            fetching: Mutex::new(HashMap::new()),
            asked: Cache::new(FETCHES_KNOWN_MAX),
        }
    }

    fn known(&self, server: &ServerName, key_id: &str) -> Option<Known> {
        let place = (server.to_owned(), key_id.to_owned());
        if let Some(known) = self.cache.get(&place) {
            return Some(known);
        }
        let record = match self.shard.get(&KEY, self.domain, &(server.as_str(), key_id)) {
            Ok(record) => record?,
            Err(error) => {
                tracing::error!(reason = %error, "the keys of other servers cannot be read");
                return None;
            }
        };
        let key = PublicKey::from_base64(&record.key).ok()?;
        let known = Known { key, valid_until: record.valid_until_ms, expired: record.expired_ms };
        self.cache.insert(place, known.clone());
        Some(known)
    }

    /// A key that may sign requests now.
    pub fn for_request(&self, server: &ServerName, key_id: &str, now: MilliSecondsSinceUnixEpoch) -> Option<PublicKey> {
        let known = self.known(server, key_id)?;
        let fits = known.expired.is_none() && known.valid_until >= u64::from(now.get());
        fits.then_some(known.key)
    }

    /// A key that may have signed an event of this time. `enforce`: the room version asks whether it was valid then.
    /// [RV5 §signing-key-validity-period]
    pub fn for_event(
        &self,
        server: &ServerName,
        key_id: &str,
        made: MilliSecondsSinceUnixEpoch,
        enforce: bool,
    ) -> Option<PublicKey> {
        let known = self.known(server, key_id)?;
        let valid_until = known.expired.map_or(known.valid_until, |expired| expired.min(known.valid_until));
        (!enforce || u64::from(made.get()) <= valid_until).then_some(known.key)
    }

    /// Keeps a key in memory. `record` is brought up to what is known of the key already.
    fn keep(&self, server: &ServerName, key_id: &str, record: &mut KeyRecord) {
        if let Ok(key) = PublicKey::from_base64(&record.key) {
            if let Some(known) = self.known(server, key_id).filter(|known| known.key == key) {
                match (known.expired, record.expired_ms) {
                    // Once given up, it stays so.
                    (Some(expired), None) => (record.expired_ms, record.valid_until_ms) = (Some(expired), expired),
                    (None, None) => record.valid_until_ms = record.valid_until_ms.max(known.valid_until),
                    _ => {}
                }
            }
            let known = Known { key, valid_until: record.valid_until_ms, expired: record.expired_ms };
            self.cache.insert((server.to_owned(), key_id.to_owned()), known);
        }
    }
}
