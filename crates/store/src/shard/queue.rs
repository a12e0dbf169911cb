//! The commands that wait for the writer.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::commit::Reply;
use crate::{error::CommitError, txn::Txn};

/// One command.
pub(super) struct Command {
    pub(super) build: Box<dyn FnOnce(&mut Txn) + Send>,
    pub(super) reply: Reply,
}

/// First in, first out; bounded.
pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer sleeps here while there is nothing to do.
    arrived: Condvar,
    /// Callers of [`Queue::ready`] sleep here while there is too much to do.
    shorter: Notify,
    high: usize,
    max: usize,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    is_writer_asleep: bool,
    /// Why nothing more is taken.
    closed: Option<CommitError>,
}

impl Queue {
    pub(super) fn new(high: usize, max: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), shorter: Notify::new(), high, max }
    }

    pub(super) fn push(&self, command: Command) -> Result<(), CommitError> {
        let mut state = self.state.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        if state.commands.len() >= self.max {
            return Err(CommitError::Overloaded { waiting: state.commands.len() });
        }
        state.commands.push_back(command);
        let wake = std::mem::take(&mut state.is_writer_asleep);
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// The next command; sleeps until there is one. `None` when the queue is closed and empty.
    pub(super) fn next(&self) -> Option<Command> {
        let mut state = self.state.lock();
        loop {
            if let Some(command) = state.commands.pop_front() {
                return Some(command);
            }
            if state.closed.is_some() {
                return None;
            }
            state.is_writer_asleep = true;
            self.arrived.wait(&mut state);
        }
    }

    /// The next command, if one is waiting.
    pub(super) fn try_next(&self) -> Option<Command> {
        self.state.lock().commands.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().commands.len()
    }

    /// Wakes whoever waits in [`Queue::ready`], if there is room again.
    pub(super) fn drained(&self) {
        if self.len() <= self.high {
            self.shorter.notify_waiters();
        }
    }

    pub(super) async fn ready(&self) {
        loop {
            let shorter = self.shorter.notified();
            if self.len() <= self.high {
                return;
            }
            shorter.await;
        }
    }

    /// Takes nothing more; what is queued stays. The first reason counts.
    pub(super) fn close(&self, reason: CommitError) {
        self.state.lock().closed.get_or_insert(reason);
        self.arrived.notify_one();
    }
}
