//! The XMPP interoperability suite: Smack's integration tests, from Maven Central.
//!
//! They make their accounts over XMPP (XEP-0133) as an admin who is made here. They know the usual port of XMPP alone, so a
//! [`Relay`] stands there on a loopback address of its own. `KOINE_SMACK_TESTS` names a jar with further tests of the same
//! framework, such as a release of the server extensions of the XMPP interop testing project; what is known of those is in
//! `known-failures-extensions.tsv`.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::known::Known;
use super::relay::Relay;
use super::server::Server;
use super::{Result, Summary, Yard, debian, install_once, must};

/// The port that the suite connects to.
const PORT: u16 = 5222;
/// How long a test waits for an answer, in milliseconds. Tests that nothing arrives wait for the whole of it.
const REPLY_TIMEOUT: &str = "2000";
const ADMIN: &str = "admin";
const FRAMEWORK: &str = "org.igniterealtime.smack.inttest.SmackIntegrationTestFramework";
/// Packages that are searched for tests.
const PACKAGES: &str = "org.igniterealtime.smack,org.jivesoftware";
/// Of a failed test's output, its first lines are shown; all of it is in the log.
const SHOWN_LINES: usize = 8;

pub fn run(yard: &Yard, tests: &[String]) -> Result<Summary> {
    if let Err(why) = debian::ensure(&[("java", "default-jre-headless"), ("mvn", "maven")]) {
        return Ok(Summary { not_run: vec![format!("smack: {why}")], ..Summary::default() });
    }
    println!("smack");
    let source = yard.conformance.join("smack");
    let extensions = env::var_os("KOINE_SMACK_TESTS").map(PathBuf::from);
    let mut known = Known::read(&source.join("known-failures.tsv"))?;
    if extensions.is_some() {
        known.add(Known::read(&source.join("known-failures-extensions.tsv"))?);
    }
    let classes = match class_path(yard, &source) {
        Ok(classes) => classes,
        Err(why) => {
            let line = format!("smack: the suite cannot be had from Maven Central here: {why}");
            return Ok(Summary { not_run: vec![line], ..Summary::default() });
        }
    };
    let mut server = Server::start(yard, "smack")?;
    let relay = Relay::start(PORT, server.xmpp)?;
    let password = format!("admin of {}", server.pid());
    make_admin(yard, &server, &password)?;

    let mut suite = Command::new("java");
    let paths = extensions.iter().map(|jar| jar.display().to_string()).chain([classes]);
    suite.arg("-cp").arg(paths.collect::<Vec<_>>().join(":"));
    // One line for each thing that is said, in English.
    suite.args(["-Duser.language=en", "-Djava.util.logging.SimpleFormatter.format=%4$s: %5$s%6$s%n"]);
    let settings = [
        ("service", "localhost"),
        ("host", &relay.host.to_string()),
        ("securityMode", "disabled"),
        ("replyTimeout", REPLY_TIMEOUT),
        ("adminAccountUsername", ADMIN),
        ("adminAccountPassword", &password),
        ("enabledConnections", "tcp"),
        ("dnsResolver", "javax"),
        ("testPackages", PACKAGES),
        ("enabledTests", &tests.join(",")),
    ];
    suite.args(
        settings
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("-Dsinttest.{name}={value}")),
    );
    suite.arg(FRAMEWORK);
    let log = yard.cached("conformance-logs")?.join("smack.log");
    let seen = Outcomes::of_run(suite, &log)?;
    let mut summary = judge(&seen, &known, tests.is_empty(), &log);
    if let Some(end) = server.ended() {
        summary.failures.push(format!("smack: koine ended during it ({end}); see {}", server.log().display()));
    }
    Ok(summary)
}

/// The suite and all that it is made of, fetched once for each version.
fn class_path(yard: &Yard, source: &Path) -> Result<String> {
    let home = yard.cached("smack")?;
    let (recipe, list) = (source.join("pom.xml"), home.join("class-path"));
    install_once(&home, &recipe, || {
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--file"]).arg(&recipe);
        maven.arg("dependency:build-classpath").arg(format!("-Dmdep.outputFile={}", list.display()));
        must(&mut maven)
    })?;
    Ok(fs::read_to_string(list)?.trim().to_owned())
}

fn make_admin(yard: &Yard, server: &Server, password: &str) -> Result<()> {
    let mut make = Command::new(&yard.koine);
    make.args(["user", "create", "--admin", ADMIN, "--data-dir"]).arg(server.data()?);
    let mut child = make.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().ok_or("no standard input of koine user create")?.write_all(password.as_bytes())?;
    match child.wait()?.success() {
        true => Ok(()),
        false => Err("koine user create makes no admin".into()),
    }
}

/// Every test by class and method.
#[derive(Default)]
struct Outcomes {
    passed: BTreeSet<String>,
    failed: BTreeMap<String, Vec<String>>,
    /// Needs something that is not there, as the suite found out.
    impossible: BTreeSet<String>,
    /// The suite came to its end.
    ended: bool,
}

