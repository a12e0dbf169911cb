//! Several homeservers in one process, on a pretend clock and a pretend network. For tests only.
//!
//! [`simulate`] takes a seed and lets up to eight servers share a room in which people act at random while requests are
//! late, lost, told twice and out of order, while the network falls apart and servers crash. Then everything heals,
//! and all servers must agree: on the room's state, on the events of its history, on the state after each of them, and
//! each with itself. A seed that fails is a bug that can be looked at again.
//!
//! A few dozen seeds run with the tests; a thousand, others each night, by `.ci/nightly`.
//!
//! What is real: rooms, accounts and federation with all their tasks, down to the bytes of signed requests. What is
//! pretended: the clock ([`clock`], tokio's, which jumps to the next thing to happen), the network ([`network`], behind
//! `Peers`), chance ([`chance`]), and the disk, which is in memory but outlives a crash.
//!
//! A seed settles when who does what, what the network does to which request, every id and every time. It does not
//! settle the order of what the blocking threads hand back at one and the same pretend moment: of two runs with one seed,
//! one may find what another does not, though it rarely happens.

pub mod agreement;
pub mod chance;
pub mod clock;
pub mod deeds;
pub mod house;
pub mod network;
pub mod plan;
mod world;

pub use world::{Outcome, simulate};
