//! Who may use whom: a crate may use crates of lower rows only.

use std::collections::HashMap;

use crate::packages::Package;

/// Rows from the ground up. `adapter` and `tool` stand beside them.
const ROWS: &[&str] = &["pure", "port", "core", "protocol", "program"];
/// Within a row, this crate may use those.
const EXCEPTIONS: &[(&str, &[&str])] = &[("koine-push", &["koine-room", "koine-account"])];
/// Programs that are guests: they speak public protocols only, use no crate of the house, and none of them uses these.
const GUESTS: &[&str] = &["koine-chat"];
/// A pure crate has no runtime.
const NOT_FOR_PURE: &[&str] = &["tokio", "hyper", "axum", "tracing-subscriber"];
/// Where unrelated things meet and what the whole build waits for.
const BANNED_NAMES: &[&str] =
    &["common", "utils", "util", "types", "service", "macros", "config", "core", "helpers", "misc"];

/// Findings about our own packages.
pub fn check(packages: &[Package]) -> Vec<String> {
    let ours: HashMap<&str, &Package> =
        packages.iter().filter(|package| package.ours).map(|package| (package.name.as_str(), package)).collect();
    let mut found = Vec::new();
    for package in ours.values() {
        let short = package.name.trim_start_matches("koine-");
        if BANNED_NAMES.contains(&short) {
            found.push(format!(
                "{}: a crate of that name becomes where unrelated things meet; name what it is about",
                package.name
            ));
        }
        let Some(row) = package.row.as_deref() else {
            found.push(format!(
                "{}: its Cargo.toml states no row ([package.metadata.koine] row = \"...\")",
                package.name
            ));
            continue;
        };
        if row != "tool" && row != "adapter" && !ROWS.contains(&row) {
            found.push(format!("{}: there is no row {row}", package.name));
        }
        for name in &package.dependencies {
            if row == "pure" && NOT_FOR_PURE.contains(&name.as_str()) {
                found.push(format!("{}: a pure crate does not depend on {name}", package.name));
            }
            let used = ours.get(name.as_str()).and_then(|used| used.row.as_deref());
            let guest = GUESTS.iter().any(|guest| *guest == package.name || guest == name);
            if let Some(used) = used
                && (guest || !may_use(row, used))
                && !is_exception(&package.name, name)
            {
                found.push(format!("{} ({row}) may not use {name} ({used})", package.name));
            }
        }
    }
    found.sort();
    found
}

fn may_use(user: &str, used: &str) -> bool {
    let height = |row: &str| ROWS.iter().position(|one| *one == row);
    match (user, used) {
        ("tool", _) => true,
        (_, "tool") => false,
        // An adapter implements a port, and the program alone knows which one is in use.
        (_, "adapter") => user == "program",
        ("adapter", _) => height(used) <= height("port"),
        _ => height(used) < height(user),
    }
}

fn is_exception(user: &str, used: &str) -> bool {
    EXCEPTIONS.iter().any(|(name, allowed)| *name == user && allowed.contains(&used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, row: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.into(),
            version: "0.1.0".into(),
            licence: None,
            ours: true,
            row: Some(row.into()),
            dependencies: dependencies.iter().map(|name| (*name).into()).collect(),
        }
    }

    #[test]
    fn a_crate_may_use_lower_rows_only() {
        let packages = [
            package("koine-graph", "pure", &["tokio"]),
            package("koine-store", "port", &["koine-graph"]),
            package("koine-store-embedded", "adapter", &["koine-store"]),
            package("koine-room", "core", &["koine-store", "koine-account", "koine-store-embedded"]),
            package("koine-account", "core", &["koine-graph"]),
            package("koine-push", "core", &["koine-room", "koine-account"]),
            package("koine-server", "program", &["koine-store-embedded", "koine-room"]),
            package("koine-chat", "program", &["tokio", "koine-graph"]),
            package("koine-testkit", "tool", &["koine-room", "koine-chat"]),
        ];
        assert_eq!(
            check(&packages),
            [
                "koine-chat (program) may not use koine-graph (pure)",
                "koine-graph: a pure crate does not depend on tokio",
                "koine-room (core) may not use koine-account (core)",
                "koine-room (core) may not use koine-store-embedded (adapter)",
                "koine-testkit (tool) may not use koine-chat (program)",
            ]
        );
    }

    #[test]
    fn a_crate_states_its_row_and_has_a_name_that_says_something() {
        let mut nameless = package("koine-utils", "pure", &[]);
        nameless.row = None;
        assert_eq!(check(&[nameless]).len(), 2);
    }
}
