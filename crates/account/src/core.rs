//! The accounts of a domain: what all operations share.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use koine_store::{DomainId, Shard, Txn};
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedUserId, ServerName, UserId};

use crate::{
    AccountConfig, Class, LimitExceeded, LimitKey, Limits, StoreUnavailable,
    hasher::Hasher,
    ignored::IgnoredUsers,
    interactive::InteractiveSessions,
    keys::{Flights, OtherServers},
    login_token::LoginTokens,
    names,
    people::People,
    presence::Presences,
    session::SessionCache,
};

/// How many people's lists of whom they ignore are remembered.
const IGNORED_MAX: usize = 16_384;

/// Says of which names somebody keeps that accounts be made with them.
type ReservedNames = Arc<dyn Fn(&UserId) -> bool + Send + Sync>;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> MilliSecondsSinceUnixEpoch + Send + Sync>;

/// The accounts of one domain.
pub struct Accounts {
    pub(crate) shard: Shard,
    pub(crate) domain: DomainId,
    pub(crate) server_name: OwnedServerName,
    pub(crate) config: AccountConfig,
    pub(crate) clock: Clock,
    pub(crate) hasher: Hasher,
    pub(crate) limits: Limits,
    /// For the limits, which want a time that never goes back.
    pub(crate) started: Instant,
    pub(crate) sessions: SessionCache,
    pub(crate) interactive: InteractiveSessions,
    pub(crate) ignored: Cache<String, Arc<IgnoredUsers>>,
    pub(crate) login_tokens: LoginTokens,
    pub(crate) people: People,
    pub(crate) presences: Presences,
    pub(crate) others: OnceLock<Arc<dyn OtherServers>>,
    pub(crate) flights: Flights,
    reserved: RwLock<Option<ReservedNames>>,
}

impl Accounts {
    /// The accounts kept in `shard` for this domain.
    pub fn new(
        shard: Shard,
        domain: DomainId,
        server_name: OwnedServerName,
        config: AccountConfig,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            hasher: Hasher::new(config.passwords),
            limits: Limits::new(config.limits.clone()),
            shard,
            domain,
            server_name,
            config,
            clock,
            started: Instant::now(),
            sessions: SessionCache::default(),
            interactive: InteractiveSessions::default(),
            ignored: Cache::new(IGNORED_MAX),
            login_tokens: LoginTokens::default(),
            people: People::default(),
            presences: Presences::default(),
            others: OnceLock::new(),
            flights: Flights::default(),
            reserved: RwLock::default(),
        })
    }

    /// The domain's name, which all user ids here end with.
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The settings these accounts were opened with.
    pub fn config(&self) -> &AccountConfig {
        &self.config
    }

    /// From now on nobody but a program that the server trusts makes accounts with names that `reserved` says yes to.
    pub fn reserve_names(&self, reserved: impl Fn(&UserId) -> bool + Send + Sync + 'static) {
        *self.reserved.write() = Some(Arc::new(reserved));
    }

    pub(crate) fn is_reserved(&self, user_id: &UserId) -> bool {
        self.reserved.read().as_ref().is_some_and(|reserved| reserved(user_id))
    }

    /// Whether this user id would be one of ours.
    pub fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == &*self.server_name
    }

    /// Takes one from what `key` may still do of this class.
    pub fn permit(&self, class: Class, key: LimitKey<'_>) -> Result<(), LimitExceeded> {
        self.limits.take(class, key, self.uptime())
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        (self.clock)().get().into()
    }

    /// The key of a user in our tables; nothing for those of other servers.
    pub(crate) fn key<'a>(&self, user_id: &'a UserId) -> Option<&'a str> {
        self.is_local(user_id).then(|| user_id.localpart())
    }

    pub(crate) fn user_id(&self, localpart: &str) -> Result<OwnedUserId, StoreUnavailable> {
        names::user_id(localpart, &self.server_name)
            .ok_or_else(|| StoreUnavailable::damaged("a local part that makes no user id"))
    }

    /// Runs `build` on the writer's thread and answers what it answered once that is durable.
    pub(crate) async fn change<R: Send + 'static>(
        &self,
        build: impl FnOnce(&mut Txn) -> R + Send + 'static,
    ) -> Result<R, StoreUnavailable> {
        let (told, answer) = tokio::sync::oneshot::channel();
        self.shard
            .submit(move |txn| {
                // Nobody may be waiting any more; the change is made all the same.
                let _ = told.send(build(txn));
            })
            .await?;
        answer.await.map_err(|_| StoreUnavailable::damaged("the writer dropped a change it had accepted"))
    }
}

/// Milliseconds since 1970 as a moment; what is too late to be one is 1970.
pub(crate) fn moment(milliseconds: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(milliseconds.try_into().unwrap_or_default())
}
