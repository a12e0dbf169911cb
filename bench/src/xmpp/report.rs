//! `XMPP.md`: medians of the rounds, and what one server costs beside the first.

use std::fmt::Write as _;

use super::Results;
use super::scenario::{Line, Scenario};
use crate::record::median;

/// The report.
pub fn markdown(results: &Results, file: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# XMPP\n\nWritten by `koine-bench xmpp`; every line of every round is in [{file}](results/{file}).\n"
    );
    let _ = writeln!(out, "{} {}\n", results.date, results.machine.in_words());
    for server in &results.servers {
        let _ = writeln!(out, "* **{}** {}: {}", server.name, server.version, server.settings);
    }
    let rounds = results.rounds;
    let _ = writeln!(
        out,
        "\nPlain TCP on loopback, archives on. Medians of {rounds} rounds, in turns. CPU is the server's, for one of what the\nline counts; the ratio is koine's share of the other's.\n"
    );
    let seconds: f64 = results.lines.iter().map(|line| line.elapsed_s).sum();
    let own: f64 = results.lines.iter().map(|line| line.generator_cpu_s).sum();
    if own > 0.0 {
        let _ = writeln!(out, "The load generator itself, one thread, used {own:.0} of {seconds:.0} seconds.\n");
    }
    let _ = writeln!(out, "| what | server | CPU ms | ratio | per second | p50 ms | p99 ms | KB each |");
    let _ = writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|");
    for scenario in Scenario::ALL {
        let mut counts: Vec<usize> = of(results, scenario).map(|line| line.count).collect();
        counts.sort_unstable();
        counts.dedup();
        let several = scenario == Scenario::Idle;
        for count in counts.into_iter().take(if several { usize::MAX } else { 1 }) {
            rows(&mut out, results, scenario, several.then_some(count));
        }
    }
    if !results.skipped.is_empty() {
        let _ = writeln!(out, "\nNot measured:\n");
        for what in &results.skipped {
            let _ = writeln!(out, "* {what}");
        }
    }
    out
}

fn of(results: &Results, scenario: Scenario) -> impl Iterator<Item = &Line> {
    results.lines.iter().filter(move |line| line.scenario == scenario)
}

fn rows(out: &mut String, results: &Results, scenario: Scenario, count: Option<usize>) {
    let what = match count {
        Some(count) => format!("{}, up to {count}", scenario.what()),
        None => scenario.what().to_owned(),
    };
    let lines = |server: &str| -> Vec<&Line> {
        of(results, scenario)
            .filter(|line| line.server == server && count.is_none_or(|count| line.count == count))
            .collect()
    };
    let ours = median(lines("koine").iter().map(|line| line.cpu_ms));
    for server in &results.servers {
        let some = lines(&server.name);
        let Some(cpu) = median(some.iter().map(|line| line.cpu_ms)) else { continue };
        let ratio = ours.filter(|_| server.name != "koine").map(|ours| ours / cpu);
        // Idle sessions are counted from the first; their rate is that of the logins.
        let rate = median(some.iter().map(|line| line.count as f64 / line.elapsed_s)).filter(|_| count.is_none());
        let number =
            |value: Option<f64>, digits: usize| value.map(|value| format!("{value:.digits$}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {what} | {} | {} | {} | {} | {} | {} | {} |",
            server.name,
            number(Some(cpu), 3),
            number(ratio, 2),
            number(rate, 0),
            number(median(some.iter().filter_map(|line| line.p50_ms)), 2),
            number(median(some.iter().filter_map(|line| line.p99_ms)), 2),
            number(median(some.iter().filter_map(|line| line.kb)), 1),
        );
    }
}
