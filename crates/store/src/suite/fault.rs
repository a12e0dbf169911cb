//! An engine around another that refuses, breaks or dawdles on command.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use parking_lot::{Condvar, Mutex};

use crate::{
    batch::Batch,
    engine::{CommitFailure, Engine, Snapshot},
    error::EngineError,
};

/// How commits fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// As if the disk were full, noticed in time.
    Refuse,
    /// As if a sync had failed.
    Break,
    /// A bug in the engine.
    Panic,
}

/// Passes everything on to another engine, unless told otherwise. Clones share their state.
#[derive(Clone)]
pub struct FaultyEngine {
    inner: Arc<dyn Engine>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How to fail, once so many commits were done.
    fault: Mutex<Option<(u64, Fault)>>,
    is_held: Mutex<bool>,
    released: Condvar,
    begun: AtomicU64,
    done: AtomicU64,
}

impl FaultyEngine {
    /// Around `inner`, without faults yet.
    pub fn new(inner: Arc<dyn Engine>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// From now on every commit fails so, or none (`None`).
    pub fn fail(&self, fault: impl Into<Option<Fault>>) {
        *self.state.fault.lock() = fault.into().map(|fault| (0, fault));
    }

    /// Lets `commits` more commits succeed, then fails.
    pub fn fail_after(&self, commits: u64, fault: Fault) {
        *self.state.fault.lock() = Some((self.done() + commits, fault));
    }

    /// Commits that begin from now on wait until the guard is dropped.
    #[must_use = "the commits go on when this is dropped"]
    pub fn hold(&self) -> Held<'_> {
        *self.state.is_held.lock() = true;
        Held(self)
    }

    /// Commits that were begun, held or not.
    pub fn begun(&self) -> u64 {
        self.state.begun.load(SeqCst)
    }

    /// Commits that succeeded.
    pub fn done(&self) -> u64 {
        self.state.done.load(SeqCst)
    }
}

/// Commits wait while this lives.
pub struct Held<'a>(&'a FaultyEngine);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.state.is_held.lock() = false;
        self.0.state.released.notify_all();
    }
}

impl Engine for FaultyEngine {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch) -> Result<(), CommitFailure> {
        self.state.begun.fetch_add(1, SeqCst);
        let mut is_held = self.state.is_held.lock();
        while *is_held {
            self.state.released.wait(&mut is_held);
        }
        drop(is_held);
        let fault = *self.state.fault.lock();
        match fault.filter(|(done, _)| self.done() >= *done).map(|(_, fault)| fault) {
            None => {
                self.inner.commit(batch)?;
                self.state.done.fetch_add(1, SeqCst);
                Ok(())
            }
            Some(Fault::Refuse) => Err(CommitFailure::Refused("the disk is full".to_owned())),
            Some(Fault::Break) => Err(CommitFailure::Broken(EngineError::new("the disk said no"))),
            Some(Fault::Panic) => panic!("a bug in the engine"),
        }
    }
}
