//! What is fetched from elsewhere: a few things at a time, and the same thing once, however many ask for it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Requests that may wait for one kind of thing from elsewhere.
pub const WAITING_MAX: usize = 1_024;

type UnderWay = Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>;

pub(crate) struct Queue {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    under_way: UnderWay,
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
            under_way: UnderWay::default(),
        }
    }

    /// The right to wait; `None` if too many do.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }

    /// Waits until nobody else fetches `key`.
    pub(crate) async fn alone(&self, key: String) -> Alone {
        let lock = self.under_way.lock().entry(key.clone()).or_default().clone();
        let lock = lock.lock_owned().await;
        Alone { key, under_way: self.under_way.clone(), _lock: lock }
    }

    /// Waits for a place to fetch.
    pub(crate) async fn place(&self) -> OwnedSemaphorePermit {
        self.places.clone().acquire_owned().await.expect("nobody closes this semaphore")
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
}
