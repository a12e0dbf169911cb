//! Many commands in one process: one a line on standard input, as words or as a JSON array of words. The account is opened
//! once, so each command costs what it does and not a start. Each ends with a line `ran` that tells its exit code.

use std::io::BufRead;

use clap::Parser;
use serde::Serialize;

use super::{open, with_session};
use crate::{
    cli::{Cli, Common},
    failure::Failure,
    output::Output,
};

/// Bytes of one line.
const LINE_MAX: u64 = 1 << 20;

/// `koine-chat run`
#[derive(clap::Args)]
pub struct Args {
    /// End with the first command that fails, and with its code.
    #[arg(long)]
    pub strict: bool,
}

#[derive(Serialize)]
struct Ran {
    r#type: &'static str,
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Runs them.
pub async fn run(args: &Args, common: &Common, out: &Output) -> Result<(), Failure> {
    let session = open(common).await?;
    loop {
        let line = tokio::task::spawn_blocking(next).await.map_err(|error| Failure::Local(error.to_string()))??;
        let Some(line) = line else { break };
        let words = match words(&line) {
            Ok(words) if words.is_empty() => continue,
            Ok(words) => words,
            Err(failure) => {
                report(&Err(failure), out)?;
                continue;
            }
        };
        let done = match Cli::try_parse_from(std::iter::once("koine-chat".to_owned()).chain(words)) {
            Ok(Cli { command: Some(command), .. }) => Box::pin(with_session(command, &session, out)).await,
            Ok(_) => Err(Failure::Usage("a command is wanted".to_owned())),
            Err(error) => Err(Failure::Usage(error.to_string())),
        };
        report(&done, out)?;
        if args.strict {
            done?;
        }
    }
    session.finish().await;
    Ok(())
}

fn next() -> Result<Option<String>, Failure> {
    let mut line = String::new();
    let read = std::io::Read::take(std::io::stdin().lock(), LINE_MAX).read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}

fn report(done: &Result<(), Failure>, out: &Output) -> Result<(), Failure> {
    let ran = match done {
        Ok(()) => Ran { r#type: "ran", code: 0, message: None },
        Err(failure) => Ran { r#type: "ran", code: failure.code(), message: Some(failure.to_string()) },
    };
    out.say(&ran, || match &ran.message {
        None => "(done)".to_owned(),
        Some(message) => format!("(failed, {}: {})", ran.code, crate::harmless::line(message)),
    })
}

/// The words of a line: a JSON array of strings, or words with quotes and backslashes as shells read them.
fn words(line: &str) -> Result<Vec<String>, Failure> {
    let line = line.trim();
    if line.starts_with('[') {
        return serde_json::from_str(line)
            .map_err(|error| Failure::Usage(format!("that is no JSON array of strings: {error}")));
    }
    if line.starts_with('#') {
        return Ok(Vec::new());
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some('\''), letter) => word.get_or_insert_default().push(letter),
            (_, '\\') => word.get_or_insert_default().extend(letters.next()),
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(Failure::Usage("a quotation mark is not closed".to_owned()));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_words_as_shells_read_them_or_json() {
        assert_eq!(words(r#"send '#a:b' "two words" it\'s"#).unwrap(), ["send", "#a:b", "two words", "it's"]);
        assert_eq!(words(r#"["send", "!r:x", "a\nb"]"#).unwrap(), ["send", "!r:x", "a\nb"]);
        assert_eq!(words("").unwrap(), [""; 0]);
        assert_eq!(words("# a remark").unwrap(), [""; 0]);
        assert_eq!(words("send a ''").unwrap(), ["send", "a", ""]);
        assert_eq!(words("say 'never closed").unwrap_err().code(), 2);
        assert_eq!(words("[1]").unwrap_err().code(), 2);
    }
}
