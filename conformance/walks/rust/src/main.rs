//! A walk through an ordinary day with the Rust matrix-sdk: two people, three devices, one room.
//!
//! usage: koine-walk BASE_URL
//!
//! Prints one line per step. Ends with status 1 at the first wrong thing, saying what was expected and what was seen.

mod device;
mod steps;

use std::process::ExitCode;

use koine_walk::{Stopped, step, walk};
use steps::Walk;

#[tokio::main]
async fn main() -> ExitCode {
    walk("koine-walk BASE_URL", go).await
}

/// Takes all steps, or says in which one something was wrong.
async fn go(base: &str) -> Result<(), Stopped> {
    let mut walk = step!("register two accounts", Walk::begin(base));
    step!("log in on a second device", walk.log_in());
    step!("create a room", walk.create());
    step!("invite, and refuse who is not invited", walk.invite());
    step!("join", walk.join());
    step!("send", walk.send());
    step!("edit", walk.edit());
    step!("react", walk.react());
    step!("reply", walk.reply());
    step!("redact", walk.redact());
    step!("upload and fetch media", walk.media());
    step!("fetch a thumbnail", walk.thumbnail());
    step!("paginate back 200 messages", walk.paginate());
    step!("receipts", walk.receipts());
    step!("typing", walk.typing());
    step!("read markers", walk.read_markers());
    step!("the second device sees the same", walk.second_device());
    step!("a change of profile is seen", walk.profile());
    step!("leave", walk.leave());
    step!("log out, and the token is refused", walk.log_out());
    Ok(())
}
