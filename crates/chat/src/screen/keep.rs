//! What the screen keeps between starts: the open room, and what was typed and not sent.

use std::{collections::HashMap, fs};

use serde::{Deserialize, Serialize};

use crate::account::{Accounts, write_private};

/// As it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The open room.
    #[serde(default)]
    pub room: Option<String>,
    /// By room, or room and thread.
    #[serde(default)]
    pub drafts: HashMap<String, String>,
}

impl Kept {
    /// Nothing, if there is nothing or it is damaged: it is a convenience.
    pub fn load(accounts: &Accounts, label: &str) -> Self {
        let bytes = fs::read(accounts.folder(label).join("screen.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Writes it, whole or not at all. An error is told by the next one who needs the folder.
    pub fn save(&self, accounts: &Accounts, label: &str) {
        if let Ok(text) = serde_json::to_vec(self) {
            let _ = write_private(&accounts.folder(label).join("screen.json"), &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_there_after_a_start_and_damage_is_nothing_kept() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::new(Some(folder.path().into())).unwrap();
        fs::create_dir_all(accounts.folder("one")).unwrap();
        let kept = Kept { room: Some("!r:x".into()), drafts: HashMap::from([("!r:x".into(), "half a sent".into())]) };
        kept.save(&accounts, "one");
        assert_eq!(Kept::load(&accounts, "one"), kept);
        fs::write(accounts.folder("one").join("screen.json"), "{").unwrap();
        assert_eq!(Kept::load(&accounts, "one"), Kept::default());
    }
}
