//! How much comes in how fast: mails by address, network and recipient, and bytes that are in memory at once.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use ruma_common::UserId;

use super::{InConfig, reply::Refusal};

/// Counters that are kept; those that are at rest go first.
const COUNTERS_MAX: usize = 65_536;
const HOUR: Duration = Duration::from_secs(3600);

/// Who may come in how often, and how much is on its way in.
pub(crate) struct Gate {
    rest_at: Mutex<HashMap<u64, Duration>>,
    hasher: RandomState,
    bytes: AtomicUsize,
    bytes_max: usize,
    per_address: u32,
    per_network: u32,
    per_account: u32,
    strangers: u32,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Hash)]
enum Counted<'a> {
    Address(IpAddr),
    Network(IpAddr),
    Account(&'a UserId),
    Strangers(&'a UserId),
}

impl Gate {
    pub(crate) fn new(config: &InConfig) -> Self {
        Self {
            rest_at: Mutex::default(),
            hasher: RandomState::new(),
            bytes: AtomicUsize::new(0),
            bytes_max: config.waiting_bytes_max,
            per_address: config.per_address_hour,
            per_network: config.per_network_hour,
            per_account: config.per_account_hour,
            strangers: config.strangers_hour,
        }
    }

    /// A mail from an address. `now` is the time since any fixed moment.
    pub(super) fn mail_from(&self, address: IpAddr, now: Duration) -> Result<(), Refusal> {
        let address = address.to_canonical();
        self.take(Counted::Network(cut(address, 24, 48)), self.per_network, now)?;
        self.take(Counted::Address(cut(address, 32, 64)), self.per_address, now)
    }

    /// A mail for an account.
    pub(super) fn mail_for(&self, account: &UserId, now: Duration) -> Result<(), Refusal> {
        self.take(Counted::Account(account), self.per_account, now)
    }

    /// A stranger who asks an account into a conversation.
    pub(super) fn stranger_for(&self, account: &UserId, now: Duration) -> Result<(), Refusal> {
        self.take(Counted::Strangers(account), self.strangers, now).map_err(|_| Refusal::TooManyStrangers)
    }

    /// Takes one of `per_hour`, all of which may come at once.
    fn take(&self, counted: Counted<'_>, per_hour: u32, now: Duration) -> Result<(), Refusal> {
        let interval = HOUR / per_hour.max(1);
        let key = self.hasher.hash_one(counted);
        let mut rest_at = self.rest_at.lock();
        if rest_at.len() >= COUNTERS_MAX && !rest_at.contains_key(&key) {
            rest_at.retain(|_, rest| *rest > now);
            if rest_at.len() >= COUNTERS_MAX {
                // A flood from everywhere: whoever is not counted yet waits.
                return Err(Refusal::TooMany);
            }
        }
        let rest = rest_at.entry(key).or_insert(now);
        let next = (*rest).max(now) + interval;
        if next - now > HOUR {
            return Err(Refusal::TooMany);
        }
        *rest = next;
        Ok(())
    }

    /// Whether so many bytes more may be in memory; [`release`](Self::release) gives them back.
    pub(super) fn hold(&self, bytes: usize) -> bool {
        let fits = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.bytes_max;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    pub(super) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The network of an address: so many of its first bits.
fn cut(address: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & (u32::MAX << (32 - v4))).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << (128 - v6))).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_sends_too_much_waits_and_others_do_not() {
        let gate = Gate::new(&InConfig { per_address_hour: 3, per_network_hour: 100, ..InConfig::default() });
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let now = Duration::from_secs(10);
        assert!((0..3).all(|_| gate.mail_from(one, now).is_ok()));
        assert_eq!(gate.mail_from(one, now), Err(Refusal::TooMany));
        assert!(gate.mail_from(other, now).is_ok());
        assert!(gate.mail_from(one, now + HOUR / 3).is_ok());
    }

    #[test]
    fn a_network_is_counted_beside_its_addresses() {
        let gate = Gate::new(&InConfig { per_address_hour: 100, per_network_hour: 4, ..InConfig::default() });
        let address = |last: u32| IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(last) << 64).into());
        let taken = (0..10).filter(|last| gate.mail_from(address(*last), Duration::ZERO).is_ok()).count();
        assert_eq!(taken, 4);
    }

    #[test]
    fn what_is_in_memory_is_bounded() {
        let gate = Gate::new(&InConfig { waiting_bytes_max: 10, ..InConfig::default() });
        assert!(gate.hold(6) && !gate.hold(6) && gate.hold(4));
        gate.release(6);
        assert!(gate.hold(6));
    }
}
