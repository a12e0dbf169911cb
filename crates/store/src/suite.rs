//! What every engine has to pass, and an engine that fails on command.
//!
//! An engine's crate runs all checks against itself, each as a test of its own:
//!
//! ```ignore
//! fn subject() -> Subject { /* a fresh, empty engine */ }
//! koine_store::engine_suite!(subject);
//! ```
//!
//! The checks panic when an engine is wrong. They are always compiled, as nothing but this crate's own code is used:
//! behind a feature, every crate above would be built once with it and once without.

mod archives;
mod contract;
mod fault;
mod model;
mod shards;

use std::{any::Any, sync::Arc};

pub use self::{archives::*, contract::*, fault::*, model::*, shards::*};
use crate::engine::Engine;

/// A fresh, empty engine, and what has to live as long as it (a temporary folder).
pub struct Subject {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Dropped after the engine.
    pub keep: Box<dyn Any + Send>,
}

impl Subject {
    /// An engine that needs nothing else.
    pub fn new(engine: impl Engine) -> Self {
        Self { engine: Arc::new(engine), keep: Box::new(()) }
    }
}

/// Makes a test of every check of the suite. `$subject` names a function that returns a [`Subject`].
#[macro_export]
macro_rules! engine_suite {
    ($subject:path) => {
        $crate::engine_suite! { @each $subject;
            an_empty_engine_holds_nothing
            what_was_put_is_found
            the_last_word_about_a_row_counts
            rows_come_in_the_order_of_their_bytes
            scans_keep_within_their_bounds
            spaces_do_not_see_each_other
            many_rows_are_found_in_the_order_asked_for
            snapshots_stand_still
            scans_outlive_their_snapshot
            a_batch_is_seen_whole_or_not_at_all
            random_work_agrees_with_a_model
            commands_commit_in_the_order_of_their_submission
            waiting_commands_share_one_sync
            groups_are_bounded
            nothing_is_acknowledged_or_seen_before_it_is_durable
            commands_see_what_earlier_commands_of_their_group_wrote
            scans_inside_a_command_see_its_own_writes
            callbacks_run_in_order_before_anybody_is_told
            a_panicking_command_leaves_nothing_and_harms_nobody
            commands_that_write_too_much_are_refused_alone
            a_refused_commit_leaves_no_trace_and_the_next_one_succeeds
            a_broken_engine_is_fatal_and_still_readable
            an_engine_that_hangs_is_given_up
            the_log_is_read_from_any_position
            the_log_is_trimmed_behind_its_slowest_reader
            a_reopened_shard_goes_on_where_it_was
            a_full_queue_refuses_and_waiting_for_room_works
            closing_commits_what_is_queued
            commands_need_no_runtime_and_futures_resolve_in_one
            an_archive_restores_every_row_into_an_empty_engine
            a_damaged_archive_is_refused_and_restores_nothing
            an_unfinished_restore_is_not_taken_for_a_store
            data_of_a_newer_layout_is_refused
        }
    };
    (@each $subject:path; $($check:ident)+) => {$(
        #[test]
        fn $check() {
            $crate::suite::$check(&$subject());
        }
    )+};
}
