//! Complement: the Matrix project's black-box tests, without Docker.
//!
//! The suite is a Go module. Its tests are compiled here with a `TestMain` of ours laid over its own (`go test -overlay`),
//! which starts koine processes (`conformance/complement/deploy`). The tests of a package are dealt out to several processes,
//! since most of a test is waiting. What fails is compared with `known-failures.tsv`, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use super::known::Known;
use super::{Result, Summary, Yard, must, output_of};

const MODULE: &str = "github.com/matrix-org/complement";
/// Packages below the module that are run, and which tests of them.
const PACKAGES: [(&str, &str); 13] = [
    ("tests/csapi", "."),
    ("tests", "."),
    ("tests/msc3391", "."),
    ("tests/msc3757", "."),
    ("tests/msc3874", "."),
    ("tests/msc3890", "."),
    ("tests/msc3902", "TestPartialStateJoin"),
    ("tests/msc3930", "."),
    ("tests/msc3967", "."),
    ("tests/msc4140", "."),
    ("tests/msc4155", "."),
    ("tests/msc4222", "."),
    ("tests/msc4306", "."),
];
/// What the servers of a package's tests are started with beside the usual.
const ARGUMENTS: [(&str, &str); 1] = [("msc3902", "--partial-joins")];
/// Where `OldDeploy` of the suite begins, and what is laid around that: a variable that our `TestMain` sets.
const OLD_DEPLOY: &str = "func OldDeploy(t ct.TestLike, blueprint b.Blueprint) Deployment {\n";
const OLD_DEPLOYER: &str =
    "var OldDeployer func(t ct.TestLike, blueprint b.Blueprint, config *config.Complement) Deployment\n\n";
const ASK_OLD_DEPLOYER: &str =
    "\tif OldDeployer != nil && testPackage != nil {\n\t\treturn OldDeployer(t, blueprint, testPackage.Config)\n\t}\n";
/// Processes at once. Tests mostly wait, so more than there are cores.
const JOBS: usize = 4;
/// One process may take this long; Go ends it then and says where it hung.
const TIMEOUT: &str = "15m";
/// Of a failed test's output, its last lines are shown; all of it is kept in a file.
const SHOWN_LINES: usize = 12;
/// With this the deployer begins what a server said, which is only in the file.
const SERVER_LOG: &str = "---- last lines of ";

struct Options {
    /// As `go test -run` takes it.
    filter: Option<String>,
    jobs: usize,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { filter: None, jobs: JOBS };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value"));
            match arg.as_str() {
                "-run" | "--run" => options.filter = Some(value()?.clone()),
                "-jobs" | "--jobs" => options.jobs = value()?.parse::<usize>()?.max(1),
                other => return Err(format!("complement does not know {other}").into()),
            }
        }
        Ok(options)
    }
}

pub fn run(yard: &Yard, args: &[String]) -> Result<Summary> {
    let options = Options::parse(args)?;
    let suite = Suite::prepare(yard)?;
    if let Err(why) = suite.go(&["mod", "download", MODULE]) {
        let line = format!("Complement: the module proxy does not serve the suite here: {why}");
        return Ok(Summary { not_run: vec![line], ..Summary::default() });
    }
    let known = Known::read(&yard.conformance.join("complement/known-failures.tsv"))?;
    let mut seen = Outcomes::default();
    for (package, wanted) in PACKAGES {
        let short = package.rsplit('/').next().unwrap_or(package);
        let binary = suite.compile(package)?;
        println!("complement {package}");
        suite.run_tests(&binary, short, wanted, &options, &mut seen)?;
    }
    let log = yard.cached("conformance-logs")?.join("complement-failures.log");
    seen.write_failures(&log)?;
    Ok(judge(&seen, &known, options.filter.is_none(), &log))
}

/// The suite's sources and what is needed to run them.
struct Suite<'a> {
    yard: &'a Yard,
    /// Our Go module.
    source: PathBuf,
    /// Binaries and generated files.
    work: PathBuf,
    go_flags: String,
}

