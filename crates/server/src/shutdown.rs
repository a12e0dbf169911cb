//! The end of the program, as everybody who waits for something learns of it.

use std::time::Duration;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Requests that still run get this long to finish; then they are cut off.
pub const GRACE: Duration = Duration::from_secs(10);

/// Tells whether the program is about to end. Cheap to clone; whoever waits for long waits for this too.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Announces the end. Dropping it announces it too.
#[derive(Debug)]
pub struct Announcer(watch::Sender<bool>);

/// A program that runs, and who can end it.
pub fn channel() -> (Announcer, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Announcer(sender), Shutdown(receiver))
}

impl Announcer {
    /// The end has come.
    pub fn announce(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns when the end has come.
    pub async fn announced(&self) {
        // An error means that the announcer is gone, which is the end as well.
        let _ = self.0.clone().wait_for(|ending| *ending).await;
    }

    /// For those who want the bare channel: it holds `true` once the end has come.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

/// Returns at Ctrl-C or SIGTERM.
pub async fn asked_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
