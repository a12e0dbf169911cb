//! Asking other servers for their users' keys. The protocol that reaches them implements [`OtherServers`].
//!
//! [CS-API §post_matrixclientv3keysquery] [CS-API §post_matrixclientv3keysclaim] Users who share a room are asked for one by
//! one, with all their devices, which are remembered; all others of a server in one question, of which nothing is
//! remembered. Of one user one question is under way at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use koine_store::Position;
use ruma_common::{OwnedServerName, OwnedUserId, ServerName, UserId};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::{
    device_keys::UserKeys,
    one_time::{Claim, ClaimedKey, ONE_TIME_KEY_BYTES_MAX},
    remote::{RemoteDevices, checked_list},
};
use crate::{Accounts, StoreUnavailable};

/// Users of one server who are asked for one by one; if there are more, in one question.
const SINGLE_USERS_MAX: usize = 20;
/// Questions of one request under way at the same time.
const QUESTIONS_AT_ONCE: usize = 32;

/// Why another server did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// What another server answers, some time.
pub type AnswerOf<'a, T> = Pin<Box<dyn Future<Output = Result<T, NoAnswer>> + Send + 'a>>;

/// Other servers, for their users' keys.
pub trait OtherServers: Send + Sync + 'static {
    /// All devices of a user.
    fn devices<'a>(&'a self, user_id: &'a UserId) -> AnswerOf<'a, RemoteDevices>;

    /// The devices of users of one server: those named, or all if none is.
    fn keys<'a>(
        &'a self,
        server: &'a ServerName,
        users: &'a BTreeMap<OwnedUserId, Vec<String>>,
    ) -> AnswerOf<'a, BTreeMap<OwnedUserId, RemoteDevices>>;

    /// One-time keys of devices of one server.
    fn claim<'a>(&'a self, server: &'a ServerName, claims: &'a [Claim]) -> AnswerOf<'a, Vec<ClaimedKey>>;
}

/// A user of another server whose keys are wanted.
#[derive(Debug)]
pub struct WantedKeys {
    /// Who.
    pub user_id: OwnedUserId,
    /// Of which devices; of all if none is named.
    pub devices: Vec<String>,
    /// Since when the asker has shared a room with them, if they share one.
    pub shared_since: Option<Position>,
}

/// Keys of users of other servers, and the servers that did not answer.
#[derive(Debug, Default)]
pub struct KeysElsewhere {
    /// Those who were found.
    pub users: Vec<(OwnedUserId, UserKeys)>,
    /// Those who did not answer, or not in time.
    pub failed: BTreeSet<OwnedServerName>,
}

impl Accounts {
    /// Says who reaches other servers. Once; before that, there are none.
    pub fn set_other_servers(&self, others: Arc<dyn OtherServers>) {
        // A second one would be a mistake in wiring the program: the first stays.
        let _ = self.others.set(others);
    }

    /// Keys of users of other servers, as `asker` may see them: what is remembered, and the rest from their servers.
    pub async fn keys_elsewhere(
        self: &Arc<Self>,
        asker: &UserId,
        wanted: Vec<WantedKeys>,
        patience: Duration,
    ) -> Result<KeysElsewhere, StoreUnavailable> {
        let mut found = KeysElsewhere::default();
        let mut by_server: BTreeMap<OwnedServerName, Vec<WantedKeys>> = BTreeMap::new();
        for want in wanted {
            let known = match want.shared_since {
                Some(since) => self.remembered(asker, &want.user_id, &want.devices, since)?,
                None => None,
            };
            match known {
                Some(keys) => found.users.push((want.user_id, keys)),
                None => by_server.entry(want.user_id.server_name().to_owned()).or_default().push(want),
            }
        }
        let turns = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        let mut asking = JoinSet::new();
        for (server, wanted) in by_server {
            let (accounts, turns, asker) = (self.clone(), turns.clone(), asker.to_owned());
            asking.spawn(async move {
                let answer = timeout(patience, accounts.ask_server(&asker, &server, wanted, turns)).await;
                (server, answer.unwrap_or(Ok(None)))
            });
        }
        while let Some(done) = asking.join_next().await {
            let Ok((server, answer)) = done else { continue };
            match answer? {
                Some(users) => found.users.extend(users),
                None => drop(found.failed.insert(server)),
            }
        }
        Ok(found)
    }