impl<'a> Suite<'a> {
    fn prepare(yard: &'a Yard) -> Result<Self> {
        let source = yard.conformance.join("complement");
        let work = yard.cached("complement")?;
        for file in ["go.mod", "go.sum"] {
            fs::copy(source.join(file), work.join(file))?;
        }
        // A copy of go.mod, because `-mod=mod` writes to it. Whoever has GOFLAGS of their own has their reasons.
        let ours = || format!("-mod=mod -modfile={}", work.join("go.mod").display());
        let go_flags = std::env::var("GOFLAGS").ok().filter(|f| !f.is_empty()).unwrap_or_else(ours);
        Ok(Self { yard, source, work, go_flags })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("go");
        command.current_dir(&self.source).env("GOFLAGS", &self.go_flags).args(args);
        command
    }

    fn go(&self, args: &[&str]) -> Result<String> {
        output_of(&mut self.command(args))
    }

    /// The package's test binary, with our `TestMain`.
    fn compile(&self, package: &str) -> Result<PathBuf> {
        let import = format!("{MODULE}/{package}");
        let listed = self.go(&["list", "-f", "{{.Name}}\t{{.Dir}}", &import])?;
        let (name, dir) = listed.trim().split_once('\t').ok_or("go list tells no folder")?;
        let stem = package.replace('/', "-");

        let main = self.work.join(format!("{stem}_main_test.go"));
        let template = fs::read_to_string(self.source.join("main_test.go.in"))?;
        fs::write(&main, template.replace("PACKAGE", name))?;
        let overlay = self.work.join(format!("{stem}.overlay.json"));
        let replaced = Path::new(dir).join("main_test.go");
        let (starter, with_hook) = self.starter()?;
        let replace = serde_json::json!({ replaced.to_string_lossy(): main, starter.to_string_lossy(): with_hook });
        fs::write(&overlay, serde_json::json!({ "Replace": replace }).to_string())?;

        let binary = self.work.join(format!("{stem}.test"));
        must(self.command(&["test", "-c", "-vet=off", "-overlay"]).arg(&overlay).arg("-o").arg(&binary).arg(&import))?;
        Ok(binary)
    }

    /// The suite's own file with `OldDeploy`, which some older tests call and which knows Docker alone, and one like it that
    /// asks our deployer, as `Deploy` does.
    fn starter(&self) -> Result<(PathBuf, PathBuf)> {
        let dir = self.go(&["list", "-f", "{{.Dir}}", MODULE])?;
        let file = Path::new(dir.trim()).join("test_main.go");
        let text = fs::read_to_string(&file)?;
        let (head, body) = text.split_once(OLD_DEPLOY).ok_or("the suite has another OldDeploy than we know")?;
        let with_hook = self.work.join("suite_test_main.go");
        fs::write(&with_hook, format!("{head}{OLD_DEPLOYER}{OLD_DEPLOY}{ASK_OLD_DEPLOYER}{body}"))?;
        Ok((file, with_hook))
    }

    fn environment(&self, command: &mut Command) {
        command
            .env("KOINE_BIN", &self.yard.koine)
            .env("SYNAPSE_VENV", self.yard.cache.join("synapse"))
            .env("COMPLEMENT_BASE_IMAGE", "none")
            .env("COMPLEMENT_HOSTNAME_RUNNING_COMPLEMENT", "localhost")
            .stderr(Stdio::null());
    }

