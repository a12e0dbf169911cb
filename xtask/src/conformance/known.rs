//! Lists of what is known to fail, each line a test, a tab and the reason.
//!
//! The lists are held to in both directions: a failure that is not on its list fails the run, and so does a listed test
//! that passes, unless its reason begins with `sometimes: `: then it is a matter of luck.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Result;

/// So begins the reason of a known failure that is a matter of luck: it may pass.
const SOMETIMES: &str = "sometimes: ";

/// What is known to fail, and why. A line covers the test it names and all parts of it (behind a slash).
pub struct Known(BTreeMap<String, String>);

impl Known {
    /// Reads a list. Empty lines and those that begin with `#` say nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (number, line) in fs::read_to_string(path)?.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let complaint = || format!("{}:{}: wants a test, a tab and a reason", path.display(), number + 1);
            let (test, reason) = line.split_once('\t').ok_or_else(complaint)?;
            if reason.trim().is_empty() {
                return Err(complaint().into());
            }
            known.insert(test.to_owned(), reason.to_owned());
        }
        Ok(Self(known))
    }

    /// One of these tests, for tests.
    #[cfg(test)]
    pub fn of(tests: &[&str]) -> Self {
        Self(tests.iter().map(|test| ((*test).to_owned(), "reason".to_owned())).collect())
    }

    /// One test that fails sometimes, for tests.
    #[cfg(test)]
    pub fn of_luck(test: &str) -> Self {
        Self(BTreeMap::from([(test.to_owned(), format!("{SOMETIMES}a race"))]))
    }

    /// Takes in another list.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether a test is on the list, or something that it is a part of.
    pub fn covers(&self, name: &str) -> bool {
        let ends = name.match_indices('/').map(|(i, _)| i).chain([name.len()]);
        ends.into_iter().any(|end| self.0.contains_key(&name[..end]))
    }

    /// The tests on the list, and whether they may pass all the same.
    pub fn tests(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().map(|(test, reason)| (test.as_str(), reason.starts_with(SOMETIMES)))
    }
}
