//! Reading a configuration and saying everything that is wrong with it at once.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::Config;

/// A key this close to one that exists is taken for a slip of the fingers (Jaro-Winkler, 1.0 = the same).
const SIMILAR: f64 = 0.75;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or the server's user may not read it.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// Not TOML, or a value of the wrong kind; with line and column.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// Keys that do not exist.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    UnknownKeys(Vec<UnknownKey>),
    /// Settings that are fine each for itself, but not together.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// A key that does not exist.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The key with its section, as `log.fromat`.
    pub path: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl std::fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no setting `{}`", self.path)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => write!(f, "; `koine config example` lists all"),
        }
    }
}

/// Reads a configuration from the text of its file.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let table: toml::Table = toml::from_str(text)?;
    let schema = schemars::schema_for!(Config).to_value();
    let mut unknown = Vec::new();
    find_unknown(&toml::Value::Table(table), Place { root: &schema, here: &schema }, "", &mut unknown);
    if !unknown.is_empty() {
        return Err(ConfigError::UnknownKeys(unknown));
    }
    let config: Config = toml::from_str(text)?;
    contradictions(&config)?;
    Ok(config)
}

fn contradictions(config: &Config) -> Result<(), ConfigError> {
    if config.tls.certificate.is_some() != config.tls.key.is_some() {
        return Err(ConfigError::Contradiction(
            "tls.certificate and tls.key belong together; give both, or none for a self-made certificate",
        ));
    }
    if config.listeners.is_empty() {
        return Err(ConfigError::Contradiction("there is no [[listeners]] section, so nobody could reach the server"));
    }
    Ok(())
}

/// A spot in the schema of the configuration.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    root: &'a Json,
    here: &'a Json,
}

impl<'a> Place<'a> {
    pub(super) fn top(root: &'a Json) -> Self {
        Self { root, here: root }
    }

    /// What is said about the value at this spot itself (not about its type).
    pub(super) fn keyword(self, name: &str) -> Option<&'a Json> {
        self.here.get(name)
    }

    /// The keys of the section at this spot.
    pub(super) fn keys(self) -> impl Iterator<Item = &'a str> {
        self.resolved()
            .get("properties")
            .and_then(Json::as_object)
            .into_iter()
            .flat_map(|keys| keys.keys().map(String::as_str))
    }

    /// The spot of one key of this section.
    pub(super) fn key(self, name: &str) -> Option<Self> {
        let here = self.resolved().get("properties")?.get(name)?;
        Some(Self { here, ..self })
    }

    /// The spot of the elements of this list.
    pub(super) fn element(self) -> Option<Self> {
        Some(Self { here: self.resolved().get("items")?, ..self })
    }

    /// The schema of the type itself; of what may be left out, that of the type that may be there.
    fn resolved(self) -> &'a Json {
        let choices = self.here.get("anyOf").and_then(Json::as_array);
        let here = choices.and_then(|choices| choices.first()).unwrap_or(self.here);
        let reference = here.get("$ref").and_then(Json::as_str).and_then(|path| path.strip_prefix('#'));
        reference.and_then(|path| self.root.pointer(path)).unwrap_or(here)
    }
}

fn find_unknown(value: &toml::Value, place: Place<'_>, prefix: &str, unknown: &mut Vec<UnknownKey>) {
    match value {
        toml::Value::Table(table) if place.keys().next().is_some() => {
            for (key, value) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                match place.key(key) {
                    Some(inner) => find_unknown(value, inner, &path, unknown),
                    None => unknown.push(UnknownKey { suggestion: suggest(key, place, prefix), path }),
                }
            }
        }
        toml::Value::Array(elements) => {
            for element in elements {
                if let Some(inner) = place.element() {
                    find_unknown(element, inner, prefix, unknown);
                }
            }
        }
        _ => {}
    }
}

/// What was probably meant: the same key of another section, else the nearest of this one.
fn suggest(key: &str, place: Place<'_>, prefix: &str) -> Option<String> {
    let top = Place::top(place.root);
    if top.key(key).is_some() {
        return Some(key.to_owned());
    }
    let elsewhere = top.keys().find(|section| top.key(section).is_some_and(|inner| inner.key(key).is_some()));
    if let Some(section) = elsewhere {
        return Some(format!("{section}.{key}"));
    }
    let near = place
        .keys()
        .map(|known| (likeness(key, known), known))
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    near.map(|(_, known)| if prefix.is_empty() { known.to_owned() } else { format!("{prefix}.{known}") })
}

fn likeness(key: &str, known: &str) -> f64 {
    // Two letters swapped in a short word: Jaro-Winkler sees no likeness there.
    let swapped = if strsim::osa_distance(key, known) == 1 { SIMILAR } else { 0.0 };
    strsim::jaro_winkler(key, known).max(swapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).expect_err("this configuration is wrong").to_string()
    }

    #[test]
    fn a_name_is_all_that_a_configuration_needs() {
        let config = parse("server_name = \"example.org\"").expect("a complete configuration");
        assert_eq!(config.server_name, "example.org");
        assert_eq!(config.accounts.registration, koine_account::Registration::Closed);
        assert_eq!(config.listeners.len(), 6);
    }

    #[test]
    fn unknown_keys_are_all_named_with_what_was_meant() {
        let text = "server_name = \"example.org\"\nmemory_buget = \"1 GiB\"\n[log]\nfromat = \"json\"\n[[listeners]]\naddress = \"[::]:8448\"\ntsl = true";
        let message = error(text);
        assert!(message.contains("`memory_buget`; did you mean `memory_budget`?"), "{message}");
        assert!(message.contains("`log.fromat`; did you mean `log.format`?"), "{message}");
        assert!(message.contains("`listeners.tsl`; did you mean `listeners.tls`?"), "{message}");
    }

    #[test]
    fn a_key_in_the_wrong_section_is_sent_to_its_own() {
        let message = error("server_name = \"example.org\"\nregistration = \"open\"");
        assert!(message.contains("did you mean `accounts.registration`?"), "{message}");
    }

    #[test]
    fn a_key_like_no_other_points_to_the_list() {
        let message = error("server_name = \"example.org\"\nxyzzy = 1");
        assert!(message.contains("`koine config example` lists all"), "{message}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_shown_in_its_line() {
        assert!(error("server_name = \"example.org\"\nmemory_budget = 5").contains("line 2"));
        assert!(error("server_name = \"example org\"").contains("server_name"));
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let name = "server_name = \"example.org\"\n";
        for text in ["[tls]\nkey = \"key.pem\"", "listeners = []"] {
            assert!(matches!(parse(&format!("{name}{text}")), Err(ConfigError::Contradiction(_))), "{text}");
        }
    }
}