    fn run_tests(
        &self,
        binary: &Path,
        short: &str,
        wanted: &str,
        options: &Options,
        seen: &mut Outcomes,
    ) -> Result<()> {
        // `-run A/b` names a test and its parts; only the first element chooses among tests.
        let filter = options.filter.as_deref().unwrap_or(".");
        let (top, below) = filter.split_once('/').map_or((filter, None), |(top, below)| (top, Some(below)));
        let chosen = self.list(binary, top)?;
        let names: Vec<String> = self.list(binary, wanted)?.into_iter().filter(|name| chosen.contains(name)).collect();

        let hands: Vec<Vec<&str>> = (0..options.jobs)
            .map(|job| names.iter().map(String::as_str).skip(job).step_by(options.jobs).collect())
            .filter(|hand: &Vec<&str>| !hand.is_empty())
            .collect();
        let results: Vec<Result<Outcomes>> = thread::scope(|scope| {
            let running: Vec<_> = hands
                .iter()
                .enumerate()
                .map(|(slot, hand)| {
                    let pattern =
                        format!("^({})${}", hand.join("|"), below.map(|b| format!("/{b}")).unwrap_or_default());
                    scope.spawn(move || self.run_hand(binary, short, slot, &pattern))
                })
                .collect();
            running
                .into_iter()
                .map(|r| r.join().unwrap_or_else(|_| Err("a reader of results panicked".into())))
                .collect()
        });
        for outcomes in results {
            seen.add(outcomes?);
        }
        Ok(())
    }

    /// The package's tests whose names match.
    fn list(&self, binary: &Path, pattern: &str) -> Result<Vec<String>> {
        let mut list = Command::new(binary);
        list.args(["-test.list", pattern]);
        self.environment(&mut list);
        Ok(output_of(&mut list)?.lines().filter(|l| l.starts_with("Test")).map(ToOwned::to_owned).collect())
    }

    fn run_hand(&self, binary: &Path, short: &str, slot: usize, pattern: &str) -> Result<Outcomes> {
        let mut command = Command::new("go");
        command.args(["tool", "test2json", "-t"]).arg(binary);
        command.args(["-test.v=test2json", "-test.parallel=8", "-test.timeout", TIMEOUT, "-test.run", pattern]);
        self.environment(&mut command);
        command.env("KOINE_SLOT", slot.to_string()).stdout(Stdio::piped());
        if let Some((_, arguments)) = ARGUMENTS.iter().find(|(package, _)| *package == short) {
            command.env("KOINE_ARGS", arguments);
        }
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output of the tests")?).lines();
        let mut seen = Outcomes::default();
        for line in lines {
            seen.note(short, &line?);
        }
        child.wait()?;
        Ok(seen)
    }
}

/// Every test by its full name: package, test, parts.
#[derive(Default)]
struct Outcomes {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    started: BTreeSet<String>,
    output: BTreeMap<String, Vec<String>>,
}

impl Outcomes {
    /// Takes one line of test2json.
    fn note(&mut self, package: &str, line: &str) {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return };
        let Some(test) = event["Test"].as_str() else { return };
        let name = format!("{package}/{test}");
        match event["Action"].as_str().unwrap_or_default() {
            "run" => drop(self.started.insert(name)),
            "output" => {
                let text = event["Output"].as_str().unwrap_or_default();
                self.output.entry(name).or_default().push(text.to_owned());
            }
            "pass" | "skip" => {
                self.output.remove(&name);
                self.started.remove(&name);
                if event["Action"] == "pass" {
                    self.passed.insert(name);
                }
            }
            "fail" => {
                self.started.remove(&name);
                self.failed.insert(name);
            }
            _ => {}
        }
    }

    fn add(&mut self, other: Self) {
        self.passed.extend(other.passed);
        self.failed.extend(other.failed);
        self.started.extend(other.started);
        self.output.extend(other.output);
    }

    /// Failed tests of which no part failed: the parts themselves, where there are any.
    fn failed_leaves(&self) -> impl Iterator<Item = &str> {
        let has_failed_part = |name: &str| {
            let parts = format!("{name}/");
            self.failed.range(parts.clone()..).next().is_some_and(|next| next.starts_with(&parts))
        };
        self.failed.iter().map(String::as_str).filter(move |name| !has_failed_part(name))
    }

    fn passed_leaves(&self) -> usize {
        let is_leaf = |name: &&String| {
            let parts = format!("{name}/");
            !self.passed.range(parts.clone()..).next().is_some_and(|next| next.starts_with(&parts))
        };
        self.passed.iter().filter(is_leaf).count()
    }

    fn write_failures(&self, path: &Path) -> Result<()> {
        let mut file = fs::File::create(path)?;
        for name in self.failed_leaves() {
            writeln!(file, "==== {name}")?;
            for line in self.output.get(name).into_iter().flatten() {
                file.write_all(line.as_bytes())?;
            }
        }
        Ok(())
    }
}

