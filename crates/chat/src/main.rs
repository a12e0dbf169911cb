//! `koine-chat`: a Matrix client for people who live in a terminal and for scripts, end-to-end encrypted.
//!
//! A guest: it speaks the public protocol to any homeserver, through matrix-sdk, and shares no code with koine. Two halves
//! over one [`session`]: [`commands`] for scripts, with JSON lines and exit codes that can be relied on, and the screen for
//! people. Encryption, stores and sync are the SDK's; what is here decides what to ask, what to show and in which words.

mod account;
mod again;
mod ask;
mod cli;
mod commands;
mod event;
mod failure;
mod harmless;
mod heard;
mod identity;
mod output;
mod replay;
mod screen;
mod session;
mod stumble;
mod trust;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, failure::Failure, output::Output};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Programs get their last line here, too.
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == "--json") => {
            let failure = Failure::Usage(error.to_string().trim_end().to_owned());
            Output::new(true).failed(&failure);
            return ExitCode::from(failure.code());
        }
        Err(error) => error.exit(),
    };
    heard::listen();
    let out = Output::new(cli.common.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out.failed(&error.into());
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match cli.command {
            Some(command) => {
                stumble::hush();
                Box::pin(commands::dispatch(command, &cli.common, &out)).await
            }
            None => Box::pin(screen::run(&cli.common)).await,
        }
    });
    // A thread that waits for standard input would hold the process otherwise.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failed(&failure);
            ExitCode::from(failure.code())
        }
    }
}
