//! The annotated example, printed from the comments on the fields and their defaults.

use std::fmt::Write as _;

use ruma_common::OwnedServerName;

use super::{Config, check::Place};

/// Lines of the example are folded here.
const WIDTH: usize = 100;

/// A complete configuration: every setting with its comment and its default. Settings without a default are commented out.
pub fn example(server_name: OwnedServerName) -> String {
    annotate(&Config::new(server_name))
}

/// Prints a configuration with the manual of every setting above it.
pub fn annotate(config: &Config) -> String {
    let schema = schemars::schema_for!(Config).to_value();
    let top = Place::top(&schema);
    let plain = toml::to_string(config).expect("a configuration consists of values that TOML has");
    let mut out = String::from(
        "# Koine's configuration. Lines with # are comments; values that equal the default may be left out.\n\n",
    );
    let mut section = Section { name: String::new(), place: Some(top), seen: Vec::new() };
    let mut explained: Vec<String> = Vec::new();
    for line in plain.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(name) = line.strip_prefix('[').map(|rest| rest.trim_matches(['[', ']'])) {
            section.unset(&mut out);
            let is_list = line.starts_with("[[");
            let place = name.split('.').try_fold(top, Place::key);
            if !explained.contains(&section_key(name)) {
                explained.push(section_key(name));
                out.push_str(&"#".repeat(WIDTH));
                out.push('\n');
                comment(place, &mut out);
            }
            let inner = if is_list { place.and_then(Place::element) } else { place };
            section = Section { name: name.to_owned(), place: inner, seen: Vec::new() };
            let _ = writeln!(out, "{line}\n");
        } else if let Some((key, _)) = line.split_once(" = ") {
            let first_time = !explained.contains(&format!("{}.{key}", section.name));
            if first_time {
                explained.push(format!("{}.{key}", section.name));
                comment(section.place.and_then(|place| place.key(key)), &mut out);
            }
            section.seen.push(key.to_owned());
            let _ = writeln!(out, "{line}{}", if first_time { "\n" } else { "" });
        } else {
            let _ = writeln!(out, "{line}");
        }
    }
    section.unset(&mut out);
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

fn section_key(name: &str) -> String {
    format!("[{name}]")
}

struct Section<'a> {
    name: String,
    place: Option<Place<'a>>,
    seen: Vec<String>,
}

impl Section<'_> {
    /// The settings of this section that have no default: explained, and commented out.
    fn unset(&self, out: &mut String) {
        let Some(place) = self.place else { return };
        for key in place.keys().filter(|key| !self.seen.iter().any(|seen| seen == key)) {
            let Some(inner) = place.key(key) else { continue };
            let Some(value) = inner.keyword("examples").and_then(|examples| examples.get(0)) else { continue };
            comment(Some(inner), out);
            let _ = writeln!(out, "#{key} = {value}\n");
        }
    }
}

fn comment(place: Option<Place<'_>>, out: &mut String) {
    let Some(text) = place.and_then(|place| place.keyword("description")).and_then(|text| text.as_str()) else {
        return;
    };
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    fn name() -> OwnedServerName {
        "example.org".try_into().expect("a server name")
    }

    #[test]
    fn the_example_is_a_configuration_that_can_be_read() {
        let text = example(name());
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(annotate(&config), text);
    }

    #[test]
    fn every_setting_is_in_the_example_with_its_manual() {
        let text = example(name());
        let schema = schemars::schema_for!(Config).to_value();
        let top = Place::top(&schema);
        let mut checked = 0;
        for section in top.keys() {
            let place = top.key(section).expect("listed");
            let inner = place.element().unwrap_or(place);
            for key in inner.keys() {
                let described = inner.key(key).and_then(|place| place.keyword("description")).is_some();
                assert!(described, "{section}.{key} has no comment");
                let forms = [format!("\n{key} = "), format!("\n#{key} = "), format!("\n[{section}.{key}")];
                assert!(forms.iter().any(|form| text.contains(form)), "{section}.{key} is missing");
                checked += 1;
            }
        }
        assert!(checked > 10);
    }

    #[test]
    fn the_reference_in_the_book_is_what_the_program_prints() {
        let book = include_str!("../../../../docs/reference/koine.toml");
        assert_eq!(book, example(name()), "write it again: koine config example > docs/reference/koine.toml");
    }
}
