//! RESULTS.md: medians over the rounds, their spread, ratios, and the aims beside the values.

use std::fmt::Write as _;

use crate::compare::Results;
use crate::meter::Line;

/// What is aimed at for a scenario.
struct Aim {
    /// At most this much CPU per operation, in milliseconds.
    cpu_ms: Option<f64>,
    /// At most this share of Synapse's CPU per operation: 100 is a hundredth.
    part_of_synapse: Option<f64>,
    /// At most this 99th percentile, in milliseconds.
    p99_ms: Option<f64>,
    /// At most this median, in milliseconds.
    p50_ms: Option<f64>,
    /// At most this much of a number of the scenario's own.
    own: Option<(&'static str, f64, &'static str)>,
    /// At most this much memory, in MB.
    memory_mb: Option<f64>,
    /// CPU per operation on an earlier, busy day: Synapse, and tuwunel (which did not sync to disk).
    earlier: (&'static str, &'static str),
}

fn aim(scenario: &str) -> Aim {
    let none = Aim {
        cpu_ms: None,
        part_of_synapse: None,
        p99_ms: None,
        p50_ms: None,
        own: None,
        memory_mb: None,
        earlier: ("", ""),
    };
    let fiftieth = |synapse, tuwunel| Aim { part_of_synapse: Some(50.0), earlier: (synapse, tuwunel), ..none };
    match scenario {
        "idle" => Aim { memory_mb: Some(60.0), ..none },
        "send" => Aim {
            cpu_ms: Some(0.3),
            part_of_synapse: Some(100.0),
            memory_mb: Some(200.0),
            earlier: ("32", "3.2"),
            ..none
        },
        "send-rate" => Aim { p99_ms: Some(10.0), ..none },
        // The first of these is what `sync-10` was before, in twenty rooms.
        "sync-few" => fiftieth("200", ""),
        initial if initial.starts_with("sync-") => fiftieth("", ""),
        "page" => fiftieth("12", "2.5"),
        "create" => fiftieth("102", "9"),
        "join" => fiftieth("32", "4"),
        "first-screen" | "sliding-5000" => Aim { cpu_ms: Some(30.0), p50_ms: Some(100.0), ..none },
        "wake-1" | "wake-100" | "wake-1000" => Aim { own: Some(("wake_cpu_ms", 0.1, "ms")), ..none },
        "idle-sync" => Aim { own: Some(("kb_per_connection", 8.0, "KB")), ..none },
        _ => none,
    }
}

/// Share of one core from which on the generator's rates may be its own.
const GENERATOR_BUSY: f64 = 0.85;

/// The whole document.
pub fn markdown(results: &Results, file: &str) -> String {
    let mut out = String::new();
    heading(&mut out, results, file);
    aims(&mut out, results);
    ratios(&mut out, results);
    details(&mut out, results);
    own_numbers(&mut out, results);
    if !results.skipped.is_empty() {
        out.push_str("\n## Not measured\n\n");
        for what in &results.skipped {
            let _ = writeln!(out, "- **skipped**: {}", what.replace('\n', " "));
        }
    }
    out
}

fn heading(out: &mut String, results: &Results, file: &str) {
    let machine = &results.machine;
    let _ = writeln!(out, "# Results of {}\n", results.date);
    out.push_str(
        "Written by `cargo xtask bench`; what the scenarios do and how to read this: [README.md](README.md).\n",
    );
    let _ = writeln!(out, "Every line of every round: [results/{file}](results/{file}).\n");
    let _ = writeln!(
        out,
        "Machine: {}, {} cores, {:.0} GB, Linux {}, data on {}; load before the run {}.",
        machine.cpu, machine.cores, machine.memory_gb, machine.kernel, machine.file_system, machine.load_before
    );
    let others: f64 = results.lines.iter().filter_map(|line| line.others_cpu_s).sum();
    let wall: f64 = results.lines.iter().map(|line| line.seconds).sum();
    let share = 100.0 * others / (wall * machine.cores as f64).max(0.001);
    let _ = writeln!(
        out,
        "While measuring, other programs took {share:.0} % of the machine: trust CPU per operation before rates and latencies.",
    );
    let own: f64 = results.lines.iter().map(|line| line.generator_cpu_s).sum();
    let share = 100.0 * own / (wall * machine.cores as f64).max(0.001);
    let _ = writeln!(out, "The load generator itself took {share:.0} %.");
    let bound = bound_by_generator(results);
    if !bound.is_empty() {
        let bound = bound.join(", ");
        let _ = writeln!(out, "It was busy nearly all of the time, so that rates are at most its own, in: {bound}.");
    }
    let _ = writeln!(
        out,
        "{} rounds, servers in turns; medians, with the lowest and highest round in parentheses.\n",
        results.rounds
    );
    out.push_str("| server | version | settings |\n|---|---|---|\n");
    for server in &results.servers {
        let _ = writeln!(out, "| {} | {} | {} |", server.name, server.version, server.settings);
    }
}

