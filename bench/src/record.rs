//! Results on file, and the report that is made of them.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use crate::Failure;

/// What came of a run: a file of `results/`, and a report that can be written anew from it.
pub trait Record: Serialize + DeserializeOwned {
    /// The file of the report.
    const REPORT: &'static str;
    /// How the file of results ends, after the date.
    const KIND: &'static str;

    /// Day of the run, UTC.
    fn date(&self) -> &str;

    /// The report; `file` is the name of the file of results.
    fn markdown(&self, file: &str) -> String;
}

/// Writes both into a folder.
pub fn write(out: &Path, results: &impl Record) -> Result<(), Failure> {
    let file = out.join("results").join(name_of(results));
    let text = serde_json::to_string_pretty(results)? + "\n";
    std::fs::create_dir_all(out.join("results"))
        .and_then(|()| std::fs::write(&file, text))
        .map_err(|error| Failure::Io(file.display().to_string(), error))?;
    write_report(out, results)
}

/// Writes the report anew from a file of results, into the folder above the file's.
pub fn report_again<R: Record>(file: &Path) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::Io(file.display().to_string(), error))?;
    let results: R = serde_json::from_str(&text)?;
    write_report(file.parent().and_then(Path::parent).unwrap_or(Path::new(".")), &results)
}

/// The middle one; the lower of two.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

fn name_of<R: Record>(results: &R) -> String {
    format!("{}-{}.json", results.date(), R::KIND)
}

fn write_report<R: Record>(out: &Path, results: &R) -> Result<(), Failure> {
    let file = out.join(R::REPORT);
    std::fs::write(&file, results.markdown(&name_of(results)))
        .map_err(|error| Failure::Io(file.display().to_string(), error))?;
    eprintln!("written to {}", file.display());
    Ok(())
}
