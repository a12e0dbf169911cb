//! Secrets and answers: from the environment, from a person at the terminal without echo, or from standard input. Never from
//! the command line, where every process of the machine can read them.

use std::{
    env,
    io::{self, BufRead, IsTerminal, Write},
};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// Bytes of a secret or an answer.
const ANSWER_MAX: usize = 4096;

/// A secret: the variable if it is set, else asked for.
pub async fn secret(variable: &str, what: &str) -> Result<String, Failure> {
    if let Ok(value) = env::var(variable) {
        return Ok(value);
    }
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let line = read_line()?;
        return match line.is_empty() {
            true => Err(Failure::Usage(format!("{what} is wanted on standard input or in {variable}"))),
            false => Ok(line),
        };
    }
    eprint!("{what}: ");
    let before = tcgetattr(&stdin).map_err(io::Error::from)?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &quiet).map_err(io::Error::from)?;
    // Ctrl-C must not leave a terminal behind that does not show what is typed.
    let line = tokio::select! {
        line = tokio::task::spawn_blocking(read_line) => line.unwrap_or_else(|error| Err(Failure::Local(error.to_string()))),
        _ = tokio::signal::ctrl_c() => Err(Failure::NotConfirmed("stopped".to_owned())),
    };
    tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(io::Error::from)?;
    eprintln!();
    line
}

/// An answer anybody may see.
pub fn answer(question: &str) -> Result<String, Failure> {
    eprint!("{question} ");
    io::stderr().flush()?;
    read_line()
}

/// One line of standard input without its end.
pub fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::Read::take(io::stdin().lock(), ANSWER_MAX as u64).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