/// The scenarios of the results, in the order in which they were measured.
fn names(results: &Results) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for line in &results.lines {
        if !names.contains(&line.scenario.as_str()) {
            names.push(&line.scenario);
        }
    }
    names
}

/// Scenarios in which the generator, which has one thread, was busy nearly all of the time: what it was the bound of.
fn bound_by_generator(results: &Results) -> Vec<String> {
    let busy = results.lines.iter().filter(|line| line.generator_cpu_s > GENERATOR_BUSY * line.seconds.max(0.001));
    let mut names: Vec<String> = busy.map(|line| format!("{} at {}", line.scenario, line.server)).collect();
    names.sort();
    names.dedup();
    names
}

/// The aims, each with what koine reached.
fn aims(out: &mut String, results: &Results) {
    out.push_str("\n## Aims\n\n| scenario | aim | koine | |\n|---|---|---|---|\n");
    let mut row = |scenario: &str, what: String, limit: f64, value: Option<f64>, unit: &str| {
        let Some(value) = value else { return };
        let verdict = if value <= limit { "reached" } else { "**missed**" };
        let _ = writeln!(out, "| {scenario} | {what} | {} {unit} | {verdict} |", shown(value));
    };
    for scenario in names(results) {
        let aim = aim(scenario);
        let koine = |field: fn(&Line) -> Option<f64>| median(results, scenario, "koine", field).map(|spread| spread.0);
        let cpu = koine(|line| line.server_cpu_ms_per_op);
        if let Some(limit) = aim.cpu_ms {
            row(scenario, format!("CPU per operation at most {limit} ms"), limit, cpu, "ms");
        }
        let synapse = median(results, scenario, "synapse", |line| line.server_cpu_ms_per_op);
        if let (Some(part), Some((synapse, ..))) = (aim.part_of_synapse, synapse) {
            let what =
                format!("a {} of Synapse's CPU per operation", if part > 99.0 { "hundredth" } else { "fiftieth" });
            row(scenario, format!("{what}: {} ms", shown(synapse / part)), synapse / part, cpu, "ms");
        }
        if let Some(limit) = aim.p99_ms {
            let rate = results.sizes.rate;
            let p99 = koine(|line| Some(line.p99_ms));
            row(scenario, format!("p99 at {rate} messages/s under {limit} ms"), limit, p99, "ms");
        }
        if let Some(limit) = aim.p50_ms {
            row(scenario, format!("median under {limit} ms"), limit, koine(|line| Some(line.p50_ms)), "ms");
        }
        if let Some((name, limit, unit)) = aim.own {
            let value = median(results, scenario, "koine", |line| line.more.get(name).copied());
            row(scenario, format!("`{name}` at most {limit} {unit}"), limit, value.map(|spread| spread.0), unit);
        }
        if let Some(limit) = aim.memory_mb {
            // Of the first round: later ones find a server that has done everything else before.
            let of_koine = |line: &&Line| line.scenario == scenario && line.server == "koine";
            let peak = results.lines.iter().find(of_koine).and_then(|line| line.server_peak_mb);
            row(scenario, format!("memory in the first round under {limit} MB"), limit, peak, "MB");
        }
    }
}

