//! `COST.md`.

use std::fmt::Write as _;

use super::Results;

/// The report.
pub fn markdown(results: &Results, file: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# What a message costs\n\nWritten by `koine-bench cost`; the same is in [{file}](results/{file}).\n"
    );
    let _ = writeln!(out, "{} {}\n", results.date, results.machine.in_words());
    let server = &results.server;
    let _ = writeln!(out, "* **{}** {}: {}", server.name, server.version, server.settings);
    let _ = writeln!(
        out,
        "\nEach was done {} times, one after the other, so that no sync of the disk serves two; plain TCP. CPU, disk, system\n\
         calls and allocations are the server's. Bytes are those of HTTP and XML without TCP and IP; *compressed* is what would\n\
         be left of them in one deflate stream. Round trips are waits of the client for an answer.\n",
        results.operations
    );
    let _ = writeln!(
        out,
        "| what | CPU µs | written, bytes | system calls | allocations | said, bytes | heard, bytes | compressed | round trips |"
    );
    let _ = writeln!(out, "|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for line in &results.lines {
        let some = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"));
        let _ = writeln!(
            out,
            "| {} | {:.0} | {:.0} | {} | {} | {:.0} | {:.0} | {:.0} % | {:.1} |",
            line.what,
            line.cpu_us,
            line.written_bytes,
            some(line.syscalls),
            some(line.allocations),
            line.sent_bytes,
            line.received_bytes,
            line.deflated * 100.0,
            line.turns
        );
    }
    if !results.skipped.is_empty() {
        let _ = writeln!(out, "\nNot measured:\n");
        for what in &results.skipped {
            let _ = writeln!(out, "* {what}");
        }
    }
    out
}
