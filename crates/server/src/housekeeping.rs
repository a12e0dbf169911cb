//! What has to be done now and then while the server runs.

use std::{sync::Arc, time::Duration};

use koine_media::{Media, Previews};
use koine_room::{Rooms, TxnPlace};
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

/// Most looks at remembered transaction ids in one round; where it ends, the next one goes on.
const TXN_LOOKS: usize = 20;

/// Works until the program is about to end.
pub async fn run(shard: Shard, rooms: Arc<Rooms>, media: Media, previews: Previews, shutdown: Shutdown) {
    let mut txns = TxnPlace::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                trim_log(shard.clone()).await;
                clean_media(&media, &previews).await;
                txns = forget_transactions(&rooms, txns).await;
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

/// Forgets transaction ids of long ago.
async fn forget_transactions(rooms: &Rooms, mut place: TxnPlace) -> TxnPlace {
    let mut forgotten = 0;
    for _ in 0..TXN_LOOKS {
        match rooms.forget_transactions(place, MilliSecondsSinceUnixEpoch::now()).await {
            Ok((count, next)) => {
                forgotten += count;
                place = next;
            }
            Err(error) => {
                warn!(reason = %error, "old transaction ids could not be forgotten; tried again in an hour");
                return TxnPlace::default();
            }
        }
        if place.is_at_the_start() {
            break;
        }
    }
    debug!(forgotten, "old transaction ids were forgotten");
    place
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
