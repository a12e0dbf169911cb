//! `MAIL.md`: medians of the rounds.

use std::fmt::Write as _;

use super::Results;
use super::scenario::Line;
use crate::record::median;

pub const SMALL: &str = "a small mail taken in";
pub const LARGE: &str = "a large mail taken in";
pub const SEEN: &str = "from 250 to a waiting client's /sync (0: it had it before)";
pub const SEEN_WHOLE: &str = "from MAIL to a waiting client's /sync";

/// The report.
pub fn markdown(results: &Results, file: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# Mail\n\nWritten by `koine-bench mail`; every line of every round is in [{file}](results/{file}).\n"
    );
    let _ = writeln!(out, "{} {}\n", results.date, results.machine.in_words());
    for server in &results.servers {
        let _ = writeln!(out, "* **{}** {}: {}", server.name, server.version, server.settings);
    }
    let sizes = &results.sizes;
    let _ = writeln!(
        out,
        "\nSMTP in the clear on loopback, {} connections, each to another account; small mails have {} bytes of text, large ones {} bytes\nwith a file. Nobody's senders are looked at (both trust loopback). Medians of {} rounds, in turns. CPU is that of all processes of a\nserver, for one mail. The machine has other things to do at the same time: CPU is what compares, times and rates are noisy.\n",
        sizes.connections, sizes.small_bytes, sizes.large_bytes, results.rounds
    );
    let _ = writeln!(out, "| what | server | mails | CPU ms | per second | p50 ms | p99 ms | memory MB |");
    let _ = writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|");
    let mut written: Vec<(&str, &str)> = Vec::new();
    let order = |line: &&Line| [SMALL, LARGE, SEEN, SEEN_WHOLE].iter().position(|what| *what == line.what).unwrap_or(4);
    let mut lines: Vec<&Line> = results.lines.iter().collect();
    lines.sort_by_key(order);
    for line in &lines {
        if written.contains(&(&line.what, &line.server)) {
            continue;
        }
        written.push((&line.what, &line.server));
        let same: Vec<&&Line> = lines.iter().filter(|it| it.what == line.what && it.server == line.server).collect();
        let number = |of: fn(&Line) -> Option<f64>, digits: usize| {
            let middle = median(same.iter().filter_map(|line| of(line)));
            middle.map(|value| format!("{value:.digits$}")).unwrap_or_default()
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            line.what,
            line.server,
            line.count,
            number(|line| line.cpu_ms, 2),
            number(|line| line.per_second, 1),
            number(|line| line.p50_ms, 1),
            number(|line| line.p99_ms, 1),
            number(|line| line.memory_mb, 1),
        );
    }
    let _ = writeln!(
        out,
        "\np50 and p99 are from MAIL to the last answer for mails taken in, and until the first answer by HTTP for a start. Mails in the queue\nwait for the hundred correspondents of one room, a line each."
    );
    if !results.skipped.is_empty() {
        let _ = writeln!(out, "\nNot measured:\n");
        for what in &results.skipped {
            let _ = writeln!(out, "* {what}");
        }
    }
    out
}
