//! Drawers: small things that clients of other networks than Matrix keep here for an account, and what the server has to
//! remember of how they use it. Each is a text under a name in a drawer.

use koine_store::{Direction, Txn};
use ruma_common::UserId;

use crate::{
    Accounts, StoreUnavailable,
    tables::{DRAWER, USER},
};

/// Longest name of a thing.
pub const DRAWER_NAME_BYTES_MAX: usize = 1024;
/// Largest thing.
pub const DRAWER_TEXT_BYTES_MAX: usize = 256 * 1024;
/// Most things in one drawer of an account.
pub const DRAWER_THINGS_MAX: usize = 500;

/// What things are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawer {
    /// Private XML. [XEP-0049]
    Private,
    /// What is archived. [XEP-0441]
    ArchivePreferences,
    /// Services that wake the account's devices. [XEP-0357]
    Push,
    /// The account has used XMPP. One thing, with an empty name.
    UsesXmpp,
    /// Where in the log the account was last told of messages. One thing, with an empty name.
    Delivered,
    /// When the account was last there, and what it said. One thing, with an empty name. [XEP-0012]
    LastSeen,
    /// Invitations that the account has given out, by their tokens. [XEP-0379]
    Invitations,
    /// Addresses that the account has blocked and that are not those of one person. [XEP-0191]
    Blocked,
}

impl Drawer {
    fn key(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::ArchivePreferences => "archive",
            Self::Push => "push",
            Self::UsesXmpp => "xmpp",
            Self::Delivered => "delivered",
            Self::LastSeen => "seen",
            Self::Invitations => "invitations",
            Self::Blocked => "blocked",
        }
    }
}

/// Why a thing was not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// More than [`DRAWER_THINGS_MAX`].
    #[error("at most {DRAWER_THINGS_MAX} such things can be kept")]
    TooMany,
    /// Larger than [`DRAWER_NAME_BYTES_MAX`] or [`DRAWER_TEXT_BYTES_MAX`] allow.
    #[error(
        "there are {0} bytes, at most {DRAWER_TEXT_BYTES_MAX} are allowed, and {DRAWER_NAME_BYTES_MAX} for the name"
    )]
    TooLarge(usize),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Accounts {
    /// A thing of an account.
    pub fn kept(&self, user_id: &UserId, drawer: Drawer, name: &str) -> Result<Option<String>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        Ok(self.shard.get(&DRAWER, self.domain, &(localpart, drawer.key(), name))?)
    }

    /// All things in a drawer, in the order of their names.
    pub fn drawer(&self, user_id: &UserId, drawer: Drawer) -> Result<Vec<(String, String)>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Vec::new()) };
        let view = self.shard.view();
        let rows = view.prefix(&DRAWER, self.domain, &(localpart, drawer.key()), Direction::Forward);
        rows.map(|row| row.map(|((_, _, name), text)| (name, text)).map_err(StoreUnavailable::from)).collect()
    }

    /// Keeps a thing; `None` throws it away.
    pub async fn keep(
        &self,
        user_id: &UserId,
        drawer: Drawer,
        name: &str,
        text: Option<String>,
    ) -> Result<(), KeepError> {
        let localpart = self.key(user_id).ok_or(KeepError::UnknownUser)?.to_owned();
        let bytes = text.as_ref().map_or(0, String::len);
        if name.len() > DRAWER_NAME_BYTES_MAX || bytes > DRAWER_TEXT_BYTES_MAX {
            return Err(KeepError::TooLarge(bytes));
        }
        let (domain, key) = (self.domain, (localpart, drawer.key().to_owned(), name.to_owned()));
        let commit = move |txn: &mut Txn| -> Result<(), KeepError> {
            let stored = StoreUnavailable::from;
            if txn.get(&USER, domain, key.0.as_str()).map_err(stored)?.is_none_or(|user| user.is_deactivated) {
                return Err(KeepError::UnknownUser);
            }
            let Some(text) = text else {
                txn.delete(&DRAWER, domain, &key);
                return Ok(());
            };
            let is_new = txn.get(&DRAWER, domain, &key).map_err(stored)?.is_none();
            let range = koine_store::KeyRange::prefix(&(key.0.as_str(), key.1.as_str()));
            if is_new && txn.scan(&DRAWER, domain, range).map_err(stored)?.len() >= DRAWER_THINGS_MAX {
                return Err(KeepError::TooMany);
            }
            txn.put(&DRAWER, domain, &key, &text);
            Ok(())
        };
        self.change(commit).await?
    }

    /// Whether the account has used XMPP: whoever has can be written to without being asked first.
    pub fn uses_xmpp(&self, user_id: &UserId) -> Result<bool, StoreUnavailable> {
        Ok(self.kept(user_id, Drawer::UsesXmpp, "")?.is_some())
    }

    pub(crate) async fn erase_drawers(&self, user_id: &UserId) -> Result<(), StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(()) };
        let view = self.shard.view();
        let rows = view.prefix(&DRAWER, self.domain, &(localpart,), Direction::Forward);
        let keys = rows.map(|row| row.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
        let domain = self.domain;
        self.change(move |txn: &mut Txn| keys.iter().for_each(|key| txn.delete(&DRAWER, domain, key))).await
    }
}
