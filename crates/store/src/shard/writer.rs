//! The writer's thread: group after group.
//!
//! Order within a group: commands, one commit with one sync, callbacks, the new view, acknowledgements, `watch`. So a
//! view shows nothing whose callbacks have not run, and who is told "done" finds it in the next view, and is told
//! before the log's readers wake up: a client's send is answered before its sync tells of it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering::Relaxed,
    time::Instant,
};

use bytes::BytesMut;

use super::{Shared, commit::Reply, queue::Command};
use crate::{
    batch::Batch,
    engine::CommitFailure,
    error::{CommitError, EngineError},
    metrics::{add, add_time},
    txn::{Built, Group, Txn, words},
    view::View,
};

/// First size of the scratch space for keys and values.
const ARENA: usize = 64 * 1024;

/// Works until the queue is closed and empty.
pub(super) fn run(shared: &Shared) {
    let mut arena = BytesMut::with_capacity(ARENA);
    while let Some(first) = shared.queue.next() {
        arena = work(shared, first, arena);
    }
}

/// Works in the caller's thread until the queue is empty, unless somebody does that already: another thread, or this
/// one, when a callback submits something.
pub(super) fn work_here(shared: &Shared) {
    while shared.queue.len() > 0 {
        let Some(_working) = shared.working.try_lock() else { return };
        let mut arena = BytesMut::new();
        while let Some(first) = shared.queue.try_next() {
            arena = work(shared, first, arena);
        }
    }
}

/// One group, beginning with `first`.
fn work(shared: &Shared, first: Command, arena: BytesMut) -> BytesMut {
    let (group, mut waiting, scratch) = gather(shared, first, arena);
    shared.queue.drained();
    let position = group.position;
    let settled = settle(shared, group, &mut waiting);
    if settled.is_ok() {
        add(&shared.meter.commits, waiting.len() as u64);
    }
    for (built, reply) in waiting {
        match &settled {
            // Who dropped the commit does not want to know.
            Ok(()) => drop(reply.send(Ok(built.position))),
            Err(error) => fail(shared, reply, error.clone()),
        }
    }
    if settled.is_ok() {
        shared.grown.send_if_modified(|newest| std::mem::replace(newest, position) != position);
    }
    scratch
}

/// A command that worked, and whom to tell.
type Waiting = (Built, Reply);

/// Lets the waiting commands work, `first` at least. Those that fail are told at once.
fn gather(shared: &Shared, first: Command, arena: BytesMut) -> (Group, Vec<Waiting>, BytesMut) {
    let mut next = Some(first);
    shared.meter.queue_depth_max.fetch_max(shared.queue.len() as u64 + 1, Relaxed);
    let started = Instant::now();
    let view = shared.view.read().clone();
    let mut txn = Txn::new(view.snapshot().clone(), view.position(), view.trimmed(), arena);
    let mut waiting = Vec::new();
    while let Some(command) = next {
        match txn.run(command.build) {
            Ok(built) => waiting.push((built, command.reply)),
            Err(error) => fail(shared, command.reply, error),
        }
        let is_full = waiting.len() >= shared.config.group_commands || txn.bytes() >= shared.config.group_bytes;
        next = if is_full { None } else { shared.queue.try_next() };
    }
    add_time(&shared.meter.build_ns, started.elapsed());
    let (group, arena) = txn.finish();
    (group, waiting, arena)
}

/// Makes the group durable, runs its callbacks, and lets views show it. On an error nothing has changed.
fn settle(shared: &Shared, group: Group, waiting: &mut [Waiting]) -> Result<(), CommitError> {
    let Group { batch, position, oldest, entries } = group;
    let is_empty = batch.is_empty();
    if !is_empty {
        let bytes = batch.bytes() as u64;
        commit(shared, batch)?;
        add(&shared.meter.groups, 1);
        add(&shared.meter.bytes_written, bytes);
        add(&shared.meter.log_entries, entries);
        shared.meter.group_max.fetch_max(waiting.len() as u64, Relaxed);
    }
    let started = Instant::now();
    for (built, _) in waiting {
        for hook in built.hooks.drain(..) {
            let position = built.position;
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(position))) {
                tracing::error!(reason = words(panic.as_ref()), "a callback of a durable command panicked");
            }
        }
    }
    add_time(&shared.meter.hook_ns, started.elapsed());
    if !is_empty {
        let view = View::new(shared.engine.snapshot().into(), position, oldest);
        let _previous = std::mem::replace(&mut *shared.view.write(), view);
    }
    Ok(())
}

fn commit(shared: &Shared, batch: Batch) -> Result<(), CommitError> {
    let started = Instant::now();
    *shared.committing.lock() = Some(started);
    let outcome = catch_unwind(AssertUnwindSafe(|| shared.engine.commit(batch)));
    *shared.committing.lock() = None;
    add_time(&shared.meter.sync_ns, started.elapsed());
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(CommitFailure::Refused(reason))) => Err(CommitError::Refused(reason.into())),
        Ok(Err(CommitFailure::Broken(EngineError(reason)))) => Err(shared.give_up(reason)),
        Err(panic) => Err(shared.give_up(format!("the engine panicked: {}", words(panic.as_ref())).into())),
    }
}

pub(super) fn fail(shared: &Shared, reply: Reply, error: CommitError) {
    add(&shared.meter.failed, 1);
    if let CommitError::Panicked(reason) = &error {
        add(&shared.meter.panicked, 1);
        tracing::error!(%reason, "a command of the store panicked; nothing of it was kept");
    }
    // Who dropped the commit does not want to know.
    let _ = reply.send(Err(error));
}