fn judge(seen: &Outcomes, known: &Known, everything_ran: bool, log: &Path) -> Summary {
    let mut summary = Summary { passed: seen.passed_leaves(), ..Summary::default() };
    let mut expected = 0;
    for name in seen.failed_leaves() {
        if known.covers(name) {
            expected += 1;
            continue;
        }
        summary.failures.push(format!("complement {name}"));
        let lines = seen.output.get(name).map(Vec::as_slice).unwrap_or_default();
        let lines = lines.split(|line| line.contains(SERVER_LOG)).next().unwrap_or_default();
        println!("---- {name}");
        for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
            print!("    {line}");
        }
    }
    for name in &seen.started {
        summary.failures.push(format!("complement {name} never came to an end"));
    }
    for (test, may_pass) in known.tests() {
        let has_passed = seen.passed.contains(test);
        if has_passed && !may_pass {
            summary.failures.push(format!("complement {test} passes now: take it off known-failures.tsv"));
        } else if everything_ran && !has_passed && !seen.failed.contains(test) {
            summary.failures.push(format!("complement {test} is on known-failures.tsv and did not run"));
        }
    }
    summary.passed += expected;
    println!("complement: {expected} known failures; all that failed is told in {}", log.display());
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, test: &str) -> String {
        serde_json::json!({ "Action": action, "Test": test, "Output": "said\n" }).to_string()
    }

    fn outcomes(events: &[(&str, &str)]) -> Outcomes {
        let mut seen = Outcomes::default();
        for (action, test) in events {
            seen.note("csapi", &event(action, test));
        }
        seen
    }

    #[test]
    fn only_the_part_that_failed_is_reported() {
        let seen = outcomes(&[("pass", "TestA/one"), ("fail", "TestA/two"), ("fail", "TestA")]);
        let summary = judge(&seen, &Known::of(&[]), true, Path::new("log"));
        assert_eq!(summary.failures, ["complement csapi/TestA/two"]);
        assert_eq!(summary.passed, 1);
    }

    #[test]
    fn a_known_failure_covers_its_parts_and_no_test_that_merely_begins_alike() {
        let seen = outcomes(&[("fail", "TestA/two"), ("fail", "TestA"), ("fail", "TestAB")]);
        let summary = judge(&seen, &Known::of(&["csapi/TestA"]), true, Path::new("log"));
        assert_eq!(summary.failures, ["complement csapi/TestAB"]);
    }

    #[test]
    fn a_known_failure_that_passes_or_is_gone_is_reported() {
        let seen = outcomes(&[("pass", "TestA")]);
        let summary = judge(&seen, &Known::of(&["csapi/TestA", "csapi/TestB"]), true, Path::new("log"));
        assert_eq!(summary.failures.len(), 2);
        let filtered = judge(&seen, &Known::of(&["csapi/TestA", "csapi/TestB"]), false, Path::new("log"));
        assert_eq!(filtered.failures.len(), 1);
    }

    #[test]
    fn a_known_failure_that_is_a_matter_of_luck_may_pass() {
        let known = Known::of_luck("csapi/TestA");
        for outcome in ["pass", "fail"] {
            let summary = judge(&outcomes(&[(outcome, "TestA")]), &known, true, Path::new("log"));
            assert!(summary.failures.is_empty(), "{outcome}");
        }
    }

    #[test]
    fn a_test_that_never_ends_is_reported() {
        let seen = outcomes(&[("run", "TestA")]);
        assert_eq!(judge(&seen, &Known::of(&[]), true, Path::new("log")).failures.len(), 1);
    }
}
