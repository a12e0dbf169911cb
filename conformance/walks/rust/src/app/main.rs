//! A day as Element X lives it: sliding sync, 300 rooms, encryption, two people with two devices each.
//!
//! usage: koine-walk-app BASE_URL
//!
//! Everything goes through matrix-sdk-ui: its `SyncService` keeps the connections `room-list` and `encryption`, its
//! `NotificationClient` a third, and what a user would see is read from its room list and timelines. Prints one line per
//! step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.

#![recursion_limit = "512"]

mod device;
mod encryption;
mod rooms;

use std::process::ExitCode;

use koine_walk::{Stopped, step, walk};
use rooms::Walk;

#[tokio::main]
async fn main() -> ExitCode {
    walk("koine-walk-app BASE_URL", go).await
}

/// Takes all steps, or says in which one something was wrong.
async fn go(base: &str) -> Result<(), Stopped> {
    let mut walk = step!("two people, one of them in 300 rooms", Walk::begin(base));
    step!("the room list grows until it has them all", walk.list());
    step!("an encrypted conversation", walk.conversation());
    step!("each reads what the other wrote", walk.talk());
    step!("an edit, a reaction, a redaction", walk.change());
    step!("a thread, and its summary", walk.thread());
    step!("a followed thread is known to the other device", walk.follow());
    step!("receipts and unread counts", walk.read());
    step!("a recovery key and a backup", walk.recovery());
    step!("the second device recovers and reads the past", walk.recover());
    step!("two devices compare emoji", walk.verify_device());
    step!("two people compare emoji", walk.verify_person());
    step!("all four devices read a message", walk.everybody());
    step!("a notification is fetched", walk.notification());
    step!("a space and its rooms", walk.space());
    step!("a message is found by search", walk.search());
    step!("an encrypted file", walk.file());
    step!("an invitation is declined", walk.decline());
    step!("a connection begins anew and misses nothing", walk.anew());
    step!("history is paged back to the beginning", walk.page());
    step!("log out", walk.log_out());
    Ok(())
}