/// CPU per operation, side by side.
fn ratios(out: &mut String, results: &Results) {
    out.push_str(
        "\n## CPU per operation\n\nMilliseconds of the server's CPU per operation (for `idle`: per second of rest). ",
    );
    out.push_str(
        "The last two columns are figures of an earlier day on a busy machine, tuwunel without syncing to disk.\n\n",
    );
    out.push_str("| scenario |");
    for server in &results.servers {
        let _ = write!(out, " {} |", server.name);
    }
    let others: Vec<_> = results.servers.iter().filter(|server| server.name != "koine").collect();
    for server in &others {
        let _ = write!(out, " {} : koine |", server.name);
    }
    out.push_str(" Synapse then | tuwunel then |\n|---|");
    out.push_str(&"---|".repeat(results.servers.len() + others.len() + 2));
    out.push('\n');
    for scenario in names(results) {
        let cpu = |server: &str| median(results, scenario, server, |line| line.server_cpu_ms_per_op);
        if results.servers.iter().all(|server| cpu(&server.name).is_none()) {
            continue;
        }
        let _ = write!(out, "| {scenario} |");
        for server in &results.servers {
            let _ = write!(out, " {} |", cpu(&server.name).map_or_else(|| "-".to_owned(), spread));
        }
        for server in &others {
            let ratio = match (cpu(&server.name), cpu("koine")) {
                (Some((other, ..)), Some((koine, ..))) if koine > 0.0 => {
                    format!("**{}**", shown(other / koine))
                }
                _ => "-".to_owned(),
            };
            let _ = write!(out, " {ratio} |");
        }
        let earlier = aim(scenario).earlier;
        let _ = writeln!(out, " {} | {} |", earlier.0, earlier.1);
    }
}

/// Everything else.
fn details(out: &mut String, results: &Results) {
    out.push_str("\n## Rates, latencies, memory, disk\n\n");
    out.push_str("| scenario | server | ops/s | p50 ms | p99 ms | max ms | peak MB | KB written per op | errors |\n");
    out.push_str("|---|---|---|---|---|---|---|---|---|\n");
    for scenario in names(results) {
        for server in &results.servers {
            let of = |field: fn(&Line) -> Option<f64>| {
                median(results, scenario, &server.name, field).map_or_else(|| "-".to_owned(), spread)
            };
            let lines = results.lines.iter().filter(|line| line.scenario == scenario && line.server == server.name);
            let (mut errors, mut unsent, mut rounds) = (0, 0.0, 0);
            for line in lines {
                errors += line.errors;
                unsent += line.more.get("never_sent").copied().unwrap_or(0.0);
                rounds += 1;
            }
            if rounds == 0 {
                continue;
            }
            let failed = if unsent > 0.0 { format!("{errors}, and {unsent} never sent") } else { errors.to_string() };
            let _ = writeln!(
                out,
                "| {scenario} | {} | {} | {} | {} | {} | {} | {} | {failed} |",
                server.name,
                of(|line| Some(line.throughput)),
                of(|line| Some(line.p50_ms)),
                of(|line| Some(line.p99_ms)),
                of(|line| Some(line.max_ms)),
                of(|line| line.server_peak_mb),
                of(|line| line.server_written_kb_per_op),
            );
        }
    }
}

/// What the scenarios tell of their own: sizes, and numbers that are no latency.
fn own_numbers(out: &mut String, results: &Results) {
    out.push_str("\n## Sizes, and numbers of their own\n\n| scenario | server | |\n|---|---|---|\n");
    for scenario in names(results) {
        for server in &results.servers {
            let of = |line: &&Line| line.scenario == scenario && line.server == server.name;
            let Some(first) = results.lines.iter().find(of) else { continue };
            let numbers = first.more.keys().map(|name| {
                let value = median(results, scenario, &server.name, |line| line.more.get(name).copied());
                format!("`{name}` {}", value.map_or_else(|| "-".to_owned(), spread))
            });
            let _ = writeln!(out, "| {scenario} | {} | {} |", server.name, numbers.collect::<Vec<_>>().join(", "));
        }
    }
}

/// Median, lowest and highest of a field over the rounds.
fn median(
    results: &Results,
    scenario: &str,
    server: &str,
    field: impl Fn(&Line) -> Option<f64>,
) -> Option<(f64, f64, f64)> {
    let lines = results.lines.iter().filter(|line| line.scenario == scenario && line.server == server);
    // A round in which nothing succeeded has no cost per operation.
    let mut values: Vec<f64> = lines.filter(|line| line.ops > 0).filter_map(field).collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some((median, low, high))
}

fn spread((median, low, high): (f64, f64, f64)) -> String {
    if shown(low) == shown(high) {
        return shown(median);
    }
    format!("{} ({} to {})", shown(median), shown(low), shown(high))
}

/// Three significant digits, as far as they are worth reading.
fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
