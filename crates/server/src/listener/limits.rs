//! How many connections there may be, altogether and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

/// The places of one listener.
#[derive(Clone)]
pub struct Places(Arc<Mutex<Taken>>);

struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    all_max: usize,
    by_address_max: usize,
}

/// One connection's place. Dropping it frees the place.
pub struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
}

impl Places {
    /// Places for so many connections, and so many from one address.
    pub fn new(all_max: usize, by_address_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Taken { all: 0, by_address: HashMap::new(), all_max, by_address_max })))
    }

    /// A place for a connection from `address`, if one is left.
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let address = owner(address);
        let mut taken = self.0.lock();
        if taken.all >= taken.all_max {
            return None;
        }
        let by_address_max = taken.by_address_max;
        let here = taken.by_address.entry(address).or_default();
        // Loopback is the reverse proxy, or a developer.
        if *here >= by_address_max && !address.is_loopback() {
            return None;
        }
        *here += 1;
        taken.all += 1;
        Some(Place { taken: self.0.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.all -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// Whom connections from an address are counted for. One household has a whole /64 of IPv6 addresses.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Places::new(10, 2);
        let kept: Vec<_> = (0..3).map(|_| places.take(address("192.0.2.1"))).collect();
        assert_eq!(kept.iter().filter(|place| place.is_some()).count(), 2);
        assert!(places.take(address("192.0.2.2")).is_some());
    }

    #[test]
    fn a_household_with_many_addresses_counts_once() {
        let places = Places::new(10, 1);
        let _first = places.take(address("2001:db8::1"));
        assert!(places.take(address("2001:db8::2")).is_none());
        assert!(places.take(address("2001:db8:0:1::2")).is_some());
    }

    #[test]
    fn a_place_is_free_again_once_its_connection_is_gone() {
        let places = Places::new(1, 1);
        let first = places.take(address("192.0.2.1"));
        assert!(places.take(address("192.0.2.2")).is_none());
        drop(first);
        assert!(places.take(address("192.0.2.2")).is_some());
    }

    #[test]
    fn loopback_is_bound_by_the_total_alone() {
        let places = Places::new(5, 1);
        let kept: Vec<_> = (0..7).filter_map(|_| places.take(address("127.0.0.1"))).collect();
        assert_eq!(kept.len(), 5);
    }
}
