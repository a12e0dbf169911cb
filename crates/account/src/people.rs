//! Finding people of this server by name. [CS-API §user-directory]
//!
//! Names are read from the store once, at the first search, and kept in memory from then on: a search looks at each,
//! which for a hundred thousand accounts are a few milliseconds. Who may find whom is for the caller to say.

use std::collections::BTreeMap;

use koine_store::Direction;
use parking_lot::Mutex;
use ruma_common::{OwnedUserId, UserId};

use crate::{
    Accounts, StoreUnavailable,
    tables::{PROFILE, USER},
};

/// Most people who can be found.
pub const PEOPLE_MAX: usize = 500_000;
/// Longest text that is searched for.
pub const SEARCH_TERM_CHARS_MAX: usize = 256;

/// What is known of the people here: local part → display name in lower case, or nothing before the first search.
#[derive(Default)]
pub(crate) struct People(Mutex<Option<BTreeMap<String, String>>>);

/// How well somebody fits what was searched for; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Whole,
    Beginning,
    Part,
}

/// A search, prepared.
struct Search<'a> {
    term: &'a str,
    words: Vec<&'a str>,
    server_name: &'a str,
}

impl Search<'_> {
    /// Every word has to be in the name or in the local part; or the term is the beginning of the user id.
    fn fit(&self, localpart: &str, name: &str) -> Option<Fit> {
        if let Some(id) = self.term.strip_prefix('@') {
            let (local, server) = id.split_once(':').unwrap_or((id, ""));
            return match id.contains(':') {
                true if local != localpart || !self.server_name.starts_with(server) => None,
                true => Some(Fit::Whole),
                false if !localpart.starts_with(local) => None,
                false => Some(if local == localpart { Fit::Whole } else { Fit::Beginning }),
            };
        }
        if self.term == name || self.term == localpart {
            return Some(Fit::Whole);
        }
        if !self.words.iter().all(|word| name.contains(word) || localpart.contains(word)) {
            return None;
        }
        let begins = name.starts_with(self.term) || localpart.starts_with(self.term);
        Some(if begins { Fit::Beginning } else { Fit::Part })
    }
}

/// Whether somebody of any server fits what is searched for: by the display name or the user id.
pub fn person_fits(term: &str, user: &UserId, name: Option<&str>) -> bool {
    let term: String = term.trim().to_lowercase().chars().take(SEARCH_TERM_CHARS_MAX).collect();
    let words = term.split_whitespace().collect();
    let search = Search { term: &term, words, server_name: user.server_name().as_str() };
    !term.is_empty() && search.fit(user.localpart(), &name.unwrap_or_default().to_lowercase()).is_some()
}

impl Accounts {
    /// People of this server whose display name or user id has this in it, those first who fit best; at most `limit`.
    /// Reads the store at the first call alone, and blocks for as long.
    pub fn find_people(&self, term: &str, limit: usize) -> Result<Vec<OwnedUserId>, StoreUnavailable> {
        let term: String = term.trim().to_lowercase().chars().take(SEARCH_TERM_CHARS_MAX).collect();
        if term.is_empty() {
            return Ok(Vec::new());
        }
        let search =
            Search { term: &term, words: term.split_whitespace().collect(), server_name: self.server_name.as_str() };
        let mut known = self.people.0.lock();
        if known.is_none() {
            *known = Some(self.read_people()?);
        }
        let people = known.iter().flatten();
        let mut found: Vec<(Fit, bool, &str)> = people
            .filter_map(|(localpart, name)| Some((search.fit(localpart, name)?, name.is_empty(), localpart.as_str())))
            .collect();
        found.sort_unstable();
        found.into_iter().take(limit).map(|(_, _, localpart)| self.user_id(localpart)).collect()
    }

    fn read_people(&self) -> Result<BTreeMap<String, String>, StoreUnavailable> {
        let view = self.shard.view();
        let mut people = BTreeMap::new();
        for row in view.scan(&USER, self.domain, .., Direction::Forward).take(PEOPLE_MAX) {
            let (localpart, user) = row?;
            if !user.is_deactivated {
                let name = view.get(&PROFILE, self.domain, &(localpart.as_str(), "displayname"))?;
                people.insert(localpart, lower_name(name.as_deref()));
            }
        }
        Ok(people)
    }

    /// Takes over what changed about an account. Called once that is durable.
    pub(crate) fn person_changed(&self, localpart: &str) -> Result<(), StoreUnavailable> {
        // Held while reading: of two changes at once, the later reading is the one that stays.
        let mut known = self.people.0.lock();
        let Some(people) = known.as_mut() else { return Ok(()) };
        let user = self.shard.get(&USER, self.domain, localpart)?;
        if user.is_none_or(|user| user.is_deactivated) {
            people.remove(localpart);
            return Ok(());
        }
        let name = self.shard.get(&PROFILE, self.domain, &(localpart, "displayname"))?;
        if people.len() < PEOPLE_MAX || people.contains_key(localpart) {
            people.insert(localpart.to_owned(), lower_name(name.as_deref()));
        }
        Ok(())
    }
}

/// A display name as stored, in lower case.
fn lower_name(json: Option<&[u8]>) -> String {
    let name = json.and_then(|json| serde_json::from_slice::<String>(json).ok());
    name.unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(term: &str, localpart: &str, name: &str) -> Option<Fit> {
        Search { term, words: term.split_whitespace().collect(), server_name: "example.org" }.fit(localpart, name)
    }

    #[test]
    fn people_are_found_by_name_local_part_and_user_id() {
        let cases = [
            ("alice cooper", Some(Fit::Whole)),
            ("alice", Some(Fit::Beginning)),
            ("cooper", Some(Fit::Part)),
            ("cooper alice", Some(Fit::Part)),
            ("al1", Some(Fit::Whole)),
            ("@al", Some(Fit::Beginning)),
            ("@al1", Some(Fit::Whole)),
            ("@al1:example.org", Some(Fit::Whole)),
            ("@al1:exa", Some(Fit::Whole)),
            ("@al1:other.org", None),
            ("@al:example.org", None),
            ("example", None),
            ("alice freddy", None),
        ];
        for (term, expected) in cases {
            assert_eq!(fit(term, "al1", "alice cooper"), expected, "{term}");
        }
    }
}
