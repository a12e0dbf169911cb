//! FEDERATION.md: the medians of all rounds, and what was not measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::Results;
use crate::Failure;
use crate::meter::Line;

/// Writes the lines and the tables.
pub fn write(out: &Path, results: &Results) -> Result<(), Failure> {
    let name = format!("{}-federation.json", results.date);
    let folder = out.join("results");
    let io = |error| Failure::Io(folder.display().to_string(), error);
    std::fs::create_dir_all(&folder).map_err(io)?;
    std::fs::write(folder.join(&name), serde_json::to_string_pretty(results)?).map_err(io)?;
    let text = tables(results, &name);
    std::fs::write(out.join("FEDERATION.md"), text).map_err(|error| Failure::Io(out.display().to_string(), error))?;
    eprintln!("written: {}", out.join("FEDERATION.md").display());
    Ok(())
}

type Groups<'a> = BTreeMap<(String, u64, String), Vec<&'a Line>>;

fn tables(results: &Results, file: &str) -> String {
    let mut groups = Groups::new();
    for line in &results.lines {
        let members = line.more.get("members").copied().unwrap_or_default() as u64;
        groups.entry((line.scenario.clone(), members, line.server.clone())).or_default().push(line);
    }
    let mut text = String::new();
    let mut put = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    put(format!("# Federation, measured {}\n", results.date));
    put("Written by `cargo xtask bench -- federation`; what is measured and how to read it: [README.md](README.md)."
        .to_owned());
    put(format!("Every line of every round: [results/{file}](results/{file}). Medians of the rounds.\n"));
    put(format!("Machine: {}\n", results.machine.in_words()));
    let (busy, others) = busy(&results.lines);
    put(format!(
        "While measuring, other programs used {others:.0} CPU seconds beside {busy:.0} of the servers': trust CPU \
                 before times.\n"
    ));
    for server in &results.servers {
        put(format!("* {} {}: {}", server.name, server.version, server.settings));
    }
    put("\n## Joining\n".to_owned());
    put("| members | server | joined, ms | may send, ms | state complete, ms | CPU, s | CPU per member, ms | memory before, MB | \
         at most, MB |"
        .to_owned());
    put("|---|---|---|---|---|---|---|---|---|".to_owned());
    for ((_, members, server), lines) in of(&groups, "federation-join") {
        let more = |name: &str| median(lines, |line| line.more.get(name).copied());
        put(format!(
            "| {members} | {server} | {} | {} | {} | {} | {} | {} | {} |",
            shown(more("joined_ms")),
            shown(more("sendable_ms")),
            shown(more("complete_ms")),
            shown(median(lines, |line| line.server_cpu_s)),
            shown(median(lines, |line| line.server_cpu_ms_per_op)),
            shown(more("resident_before_mb")),
            shown(median(lines, |line| line.server_peak_mb)),
        ));
    }
    put("\n## Receiving messages in such a room\n".to_owned());
    put("| members | server | CPU per message, ms | messages per second | median of a transaction, ms | errors |"
        .to_owned());
    put("|---|---|---|---|---|---|".to_owned());
    for ((_, members, server), lines) in of(&groups, "federation-receive") {
        put(format!(
            "| {members} | {server} | {} | {} | {} | {} |",
            shown(median(lines, |line| line.server_cpu_ms_per_op)),
            shown(median(lines, |line| Some(line.throughput))),
            shown(median(lines, |line| Some(line.p50_ms))),
            lines.iter().map(|line| line.errors).sum::<u64>(),
        ));
    }
    put("\n## Back after an outage\n".to_owned());
    put("The newest message arrives in a transaction, everything before has to be asked for. All: as many as a client has \
         when it has read back to where the outage began."
        .to_owned());
    put(
        "\n| missed | server | newest, ms | all, ms | CPU, s | CPU per message, ms | asked of other servers | errors |"
            .to_owned(),
    );
    put("|---|---|---|---|---|---|---|---|".to_owned());
    for ((_, _, server), lines) in of(&groups, "federation-catch-up") {
        let more = |name: &str| median(lines, |line| line.more.get(name).copied());
        put(format!(
            "| {} | {server} | {} | {} | {} | {} | {} | {} |",
            shown(more("missed")),
            shown(more("newest_ms")),
            shown(more("all_ms")),
            shown(median(lines, |line| line.server_cpu_s)),
            shown(median(lines, |line| line.server_cpu_ms_per_op)),
            shown(more("asked_of_others")),
            lines.iter().map(|line| line.errors).sum::<u64>(),
        ));
    }
    put("\n## From server to server\n".to_owned());
    put("As many as get through with 400 on their way, and a steady 32 in a second: the latency of the former is that of \
         queueing, of the latter that of a message.\n"
        .to_owned());
    put("| servers | pace | messages per second | p50, ms | p99, ms | CPU per message of both, ms | errors |"
        .to_owned());
    put("|---|---|---|---|---|---|---|".to_owned());
    let paces = [("federation-relay", "full"), ("federation-calm", "calm")];
    for (pace, (_, _, server), lines) in
        paces.into_iter().flat_map(|(scenario, pace)| of(&groups, scenario).map(move |(key, lines)| (pace, key, lines)))
    {
        put(format!(
            "| two {server} | {pace} | {} | {} | {} | {} | {} |",
            shown(median(lines, |line| Some(line.throughput))),
            shown(median(lines, |line| Some(line.p50_ms))),
            shown(median(lines, |line| Some(line.p99_ms))),
            shown(median(lines, |line| line.more.get("both_cpu_ms_per_op").copied())),
            lines.iter().map(|line| line.errors).sum::<u64>(),
        ));
    }
    put("\n## State resolution\n".to_owned());
    put("See [RESOLUTION.md](RESOLUTION.md): two branches of a room with 10,000 members, beside ruma-state-res."
        .to_owned());
    if !results.skipped.is_empty() {
        put("\n## Not measured\n".to_owned());
        for skipped in &results.skipped {
            put(format!("* {skipped}"));
        }
    }
    text
}

fn of<'g, 'a>(
    groups: &'g Groups<'a>,
    scenario: &'g str,
) -> impl Iterator<Item = (&'g (String, u64, String), &'g Vec<&'a Line>)> {
    groups.iter().filter(move |((of, _, _), _)| of == scenario)
}

/// CPU seconds of the servers, and of everybody else.
fn busy(lines: &[Line]) -> (f64, f64) {
    let sum = |value: fn(&Line) -> Option<f64>| lines.iter().filter_map(value).sum::<f64>();
    (sum(|line| line.server_cpu_s), sum(|line| line.others_cpu_s))
}

fn median(lines: &[&Line], value: impl Fn(&Line) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = lines.iter().filter_map(|line| value(line)).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

fn shown(value: Option<f64>) -> String {
    let Some(value) = value else { return String::new() };
    let mut text = String::new();
    let _ = match value {
        _ if value >= 100.0 => write!(text, "{value:.0}"),
        _ if value >= 1.0 => write!(text, "{value:.1}"),
        _ => write!(text, "{value:.3}"),
    };
    text
}
