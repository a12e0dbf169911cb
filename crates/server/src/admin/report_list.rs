//! `koine report list`: what people reported, for the operator to judge.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal};
use crate::program::Server;

/// Lists what people reported: events, rooms and accounts
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct ReportList {
    /// Only reports with a greater number than this
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Most reports to list
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
}

/// The reports, oldest first.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct List(Vec<Line>);

#[derive(Serialize, Deserialize)]
struct Line {
    number: u64,
    ts: u64,
    reporter: String,
    room_id: Option<String>,
    event_id: Option<String>,
    user_id: Option<String>,
    reason: String,
}

impl Command for ReportList {
    type Answer = List;

    async fn run(self, server: &Server) -> Result<List, Refusal> {
        let reports = server.rooms.reports(self.after, self.limit).map_err(Refusal::because)?;
        let lines = reports.into_iter().map(|(number, report)| Line {
            number,
            ts: report.ts,
            reporter: report.reporter,
            room_id: report.room_id,
            event_id: report.event_id,
            user_id: report.user_id,
            reason: report.reason,
        });
        Ok(List(lines.collect()))
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.0 {
            let what = [&line.user_id, &line.event_id, &line.room_id];
            let what = what.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" in ");
            // The reason is a stranger's text: control characters could repaint the terminal.
            writeln!(f, "{:>6}  {what}\n        by {}: {:?}", line.number, line.reporter, line.reason)?;
        }
        write!(f, "{} reports", self.0.len())
    }
}
