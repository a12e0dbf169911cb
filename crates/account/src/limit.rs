//! How often somebody may do something: a token bucket per class and per user or address.
//!
//! Pure: the time is passed in. [CS-API §rate-limiting] says how a refusal looks; which requests count is for the
//! protocols to say.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::Duration,
};

use parking_lot::Mutex;
use ruma_common::UserId;
use serde::{Deserialize, Serialize};

/// How many buckets are kept. A bucket that has filled up again is forgotten first.
const BUCKETS_MAX: usize = 65_536;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Attempts to log in.
    Login,
    /// New accounts, and questions whether a name is free.
    Registration,
    /// Events sent into rooms.
    Message,
}

/// Whose bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKey<'a> {
    /// An address. Of IPv6 the network (the first 64 bits) counts: one household has them all.
    Address(IpAddr),
    /// A user.
    User(&'a UserId),
}

/// A bucket's size and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// How many per second thereafter.
    pub per_second: f64,
}

/// The rates of all classes. `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitConfig {
    /// Attempts to log in, by address and by the account they aim at.
    pub login: Option<Rate>,
    /// New accounts, by address.
    pub registration: Option<Rate>,
    /// Events sent, by user.
    pub message: Option<Rate>,
}

/// Nothing left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many, the next may be in {retry_after:?}")]
pub struct LimitExceeded {
    /// After this the next one will be allowed.
    pub retry_after: Duration,
}

/// All buckets.
///
/// A bucket is kept as the one moment at which it will be full again (the generic cell rate algorithm), which is all
/// there is to know about it.
#[derive(Debug)]
pub struct Limits {
    config: LimitConfig,
    full_at: Mutex<HashMap<u64, Duration>>,
    hasher: RandomState,
}

impl Default for LimitConfig {
    /// Generous: a person never notices, a script that guesses passwords does.
    fn default() -> Self {
        Self {
            login: Some(Rate { burst: 30, per_second: 1.0 }),
            registration: Some(Rate { burst: 20, per_second: 0.2 }),
            message: Some(Rate { burst: 500, per_second: 50.0 }),
        }
    }
}

impl LimitConfig {
    /// No limits at all, as for tests and measurements.
    pub fn unlimited() -> Self {
        Self { login: None, registration: None, message: None }
    }

    fn rate(&self, class: Class) -> Option<Rate> {
        match class {
            Class::Login => self.login,
            Class::Registration => self.registration,
            Class::Message => self.message,
        }
    }
}

impl Limits {
    /// Full buckets everywhere.
    pub fn new(config: LimitConfig) -> Self {
        Self { config, full_at: Mutex::default(), hasher: RandomState::new() }
    }

    /// Takes one. `now` is the time since any fixed moment.
    pub fn take(&self, class: Class, key: LimitKey<'_>, now: Duration) -> Result<(), LimitExceeded> {
        let Some(rate) = self.config.rate(class) else { return Ok(()) };
        // A rate of nothing means never again; an hour at a time keeps the arithmetic finite.
        let interval = Duration::from_secs_f64((1.0 / rate.per_second).clamp(0.000_001, 3600.0));
        let capacity = interval * rate.burst.max(1);
        let bucket = self.bucket(class, key);

        let mut full_at = self.full_at.lock();
        if full_at.len() >= BUCKETS_MAX && !full_at.contains_key(&bucket) {
            make_room(&mut full_at, now);
        }
        let entry = full_at.entry(bucket).or_insert(now);
        let next = (*entry).max(now) + interval;
        match (next - now).checked_sub(capacity) {
            None | Some(Duration::ZERO) => {
                *entry = next;
                Ok(())
            }
            Some(retry_after) => Err(LimitExceeded { retry_after }),
        }
    }

    fn bucket(&self, class: Class, key: LimitKey<'_>) -> u64 {
        match key {
            LimitKey::Address(IpAddr::V4(address)) => self.hasher.hash_one((class, 4u8, address.octets())),
            LimitKey::Address(IpAddr::V6(address)) => {
                let network = address.octets().first_chunk::<8>().copied();
                self.hasher.hash_one((class, 6u8, network))
            }
            LimitKey::User(user_id) => self.hasher.hash_one((class, 0u8, user_id.as_str())),
        }
    }
}

fn make_room(full_at: &mut HashMap<u64, Duration>, now: Duration) {
    full_at.retain(|_, moment| *moment > now);
    if full_at.len() >= BUCKETS_MAX
        && let Some(any) = full_at.keys().next().copied()
    {
        full_at.remove(&any);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(burst: u32, per_second: f64) -> Limits {
        Limits::new(LimitConfig { login: Some(Rate { burst, per_second }), ..LimitConfig::unlimited() })
    }

    const HERE: LimitKey<'static> = LimitKey::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn after_the_burst_the_wait_is_exact() {
        let limits = limits(3, 2.0);
        let now = Duration::from_secs(100);
        for _ in 0..3 {
            assert_eq!(limits.take(Class::Login, HERE, now), Ok(()));
        }
        let refused = limits.take(Class::Login, HERE, now).expect_err("nothing left");
        assert_eq!(refused.retry_after, Duration::from_millis(500));
        assert!(limits.take(Class::Login, HERE, now + Duration::from_millis(499)).is_err());
        assert_eq!(limits.take(Class::Login, HERE, now + refused.retry_after), Ok(()));
    }

    #[test]
    fn classes_without_a_rate_are_unlimited() {
        let limits = limits(1, 1.0);
        for _ in 0..1000 {
            assert_eq!(limits.take(Class::Message, HERE, Duration::ZERO), Ok(()));
        }
    }

    #[test]
    fn the_buckets_are_bounded() {
        let limits = limits(1, 0.1);
        for number in 0..u32::try_from(BUCKETS_MAX).expect("fits") + 10 {
            let address = IpAddr::V4(number.into());
            assert_eq!(limits.take(Class::Login, LimitKey::Address(address), Duration::ZERO), Ok(()));
        }
        assert!(limits.full_at.lock().len() <= BUCKETS_MAX);
    }
}
