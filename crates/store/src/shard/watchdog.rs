//! Notices when the engine hangs.
//!
//! A thread that cannot get on cannot say so. Without this, a commit that never returns would leave every client waiting
//! with nothing in the log.

use std::{
    io,
    sync::{Arc, Weak, mpsc},
    thread,
};

use super::Shared;

/// The thread that looks at the clock; ends when this is dropped.
pub(super) struct Watchdog {
    _leash: mpsc::Sender<()>,
}

impl Watchdog {
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (leash, held) = mpsc::channel();
        let stall = shared.config.stall;
        let shared = Arc::downgrade(shared);
        let watch = move || {
            while held.recv_timeout(stall / 4) == Err(mpsc::RecvTimeoutError::Timeout) {
                if has_stalled(&shared) {
                    return;
                }
            }
        };
        thread::Builder::new().name("koine-watchdog".to_owned()).spawn(watch)?;
        Ok(Self { _leash: leash })
    }
}

/// Looks once; when the engine hangs, gives up on it.
fn has_stalled(shared: &Weak<Shared>) -> bool {
    let Some(shared) = shared.upgrade() else { return true };
    let Some(since) = *shared.committing.lock() else { return false };
    let elapsed = since.elapsed();
    if elapsed < shared.config.stall {
        return false;
    }
    let reason = format!(
        "the {} engine has been at one commit for {} seconds; look for a full or failing disk, then start Koine again",
        shared.engine.name(),
        elapsed.as_secs()
    );
    shared.give_up(reason.into());
    true
}
