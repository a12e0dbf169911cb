//! Conformance: suites and clients written by others, run against a koine that is started for them.
//!
//! `complement` runs Complement's tests, `smack` the XMPP interoperability suite, `walks` takes real clients for a walk,
//! `federation` lets koine and Synapse share rooms, `xmpp-servers` lets it talk with Prosody and ejabberd, `compare` asks both
//! the same, `hostile` tries bad input, `mail` exchanges mail with real mail programs,
//! `faults` kills it and takes its disk and network away. What each of them contains lies in `conformance/`; here
//! is only what starts them, waits for them and judges the outcome.

mod compare;
mod complement;
mod debian;
mod e2ee;
mod faults;
mod federation;
mod hostile;
mod known;
mod mail;
mod relay;
mod server;
mod smack;
mod walks;
mod xmpp_servers;

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tree;

pub use walks::CHAT_FEATURES;

/// What goes wrong here is told to a person; nothing acts upon the kind of it.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How a run went.
#[derive(Debug, Default)]
pub struct Summary {
    /// Checks that went as they should, known failures among them.
    pub passed: usize,
    /// One line for each thing that is not as it should be. Empty means success.
    pub failures: Vec<String>,
    /// For each failure what the same run takes to try that alone; fewer than failures where all of it must be tried again.
    pub alone: Vec<String>,
    /// What could not be tried on this machine, with the reason. To be shown to whoever started the run.
    pub not_run: Vec<String>,
}

impl Summary {
    /// Nothing failed.
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.alone.extend(other.alone);
        self.not_run.extend(other.not_run);
    }

    /// Some lines for a person; the last has the form `N passed, N failed`.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for line in &self.not_run {
            let _ = writeln!(text, "NOT RUN  {line}");
        }
        for line in &self.failures {
            let _ = writeln!(text, "FAILED   {line}");
        }
        let _ = write!(text, "{} passed, {} failed", self.passed, self.failures.len());
        text
    }
}

/// One run: its name, what it takes, and what runs it.
type Run = (&'static str, &'static str, fn(&Yard, &[String]) -> Result<Summary>);

/// All of them, the quick ones first.
const RUNS: [Run; 10] = [
    ("hostile", "[NAME]...", hostile::run),
    ("faults", "[--kills N] [--minutes N] [--events N] [CASE]...", faults::run),
    ("mail", "[STEP]...", mail::run),
    ("walks", "[NAME]...", walks::run),
    ("e2ee", "", e2ee::run),
    ("federation", "[STEP]...", federation::run),
    ("xmpp-servers", "[STEP]...", xmpp_servers::run),
    ("compare", "[--verbose]", compare::run),
    ("smack", "[TEST]...", smack::run),
    ("complement", "[-run REGEX] [-jobs N]", complement::run),
];

/// `cargo xtask conformance ...`: `args` are what follows that word; without a name, all are run. Prints as it goes; the caller
/// prints the report.
///
/// The program under test is `KOINE_BIN`, or else is built first (dev profile).
pub fn run(args: &[String]) -> Result<Summary> {
    let Some((wanted, rest)) = args.split_first() else {
        let yard = Yard::find()?;
        let mut summary = Summary::default();
        for (_, _, run) in RUNS {
            summary.add(run(&yard, &[])?);
        }
        return Ok(summary);
    };
    let Some((_, _, run)) = RUNS.iter().find(|(name, ..)| name == wanted) else {
        let usage: Vec<String> = RUNS.iter().map(|(name, takes, _)| format!("  {name} {takes}")).collect();
        return Err(format!("no conformance run is called {wanted}; there are:\n{}", usage.join("\n")).into());
    };
    run(&Yard::find()?, rest)
}

/// Where things are.
struct Yard {
    /// The checkout's `conformance` folder. Nothing is written there.
    conformance: PathBuf,
    /// Environments, packages and builds that outlive a run.
    cache: PathBuf,
    /// The program under test.
    koine: PathBuf,
}

impl Yard {
    fn find() -> Result<Self> {
        let root = tree::root();
        let cache = tree::cache()?;
        let koine = match env::var_os("KOINE_BIN") {
            Some(bin) => PathBuf::from(bin).canonicalize().map_err(|e| format!("KOINE_BIN: {e}"))?,
            None => build("koine-server", "koine", &[])?,
        };
        Ok(Self { conformance: root.join("conformance"), cache, koine })
    }

    /// A folder below the cache, made if need be.
    fn cached(&self, name: &str) -> Result<PathBuf> {
        let dir = self.cache.join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

/// Builds a program of ours (dev profile); where it is.
fn build(package: &str, program: &str, more: &[&str]) -> Result<PathBuf> {
    must(tree::cargo().args(["build", "--package", package, "--bin", program]).args(more))?;
    let root = tree::root();
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(target).join("debug").join(program))
}

/// Runs a command to its end and wants success.
fn must(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{} {:?}: {status}", command.get_program().display(), command.get_args().collect::<Vec<_>>()).into())
}

/// Runs a command to its end, wants success and takes what it prints; its standard error becomes the error's text.
fn output_of(command: &mut Command) -> Result<String> {
    let out = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&out.stderr).trim().to_owned().into())
}

/// Installs into `dir` with `install` when `recipe` (a lock file, a list of requirements) is not the one installed from last.
fn install_once(dir: &Path, recipe: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = dir.join(".installed-from");
    let wanted = std::fs::read(recipe)?;
    if std::fs::read(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    install()?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}
