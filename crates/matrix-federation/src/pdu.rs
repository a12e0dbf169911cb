//! From bytes to events: format, signatures, content hash. [SS-API §checks-performed-on-receipt-of-a-pdu] 1 to 3.

use koine_graph::{
    Event, EventError, RoomVersionRules,
    json::{self, Json, Object},
    redact,
    signatures::{self, SignatureError},
};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use serde_json::value::RawValue;

use crate::Federation;

/// Most signatures of one event of which keys are fetched.
const SIGNERS_MAX: usize = 3;
/// Events that one task checks.
pub(crate) const BATCH: usize = 128;

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

/// What became of a batch of bytes.
pub(crate) struct Checked<N> {
    /// Events that passed, each with its note.
    pub(crate) passed: Vec<(N, Event)>,
    /// How many are events, but not signed as they should be.
    pub(crate) refused: usize,
    /// How many are no events.
    pub(crate) junk: usize,
}

enum Examined {
    Passed(Event),
    Lacks(Vec<Wanted>),
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
        if let Examined::Lacks(wanted) = self.examine(rules, &event)? {
            self.learn_all(wanted).await;
        }
        match self.examine(rules, &event)? {
            Examined::Passed(passed) => Ok(passed),
            // Which keys are lacking the signatures themselves say best.
            Examined::Lacks(_) => self.verify(rules, &event, &object_of(&event)?),
        }
    }

    /// Checks many, on all cores. What does not pass is left out, and its number told.
    pub(crate) async fn check_many(&self, rules: &RoomVersionRules, raw: Vec<Box<RawValue>>) -> (Vec<Event>, usize) {
        let given = raw.len();
        let mut checking = tokio::task::JoinSet::new();
        let mut raw = raw.into_iter().peekable();
        for place in 0.. {
            if raw.peek().is_none() {
                break;
            }
            let some = raw.by_ref().take(BATCH).map(|raw| ((), Vec::from(raw.get()))).collect();
            let (federation, rules) = (self.clone(), rules.clone());
            checking.spawn(async move { (place, federation.check_batch(rules, some).await.passed) });
        }
        let passed = in_order(checking).await;
        let failed = given - passed.len();
        (passed, failed)
    }

    /// Checks some, each with a note of the caller's, in their order, on a thread where that holds nobody up.
    pub(crate) async fn check_batch<N: Send + 'static>(
        &self,
        rules: RoomVersionRules,
        raw: Vec<(N, Vec<u8>)>,
    ) -> Checked<N> {
        let examine = {
            let (federation, rules) = (self.clone(), rules.clone());
            move || {
                let (mut events, mut junk) = (Vec::with_capacity(raw.len()), 0);
                for (note, raw) in raw {
                    match Event::parse(&rules, &raw) {
                        Ok(event) => events.push((note, federation.examine(&rules, &event), event)),
                        Err(_) => junk += 1,
                    }
                }
                (events, junk)
            }
        };
        let (mut events, junk) = on_a_thread(examine).await;
        let mut wanted: Vec<Wanted> = Vec::new();
        for (_, examined, _) in &mut events {
            let Ok(Examined::Lacks(lacks)) = examined else { continue };
            for (server, keys, made) in std::mem::take(lacks) {
                // The newest event of a server asks most of its keys.
                match wanted.iter_mut().find(|(known, ids, _)| *known == server && *ids == keys) {
                    Some((_, _, newest)) => *newest = (*newest).max(made),
                    None => wanted.push((server, keys, made)),
                }
            }
        }
        let given = events.len();
        let again = !wanted.is_empty();
        self.learn_all(wanted).await;
        let federation = self.clone();
        let finish = move || {
            let passed = events.into_iter().filter_map(|(note, examined, event)| match examined {
                Ok(Examined::Passed(event)) => Some((note, event)),
                Ok(Examined::Lacks(_)) => match federation.examine(&rules, &event) {
                    Ok(Examined::Passed(event)) => Some((note, event)),
                    _ => None,
                },
                Err(_) => None,
            });
            passed.collect::<Vec<_>>()
        };
        let passed = if again { on_a_thread(finish).await } else { finish() };
        Checked { refused: given - passed.len(), passed, junk }
    }

    /// Checks 2 and 3, if the keys for it are at hand.
    fn examine(&self, rules: &RoomVersionRules, event: &Event) -> Result<Examined, PduError> {
        let object = object_of(event)?;
        let wanted = self.wanted(rules, event, &object);
        if !wanted.is_empty() {
            return Ok(Examined::Lacks(wanted));
        }
        self.verify(rules, event, &object).map(Examined::Passed)
    }

    /// The keys that are not at hand for an event, or not for its time.
    fn wanted(&self, rules: &RoomVersionRules, event: &Event, object: &Object<'_>) -> Vec<Wanted> {
        let made = event.origin_server_ts();
        let mut wanted = Vec::new();
        for server in signatures::signers(rules, object).into_iter().flatten().take(SIGNERS_MAX) {
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

    fn verify(&self, rules: &RoomVersionRules, event: &Event, object: &Object<'_>) -> Result<Event, PduError> {
        // 2. Passes signature checks, otherwise it is dropped.
        let made = event.origin_server_ts();
        let look_up = |server: &ServerName, key: &str| {
            if server == self.server_name() {
                return self.own_key(key);
            }
            self.keys().for_event(server, key, made, rules.enforce_key_validity)
        };
        signatures::verify_event(rules, object, &look_up)?;
        // 3. Passes hash checks, otherwise it is redacted before being processed further.
        if koine_graph::hashes::content_hash_matches(object) {
            return Ok(event.clone());
        }
        Ok(redact(rules, event)?)
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

fn object_of(event: &Event) -> Result<Object<'_>, PduError> {
    match json::parse(event.json()).map_err(EventError::from)? {
        Json::Object(object) => Ok(object),
        _ => Err(EventError::NotAnObject.into()),
    }
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

async fn in_order(mut tasks: tokio::task::JoinSet<(usize, Vec<((), Event)>)>) -> Vec<Event> {
    let mut parts = Vec::new();
    while let Some(part) = tasks.join_next().await {
        parts.extend(part.ok());
    }
    parts.sort_by_key(|(place, _)| *place);
    parts.into_iter().flat_map(|(_, events)| events).map(|((), event)| event).collect()
}