impl Outcomes {
    fn of_run(mut suite: Command, log: &Path) -> Result<Self> {
        let mut kept = File::create(log)?;
        let mut child = suite.stdout(Stdio::piped()).stderr(kept.try_clone()?).spawn()?;
        drop(child.stdout.take());
        let status = child.wait()?;
        writeln!(kept, "{status}")?;
        let mut seen = Self::default();
        let mut failing = None;
        for line in BufReader::new(File::open(log)?).lines() {
            seen.note(&line?, &mut failing);
        }
        Ok(seen)
    }

    /// Takes one line of the suite's log. `failing` is the test whose failure is being told.
    fn note(&mut self, line: &str, failing: &mut Option<String>) {
        let said = line.strip_prefix("INFO: ").or_else(|| line.strip_prefix("SEVERE: "));
        let Some(said) = said else {
            if line.starts_with("WARNING: ") {
                *failing = None;
            } else if let Some(lines) = failing.as_ref().and_then(|test| self.failed.get_mut(test)) {
                lines.push(line.to_owned());
            }
            return;
        };
        *failing = None;
        self.ended |= said.starts_with("SmackIntegrationTestFramework[") && said.contains(" finished: ");
        // Class.method (kind) what became of it
        let Some((name, outcome)) =
            said.split_once(" (").and_then(|(name, rest)| Some((name, rest.split_once(") ")?.1)))
        else {
            return;
        };
        match outcome {
            "Success" => drop(self.passed.insert(name.to_owned())),
            "is not possible" => drop(self.impossible.insert(name.to_owned())),
            "Failed" => {
                self.failed.insert(name.to_owned(), Vec::new());
                *failing = Some(name.to_owned());
            }
            _ => {}
        }
    }
}

fn judge(seen: &Outcomes, known: &Known, everything_ran: bool, log: &Path) -> Summary {
    let mut summary = Summary { passed: seen.passed.len(), ..Summary::default() };
    let mut expected = 0;
    for (name, lines) in &seen.failed {
        if known.covers(name) {
            expected += 1;
            continue;
        }
        summary.failures.push(format!("smack {name}"));
        summary.alone.push(name.clone());
        println!("---- {name}");
        for line in lines.iter().take(SHOWN_LINES) {
            println!("    {line}");
        }
    }
    for (test, may_pass) in known.tests() {
        let has_passed = seen.passed.contains(test);
        if has_passed && !may_pass {
            summary.failures.push(format!("smack {test} passes now: take it off the list of known failures"));
        } else if everything_ran && !has_passed && !seen.failed.contains_key(test) {
            summary.failures.push(format!("smack {test} is on the list of known failures and did not run"));
        }
    }
    if !seen.ended {
        summary.failures.push(format!("smack: the suite did not come to its end; see {}", log.display()));
    }
    println!(
        "smack: {} passed, {} failed, {expected} of them known to; {} could not be tried; told in {}",
        seen.passed.len(),
        seen.failed.len(),
        seen.impossible.len(),
        log.display()
    );
    summary.passed += expected;
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(log: &str) -> Outcomes {
        let (mut seen, mut failing) = (Outcomes::default(), None);
        log.lines().for_each(|line| seen.note(line, &mut failing));
        seen
    }

    const LOG: &str = "\
INFO: PingTest.ping (Normal) Start
INFO: PingTest.ping (Normal) Success
INFO: MucTest.join (LowLevel, tcp) Start
SEVERE: MucTest.join (LowLevel, tcp) Failed
java.lang.AssertionError: nobody came
\tat MucTest.join
INFO: MucTest.leave (Normal) is not possible
INFO: SmackIntegrationTestFramework[abc] finished: 1/2 [1 failed]
";

    #[test]
    fn outcomes_and_the_reason_of_a_failure_are_read_from_the_log() {
        let seen = outcomes(LOG);
        assert!(seen.ended);
        assert_eq!(seen.passed.iter().collect::<Vec<_>>(), ["PingTest.ping"]);
        assert_eq!(seen.failed["MucTest.join"][0], "java.lang.AssertionError: nobody came");
        assert!(seen.impossible.contains("MucTest.leave"));
    }

    #[test]
    fn the_list_of_known_failures_holds_in_both_directions() {
        let judged =
            |known: &[&str], all| judge(&outcomes(LOG), &Known::of(known), all, Path::new("log")).failures.len();
        assert_eq!(judged(&[], true), 1);
        assert_eq!(judged(&["MucTest.join"], true), 0);
        assert_eq!(judged(&["MucTest.join", "PingTest.ping"], true), 1);
        assert_eq!(judged(&["MucTest.join", "Gone.test"], true), 1);
        assert_eq!(judged(&["MucTest.join", "Gone.test"], false), 0);
    }

    #[test]
    fn a_suite_that_stops_in_the_middle_is_reported() {
        assert_eq!(judge(&outcomes(""), &Known::of(&[]), true, Path::new("log")).failures.len(), 1);
    }
}
