//! Whom a user does not want to hear: asked for every event, so remembered in memory. [CS-API §ignoring-users]

use std::{collections::HashSet, sync::Arc};

use ruma_common::{OwnedUserId, UserId};
use serde::Deserialize;

use crate::{Accounts, StoreUnavailable};

/// The account data that says it.
pub(crate) const KIND: &str = "m.ignored_user_list";

/// Whom a user ignores.
pub type IgnoredUsers = HashSet<OwnedUserId>;

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    ignored_users: serde_json::Map<String, serde_json::Value>,
}

impl Accounts {
    /// Whom a user ignores. Nobody, if the list cannot be understood.
    pub fn ignored_users(&self, user_id: &UserId) -> Result<Arc<IgnoredUsers>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(Arc::default()) };
        if let Some(known) = self.ignored.get(localpart) {
            return Ok(known);
        }
        let before = self.account_data(user_id, None, KIND)?;
        let list = Arc::new(before.as_deref().map(parse).unwrap_or_default());
        self.ignored.insert(localpart.to_owned(), list.clone());
        // Whoever changed it in between found nothing to forget; so look again now that there is.
        if self.account_data(user_id, None, KIND)? != before {
            self.ignored.remove(localpart);
        }
        Ok(list)
    }
}

fn parse(content: &str) -> IgnoredUsers {
    let Ok(content) = serde_json::from_str::<Content>(content) else { return IgnoredUsers::new() };
    content.ignored_users.into_iter().filter_map(|(user, _)| OwnedUserId::try_from(user).ok()).collect()
}
