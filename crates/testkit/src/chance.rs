//! Chance that a seed settles.

use std::cell::RefCell;

use rand::{Rng as _, SeedableRng as _, distr::Alphanumeric, rngs::StdRng};
use sha2::{Digest as _, Sha256};

thread_local! {
    static NAMES: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Chance of its own for everything that has a name, so that one draw more here changes nothing elsewhere.
pub fn of(seed: u64, name: &str) -> StdRng {
    let hash = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(name);
    StdRng::from_seed(hash.finalize().into())
}

/// New names in this thread follow from `seed`.
pub fn begin(seed: u64) {
    NAMES.set(Some(of(seed, "names")));
}

/// A name that nothing has yet.
///
/// # Panics
/// Outside of a world.
pub fn opaque_id() -> String {
    NAMES.with_borrow_mut(|names| {
        let names = names.as_mut().expect("the world of this thread has begun");
        names.sample_iter(Alphanumeric).take(18).map(char::from).collect()
    })
}
