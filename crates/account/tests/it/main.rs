//! What accounts do as a whole, on an engine in memory.

mod account_data;
mod interaction;
mod keys;
mod profiles;
mod sessions;
mod users;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use koine_account::{AccountConfig, Accounts, LimitConfig, NewAccount, NewSession, PasswordConfig, Registration};
use koine_store::{DomainId, MemoryEngine, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, owned_server_name};

/// Accounts on a clock that only moves when told to.
struct World {
    accounts: Arc<Accounts>,
    shard: Shard,
    now_ms: Arc<AtomicU64>,
}

impl World {
    fn new(registration: Registration) -> Self {
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty engine opens");
        Self::over(shard, registration)
    }

    fn over(shard: Shard, registration: Registration) -> Self {
        let now_ms = Arc::new(AtomicU64::new(1_700_000_000_000));
        let config = AccountConfig {
            registration,
            limits: LimitConfig::unlimited(),
            passwords: PasswordConfig { argon2_memory_kib: 8, argon2_passes: 1, scram_iterations: 4096 },
            ..AccountConfig::default()
        };
        let hand = now_ms.clone();
        let clock = Arc::new(move || {
            let now = hand.load(Ordering::Relaxed);
            MilliSecondsSinceUnixEpoch(now.try_into().expect("not that late"))
        });
        let accounts = Accounts::new(shard.clone(), DomainId(1), owned_server_name!("example.org"), config, clock);
        Self { accounts, shard, now_ms }
    }

    fn pass_ms(&self, milliseconds: u64) {
        self.now_ms.fetch_add(milliseconds, Ordering::Relaxed);
    }

    async fn person(&self, name: &str) -> OwnedUserId {
        let wanted = NewAccount {
            name: Some(name.to_owned()),
            password: Some(format!("{name}'s secret").as_str().into()),
            ..NewAccount::default()
        };
        self.accounts.create(wanted).await.expect("a new name").0
    }

    async fn token(&self, user_id: &OwnedUserId, device_id: &str) -> String {
        let wanted = NewSession { device_id: Some(device_id.to_owned()), ..NewSession::default() };
        let credentials = self.accounts.start_session(user_id, wanted).await.expect("an account");
        credentials.access_token.expose().to_owned()
    }
}
