//! Files one by one: how they begin, how long they are, what was forgotten in them, where their links lead.

use std::path::Path;

use crate::tree::{File, root};

/// Past this, ask whether a file tells two stories.
const LINES_MAX: usize = 600;

/// Files that are long for a reason. The number may only fall; a file that is short again leaves the list.
const LONG: &[(&str, usize)] = &[];

/// Marks of work that was not finished. Written so that this list does not find itself.
const FORGOTTEN: &[&str] = &[
    concat!("dbg", "!("),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Findings in all files.
pub fn check(files: &[File]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for file in files {
        if file.has_extension("rs") {
            code(&file.path, &file.text()?, &mut found);
        }
        if file.has_extension("md") {
            links(&file.path, &file.text()?, &mut found);
        }
        if file.path.starts_with("changelog.d/") && file.path != "changelog.d/README.md" {
            fragment(&file.path, &file.text()?, &mut found);
        }
    }
    for (path, _) in LONG {
        if !files.iter().any(|file| file.path == *path) {
            found.push(format!("{path} is gone; take it off the list of long files"));
        }
    }
    Ok(found)
}

fn code(path: &str, text: &str, found: &mut Vec<String>) {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        found.push(format!("{path}: begin with `//!`: what this is, where it is specified, what it leaves to others"));
    }
    let lines = text.lines().count();
    let bound = LONG.iter().find(|(long, _)| *long == path).map(|(_, bound)| *bound);
    match bound {
        Some(bound) if lines > bound => {
            found.push(format!("{path} grew from {bound} to {lines} lines; it was too long already"));
        }
        Some(_) if lines <= LINES_MAX => {
            found.push(format!("{path} is short again; take it off the list of long files"));
        }
        None if lines > LINES_MAX => {
            found.push(format!("{path} has {lines} lines, more than {LINES_MAX}; are there two stories in it?"));
        }
        _ => {}
    }
    for (number, line) in text.lines().enumerate() {
        let forgotten = FORGOTTEN.iter().find(|mark| line.contains(**mark));
        if let Some(mark) = forgotten {
            found.push(format!("{path}:{}: {mark} was forgotten", number + 1));
        }
        let open = concat!("TO", "DO");
        if line.contains(open) && !line.contains(&format!("{open}(#")) {
            found.push(format!("{path}:{}: {open} without an issue's number; write {open}(#12), or none", number + 1));
        }
    }
}

fn links(path: &str, text: &str, found: &mut Vec<String>) {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.contains("://") || file.starts_with("mailto:") || file.is_empty();
            if !elsewhere && !root().join(folder).join(file).exists() {
                found.push(format!("{path}:{}: there is no {target}", number + 1));
            }
        }
    }
}

/// What users will notice, a file for each change: `changelog.d/<area>-<what>.md`.
fn fragment(path: &str, text: &str, found: &mut Vec<String>) {
    if !path.ends_with(".md") {
        found.push(format!("{path}: a fragment of the changelog is a .md file"));
    }
    if text.trim().is_empty() || !text.lines().all(|line| line.starts_with("- ") || line.starts_with("  ")) {
        found.push(format!("{path}: write one or more points that begin with \"- \", for whoever runs the server"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_is() {
        let mut found = Vec::new();
        code("a.rs", "//! Fine.\nfn main() {}\n", &mut found);
        assert_eq!(found, [""; 0]);
        code("b.rs", "fn main() {}\n", &mut found);
        code("c.rs", &format!("//! Long.\n{}", "\n".repeat(LINES_MAX)), &mut found);
        code("d.rs", concat!("//! Open.\n// TO", "DO: later\n"), &mut found);
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn links_lead_somewhere() {
        let mut found = Vec::new();
        links("README.md", "[a](Cargo.toml) [b](https://example.org) [c](#here) [d](no/such/file.md)", &mut found);
        assert_eq!(found, ["README.md:1: there is no no/such/file.md"]);
    }
}
