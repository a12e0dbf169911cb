//! The checkout: where it is, and its files that git knows or would take.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

/// The folder of the workspace.
///
/// Asked of the run, not of the build: checkouts that share a target folder share this program.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let xtask = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Path::new(&xtask).parent().expect("xtask lies in the workspace").to_owned()
    });
    &ROOT
}

/// Where environments, packages and builds are kept that outlive a run: `KOINE_CACHE`, or a folder below the home folder.
pub fn cache() -> Result<PathBuf, String> {
    match env::var_os("KOINE_CACHE") {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => Ok(PathBuf::from(env::var_os("HOME").ok_or("HOME is not set")?).join(".cache/koine")),
    }
}

/// Cargo, as it runs us, in the folder of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What Cargo told this program of itself is no business of what is built: ring's build script looks at it, and ring and all above it would
    // be built anew whenever cargo is called by hand and by this program in turn.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
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