    /// Asks one server; `None` if it did not answer.
    async fn ask_server(
        self: Arc<Self>,
        asker: &UserId,
        server: &ServerName,
        wanted: Vec<WantedKeys>,
        turns: Arc<Semaphore>,
    ) -> Result<Option<Vec<(OwnedUserId, UserKeys)>>, StoreUnavailable> {
        let Some(others) = self.others.get() else { return Ok(None) };
        let (mut found, mut rest) = (Vec::new(), BTreeMap::new());
        let (sharing, strange): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|want| want.shared_since.is_some());
        let mut singly = JoinSet::new();
        for (at, want) in sharing.into_iter().enumerate() {
            if at >= SINGLE_USERS_MAX {
                rest.insert(want.user_id, want.devices);
                continue;
            }
            let (accounts, turns) = (self.clone(), turns.clone());
            singly.spawn(async move {
                let _turn = turns.acquire_owned().await;
                let list = accounts.ask_for_devices(&want.user_id, want.shared_since.unwrap_or(Position(0))).await;
                (want, list)
            });
        }
        while let Some(done) = singly.join_next().await {
            let Ok((want, list)) = done else { continue };
            match list? {
                Ok(list) => {
                    let keys = self.shown(asker, &want.user_id, &want.devices, list)?;
                    found.push((want.user_id, keys));
                }
                // Perhaps it knows the other question.
                Err(NoAnswer(reason)) => {
                    tracing::debug!(peer = %server, user_id = %want.user_id, %reason, "a list of devices was not told");
                    rest.insert(want.user_id, want.devices);
                }
            }
        }
        rest.extend(strange.into_iter().map(|want| (want.user_id, want.devices)));
        if rest.is_empty() {
            return Ok(Some(found));
        }
        let _turn = turns.acquire().await;
        match others.keys(server, &rest).await {
            Ok(mut lists) => {
                for (user_id, devices) in rest {
                    let Some(list) = lists.remove(&user_id) else { continue };
                    let list = checked_list(&user_id, list);
                    let keys = self.shown(asker, &user_id, &devices, list)?;
                    found.push((user_id, keys));
                }
                Ok(Some(found))
            }
            Err(NoAnswer(reason)) => {
                tracing::debug!(peer = %server, %reason, "keys were not told");
                Ok((!found.is_empty()).then_some(found))
            }
        }
    }

    /// All devices of a user, asked of their server unless somebody else just did, and remembered.
    async fn ask_for_devices(
        &self,
        user_id: &UserId,
        shared_since: Position,
    ) -> Result<Result<RemoteDevices, NoAnswer>, StoreUnavailable> {
        let Some(others) = self.others.get() else { return Ok(Err(NoAnswer("there are no other servers".into()))) };
        let flight = self.flights.of(user_id);
        let answer = async {
            let _turn = flight.gate.lock().await;
            if let Some(list) = self.remembered_list(user_id, shared_since)? {
                return Ok(Ok(list));
            }
            let asked = self.shard.position();
            let list = match others.devices(user_id).await {
                Ok(list) => checked_list(user_id, list),
                Err(error) => return Ok(Err(error)),
            };
            self.remember(user_id, asked, &flight, &list).await?;
            Ok(Ok(list))
        }
        .await;
        self.flights.land(user_id, &flight);
        answer
    }

    /// Asks anew for the devices of a user if what is remembered of them is out of date. `false`: their server did not
    /// answer. [SS-API §device-management]
    pub async fn refresh_remote(&self, user_id: &UserId) -> Result<bool, StoreUnavailable> {
        if !self.is_out_of_date(user_id)? {
            return Ok(true);
        }
        Ok(self.ask_for_devices(user_id, Position(0)).await?.is_ok())
    }

    /// One-time keys of devices of other servers, and the servers that did not answer.
    pub async fn claim_keys_elsewhere(
        &self,
        claims: Vec<Claim>,
        patience: Duration,
    ) -> (Vec<ClaimedKey>, BTreeSet<OwnedServerName>) {
        let mut by_server: BTreeMap<OwnedServerName, Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            by_server.entry(claim.user_id.server_name().to_owned()).or_default().push(claim);
        }
        let Some(others) = self.others.get() else { return (Vec::new(), by_server.into_keys().collect()) };
        let turns = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        let mut asking = JoinSet::new();
        for (server, claims) in by_server {
            let (others, turns) = (others.clone(), turns.clone());
            asking.spawn(async move {
                let question = async {
                    let _turn = turns.acquire().await;
                    others.claim(&server, &claims).await
                };
                let answer = timeout(patience, question).await;
                let given = answer.ok().and_then(Result::ok).map(|given| only_claimed(given, &claims));
                (server, given)
            });
        }
        let (mut given, mut failed) = (Vec::new(), BTreeSet::new());
        while let Some(done) = asking.join_next().await {
            match done {
                Ok((_, Some(some))) => given.extend(some),
                Ok((server, None)) => drop(failed.insert(server)),
                Err(_panicked) => {}
            }
        }
        (given, failed)
    }
}

/// What was asked for, and no key too large: one for each claim.
fn only_claimed(given: Vec<ClaimedKey>, claims: &[Claim]) -> Vec<ClaimedKey> {
    let wanted: BTreeMap<_, _> =
        claims.iter().map(|claim| ((&*claim.user_id, &*claim.device_id), &*claim.algorithm)).collect();
    let mut seen = BTreeSet::new();
    let is_wanted = |key: &ClaimedKey| {
        let algorithm = wanted.get(&(&*key.user_id, &*key.device_id));
        algorithm.is_some_and(|algorithm| key.key_id.split_once(':').is_some_and(|(of, _)| of == *algorithm))
            && key.key.len() <= ONE_TIME_KEY_BYTES_MAX
            && seen.insert((key.user_id.clone(), key.device_id.clone()))
    };
    given.into_iter().filter(is_wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(user: &str, device: &str, key_id: &str) -> ClaimedKey {
        ClaimedKey {
            user_id: user.try_into().expect("a user id"),
            device_id: device.into(),
            key_id: key_id.to_owned(),
            key: "{}".to_owned(),
        }
    }

    #[test]
    fn another_server_gives_no_more_than_was_claimed() {
        let claims = [Claim {
            user_id: "@a:other.example".try_into().expect("a user id"),
            device_id: "DEVICE".into(),
            algorithm: "signed_curve25519".to_owned(),
        }];
        let given = vec![
            claimed("@a:other.example", "DEVICE", "curve25519:1"),
            claimed("@a:other.example", "DEVICE", "signed_curve25519:1"),
            claimed("@a:other.example", "DEVICE", "signed_curve25519:2"),
            claimed("@a:other.example", "OTHER", "signed_curve25519:1"),
            claimed("@b:third.example", "DEVICE", "signed_curve25519:1"),
        ];
        let taken = only_claimed(given, &claims);
        assert_eq!(taken.iter().map(|key| &*key.key_id).collect::<Vec<_>>(), ["signed_curve25519:1"]);
    }
}
