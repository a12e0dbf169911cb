//! `cargo xtask fuzz`: the targets in `fuzz/`, each for a while, from the corpus that is kept there.
//!
//! libFuzzer instruments with flags that a stable compiler knows but does not promise, which `RUSTC_BOOTSTRAP` lets it take. What is found new
//! lies outside the tree; a crash is told with the file that repeats it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::tree;

/// The version that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.1";
/// How long each target is taken, unless something else is said.
const SECONDS: u64 = 60;
/// Longest input. Parsers bound their input themselves, and what is wrong shows in small ones first.
const INPUT_BYTES_MAX: u64 = 4_096;
/// What an input may make a target hold, in MB, and how long it may take, in seconds.
const MEMORY_MB_MAX: u64 = 1_024;
const INPUT_SECONDS_MAX: u64 = 10;

struct Options {
    seconds: u64,
    targets: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, String> {
        let mut options = Self { seconds: SECONDS, targets: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--seconds" {
                let given = args.next().ok_or("--seconds wants a number")?;
                options.seconds = given.parse().map_err(|_| format!("--seconds wants a number, not {given}"))?;
            } else if arg.starts_with('-') {
                return Err(format!("fuzz does not know {arg}"));
            } else {
                options.targets.push(arg.clone());
            }
        }
        Ok(options)
    }
}

/// Says what was found wrong.
pub fn run(args: &[String]) -> Result<Vec<String>, String> {
    let mut options = Options::parse(args)?;
    let home = tree::root().join("fuzz");
    let known = targets(&home)?;
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        return Err(format!("no target is called {unknown}; there are {}", known.join(", ")));
    }
    if options.targets.is_empty() {
        options.targets = known;
    }
    if !Command::new("cargo").args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success()) {
        let status =
            Command::new("cargo").args(["install", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ]).status();
        if !status.is_ok_and(|status| status.success()) {
            return Ok(vec![format!("cargo-fuzz {CARGO_FUZZ} cannot be installed, so nothing was tried")]);
        }
    }
    let cache = tree::cache()?.join("fuzz");
    let mut found = Vec::new();
    for target in &options.targets {
        let (grown, crashes) = (cache.join("corpus").join(target), cache.join("crashes").join(target));
        for folder in [&grown, &crashes] {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        println!("fuzz {target}, {} s", options.seconds);
        let status = Command::new("cargo")
            .args(["fuzz", "run", "--release", "--target-dir"])
            .arg(cache.join("target"))
            .args([target.as_str()])
            .args([&grown, &home.join("corpus").join(target)])
            .arg("--")
            .args([
                format!("-max_total_time={}", options.seconds),
                format!("-max_len={INPUT_BYTES_MAX}"),
                format!("-rss_limit_mb={MEMORY_MB_MAX}"),
                format!("-timeout={INPUT_SECONDS_MAX}"),
                format!("-artifact_prefix={}/", crashes.display()),
                "-print_final_stats=1".to_owned(),
                "-verbosity=0".to_owned(),
            ])
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(&home)
            .status()
            .map_err(|error| format!("cargo fuzz: {error}"))?;
        if !status.success() {
            found.push(format!("{target}: {status}; what repeats it is in {}", crashes.display()));
        }
    }
    Ok(found)
}

/// The names of all targets: each is a file.
fn targets(home: &Path) -> Result<Vec<String>, String> {
    let folder = home.join("targets");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut names: Vec<String> =
        paths.filter_map(|path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}
