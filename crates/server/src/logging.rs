//! The log: one sentence and its fields on a line of standard error, as text for people or JSON for collectors.
//!
//! Bodies, tokens and keys appear at no level; types that hold them refuse to print.

use std::{io::IsTerminal, panic::PanicHookInfo};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogConfig, LogFormat};

/// Overrides `log.filter` of the configuration.
const FILTER_VARIABLE: &str = "KOINE_LOG";
/// Libraries that announce more than an operator wants to know. Whoever does names them.
const QUIET: &str = "fjall=warn,lsm_tree=warn,h2=warn,hyper=warn,rustls=warn";

/// The log cannot be set up as asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "log.filter \"{filter}\" is not understood: {reason}; write a level, as \"info\", or \"info,koine_room=debug\""
)]
pub struct BadFilter {
    filter: String,
    reason: String,
}

/// Starts the log. To be called once, before anything else starts.
pub fn start(config: &LogConfig) -> Result<(), BadFilter> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| config.filter.clone());
    let filter = EnvFilter::try_new(format!("{QUIET},{text}"))
        .map_err(|error| BadFilter { filter: text, reason: error.to_string() })?;
    let registry = tracing_subscriber::registry().with(filter);
    let result = match config.format {
        LogFormat::Text => {
            let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
    };
    result.expect("the log is started once");
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic is a mistake of ours. It ends the request that met it, and the operator should tell us.
fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let reason = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given");
    let thread = std::thread::current();
    tracing::error!(
        place,
        reason,
        thread = thread.name().unwrap_or("unnamed"),
        "a part of the program failed; this is a mistake in Koine, please report it"
    );
}
