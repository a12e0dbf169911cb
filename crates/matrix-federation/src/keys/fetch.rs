//! Asking servers for their keys, and notaries for those of servers that do not answer.

use std::{sync::Arc, time::Duration};

use http::Method;
use koine_graph::{
    PublicKey,
    json::{self, Json, Object},
    signatures,
};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName};
use serde_json::{json, value::RawValue};

use crate::{
    Federation, PeerError,
    keys::{
        FAILURE_REST_MS, FRESH_MS, KEYS_PER_SERVER_MAX, VALIDITY_MAX_MS,
        tables::{KEY, KeyRecord, WORD, WordRecord},
    },
    peers::{self, Bounds},
};

/// Largest answer about keys.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long one server may take to tell its keys.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Servers whose keys are fetched at the same time for one request.
const FETCHES_AT_ONCE: usize = 64;

/// What a server says of its keys, checked.
pub(crate) struct Word {
    pub(crate) keys: Vec<(String, KeyRecord)>,
    pub(crate) record: WordRecord,
}

impl Federation {
    /// Sees to it, if it can be done, that keys of a server are at hand that can vouch for something of the time `at`.
    pub(crate) async fn learn_keys(&self, server: &ServerName, key_ids: &[String], at: MilliSecondsSinceUnixEpoch) {
        let has = |key: &String| self.keys().for_event(server, key, at, true).is_some();
        if server == self.server_name() || key_ids.iter().any(has) {
            return;
        }
        let gate = self.keys().fetching.lock().entry(server.to_owned()).or_default().clone();
        let held = gate.lock().await;
        if !key_ids.iter().any(has) && self.may_ask(server) {
            let learned = self.fetch_keys(server, at).await;
            self.keys().asked.insert(server.to_owned(), (self.now_ms(), learned));
        }
        drop(held);
        let mut fetching = self.keys().fetching.lock();
        // This map and we ourselves: nobody else waits.
        if fetching.get(server).is_some_and(|gate| Arc::strong_count(gate) <= 2) {
            fetching.remove(server);
        }
    }

    /// The same for several servers at once.
    pub(crate) async fn learn_all(&self, wanted: Vec<(OwnedServerName, Vec<String>, MilliSecondsSinceUnixEpoch)>) {
        let mut wanted = wanted.into_iter();
        let mut running = tokio::task::JoinSet::new();
        loop {
            while running.len() < FETCHES_AT_ONCE
                && let Some((server, keys, at)) = wanted.next()
            {
                let federation = self.clone();
                running.spawn(async move { federation.learn_keys(&server, &keys, at).await });
            }
            if running.join_next().await.is_none() {
                return;
            }
        }
    }

    fn may_ask(&self, server: &ServerName) -> bool {
        let Some((when, answered)) = self.keys().asked.get(server) else { return true };
        self.now_ms().saturating_sub(when) > if answered { FRESH_MS } else { FAILURE_REST_MS }
    }

    async fn fetch_keys(&self, server: &ServerName, at: MilliSecondsSinceUnixEpoch) -> bool {
        match self.ask_for_keys(server).await {
            Ok(word) => {
                self.keep_word(server, word).await;
                return true;
            }
            Err(error) => tracing::debug!(peer = %server, reason = %error, "a server does not tell its keys"),
        }
        for notary in &self.config().notaries {
            match self.ask_notary(notary, server, at).await {
                Ok(words) if !words.is_empty() => {
                    for word in words {
                        self.keep_word(server, word).await;
                    }
                    return true;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(peer = %notary, reason = %error, "a notary does not tell keys"),
            }
        }
        false
    }

    /// [SS-API §get_matrixkeyv2server]
    pub(crate) async fn ask_for_keys(&self, server: &ServerName) -> Result<Word, PeerError> {
        let request = http::Request::builder().method(Method::GET).uri("/_matrix/key/v2/server");
        let request = request.body(bytes::Bytes::new()).expect("a constant request is one");
        let bounds = Bounds { bytes: ANSWER_BYTES_MAX, time: ANSWER_TIME_MAX, urgent: true };
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, self.peers().request(server, request, bounds)).await;
        let answer = answer.map_err(|_| PeerError::Unreachable("it did not answer in time".into()))??;
        let body = peers::success(answer)?;
        let word = json::parse(&body).map_err(|error| PeerError::Unusable(error.to_string()))?;
        let word = word.as_object().ok_or_else(|| PeerError::Unusable("keys are told in an object".into()))?;
        self.read_word(server, word)
    }

