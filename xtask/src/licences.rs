//! Whether every dependency may be used in a program under Apache-2.0.

use crate::packages;

/// Licences that ask for no more than that they are kept; MPL-2.0 besides that changes to its own files are published, and
/// we change none.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    // The same, or a later one of its kind.
    "MPL-2.0+",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// One line for each dependency that may not be used.
pub fn check() -> Result<Vec<String>, String> {
    let packages = packages::all()?;
    let refused = packages.iter().filter(|package| !package.licence.as_deref().is_some_and(is_allowed));
    Ok(refused
        .map(|package| {
            let licence = package.licence.as_deref().unwrap_or("no licence");
            format!("{} {}: {licence} does not go with Apache-2.0, or is not known here", package.name, package.version)
        })
        .collect())
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `/` is an old way to write OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words };
    let allowed = reader.any();
    allowed && reader.words.is_empty()
}

struct Reader<'a> {
    words: &'a [&'a str],
}

impl Reader<'_> {
    fn any(&mut self) -> bool {
        let mut allowed = self.all();
        while self.skip("OR") {
            allowed |= self.all();
        }
        allowed
    }

    fn all(&mut self) -> bool {
        let mut allowed = self.one();
        while self.skip("AND") {
            allowed &= self.one();
        }
        allowed
    }

    fn one(&mut self) -> bool {
        if self.skip("(") {
            let allowed = self.any();
            return self.skip(")") && allowed;
        }
        let [name, rest @ ..] = self.words else { return false };
        self.words = rest;
        if let ["WITH", exception, rest @ ..] = self.words {
            self.words = rest;
            return ALLOWED.contains(&format!("{name} WITH {exception}").as_str());
        }
        ALLOWED.contains(name)
    }

    fn skip(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_two_licences_is_enough_when_either_may_be_chosen() {
        for expression in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "MIT/Apache-2.0",
            "(MIT OR X) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR X",
        ] {
            assert!(is_allowed(expression), "{expression}");
        }
    }

    #[test]
    fn licences_that_ask_for_more_are_refused() {
        for expression in
            ["GPL-3.0-only", "MIT AND AGPL-3.0-only", "(MIT OR X) AND LGPL-3.0-only", "MIT WITH odd-exception", ""]
        {
            assert!(!is_allowed(expression), "{expression}");
        }
    }
}
