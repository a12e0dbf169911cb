//! The ledger: what of the specification is done, and whether the code agrees.
//!
//! `spec/matrix-operations.tsv` lists every operation with its state: `yes`, `partly` (the note says what is missing),
//! `planned`, `no` (the note says why). Code cites the specification with tags such as `[CS-API` `§rate-limiting]`; an
//! operation counts as cited when the crate that serves it names its anchor. `spec/anchors.tsv` lists the other anchors.

mod compliance;

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use crate::tree;

const OPERATIONS: &str = "spec/matrix-operations.tsv";
const ANCHORS: &str = "spec/anchors.tsv";

/// For each part of the specification: its name in the ledger, its page in tags, and the crate that serves it.
const PARTS: &[(&str, &str, &str)] = &[
    ("client-server", "CS-API", "crates/matrix-api/"),
    ("server-server", "SS-API", "crates/matrix-federation/"),
    ("application-service", "AS-API", "crates/matrix-api/"),
    ("push-gateway", "PG-API", "crates/push/"),
];

/// Pages whose anchors are listed. Tags of other documents (RFCs, MSCs, XEPs) have no list to be checked against.
fn is_listed(page: &str) -> bool {
    let version = page.strip_prefix("RV").and_then(|number| number.parse::<u8>().ok());
    page == "appendices" || version.is_some() || PARTS.iter().any(|(_, known, _)| *known == page)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Yes,
    Partly,
    Planned,
    No,
}

struct Operation {
    part: String,
    method: String,
    path: String,
    state: State,
    note: String,
}

impl Operation {
    /// The name of its place on the page of the specification.
    fn anchor(&self) -> String {
        format!("{}{}", self.method, self.path.replace(['/', '{', '}', '.'], "")).to_lowercase()
    }

    fn served_by(&self) -> Option<(&'static str, &'static str)> {
        PARTS.iter().find(|(part, ..)| *part == self.part).map(|(_, page, folder)| (*page, *folder))
    }
}

/// One line for each disagreement.
pub fn check() -> Result<Vec<String>, String> {
    let operations = read_operations()?;
    let mut known = read_anchors()?;
    for operation in &operations {
        if let Some((page, _)) = operation.served_by() {
            known.insert((page.to_owned(), operation.anchor()));
        }
    }
    let mut found = Vec::new();
    let mut cited: HashMap<(String, String), Vec<String>> = HashMap::new();
    for file in tree::files()?.iter().filter(|file| file.path.starts_with("crates/") && file.has_extension("rs")) {
        for (line, page, anchor) in tags(&file.text()?) {
            if is_listed(&page) && !is_known(&known, &page, &anchor) {
                found.push(format!("{}:{line}: {page} has no place §{anchor}", file.path));
            }
            cited.entry((page, anchor)).or_default().push(file.path.clone());
        }
    }
    for operation in &operations {
        let Some((page, folder)) = operation.served_by() else { continue };
        let files = cited.get(&(page.to_owned(), operation.anchor()));
        let place = files.and_then(|files| files.iter().find(|path| path.starts_with(folder)));
        let claimed = matches!(operation.state, State::Yes | State::Partly);
        let (method, path) = (&operation.method, &operation.path);
        match (claimed, place) {
            (true, None) => found.push(format!(
                "{method} {path}: claimed, but nothing in {folder} cites {page} §{}",
                operation.anchor()
            )),
            (false, Some(file)) => {
                found.push(format!("{method} {path}: {file} cites it, but the ledger does not claim it"));
            }
            _ => {}
        }
        if matches!(operation.state, State::Partly | State::No) && operation.note.is_empty() {
            found.push(format!("{method} {path}: the note does not say what is missing, or why"));
        }
    }
    found.extend(compliance::check()?);
    Ok(found)
}

/// Prints what the compliance suites of XMPP ask for, and how far it is.
pub fn print_compliance() -> Result<(), String> {
    compliance::print()
}

/// Prints what is not done yet, and how much is.
pub fn print_missing() -> Result<(), String> {
    let operations = read_operations()?;
    let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
    for operation in &operations {
        let count = counts.entry(&operation.part).or_default();
        count.1 += 1;
        match operation.state {
            State::Yes => count.0 += 1,
            State::Partly => println!("partly   {} {}: {}", operation.method, operation.path, operation.note),
            State::Planned => println!("planned  {} {}", operation.method, operation.path),
            State::No => println!("no       {} {}: {}", operation.method, operation.path, operation.note),
        }
    }
    for (part, ..) in PARTS {
        let (done, all) = counts.get(part).copied().unwrap_or_default();
        println!("{part}: {done} of {all} done");
    }
    Ok(())
}

fn is_known(known: &HashSet<(String, String)>, page: &str, anchor: &str) -> bool {
    let has = |anchor: &str| known.contains(&(page.to_owned(), anchor.to_owned()));
    // The second heading of the same words gets a number.
    let unnumbered = anchor.rsplit_once('-').filter(|(_, number)| number.parse::<u8>().is_ok()).map(|(base, _)| base);
    has(anchor) || unnumbered.is_some_and(has)
}

/// Tags in a text: line, page, anchor. What follows a space or comma in a tag is for people.
fn tags(text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (place, mark) in line.match_indices(" §") {
            let Some(page) = line[..place].rsplit('[').next().filter(|page| page.len() < place) else { continue };
            let anchor = line[place + mark.len()..].split([' ', ',', ']', ';']).next().unwrap_or_default();
            if !anchor.is_empty() {
                found.push((number + 1, page.to_owned(), anchor.to_owned()));
            }
        }
    }
    found
}

fn read_operations() -> Result<Vec<Operation>, String> {
    let text = fs::read_to_string(tree::root().join(OPERATIONS)).map_err(|error| format!("{OPERATIONS}: {error}"))?;
    let rows = text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty());
    rows.map(|(number, line)| read_operation(line).ok_or_else(|| format!("{OPERATIONS}:{}: not a row", number + 1)))
        .collect()
}

fn read_operation(line: &str) -> Option<Operation> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [part, method, path, _operation, state, note] = fields[..] else { return None };
    let state = match state {
        "yes" => State::Yes,
        "partly" => State::Partly,
        "planned" => State::Planned,
        "no" => State::No,
        _ => return None,
    };
    let [part, method, path, note] = [part, method, path, note].map(str::to_owned);
    Some(Operation { part, method, path, state, note })
}

fn read_anchors() -> Result<HashSet<(String, String)>, String> {
    let text = fs::read_to_string(tree::root().join(ANCHORS)).map_err(|error| format!("{ANCHORS}: {error}"))?;
    let rows = text.lines().skip(1).filter_map(|line| line.split_once('\t'));
    Ok(rows.map(|(page, anchor)| (page.to_owned(), anchor.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_the_anchor_of_its_heading() {
        let operation =
            read_operation("client-server\tPOST\t/_matrix/client/v3/rooms/{roomId}/ban\tban\tyes\t").expect("a row");
        assert_eq!(operation.anchor(), "post_matrixclientv3roomsroomidban");
    }

    #[test]
    fn tags_are_found_with_page_and_anchor() {
        let text = "// [CS-API §rate-limiting] and [RV11 §authorization-rules 5.3]\n// § alone, §[, [RFC 6120 §4.3.2]";
        let expected = [(1, "CS-API", "rate-limiting"), (1, "RV11", "authorization-rules"), (2, "RFC 6120", "4.3.2")];
        let found = tags(text);
        let found: Vec<_> = found.iter().map(|(line, page, anchor)| (*line, page.as_str(), anchor.as_str())).collect();
        assert_eq!(found, expected);
    }
}
