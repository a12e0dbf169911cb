//! A few dozen worlds, and that a seed settles what happens in one.

use koine_testkit::{Outcome, plan::Plan, simulate};
use ruma_common::RoomVersionId;

fn agrees(seed: u64, version: Option<RoomVersionId>) -> Outcome {
    let outcome = simulate(Plan::new(seed, version));
    assert!(outcome.failures.is_empty(), "seed {seed}, {}:\n{}", outcome.what, outcome.failures.join("\n"));
    outcome
}

#[test]
fn servers_agree_after_every_storm() {
    for seed in 0..12 {
        agrees(seed, None);
    }
}

/// Each stands for something that was mended.
#[test]
fn servers_agree_where_they_once_did_not() {
    for seed in [21, 30, 34, 40, 243, 265, 282, 293, 367, 386, 653, 680, 794] {
        agrees(seed, None);
    }
}

#[test]
fn servers_agree_in_every_room_version() {
    for (seed, version) in (100..).zip(koine_graph::ROOM_VERSIONS) {
        agrees(seed, Some(version));
    }
}

#[test]
fn a_seed_settles_what_happens() {
    assert_eq!(agrees(7, None).fingerprint(), agrees(7, None).fingerprint());
}