    /// [SS-API §post_matrixkeyv2query]
    async fn ask_notary(
        &self,
        notary: &ServerName,
        server: &ServerName,
        at: MilliSecondsSinceUnixEpoch,
    ) -> Result<Vec<Word>, PeerError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            server_keys: Vec<Box<RawValue>>,
        }
        // The notary's own word first: its keys prove what it says.
        if let Ok(word) = self.ask_for_keys(notary).await {
            self.keep_word(notary, word).await;
        }
        let body =
            json!({ "server_keys": { server.as_str(): { "": { "minimum_valid_until_ts": u64::from(at.get()) } } } });
        let request = http::Request::builder().method(Method::POST).uri("/_matrix/key/v2/query");
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        let request = request.body(body.to_string().into()).expect("a constant request is one");
        let bounds = Bounds { bytes: ANSWER_BYTES_MAX, time: ANSWER_TIME_MAX, urgent: true };
        let answer = peers::success(self.peers().request(notary, request, bounds).await?)?;
        let answer: Answer = peers::parse(&answer)?;
        let now = self.now();
        let mut words = Vec::new();
        for raw in answer.server_keys.iter().take(KEYS_PER_SERVER_MAX) {
            let Ok(word) = json::parse(raw.get().as_bytes()) else { continue };
            let Some(word) = word.as_object() else { continue };
            let look_up = |server: &ServerName, key: &str| self.keys().for_request(server, key, now);
            if signatures::verify_object(word, notary, &look_up).is_ok() {
                words.extend(self.read_word(server, word));
            }
        }
        Ok(words)
    }

    /// Checks what a server says of its keys: its name, and that each key that it uses signed this.
    fn read_word(&self, server: &ServerName, word: &Object<'_>) -> Result<Word, PeerError> {
        let unusable = |what: &str| PeerError::Unusable(what.to_owned());
        if word.get("server_name").and_then(Json::as_str) != Some(server.as_str()) {
            return Err(unusable("these are keys of another server"));
        }
        let valid_until = word.get("valid_until_ts").and_then(Json::as_integer).and_then(|ts| u64::try_from(ts).ok());
        let valid_until = valid_until.ok_or_else(|| unusable("it does not say until when"))?;
        // [SS-API §get_matrixkeyv2server] Whatever it says, for a week at most.
        let valid_until_ms = valid_until.min(self.now_ms() + VALIDITY_MAX_MS);
        let entries = |name: &str| word.get(name).and_then(Json::as_object).into_iter().flat_map(Object::iter);
        let mut keys = Vec::new();
        let mut current: Vec<(String, PublicKey)> = Vec::new();
        for (id, entry) in entries("verify_keys").take(KEYS_PER_SERVER_MAX) {
            let key = entry.as_object().and_then(|entry| entry.get("key")?.as_str());
            let Some(key) = key.filter(|_| id.starts_with("ed25519:")) else { continue };
            let Ok(public) = PublicKey::from_base64(key) else { continue };
            current.push((id.to_owned(), public));
            keys.push((id.to_owned(), KeyRecord { key: key.to_owned(), valid_until_ms, expired_ms: None }));
        }
        let look_up =
            |_: &ServerName, wanted: &str| current.iter().find(|(id, _)| id == wanted).map(|(_, key)| key.clone());
        signatures::verify_object(word, server, &look_up).map_err(|error| PeerError::Unusable(error.to_string()))?;
        for (id, entry) in entries("old_verify_keys").take(KEYS_PER_SERVER_MAX) {
            let Some(entry) = entry.as_object().filter(|_| id.starts_with("ed25519:")) else { continue };
            let (Some(key), Some(expired)) =
                (entry.get("key").and_then(Json::as_str), entry.get("expired_ts").and_then(Json::as_integer))
            else {
                continue;
            };
            let expired = u64::try_from(expired).unwrap_or(0);
            if PublicKey::from_base64(key).is_ok() && !keys.iter().any(|(known, _)| known == id) {
                let record = KeyRecord { key: key.to_owned(), valid_until_ms: expired, expired_ms: Some(expired) };
                keys.push((id.to_owned(), record));
            }
        }
        let json = String::from_utf8(word.to_bytes()).expect("canonical JSON is UTF-8");
        Ok(Word { keys, record: WordRecord { json, valid_until_ms: valid_until, fetched_ms: self.now_ms() } })
    }

    /// Keeps what a server said of its keys. A notary may know an older word than we do: a key that holds for longer as
    /// we know it goes on to do so.
    pub(crate) async fn keep_word(&self, server: &ServerName, mut word: Word) {
        for (id, record) in &mut word.keys {
            self.keys().keep(server, id, record);
        }
        let (domain, server) = (self.domain(), server.to_string());
        let kept = self.shard().submit(move |txn| {
            for (id, record) in &word.keys {
                txn.put(&KEY, domain, &(server.clone(), id.clone()), record);
            }
            txn.put(&WORD, domain, server.as_str(), &word.record);
        });
        if let Err(error) = kept.await {
            tracing::warn!(reason = %error, "keys of another server could not be kept");
        }
    }
}
