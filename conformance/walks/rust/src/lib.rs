//! What the walks with matrix-sdk have in common: how a step says what is wrong, and who walks.

use std::env;
use std::fmt::{Debug, Display};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use matrix_sdk::ruma::api::client::account::register;
use matrix_sdk::ruma::api::client::uiaa;
use matrix_sdk::ruma::assign;
use tracing_subscriber::EnvFilter;

pub const PASSWORD: &str = "correct horse battery staple";

/// The server did something else than a client may expect.
#[derive(Debug)]
pub struct Wrong(pub String);

impl Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Wrong {
    fn from(error: E) -> Self {
        Self(format!("expected success, seen {error} ({error:?})"))
    }
}

pub type Step<T = ()> = Result<T, Wrong>;

pub fn expect<T: PartialEq + Debug>(what: &str, expected: T, seen: T) -> Step {
    if expected == seen { Ok(()) } else { Err(Wrong(format!("{what}: expected {expected:?}, seen {seen:?}"))) }
}

/// The SDK would say it with other words, but what is missing is a step of the walk.
pub fn earlier<T: Clone>(value: Option<&T>) -> Step<T> {
    value.cloned().ok_or_else(|| Wrong("an earlier step left nothing behind".to_owned()))
}

/// Names of two people; several walks may visit the same server.
pub fn names() -> Step<(String, String)> {
    let suffix = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    Ok((format!("alice-{suffix:x}"), format!("bob-{suffix:x}")))
}

pub fn registration(name: &str) -> register::v3::Request {
    assign!(register::v3::Request::new(), {
        username: Some(name.to_owned()),
        password: Some(PASSWORD.to_owned()),
        initial_device_display_name: Some("walk".to_owned()),
        auth: Some(uiaa::AuthData::Dummy(uiaa::Dummy::new())),
    })
}

/// Why a walk ended: in which step, and what was wrong.
pub type Stopped = (&'static str, Wrong);

/// Takes a walk to the server that the command line names, and says how it ended. What matrix-sdk does goes to standard error, as
/// far as `RUST_LOG` asks for it.
pub async fn walk(usage: &str, steps: impl AsyncFnOnce(&str) -> Result<(), Stopped>) -> ExitCode {
    let mut args = env::args().skip(1);
    let (Some(base), None) = (args.next(), args.next()) else {
        eprintln!("usage: {usage}");
        return ExitCode::from(2);
    };
    let wished = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(wished).with_ansi(false).with_writer(std::io::stderr).init();
    match steps(&base).await {
        Ok(()) => ExitCode::SUCCESS,
        Err((step, wrong)) => {
            println!("WRONG  {step}\n       {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// Takes a step and says how long it took, or ends the walk there.
#[macro_export]
macro_rules! step {
    ($name:literal, $step:expr) => {{
        let began = std::time::Instant::now();
        let outcome = Box::pin($step).await.map_err(|wrong| ($name, wrong))?;
        println!("ok     {} ({} ms)", $name, began.elapsed().as_millis());
        outcome
    }};
}
