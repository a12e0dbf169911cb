//! Passwords on the operator's side: typed without an echo, read from standard input, or made up. Never an argument: those
//! are seen by everybody on the machine.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rand::{Rng as _, distr::Uniform};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Refusal;

/// Letters of a password that is made up: no two that look alike. 16 of 54 are 92 bits.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const LENGTH: usize = 16;

/// A password that nobody guesses.
fn generate(chance: &mut impl rand::CryptoRng) -> String {
    let letter = Uniform::new(0, LETTERS.len()).expect("there are letters");
    (0..LENGTH).map(|_| char::from(LETTERS[chance.sample(letter)])).collect()
}

/// A password as the operator wants it: made up, or read.
pub fn obtain(generated: bool) -> Result<String, Refusal> {
    if generated { Ok(generate(&mut rand::rng())) } else { read() }
}

/// The first line of standard input; asked for twice and without an echo when that is a terminal.
fn read() -> Result<String, Refusal> {
    let password = match io::stdin().is_terminal() {
        true => {
            let first = line_unseen("Password: ")?;
            if line_unseen("Once more: ")? != first {
                return Err(Refusal::because("the two passwords differ"));
            }
            first
        }
        false => line()?,
    };
    match password.is_empty() {
        true => Err(Refusal::because("the password is empty")),
        false => Ok(password),
    }
}

fn line() -> Result<String, Refusal> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(Refusal::because)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn line_unseen(question: &str) -> Result<String, Refusal> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).map_err(Refusal::because)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    eprint!("{question}");
    io::stderr().flush().map_err(Refusal::because)?;
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(Refusal::because)?;
    let line = line();
    let restored = tcsetattr(&stdin, OptionalActions::Now, &before);
    eprintln!();
    restored.map_err(Refusal::because)?;
    line
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn made_up_passwords_are_long_and_differ() {
        let mut chance = StdRng::seed_from_u64(7);
        let (first, second) = (generate(&mut chance), generate(&mut chance));
        assert_eq!(first.len(), LENGTH);
        assert_ne!(first, second);
    }
}
