//! The tables of the store: every name and every tag of a space is used once, and a table is private to its crate.

use std::collections::HashMap;

use crate::tree::File;

/// Findings about all tables declared outside tests.
pub fn check(files: &[File]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut seen = HashMap::new();
    let ours = |file: &&File| {
        let path = file.path.as_str();
        path.starts_with("crates/") && path.contains("/src/") && file.has_extension("rs") && !path.ends_with("tests.rs")
    };
    for file in files.iter().filter(ours) {
        for table in tables(&file.text()?) {
            if table.is_public {
                found.push(format!(
                    "{}: table {} is public; a table is read and written by one crate",
                    file.path, table.name
                ));
            }
            for key in [format!("the name {}", table.name), format!("tag {} of {}", table.tag, table.space)] {
                if let Some(before) = seen.insert(key.clone(), file.path.clone()) {
                    found.push(format!("{}: {key} belongs to a table in {before}", file.path));
                }
            }
        }
    }
    Ok(found)
}

struct Declared {
    name: String,
    space: String,
    tag: u64,
    is_public: bool,
}

fn tables(text: &str) -> Vec<Declared> {
    let tested = text.find("#[cfg(test)]").unwrap_or(text.len());
    let text: String = text[..tested].lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut found = Vec::new();
    for (place, call) in text.match_indices("Table::new(") {
        let Some(arguments) = text[place + call.len()..].split(')').next() else { continue };
        let parts: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let [name, space, tag, ..] = parts[..] else { continue };
        let Some(tag) = number(tag) else { continue };
        let declaration = text[..place].rsplit(';').next().unwrap_or_default();
        let is_public = declaration.contains("pub const ") || declaration.contains("pub static ");
        let (name, space) =
            (name.trim_matches('"').to_owned(), space.rsplit("::").next().unwrap_or_default().to_owned());
        found.push(Declared { name, space, tag, is_public });
    }
    found
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_however_they_are_folded() {
        let text = "pub const A: Table<u8, u8> = Table::new(\"a\", Space::Log, 0x10);\n\
                    const B: Table<u8, u8> =\n    Table::new(\n        \"b\",\n        Space::Log,\n        17,\n    );\n\
                    // Table::new(\"c\", Space::Log, 1)\n";
        let found: Vec<_> = tables(text).into_iter().map(|table| (table.name, table.tag, table.is_public)).collect();
        assert_eq!(found, [("a".into(), 16, true), ("b".into(), 17, false)]);
    }
}
