//! What is fetched from elsewhere: a few things at a time, and the same thing once, however many ask for it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Requests that may wait for one kind of thing from elsewhere.
pub const WAITING_MAX: usize = 1_024;
/// Of these, those for things of one server: whoever never answers leaves room for the others.
pub const WAITING_FOR_ONE_MAX: usize = 128;
/// Of the things fetched at the same time, those of one server.
const FETCHES_OF_ONE_MAX: usize = 8;

type UnderWay = Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>;

pub(crate) struct Queue {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    sources: Mutex<HashMap<String, Arc<Semaphore>>>,
    under_way: UnderWay,
}

/// The right to wait for something of one server, and to fetch it when its turn comes.
pub(crate) struct Waiting {
    of_source: Arc<Semaphore>,
    places: Arc<Semaphore>,
    _right: OwnedSemaphorePermit,
}

impl Waiting {
    /// Waits for a place to fetch.
    pub(crate) async fn place(&self) -> [OwnedSemaphorePermit; 2] {
        let of = async |places: &Arc<Semaphore>| {
            places.clone().acquire_owned().await.expect("nobody closes these semaphores")
        };
        [of(&self.of_source).await, of(&self.places).await]
    }
}

/// The one that fetches a thing; the others wait for its end and then find it.
pub(crate) struct Alone {
    key: String,
    under_way: UnderWay,
    _lock: OwnedMutexGuard<()>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock();
        // Ours and the map's: nobody else waits for it.
        if under_way.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) <= 2) {
            under_way.remove(&self.key);
        }
    }
}

impl Queue {
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(at_once)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            sources: Mutex::default(),
            under_way: UnderWay::default(),
        }
    }

    /// The right to wait for something of `source`, a server; `None` if too many do.
    pub(crate) fn enter(&self, source: &str) -> Option<Waiting> {
        let right = self.waiting.clone().try_acquire_owned().ok()?;
        let of_source = {
            let mut sources = self.sources.lock();
            // Whom nobody waits for any more: the map's is the only one.
            sources.retain(|_, of_source| Arc::strong_count(of_source) > 1);
            let of_source =
                sources.entry(source.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(FETCHES_OF_ONE_MAX)));
            if Arc::strong_count(of_source) > WAITING_FOR_ONE_MAX {
                return None;
            }
            of_source.clone()
        };
        Some(Waiting { of_source, places: self.places.clone(), _right: right })
    }

    /// Waits until nobody else fetches `key`.
    pub(crate) async fn alone(&self, key: String) -> Alone {
        let lock = self.under_way.lock().entry(key.clone()).or_default().clone();
        let lock = lock.lock_owned().await;
        Alone { key, under_way: self.under_way.clone(), _lock: lock }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_thing_is_fetched_by_one_and_then_forgotten() {
        let queue = Arc::new(Queue::new(1));
        let first = queue.alone("thing".to_owned()).await;
        let second = tokio::spawn({
            let queue = queue.clone();
            async move { queue.alone("thing".to_owned()).await }
        });
        drop(queue.alone("another".to_owned()).await);
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.expect("its turn comes"));
        assert!(queue.under_way.lock().is_empty());
    }

    #[tokio::test]
    async fn a_server_that_never_answers_leaves_places_for_others() {
        let queue = Queue::new(FETCHES_OF_ONE_MAX + 1);
        let slow: Vec<_> = (0..WAITING_FOR_ONE_MAX).map(|_| queue.enter("slow").expect("not too many")).collect();
        assert!(queue.enter("slow").is_none());
        let mut taken = Vec::new();
        for waiting in slow.iter().take(FETCHES_OF_ONE_MAX) {
            taken.push(waiting.place().await);
        }
        assert_eq!(slow[0].of_source.available_permits(), 0);
        let other = queue.enter("another").expect("its own share");
        drop(other.place().await);
        drop((taken, slow, other));
        drop(queue.enter("third"));
        assert_eq!(queue.sources.lock().len(), 1);
        assert_eq!(queue.places.available_permits(), FETCHES_OF_ONE_MAX + 1);
    }
}
