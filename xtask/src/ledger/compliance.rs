//! The compliance suites of XMPP (XEP-0479): what they ask of a server, and how far it is.
//!
//! `spec/xmpp-compliance.tsv` says of each feature which category asks for it, at which level, and which specifications it
//! stands for. How far those are is in `spec/xmpp-features.tsv` alone, so that nothing is claimed twice.

use std::collections::BTreeMap;
use std::fs;

use crate::tree;

const COMPLIANCE: &str = "spec/xmpp-compliance.tsv";
const FEATURES: &str = "spec/xmpp-features.tsv";
/// States from the best on: a feature is as far as the least of its specifications.
const STATES: [&str; 4] = ["yes", "partly", "planned", "no"];

/// One feature of a suite.
struct Feature {
    category: String,
    name: String,
    level: String,
    specs: Vec<String>,
}

/// State and note of a specification.
type Specs = BTreeMap<String, (usize, String)>;

/// One line for each feature whose specifications are not in the ledger.
pub fn check() -> Result<Vec<String>, String> {
    let specs = read_specs()?;
    let features = read_features()?;
    let unknown = features.iter().flat_map(|feature| feature.specs.iter().map(move |spec| (feature, spec)));
    Ok(unknown
        .filter(|(_, spec)| !specs.contains_key(*spec))
        .map(|(feature, spec)| {
            format!("{COMPLIANCE}: {} stands for {spec}, which {FEATURES} does not have", feature.name)
        })
        .collect())
}

/// Prints the suites feature by feature.
pub fn print() -> Result<(), String> {
    let specs = read_specs()?;
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for feature in read_features()? {
        let found = feature.specs.iter().filter_map(|spec| specs.get(spec).map(|(state, note)| (spec, *state, note)));
        let found: Vec<_> = found.collect();
        let worst = found.iter().map(|(_, state, _)| *state).max().unwrap_or_default();
        let notes: Vec<_> = found.iter().filter(|(_, state, note)| *state > 0 && !note.is_empty()).collect();
        let notes = notes.iter().map(|(spec, _, note)| format!("{spec}: {note}")).collect::<Vec<_>>().join("; ");
        let line = format!(
            "{:<12} {:<9} {:<46} {:<8} {}  {notes}",
            feature.category,
            feature.level,
            feature.name,
            STATES[worst],
            feature.specs.join(", ")
        );
        println!("{}", line.trim_end());
        let count = counts.entry(feature.category).or_default();
        count[0] += usize::from(worst == 0);
        count[1] += 1;
    }
    for (category, [done, all]) in counts {
        println!("{category}: {done} of {all} done");
    }
    Ok(())
}

fn read_features() -> Result<Vec<Feature>, String> {
    let feature = |fields: &[&str]| {
        let [category, name, level, specs] = fields else { return None };
        let known = matches!(*level, "core" | "advanced");
        let specs = specs.split(", ").map(str::to_owned).collect();
        let [category, name, level] = [category, name, level].map(|field| (*field).to_owned());
        known.then_some(Feature { category, name, level, specs })
    };
    rows(COMPLIANCE, feature)
}

fn read_specs() -> Result<Specs, String> {
    let spec = |fields: &[&str]| {
        let [spec, _title, _level, state, note] = fields else { return None };
        let state = STATES.iter().position(|known| known == state)?;
        Some(((*spec).to_owned(), (state, (*note).to_owned())))
    };
    rows(FEATURES, spec).map(|specs| specs.into_iter().collect())
}

fn rows<T>(file: &str, read: impl Fn(&[&str]) -> Option<T>) -> Result<Vec<T>, String> {
    let text = fs::read_to_string(tree::root().join(file)).map_err(|error| format!("{file}: {error}"))?;
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| {
            let fields: Vec<&str> = line.split('\t').collect();
            read(&fields).ok_or_else(|| format!("{file}:{}: not a row", number + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_suites_ask_for_is_in_the_ledger() {
        assert_eq!(check(), Ok(Vec::new()));
    }
}
