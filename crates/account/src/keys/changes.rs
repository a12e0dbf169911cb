//! Whose keys changed since: what device lists in `/sync` are made of.
//!
//! A change of somebody's device keys or cross-signing keys concerns everybody who shares a room with them; a signature
//! that somebody put under another's key concerns the signer's devices alone. Either has a position in the log, and an
//! index by position in which each user stands once, at the newest. [CS-API §tracking-the-device-list-for-a-user]

use koine_store::{Direction, DomainId, KeyRange, Position, StoreError, Txn};
use ruma_common::{OwnedUserId, UserId};

use super::tables::{CHANGED, CHANGED_AT};
use crate::{
    Accounts, StoreUnavailable,
    log::{self, Kind},
};

/// Notes that the keys of `about` changed, for everybody or for `only` alone.
pub(crate) fn note_change(
    txn: &mut Txn,
    domain: DomainId,
    about: &UserId,
    only: Option<&UserId>,
) -> Result<(), StoreError> {
    let position = match only {
        None => txn.append(log::entry(domain, about, Kind::Keys, "")),
        Some(only) => txn.append(log::entry(domain, only, Kind::Signatures, about.to_string())),
    };
    let audience = only.map_or("", |only| only.localpart()).to_owned();
    let key = (audience, about.to_string());
    if let Some(old) = txn.get(&CHANGED, domain, &key)? {
        txn.delete(&CHANGED_AT, domain, &(key.0.as_str(), old));
    }
    txn.put(&CHANGED, domain, &key, &position.0);
    let (audience, about) = key;
    txn.put(&CHANGED_AT, domain, &(audience, position.0), &about);
    Ok(())
}

impl Accounts {
    /// Users whose keys changed last in `(after, up_to]`, whoever they are. Costs what it answers.
    pub fn keys_changed(&self, after: Position, up_to: Position) -> Result<Vec<OwnedUserId>, StoreUnavailable> {
        self.changed("", after, up_to)
    }

    /// Users under whose keys `signer` put a signature last in `(after, up_to]`.
    pub fn signatures_changed(
        &self,
        signer: &UserId,
        after: Position,
        up_to: Position,
    ) -> Result<Vec<OwnedUserId>, StoreUnavailable> {
        self.key(signer).map_or_else(|| Ok(Vec::new()), |localpart| self.changed(localpart, after, up_to))
    }

    fn changed(&self, audience: &str, after: Position, up_to: Position) -> Result<Vec<OwnedUserId>, StoreUnavailable> {
        let range = KeyRange::prefix(&(audience,)).after(&(audience, after.0)).through(&(audience, up_to.0));
        let view = self.shard.view();
        let rows = view.scan(&CHANGED_AT, self.domain, range, Direction::Forward);
        rows.map(|row| {
            let (_, user) = row?;
            OwnedUserId::try_from(user).map_err(|_| StoreUnavailable::damaged("a user id"))
        })
        .collect()
    }
}
