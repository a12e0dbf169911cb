//! What scripts read: JSON lines or sentences on standard output, news about the run on standard error.

use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

use serde::Serialize;

use crate::{failure::Failure, harmless};

/// Where a command's answers go.
pub struct Output {
    json: bool,
    out: Mutex<io::Stdout>,
}

impl Output {
    /// JSON lines, or sentences.
    pub fn new(json: bool) -> Self {
        Self { json, out: Mutex::new(io::stdout()) }
    }

    /// Whether a program reads.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person can be asked.
    pub fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// One answer: the line for programs, or the sentence for people.
    pub fn say<T: Serialize>(&self, line: &T, sentence: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = if self.json { json_line(line) } else { sentence() };
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// Bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// For people only, on standard error: what is going on, what to do next.
    pub fn note(&self, sentence: &str) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{}", harmless::text(sentence));
        }
    }

    /// The last word of a command that failed.
    pub fn failed(&self, failure: &Failure) {
        if matches!(failure, Failure::Closed) {
            return;
        }
        let text = if self.json {
            json_line(&failure.line())
        } else {
            format!("koine-chat: {}", harmless::text(&failure.to_string()))
        };
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// JSON that is exact and does nothing to a terminal: what would act is written `\u...`.
pub fn json_line<T: Serialize>(line: &T) -> String {
    let plain =
        serde_json::to_string(line).unwrap_or_else(|error| format!("{{\"type\":\"failure\",\"message\":\"{error}\"}}"));
    let mut out = String::with_capacity(plain.len());
    for letter in plain.chars() {
        if harmless::acts(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn json_lines_are_exact_and_harmless(text in any::<String>()) {
            let line = json_line(&text);
            prop_assert!(!line.chars().any(harmless::acts));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
