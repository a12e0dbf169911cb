//! Everybody's rules: read, changed, and compiled ones remembered.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use koine_account::{Accounts, SetAccountDataError, StoreUnavailable};
use quick_cache::{Weighter, sync::Cache};
use ruma_common::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    edit::{EditError, RULESET_BYTES_MAX},
    matcher::Matcher,
    ruleset::Ruleset,
};

/// The type of the account data that holds the rules. [CS-API §mpush_rules]
pub const PUSH_RULES: &str = "m.push_rules";

/// How many compiled rules are remembered for all people together. The default set counts as one for each who has it.
pub const RULES_REMEMBERED_MAX: u64 = 200_000;

/// How many people's rules the cache expects to hold.
const PEOPLE_EXPECTED: usize = 16_384;

/// How often a change starts over because another change of the same rules came between.
const TRIES_MAX: usize = 16;

/// The push rules of the accounts of one domain.
pub struct PushRules {
    accounts: Arc<Accounts>,
    compiled: Cache<OwnedUserId, Compiled, ByRules>,
    /// Counts changes, so that rules read before a change are not remembered after it.
    changes: AtomicU64,
    defaults: Arc<Matcher>,
}

#[derive(Clone)]
struct Compiled {
    matcher: Arc<Matcher>,
    weight: u64,
}

#[derive(Clone)]
struct ByRules;

impl Weighter<OwnedUserId, Compiled> for ByRules {
    fn weight(&self, _user: &OwnedUserId, compiled: &Compiled) -> u64 {
        compiled.weight
    }
}

/// Content of `m.push_rules`. There is only one scope.
#[derive(Debug, Serialize, Deserialize)]
struct Content<R> {
    global: R,
}

/// Why rules were not changed.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The change is not allowed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Others change the same rules all the time; trying again later may help.
    #[error("the rules were changed {TRIES_MAX} times by others while this change was made")]
    Contended,
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// The store is not available.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl From<SetAccountDataError> for ChangeError {
    fn from(error: SetAccountDataError) -> Self {
        match error {
            SetAccountDataError::UnknownUser => Self::UnknownUser,
            SetAccountDataError::Store(error) => Self::Store(error),
            SetAccountDataError::KindTooLong(_) => unreachable!("m.push_rules is short"),
        }
    }
}

impl PushRules {
    /// The rules of these accounts.
    pub fn new(accounts: Arc<Accounts>) -> Self {
        // Compiled rules hold a placeholder where the user's own id stood, so one set serves all.
        let anybody = format!("@anybody:{}", accounts.server_name());
        let anybody = UserId::parse(anybody).expect("a server name makes a user id");
        let defaults = Arc::new(Matcher::new(&Ruleset::server_default(&anybody), &anybody));
        let compiled = Cache::with_weighter(PEOPLE_EXPECTED, RULES_REMEMBERED_MAX, ByRules);
        Self { accounts, compiled, changes: AtomicU64::new(0), defaults }
    }

    /// The rules of this person.
    pub fn ruleset(&self, user: &UserId) -> Result<Ruleset, StoreUnavailable> {
        let stored = self.stored(user)?;
        Ok(stored.map_or_else(|| Ruleset::server_default(user), |stored| parse(user, &stored)))
    }

    /// The content of `m.push_rules` for this person: what clients get to see among the account data, also when nothing
    /// is stored yet. [CS-API §push-rules-events]
    pub fn content(&self, user: &UserId) -> Result<String, StoreUnavailable> {
        self.ruleset(user).map(|rules| content(&rules))
    }

    /// Changes the rules of this person. The change is durable, in force, and on its way to their devices once this
    /// returns. `change` may be called several times, each time with rules as they are now.
    pub async fn change(
        &self,
        user: &UserId,
        change: impl Fn(&mut Ruleset) -> Result<(), EditError>,
    ) -> Result<(), ChangeError> {
        // Worked out here and not on the writer's thread, which only looks whether the rules are still those.
        for _ in 0..TRIES_MAX {
            let before = self.stored(user)?;
            let mut rules = before.as_deref().map_or_else(|| Ruleset::server_default(user), |json| parse(user, json));
            change(&mut rules)?;
            let after = content(&rules);
            if after.len() > RULESET_BYTES_MAX {
                return Err(EditError::TooLarge("all rules together have at most 256 KiB of JSON").into());
            }
            let edit = move |now: Option<&str>| (now == before.as_deref()).then_some(after);
            let committed = self.accounts.edit_account_data(user, None, PUSH_RULES, edit).await;
            self.forget(user);
            if committed?.is_some() {
                return Ok(());
            }
        }
        Err(ChangeError::Contended)
    }

    /// The rules of this person, ready for use.
    pub fn matcher(&self, user: &UserId) -> Result<Arc<Matcher>, StoreUnavailable> {
        if let Some(compiled) = self.compiled.get(user) {
            return Ok(compiled.matcher);
        }
        let changes = self.changes.load(Ordering::SeqCst);
        let compiled = match self.stored(user)? {
            None => Compiled { matcher: Arc::clone(&self.defaults), weight: 1 },
            Some(stored) => {
                let rules = parse(user, &stored);
                Compiled { weight: rules.len() as u64 + 1, matcher: Arc::new(Matcher::new(&rules, user)) }
            }
        };
        let matcher = Arc::clone(&compiled.matcher);
        self.compiled.insert(user.to_owned(), compiled);
        if self.changes.load(Ordering::SeqCst) != changes {
            // These may be the rules from before the change; whoever asks next reads them again.
            self.compiled.remove(user);
        }
        Ok(matcher)
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    fn forget(&self, user: &UserId) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.compiled.remove(user);
    }

    fn stored(&self, user: &UserId) -> Result<Option<String>, StoreUnavailable> {
        self.accounts.account_data(user, None, PUSH_RULES)
    }
}

/// Rules that cannot be read are as good as none: the server's own keep the person informed.
fn parse(user: &UserId, stored: &str) -> Ruleset {
    match serde_json::from_str::<Content<Ruleset>>(stored) {
        Ok(content) => content.global.with_defaults(user),
        Err(error) => {
            tracing::warn!(user_id = %user, %error, "stored push rules cannot be read; the default rules stand in for them");
            Ruleset::server_default(user)
        }
    }
}

fn content(rules: &Ruleset) -> String {
    serde_json::to_string(&Content { global: rules }).expect("rules are JSON")
}
