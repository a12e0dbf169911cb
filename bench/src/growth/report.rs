//! `GROWTH.md`: a table for each of the four, the picture of it, and a note wherever a curve rises.

use std::fmt::Write as _;

use super::Results;
use crate::meter::Line;
use crate::plot::Curve;

/// What the cost is multiplied with when the size is, as a power: below this it is level or logarithmic. A tenfold size with
/// this power costs a third more.
const RISING: f64 = 0.125;
/// A curve of operations that cost less than this is made of ticks of the clock.
const MEASURABLE_MS: f64 = 0.05;

/// The CPU of each operation by size, in the order in which they were measured.
pub fn by_operation(lines: &[Line]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for line in lines {
        let point = (size(line), line.server_cpu_ms_per_op.unwrap_or_default());
        match curves.iter_mut().find(|(name, _)| *name == line.scenario) {
            Some((_, points)) => points.push(point),
            None => curves.push((line.scenario.clone(), vec![point])),
        }
    }
    curves
}

fn size(line: &Line) -> f64 {
    line.more.get("size").copied().unwrap_or_default()
}

/// With which power of the size the cost grows, from the first to the last point.
fn power(points: &[(f64, f64)]) -> Option<f64> {
    let ((first_size, first), (last_size, last)) = (points.first()?, points.last()?);
    let floor = |cost: f64| cost.max(MEASURABLE_MS).ln();
    (last_size > first_size).then(|| (floor(*last) - floor(*first)) / (last_size / first_size).ln())
}

/// The report.
pub fn markdown(results: &Results, file: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# How cost grows\n\nWritten by `koine-bench growth`; every line is in [{file}](results/{file}).\n"
    );
    let _ = writeln!(out, "{} {}\n", results.date, results.machine.in_words());
    if let Some(server) = &results.server {
        let _ = writeln!(out, "* **{}** {}: {}", server.name, server.version, server.settings);
    }
    let _ = writeln!(
        out,
        "\nMilliseconds of the server's CPU for one operation, with the median latency in parentheses. The power says with\n\
         which power of the size the cost grows from the first to the last column: 0 is level, 1 is in proportion."
    );
    for curves in &results.curves {
        let series = curves.series;
        let _ = writeln!(out, "\n## By {}\n\n![](plots/growth-{}.svg)\n", series.across(), series.name());
        let mut sizes: Vec<f64> = curves.lines.iter().map(size).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let head: Vec<String> = sizes.iter().map(|size| format!("{size:.0}")).collect();
        let _ = writeln!(out, "| operation | {} | power | |", head.join(" | "));
        let _ = writeln!(out, "|---|{}---:|---|", "---:|".repeat(sizes.len()));
        for (name, points) in by_operation(&curves.lines) {
            let cells: Vec<String> = sizes
                .iter()
                .map(|wanted| {
                    let line = curves.lines.iter().find(|line| line.scenario == name && size(line) == *wanted);
                    line.map_or_else(String::new, |line| {
                        format!("{:.3} ({:.2})", line.server_cpu_ms_per_op.unwrap_or_default(), line.p50_ms)
                    })
                })
                .collect();
            let power = power(&points);
            let note = match power {
                Some(power) if power > RISING => series.grows_by_nature(&name).unwrap_or("**rises**"),
                _ => "",
            };
            let power = power.map(|power| format!("{power:.2}")).unwrap_or_default();
            let _ = writeln!(out, "| {name} | {} | {power} | {note} |", cells.join(" | "));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_one_where_cost_is_in_proportion_and_none_where_it_is_level() {
        let near = |power: Option<f64>, expected: f64| power.is_some_and(|power| (power - expected).abs() < 1e-9);
        assert!(near(power(&[(10.0, 1.0), (1_000.0, 100.0)]), 1.0));
        assert!(near(power(&[(10.0, 0.3), (1_000.0, 0.3)]), 0.0));
        assert!(near(power(&[(10.0, 0.001), (1_000.0, 0.02)]), 0.0), "what cannot be measured does not rise");
        assert_eq!(power(&[(10.0, 0.3)]), None);
    }
}
