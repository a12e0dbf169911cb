//! Where passwords are hashed: on threads that may block, a few at a time, with a bounded queue.
//!
//! Each hash takes some 20 MiB and tens of milliseconds. Without a bound, a crowd at the login would take all memory;
//! on the threads of the runtime, it would hold up everybody else's messages.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use crate::{
    Secret,
    password::{PasswordConfig, PasswordRecord},
};

/// How many may be hashed at once, at most; fewer on smaller machines.
const AT_ONCE_MAX: usize = 4;
/// How many may wait for their turn.
const WAITING_MAX: usize = 256;

/// Too many people are logging in at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING_MAX} passwords are waiting to be checked already")]
pub struct Busy;

/// The only way to hash passwords or compare them.
pub(crate) struct Hasher {
    config: PasswordConfig,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Compared with when there is no such account, so that an answer takes as long as if there were. Made when first
    /// needed: a start should not wait for it.
    decoy: Arc<OnceLock<PasswordRecord>>,
}

impl Hasher {
    pub(crate) fn new(config: PasswordConfig) -> Self {
        let at_once = std::thread::available_parallelism().map_or(1, usize::from).min(AT_ONCE_MAX);
        Self { config, turns: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0), decoy: Arc::default() }
    }

    pub(crate) async fn hash(&self, password: Secret) -> Result<PasswordRecord, Busy> {
        let config = self.config;
        self.run(move || PasswordRecord::new(&password, config, &mut rand::rng())).await
    }

    /// Whether `password` is that of `record`; without a record it never is, but takes as long to find out.
    pub(crate) async fn matches(&self, record: Option<PasswordRecord>, password: Secret) -> Result<bool, Busy> {
        let is_real = record.is_some();
        let (decoy, config) = (self.decoy.clone(), self.config);
        let compare = move || match record {
            Some(record) => record.matches(&password),
            None => {
                decoy.get_or_init(|| PasswordRecord::new(&"decoy".into(), config, &mut rand::rng())).matches(&password)
            }
        };
        let matches = self.run(compare).await?;
        Ok(matches && is_real)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let _waiting = Waiting::enter(&self.waiting)?;
        let turn = self.turns.clone().acquire_owned().await.expect("the semaphore is never closed");
        let work = move || {
            // Held until the work is done, even if nobody waits for it any more.
            let _turn = turn;
            work()
        };
        Ok(tokio::task::spawn_blocking(work).await.expect("hashing does not panic and is not cancelled"))
    }
}

/// One place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, Busy> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let place = Self(count);
        if before >= WAITING_MAX { Err(Busy) } else { Ok(place) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::CHEAP;

    #[tokio::test]
    async fn an_account_that_is_not_there_matches_no_password() {
        let hasher = Hasher::new(CHEAP);
        assert_eq!(hasher.matches(None, "decoy".into()).await, Ok(false));
        let record = hasher.hash("right".into()).await.expect("not busy");
        assert_eq!(hasher.matches(Some(record.clone()), "right".into()).await, Ok(true));
        assert_eq!(hasher.matches(Some(record), "wrong".into()).await, Ok(false));
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let hasher = Hasher::new(CHEAP);
        let _places: Vec<_> = (0..WAITING_MAX).map(|_| Waiting::enter(&hasher.waiting).expect("free")).collect();
        assert_eq!(hasher.matches(None, "any".into()).await, Err(Busy));
    }
}
