//! Simplified sliding sync [MSC4186]: the rooms that a client shows, and news of those alone.
//!
//! A client names windows into sorted lists of its rooms, and single rooms beside them; an answer tells what the
//! client does not know of these rooms yet. What it knows is remembered for each of its connections
//! (`connection.rs`); which rooms stand where in a list, for all connections of an account (`index.rs`). Like `/sync` this is a reader of the log: a
//! request asks its account's inbox which rooms changed, looks at those alone, and sleeps while there is nothing.
//!
//! Served are two forms: the one that clients send today, `unstable/org.matrix.simplified_msc3575/sync` (`request.rs`), and
//! the one that the proposal was merged with, `v4/sync` (`merged.rs`). Not built: the filter by name, which is
//! refused, and extensions other than the six of `extensions.rs`, which stay unanswered as unknown ones must.

mod connection;
mod extensions;
mod facts;
mod index;
mod indexes;
mod look;
mod merged;
mod post_sync;
mod request;
mod required;
mod room;

use crate::Endpoints;

pub(crate) use connection::Connections;
pub(crate) use facts::Facts;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<post_sync::SlidingSync, _, _>("matrix.sliding_sync", post_sync::sync);
    endpoints.add::<post_sync::MergedSlidingSync, _, _>("matrix.sliding_sync.v4", post_sync::sync_merged);
}
