//! What has to be done now and then while the server runs.

use std::time::Duration;

use koine_media::{Media, Previews};
use koine_store::Shard;
use ruma_common::MilliSecondsSinceUnixEpoch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::shutdown::Shutdown;

/// How often.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Entries of the log that stay, however old, beside those that a reader still has to read. Nobody asks the log for what
/// is older: who comes back after long looks at the tables instead.
const LOG_ENTRIES_KEPT: u64 = 100_000;

/// Works until the program is about to end.
pub async fn run(shard: Shard, media: Media, previews: Previews, shutdown: Shutdown) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                trim_log(shard.clone()).await;
                clean_media(&media, &previews).await;
            }
            () = shutdown.announced() => return,
        }
    }
}

/// Cuts the log behind the slowest reader.
async fn trim_log(shard: Shard) {
    // It waits for commits of its own, so not on a thread that serves requests.
    match tokio::task::spawn_blocking(move || shard.trim_log(LOG_ENTRIES_KEPT)).await {
        Ok(Ok(trimmed)) => debug!(entries = trimmed, "the log was trimmed"),
        Ok(Err(error)) => warn!(reason = %error, "the log could not be trimmed; tried again in an hour"),
        Err(error) => warn!(reason = %error, "trimming the log did not end well; tried again in an hour"),
    }
}

/// Removes what was fetched from elsewhere and nobody wants any more, and addresses whose content never came.
async fn clean_media(media: &Media, previews: &Previews) {
    let now = MilliSecondsSinceUnixEpoch::now();
    match media.clean(now).await {
        Ok(removed) => debug!(files = removed, "files of other servers were removed"),
        Err(error) => warn!(reason = %error, "files of other servers could not be removed; tried again in an hour"),
    }
    if let Err(error) = media.forget_promises(now).await {
        warn!(reason = %error, "addresses without content could not be forgotten; tried again in an hour");
    }
    if let Err(error) = previews.clean(now).await {
        warn!(reason = %error, "old previews could not be removed; tried again in an hour");
    }
}
