//! What cargo knows of the packages: ours and those we depend on.

use std::collections::HashSet;

use serde_json::Value;

use crate::tree;

/// One package.
pub struct Package {
    /// As in `Cargo.toml`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The expression of its licences, if it states one.
    pub licence: Option<String>,
    /// Whether it is ours.
    pub ours: bool,
    /// The row it stands in, of ours.
    pub row: Option<String>,
    /// What it depends on when it is not under test.
    pub dependencies: Vec<String>,
}

/// Every package in the lock file.
pub fn all() -> Result<Vec<Package>, String> {
    let mut command = tree::cargo();
    command.args(["metadata", "--format-version", "1", "--all-features", "--locked"]);
    let output = command.output().map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let members: HashSet<String> = list(&metadata["workspace_members"]).iter().filter_map(text).collect();
    Ok(list(&metadata["packages"]).iter().map(|package| read(package, &members)).collect())
}

fn read(package: &Value, members: &HashSet<String>) -> Package {
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    Package {
        name: text(&package["name"]).unwrap_or_default(),
        version: text(&package["version"]).unwrap_or_default(),
        licence: text(&package["license"]),
        ours: text(&package["id"]).is_some_and(|id| members.contains(&id)),
        row: text(&package["metadata"]["koine"]["row"]),
        dependencies: dependencies
            .iter()
            .filter(|one| one["kind"].is_null())
            .filter_map(|one| text(&one["name"]))
            .collect(),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
