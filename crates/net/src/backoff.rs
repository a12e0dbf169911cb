//! Leaving servers alone that do not answer: longer with every failure, and not at all once they are back. Pure.
//!
//! One book for everybody: the sender of events, who fetches keys, who backfills. Whoever finds that a server is away
//! tells it here, so that the others do not find out by waiting. The book is in memory only: after a restart each
//! server is tried once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rand::Rng;
use ruma_common::{OwnedServerName, ServerName};

/// Most servers in the book. Past it, who may be tried soonest is forgotten.
pub const SERVERS_MAX: usize = 65_536;

/// How long to leave a server alone.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// After the first failure.
    pub min: Duration,
    /// At most, however many failures there were and whatever the server asks for.
    pub max: Duration,
}

/// Who failed, and until when they are left alone.
#[derive(Debug)]
pub struct Backoff {
    policy: Policy,
    servers: HashMap<OwnedServerName, Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    /// In a row.
    failures: u32,
    last: Instant,
    until: Instant,
}

impl Backoff {
    /// An empty book.
    pub fn new(policy: Policy) -> Self {
        Self { policy, servers: HashMap::new() }
    }

    /// When a server may be tried: `None` if at once.
    pub fn ready_at(&self, server: &ServerName, now: Instant) -> Option<Instant> {
        self.servers.get(server).map(|failing| failing.until).filter(|until| *until > now)
    }

    /// How many servers are in the book.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// A request that began at `began` failed. Requests that failed together count once: only one that began after the
    /// failure before it says anything new. `asked` is how long the server itself wants to be left alone
    /// (`Retry-After`). Returns when it may be tried again.
    pub fn failed(
        &mut self,
        server: &ServerName,
        (began, now): (Instant, Instant),
        asked: Option<Duration>,
        chance: &mut impl Rng,
    ) -> Instant {
        let before = self.servers.get(server).copied();
        let failures = match before {
            Some(before) if began < before.last => return before.until,
            Some(before) => before.failures.saturating_add(1),
            None => 1,
        };
        let asked = asked.unwrap_or_default().min(self.policy.max);
        let until = now + self.delay(failures, chance).max(asked);
        if before.is_none() {
            self.make_room();
        }
        self.servers.insert(server.to_owned(), Failing { failures, last: now, until });
        until
    }

    /// The server answered, or called us. Returns whether it was being left alone.
    pub fn recovered(&mut self, server: &ServerName, now: Instant) -> bool {
        self.servers.remove(server).is_some_and(|failing| failing.until > now)
    }

    /// Forgets servers that could have been tried for as long as the longest back-off, and were not.
    pub fn sweep(&mut self, now: Instant) {
        self.servers.retain(|_, failing| now < failing.until + self.policy.max);
    }

    /// Doubles with every failure, and is drawn from the upper half of that, so that those who failed together do not
    /// come back together.
    fn delay(&self, failures: u32, chance: &mut impl Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.policy.min.saturating_mul(1 << doublings).min(self.policy.max);
        full.mul_f64(chance.random_range(0.5..=1.0))
    }

    fn make_room(&mut self) {
        if self.servers.len() < SERVERS_MAX {
            return;
        }
        let soonest = self.servers.iter().min_by_key(|(_, failing)| failing.until).map(|(server, _)| server.clone());
        if let Some(server) = soonest {
            self.servers.remove(&server);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};
    use ruma_common::server_name;

    use super::*;

    const POLICY: Policy = Policy { min: Duration::from_secs(1), max: Duration::from_secs(3600) };

    struct Book {
        backoff: Backoff,
        chance: StdRng,
        now: Instant,
    }

    impl Book {
        fn new() -> Self {
            Self { backoff: Backoff::new(POLICY), chance: StdRng::seed_from_u64(3), now: Instant::now() }
        }

        /// A request that began just now fails just now.
        fn fail(&mut self) -> Duration {
            self.fail_asking(None)
        }

        fn fail_asking(&mut self, asked: Option<Duration>) -> Duration {
            let at = (self.now, self.now);
            self.backoff.failed(server_name!("a.org"), at, asked, &mut self.chance) - self.now
        }

        fn ready(&self) -> bool {
            self.backoff.ready_at(server_name!("a.org"), self.now).is_none()
        }
    }

    #[test]
    fn a_server_is_left_alone_longer_with_every_failure_up_to_a_bound() {
        let mut book = Book::new();
        for doubling in 0..40_u32 {
            let delay = book.fail();
            let full = Duration::from_secs(1_u64 << doubling.min(20)).min(POLICY.max);
            assert!(delay >= full / 2 && delay <= full, "failure {doubling}: {delay:?}");
            assert!(!book.ready());
            book.now += delay;
            assert!(book.ready());
        }
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let mut book = Book::new();
        let began = book.now;
        book.now += Duration::from_secs(30);
        let server = server_name!("a.org");
        let first = book.backoff.failed(server, (began, book.now), None, &mut book.chance);
        for _ in 0..10 {
            book.now += Duration::from_millis(1);
            assert_eq!(book.backoff.failed(server, (began, book.now), None, &mut book.chance), first);
        }
    }

    #[test]
    fn a_server_that_is_back_begins_anew() {
        let mut book = Book::new();
        for _ in 0..10 {
            book.fail();
        }
        assert!(book.backoff.recovered(server_name!("a.org"), book.now));
        assert!(book.ready() && book.backoff.is_empty());
        assert!(!book.backoff.recovered(server_name!("a.org"), book.now), "it is told once");
        assert!(book.fail() <= POLICY.min);
    }

    #[test]
    fn what_a_server_asks_for_is_heeded_within_the_bound() {
        let minute = Duration::from_secs(60);
        assert_eq!(Book::new().fail_asking(Some(minute)), minute);
        assert_eq!(Book::new().fail_asking(Some(Duration::from_secs(u64::MAX))), POLICY.max);
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut book = Book::new();
        let delay = book.fail();
        book.now += delay + POLICY.max / 2;
        book.backoff.sweep(book.now);
        assert_eq!(book.backoff.len(), 1);
        book.now += POLICY.max;
        book.backoff.sweep(book.now);
        assert!(book.backoff.is_empty());
    }

    #[test]
    fn the_book_does_not_grow_without_bound() {
        let mut book = Book::new();
        for number in 0..SERVERS_MAX + 3 {
            let server = OwnedServerName::try_from(format!("s{number}.org")).expect("a server name");
            let now = book.now + Duration::from_secs(number as u64);
            book.backoff.failed(&server, (now, now), None, &mut book.chance);
        }
        assert_eq!(book.backoff.len(), SERVERS_MAX);
        assert!(!book.backoff.servers.contains_key(server_name!("s0.org")));
    }

    proptest! {
        #[test]
        fn no_number_of_failures_overflows(failures: u32, seed: u64) {
            let delay = Backoff::new(POLICY).delay(failures, &mut StdRng::seed_from_u64(seed));
            prop_assert!(delay >= POLICY.min / 2 && delay <= POLICY.max);
        }
    }
}
