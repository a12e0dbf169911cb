//! The checkout: where it is, and its files that git knows or would take.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A file of the checkout.
pub struct File {
    /// Its path from the root, with `/`.
    pub path: String,
}

impl File {
    /// What is in it.
    pub fn text(&self) -> Result<String, String> {
        fs::read_to_string(self.place()).map_err(|error| format!("{}: {error}", self.path))
    }

    /// Where it is.
    pub fn place(&self) -> PathBuf {
        root().join(&self.path)
    }

    /// Whether its name ends so.
    pub fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// All files that are committed or would be by `git add --all`.
pub fn files() -> Result<Vec<File>, String> {
    let mut command = Command::new("git");
    command.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let output = command.output().map_err(|error| format!("git: {error}"))?;
    let names = String::from_utf8(output.stdout).map_err(|error| format!("git: {error}"))?;
    let files = names.split_terminator('\0').map(|path| File { path: path.to_owned() });
    Ok(files.filter(|file| file.place().is_file()).collect())
}
