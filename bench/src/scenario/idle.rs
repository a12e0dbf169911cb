//! `idle`: the server rests. Its memory, and what CPU it uses all the same.
//!
//! In a comparison this comes first, before anything has been asked of the server: memory after start.

use std::time::Duration;

use crate::meter::{Line, Tally};
use crate::procfs;
use crate::world::World;

/// Longest rest; resting longer tells nothing more.
const REST_MAX: Duration = Duration::from_secs(5);

/// Waits, and looks. An operation is one second of rest.
pub async fn rest(world: &World) -> Line {
    let rest = world.sizes.duration().min(REST_MAX);
    let meter = world.meter("idle");
    tokio::time::sleep(rest).await;
    let resident = procfs::resident_mb(&world.pids);
    let line = meter.finish_with_ops(Tally::default(), rest.as_secs().max(1));
    match resident {
        Some(mb) => line.with("resident_mb", mb),
        None => line,
    }
}
