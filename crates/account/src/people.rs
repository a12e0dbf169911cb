//! Finding people of this server by name. [CS-API §user-directory]
//!
//! Names are read from the store once, at the first search, and kept in memory from then on, all in one text: a search
//! goes through it as fast as memory can be read, and looks closer only where the longest of its words stands. Who may
//! find whom is for the caller to say.

use std::collections::HashMap;

use koine_store::Direction;
use memchr::{memchr, memmem, memrchr};
use parking_lot::RwLock;
use ruma_common::{OwnedUserId, UserId};

use crate::{
    Accounts, StoreUnavailable,
    tables::{PROFILE, USER},
};

/// Most people who can be found.
pub const PEOPLE_MAX: usize = 500_000;
/// Longest text that is searched for.
pub const SEARCH_TERM_CHARS_MAX: usize = 256;

/// What is known of the people here; nothing before the first search.
#[derive(Default)]
pub(crate) struct People(RwLock<Option<Roll>>);

/// All who can be found.
#[derive(Default)]
struct Roll {
    /// For each a line: local part, tab, display name in lower case. Ends with the end of a line; lines of those who are
    /// gone are emptied.
    text: Vec<u8>,
    /// Local part → where its line begins.
    lines: HashMap<Box<str>, usize>,
    /// Bytes of emptied lines.
    gone: usize,
}

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

impl Roll {
    fn put(&mut self, localpart: &str, name: &str) {
        self.remove(localpart);
        if self.lines.len() >= PEOPLE_MAX {
            return;
        }
        self.lines.insert(localpart.into(), self.text.len());
        for part in [localpart, "\t", name, "\n"] {
            self.text.extend_from_slice(part.as_bytes());
        }
    }

    fn remove(&mut self, localpart: &str) {
        let Some(start) = self.lines.remove(localpart) else { return };
        let end = self.end_of_line(start);
        self.text[start..end].fill(b'\n');
        self.gone += end - start;
        if self.gone > self.text.len() / 2 {
            self.compact();
        }
    }

    /// Drops emptied lines.
    fn compact(&mut self) {
        let old = std::mem::take(self);
        for (localpart, name) in old.lines.values().filter_map(|start| old.person(*start)) {
            self.put(localpart, name);
        }
    }

    /// Where the line that goes on here ends.
    fn end_of_line(&self, at: usize) -> usize {
        memchr(b'\n', &self.text[at..]).map_or(self.text.len(), |length| at + length)
    }

    /// Local part and name of the line that begins here.
    fn person(&self, start: usize) -> Option<(&str, &str)> {
        std::str::from_utf8(&self.text[start..self.end_of_line(start)]).ok()?.split_once('\t')
    }

    /// All who fit, with how well.
    fn find(&self, search: &Search<'_>) -> Vec<(Fit, bool, &str)> {
        let mut found = Vec::new();
        let needle = memmem::Finder::new(search.needle());
        let mut at = 0;
        while let Some(hit) = needle.find(&self.text[at..]) {
            let start = memrchr(b'\n', &self.text[..at + hit]).map_or(0, |end| end + 1);
            if let Some((localpart, name)) = self.person(start) {
                found.extend(search.fit(localpart, name).map(|fit| (fit, name.is_empty(), localpart)));
            }
            at = (self.end_of_line(at + hit) + 1).min(self.text.len());
        }
        found
    }
}

impl<'a> Search<'a> {
    fn new(term: &'a str, server_name: &'a str) -> Self {
        Self { term, words: term.split_whitespace().collect(), server_name }
    }

    /// What stands in the line of whoever fits.
    fn needle(&self) -> &'a str {
        match self.term.strip_prefix('@') {
            Some(id) => id.split(':').next().unwrap_or_default(),
            None => self.words.iter().max_by_key(|word| word.len()).copied().unwrap_or_default(),
        }
    }

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
    let search = Search::new(&term, user.server_name().as_str());
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
        let search = Search::new(&term, self.server_name.as_str());
        if self.people.0.read().is_none() {
            let mut known = self.people.0.write();
            if known.is_none() {
                *known = Some(self.read_people()?);
            }
        }
        let known = self.people.0.read();
        let mut found = known.as_ref().map(|roll| roll.find(&search)).unwrap_or_default();
        if found.len() > limit {
            found.select_nth_unstable(limit);
            found.truncate(limit);
        }
        found.sort_unstable();
        found.into_iter().map(|(_, _, localpart)| self.user_id(localpart)).collect()
    }

    fn read_people(&self) -> Result<Roll, StoreUnavailable> {
        let view = self.shard.view();
        let mut roll = Roll::default();
        for row in view.scan(&USER, self.domain, .., Direction::Forward).take(PEOPLE_MAX) {
            let (localpart, user) = row?;
            if !user.is_deactivated {
                let name = view.get(&PROFILE, self.domain, &(localpart.as_str(), "displayname"))?;
                roll.put(&localpart, &lower_name(name.as_deref()));
            }
        }
        Ok(roll)
    }

    /// Takes over what changed about an account. Called once that is durable.
    pub(crate) fn person_changed(&self, localpart: &str) -> Result<(), StoreUnavailable> {
        // Held while reading: of two changes at once, the later reading is the one that stays.
        let mut known = self.people.0.write();
        let Some(roll) = known.as_mut() else { return Ok(()) };
        let user = self.shard.get(&USER, self.domain, localpart)?;
        if user.is_none_or(|user| user.is_deactivated) {
            roll.remove(localpart);
            return Ok(());
        }
        let name = self.shard.get(&PROFILE, self.domain, &(localpart, "displayname"))?;
        roll.put(localpart, &lower_name(name.as_deref()));
        Ok(())
    }
}

/// A display name as stored, in lower case and on one line.
fn lower_name(json: Option<&[u8]>) -> String {
    let name = json.and_then(|json| serde_json::from_slice::<String>(json).ok());
    name.unwrap_or_default().to_lowercase().replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(term: &str, localpart: &str, name: &str) -> Option<Fit> {
        let fit = Search::new(term, "example.org").fit(localpart, name);
        // Whoever fits is found among others, and nobody else is.
        let mut roll = Roll::default();
        for (localpart, name) in [("before", "somebody"), (localpart, name), ("after", "")] {
            roll.put(localpart, name);
        }
        let found = roll.find(&Search::new(term, "example.org"));
        assert_eq!(found.iter().find(|(_, _, found)| *found == localpart).map(|(fit, ..)| *fit), fit, "{term}");
        fit
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

    #[test]
    fn whoever_is_gone_or_was_renamed_is_found_no_more() {
        let mut roll = Roll::default();
        let found = |roll: &Roll, term: &str| {
            let found = roll.find(&Search::new(term, "example.org")).into_iter().map(|(.., found)| found.to_owned());
            found.collect::<Vec<_>>()
        };
        for number in 0..100 {
            roll.put(&format!("person{number}"), &format!("name {number}"));
        }
        assert_eq!(found(&roll, "name 42"), ["person42"]);
        roll.put("person42", "änders");
        assert!(found(&roll, "name 42").is_empty());
        assert_eq!(found(&roll, "ände"), ["person42"]);
        // More than half go, so that lines move.
        (0..80).filter(|number| *number != 42).for_each(|number| roll.remove(&format!("person{number}")));
        assert_eq!((found(&roll, "person").len(), found(&roll, "person4")), (21, vec!["person42".to_owned()]));
        roll.remove("person42");
        roll.remove("nobody");
        assert_eq!((found(&roll, "person42").len(), roll.lines.len()), (0, 20));
        assert!(roll.text.len() < 600, "{} bytes", roll.text.len());
    }
}
