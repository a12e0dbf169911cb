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

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use device::Wrong;
use rooms::Walk;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let (Some(base), None) = (args.next(), args.next()) else {
        eprintln!("usage: koine-walk-app BASE_URL");
        return ExitCode::from(2);
    };
    match go(&base).await {
        Ok(()) => ExitCode::SUCCESS,
        Err((step, wrong)) => {
            println!("WRONG  {step}\n       {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// Takes all steps, or says in which one something was wrong.
async fn go(base: &str) -> Result<(), (&'static str, Wrong)> {
    macro_rules! step {
        ($name:literal, $step:expr) => {{
            let began = Instant::now();
            let outcome = Box::pin($step).await.map_err(|wrong| ($name, wrong))?;
            println!("ok     {} ({} ms)", $name, began.elapsed().as_millis());
            outcome
        }};
    }
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
