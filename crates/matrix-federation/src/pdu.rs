//! From bytes to events: format, signatures, content hash. [SS-API §checks-performed-on-receipt-of-a-pdu] 1 to 3.

use koine_graph::{
    Event, EventError, RoomVersionRules,
    json::{self, Json},
    redact,
    signatures::{self, SignatureError},
};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use serde_json::value::RawValue;

use crate::Federation;

/// Most signatures of one event of which keys are fetched.
const SIGNERS_MAX: usize = 3;
/// Events that one task checks.
const BATCH: usize = 128;

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PduError {
    /// Not an event of a room of this version.
    #[error(transparent)]
    Format(#[from] EventError),
    /// Not signed as it should be.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Whose keys an event needs.
type Wanted = (OwnedServerName, Vec<String>, MilliSecondsSinceUnixEpoch);

impl Federation {
    /// An event of another server. One whose content is not what was hashed comes back redacted.
    pub(crate) async fn check(&self, rules: &RoomVersionRules, raw: &RawValue) -> Result<Event, PduError> {
        // 1. Is a valid event, otherwise it is dropped.
        let event = Event::parse(rules, raw.get().as_bytes())?;
        self.check_event(rules, event).await
    }

    /// The same for one that is parsed.
    pub(crate) async fn check_event(&self, rules: &RoomVersionRules, event: Event) -> Result<Event, PduError> {
        self.learn_all(self.wanted(rules, &event)).await;
        self.verify(rules, event)
    }

    /// Checks many, on all cores. What does not pass is left out, and its number told.
    pub(crate) async fn check_many(&self, rules: &RoomVersionRules, raw: Vec<Box<RawValue>>) -> (Vec<Event>, usize) {
        let given = raw.len();
        let mut parsing = tokio::task::JoinSet::new();
        let mut raw = raw.into_iter().peekable();
        let mut at = 0;
        while raw.peek().is_some() {
            let some: Vec<_> = raw.by_ref().take(BATCH).collect();
            let rules = rules.clone();
            let place = at;
            parsing.spawn_blocking(move || {
                let parse = |raw: Box<RawValue>| Event::parse(&rules, raw.get().as_bytes()).ok();
                (place, some.into_iter().filter_map(parse).collect::<Vec<_>>())
            });
            at += 1;
        }
        let events = in_order(parsing).await;
        let mut wanted: Vec<Wanted> = Vec::new();
        for event in &events {
            for (server, keys, made) in self.wanted(rules, event) {
                // The newest event of a server asks most of its keys.
                match wanted.iter_mut().find(|(known, ids, _)| *known == server && *ids == keys) {
                    Some((_, _, newest)) => *newest = (*newest).max(made),
                    None => wanted.push((server, keys, made)),
                }
            }
        }
        self.learn_all(wanted).await;
        let mut checking = tokio::task::JoinSet::new();
        for (place, some) in events.chunks(BATCH).enumerate() {
            let (federation, rules, some) = (self.clone(), rules.clone(), some.to_vec());
            checking.spawn_blocking(move || {
                let passed = some.into_iter().filter_map(|event| federation.verify(&rules, event).ok());
                (place, passed.collect::<Vec<_>>())
            });
        }
        let passed = in_order(checking).await;
        let failed = given - passed.len();
        (passed, failed)
    }

    /// The keys that are not at hand for an event, or not for its time.
    fn wanted(&self, rules: &RoomVersionRules, event: &Event) -> Vec<Wanted> {
        let Ok(Json::Object(object)) = json::parse(event.json()) else { return Vec::new() };
        let made = event.origin_server_ts();
        let mut wanted = Vec::new();
        for server in signatures::signers(rules, &object).into_iter().flatten().take(SIGNERS_MAX) {
            let all = object.get("signatures").and_then(Json::as_object);
            let of_server = all.and_then(|all| all.get(server.as_str())?.as_object());
            let Some(of_server) = of_server else { continue };
            let ids = of_server.iter().map(|(id, _)| id.to_owned()).filter(|id| id.starts_with("ed25519:"));
            let ids: Vec<String> = ids.take(signatures::SIGNATURES_PER_SERVER_MAX).collect();
            let enforce = rules.enforce_key_validity;
            let is_ours = server == self.server_name();
            if !is_ours && !ids.iter().any(|id| self.keys().for_event(&server, id, made, enforce).is_some()) {
                // Where the version does not ask when, any moment of its keys will do.
                let at = if enforce { made } else { MilliSecondsSinceUnixEpoch(0_u32.into()) };
                wanted.push((server, ids, at));
            }
        }
        wanted
    }

    fn verify(&self, rules: &RoomVersionRules, event: Event) -> Result<Event, PduError> {
        let Json::Object(object) = json::parse(event.json()).map_err(EventError::from)? else {
            return Err(EventError::NotAnObject.into());
        };
        // 2. Passes signature checks, otherwise it is dropped.
        let made = event.origin_server_ts();
        let look_up = |server: &ServerName, key: &str| {
            if server == self.server_name() {
                return self.own_key(key);
            }
            self.keys().for_event(server, key, made, rules.enforce_key_validity)
        };
        signatures::verify_event(rules, &object, &look_up)?;
        // 3. Passes hash checks, otherwise it is redacted before being processed further.
        if koine_graph::hashes::content_hash_matches(&object) {
            drop(object);
            return Ok(event);
        }
        drop(object);
        Ok(redact(rules, &event)?)
    }

    fn own_key(&self, id: &str) -> Option<koine_graph::PublicKey> {
        if id == self.signing_key().id() {
            return Some(self.signing_key().public());
        }
        let old = self.config().old_keys.iter().find(|(known, _, _)| known == id)?;
        koine_graph::PublicKey::from_base64(&old.1).ok()
    }

    /// An event with our signature added.
    pub(crate) fn countersign(&self, rules: &RoomVersionRules, event: &Event) -> Result<Event, PduError> {
        let Json::Object(mut object) = json::parse(event.json()).map_err(EventError::from)? else {
            return Err(EventError::NotAnObject.into());
        };
        signatures::sign_event(rules, &mut object, self.server_name(), self.signing_key());
        Ok(Event::parse(rules, &object.to_bytes())?)
    }
}

async fn in_order(mut tasks: tokio::task::JoinSet<(usize, Vec<Event>)>) -> Vec<Event> {
    let mut parts = Vec::new();
    while let Some(part) = tasks.join_next().await {
        parts.extend(part.ok());
    }
    parts.sort_by_key(|(place, _)| *place);
    parts.into_iter().flat_map(|(_, events)| events).collect()
}
