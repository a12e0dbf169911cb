//! docs/security.md: each test that a defence names is there.

use std::{collections::BTreeSet, path::Path};

use crate::tree::File;

const TABLE: &str = "docs/security.md";
/// Names with one of these in front are cases of a suite in Python.
const SUITES: [(&str, &str); 2] = [("hostile.", "conformance/hostile/"), ("faults.", "conformance/faults/")];

/// Findings: names in the last column of a table that no test has.
pub fn check(files: &[File]) -> Result<Vec<String>, String> {
    let Some(table) = files.iter().find(|file| file.path == TABLE) else { return Ok(Vec::new()) };
    let mut tests = BTreeSet::new();
    for file in files {
        let suite = SUITES.iter().find(|(_, folder)| file.path.starts_with(folder));
        if let Some((prefix, _)) = suite.filter(|_| file.has_extension("py")) {
            tests.extend(functions(&file.text()?, "def ").map(|name| format!("{prefix}{name}")));
        } else if file.has_extension("rs") && Path::new(&file.path).starts_with("crates") {
            tests.extend(functions(&file.text()?, "fn ").map(ToOwned::to_owned));
        }
    }
    let text = table.text()?;
    let last_column =
        |line: &str| line.strip_suffix('|').and_then(|line| line.rsplit('|').next()).map(ToOwned::to_owned);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let named = last_column(line).unwrap_or_default();
        let missing = named.split('`').skip(1).step_by(2).filter(|name| !tests.contains(*name));
        found.extend(missing.map(|name| format!("{TABLE}:{}: there is no test {name}", number + 1)));
    }
    Ok(found)
}

/// Names that follow this word and have arguments.
fn functions<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(word).skip(1).filter_map(|rest| rest.split_once(['(', '<']).map(|(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_the_word_before_their_name() {
        let found: Vec<&str> = functions("async fn one() {}\nfn two<T>(x: T) {}", "fn ").collect();
        assert_eq!(found, ["one", "two"]);
    }
}
