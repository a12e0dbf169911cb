//! Requests on their way: a device hears the answer to its own before its sync tells what came of it.
//!
//! [CS-API §local-echo] A client shows what it sends at once and has to know its event again when it comes back; the
//! answer gives the id to know it by. Where the event comes first, some clients take it for another one (matrix-js-sdk
//! ends with an exception in a thread); where a room is joined before the join is answered, matrix-rust-sdk forgets that it
//! was invited to a conversation of two. So the answer to a sync waits for what its own device is sending,
//! joining, leaving or making just then, which it may have seen done. Others, and other devices, wait for nobody, and neither does
//! a first sync, which a client begins with.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use ruma_common::{OwnedDeviceId, OwnedUserId};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::User;

/// Longest time a sync waits for its own device's requests: some commits on a busy machine.
const PATIENCE: Duration = Duration::from_millis(500);
/// Devices are spread over so many locks.
const SHELVES: usize = 64;

type Device = (OwnedUserId, OwnedDeviceId);

/// Those of all devices. Holds nothing for long of a device that asks for nothing.
pub struct OwnRequests {
    shelves: [Mutex<HashMap<Device, watch::Sender<Count>>>; SHELVES],
    chance: RandomState,
}

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub enum About {
    /// An event in a room.
    Event,
    /// Coming into a room, going, or making one.
    Room,
}

impl About {
    /// How long an answer that has just been given has to arrive and be read, before the sync's follows it. For rooms, some turns of a
    /// client that shares a busy machine: nobody notices that.
    const fn head_start(self) -> Duration {
        Duration::from_millis(match self {
            Self::Event => 10,
            Self::Room => 25,
        })
    }
}

/// How many requests of a device began and ended since it is held, and when the answers of all that ended are read.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    begun: u64,
    ended: u64,
    read: Option<Instant>,
}

impl Count {
    /// None is under way, and the last answer was read.
    fn is_over(&self) -> bool {
        self.ended == self.begun && self.read.is_none_or(|read| read <= Instant::now())
    }
}

/// One request; to be dropped when its answer is there.
pub struct OwnRequest<'a> {
    all: &'a OwnRequests,
    device: Device,
    about: About,
}

impl Default for OwnRequests {
    fn default() -> Self {
        Self { shelves: std::array::from_fn(|_| Mutex::default()), chance: RandomState::new() }
    }
}

impl OwnRequests {
    /// A request of this device begins.
    pub fn begin(&self, who: &User, about: About) -> OwnRequest<'_> {
        self.begin_on((who.user_id.clone(), who.device_id.clone()), about)
    }

    fn begin_on(&self, device: Device, about: About) -> OwnRequest<'_> {
        let mut shelf = self.shelf(&device).lock();
        shelf.retain(|_, count| !count.borrow().is_over());
        shelf.entry(device.clone()).or_default().send_modify(|count| count.begun += 1);
        drop(shelf);
        OwnRequest { all: self, device, about }
    }

    /// Waits until as many requests of this device have ended as had begun, for a moment at most.
    pub async fn answered(&self, who: &User) {
        self.answered_on(&(who.user_id.clone(), who.device_id.clone())).await;
    }

    async fn answered_on(&self, device: &Device) {
        let Some(mut count) = self.shelf(device).lock().get(device).map(watch::Sender::subscribe) else { return };
        let begun = count.borrow().begun;
        // Both errors are fine: time is up, or nothing is held of them any more.
        let _ = timeout(PATIENCE, count.wait_for(|count| count.ended >= begun)).await;
        let read = count.borrow().read;
        if let Some(read) = read {
            sleep_until(read).await;
        }
    }

    fn shelf(&self, device: &Device) -> &Mutex<HashMap<Device, watch::Sender<Count>>> {
        let hash = self.chance.hash_one(device);
        &self.shelves[hash as usize % SHELVES]
    }
}

impl Drop for OwnRequest<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.all.shelf(&self.device).lock().get(&self.device) {
            let read = Some(Instant::now() + self.about.head_start());
            count.send_modify(|count| (count.ended, count.read) = (count.ended + 1, count.read.max(read)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        task::{Context, Waker},
    };

    use ruma_common::{device_id, user_id};

    use super::*;

    fn phone() -> Device {
        (user_id!("@alice:example.org").to_owned(), device_id!("PHONE").to_owned())
    }

    fn is_over(wait: Pin<&mut impl Future<Output = ()>>) -> bool {
        wait.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_waits_for_what_it_was_asking_and_not_for_what_it_asks_later() {
        let all = OwnRequests::default();
        let first = all.begin_on(phone(), About::Event);
        let device = phone();
        let mut wait = pin!(all.answered_on(&device));
        assert!(!is_over(wait.as_mut()));
        let _second = all.begin_on(phone(), About::Event);
        drop(first);
        let before = Instant::now();
        wait.await;
        assert!(before.elapsed() >= About::Event.head_start() && before.elapsed() < PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn other_devices_wait_for_nobody_and_nothing_stays_of_what_ended() {
        let all = OwnRequests::default();
        let sending = all.begin_on(phone(), About::Event);
        let desk = (phone().0, device_id!("DESK").to_owned());
        assert!(is_over(pin!(all.answered_on(&desk))));
        drop(sending);
        let before = Instant::now();
        all.answered_on(&phone()).await;
        assert_eq!(before.elapsed(), About::Event.head_start(), "its answer is to be read first");
        assert!(is_over(pin!(all.answered_on(&phone()))));
        // The next on that shelf clears it.
        let _sending = all.begin_on(phone(), About::Event);
        let held: usize = all.shelves.iter().map(|shelf| shelf.lock().len()).sum();
        assert_eq!((held, all.shelf(&phone()).lock()[&phone()].borrow().begun), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_long_is_not_waited_for() {
        let all = OwnRequests::default();
        let _sending = all.begin_on(phone(), About::Event);
        let before = Instant::now();
        all.answered_on(&phone()).await;
        assert_eq!(before.elapsed().as_millis(), PATIENCE.as_millis());
    }
}
