//! How cost grows: each operation against members of a room, its history, rooms of an account, and accounts.
//!
//! One server for each of the four, made larger step by step; at each step every operation is done some hundred times,
//! one after the other, and the server's CPU for one of them is noted. `GROWTH.md` and its pictures are what came of it.

mod crowd;
mod report;
mod series;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::compare::process::WorkFolder;
use crate::compare::{Participant, koine, today};
use crate::meter::Line;
use crate::plot;
use crate::procfs::Machine;
use crate::record::{self, Record};
use series::Series;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The koine binary to measure. Without it this checkout is built in the release profile.
    #[arg(long)]
    koine: Option<PathBuf>,
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    series: Vec<Series>,
    /// Members of the room.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000, 100_000])]
    members: Vec<usize>,
    /// Events in the room.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    events: Vec<usize>,
    /// Rooms of the account.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 5_000])]
    rooms: Vec<usize>,
    /// Accounts of the server.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000, 100_000])]
    accounts: Vec<usize>,
    /// How often each operation is done; none is done for longer than three seconds.
    #[arg(long, default_value_t = 300)]
    operations: usize,
    /// Folder that gets `results/`, `plots/` and `GROWTH.md`.
    #[arg(long, default_value = env!("CARGO_MANIFEST_DIR"))]
    out: PathBuf,
}

/// A file of `bench/results/`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    date: String,
    machine: Machine,
    server: Option<Participant>,
    skipped: Vec<String>,
    curves: Vec<Curves>,
}

/// One of the four.
#[derive(Debug, Serialize, Deserialize)]
struct Curves {
    series: Series,
    /// Each with its `size`.
    lines: Vec<Line>,
}

/// Measures and writes.
pub async fn run(options: Options) -> Result<(), Failure> {
    let folder = WorkFolder::new()?;
    let machine = Machine::here(&folder.path);
    let mut results = Results { date: today(), machine, server: None, skipped: Vec::new(), curves: Vec::new() };
    let wanted = if options.series.is_empty() { Series::ALL.to_vec() } else { options.series.clone() };
    for series in wanted {
        let home = folder.path.join(series.name());
        std::fs::create_dir_all(&home).map_err(|error| Failure::Io(home.display().to_string(), error))?;
        let registration = crowd::registration(&home)?;
        let arguments = ["--appservice".to_owned(), registration.display().to_string()];
        let (participant, server, running) = koine::start_with(options.koine.as_deref(), &home, &arguments).await?;
        results.server.get_or_insert(participant);
        let mut lines = Vec::new();
        let sizes = match series {
            Series::Members => &options.members,
            Series::History => &options.events,
            Series::Rooms => &options.rooms,
            Series::Accounts => &options.accounts,
        };
        let domain = crowd::domain_of(&server).await?;
        let bench = series::Bench { server, domain, pid: running.pid(), operations: options.operations };
        if let Err(failure) = series.measure(bench, sizes, &mut lines).await {
            eprintln!("\n******** SKIPPED: the rest of {}: {failure}\n", series.name());
            results.skipped.push(format!("the rest of {}: {failure}", series.name()));
        }
        results.curves.push(Curves { series, lines });
        drop(running);
    }
    draw(&options.out, &results)?;
    record::write(&options.out, &results)
}

fn draw(out: &Path, results: &Results) -> Result<(), Failure> {
    let folder = out.join("plots");
    let io = |error| Failure::Io(folder.display().to_string(), error);
    std::fs::create_dir_all(&folder).map_err(io)?;
    for curves in &results.curves {
        let series = curves.series;
        let picture = plot::curves(
            &format!("koine: CPU of an operation by {}", series.across()),
            series.across(),
            "CPU ms",
            &report::by_operation(&curves.lines),
        );
        std::fs::write(folder.join(format!("growth-{}.svg", series.name())), picture).map_err(io)?;
    }
    Ok(())
}

impl Record for Results {
    const REPORT: &'static str = "GROWTH.md";
    const KIND: &'static str = "growth";

    fn date(&self) -> &str {
        &self.date
    }

    fn markdown(&self, file: &str) -> String {
        report::markdown(self, file)
    }
}
