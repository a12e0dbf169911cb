//! `POST /_matrix/key/v2/query`, `GET /_matrix/key/v2/query/{serverName}`: we as a notary of other servers' keys.
//! [SS-API §querying-keys-through-another-server] [SS-API §get_matrixkeyv2queryservername]

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use bytes::Bytes;
use koine_graph::{
    json::{self, Json},
    signatures::sign_object,
};
use ruma_common::{OwnedServerName, ServerName};
use serde::Deserialize;

use crate::{
    Error, Federation,
    answer::{Raw, Result, Writer},
    keys::tables::{WORD, WordRecord},
};

/// Most servers that one question may name.
pub const SERVERS_MAX: usize = 50;
/// Largest question.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
pub struct Question {
    server_keys: BTreeMap<OwnedServerName, BTreeMap<String, Criteria>>,
}

#[derive(Deserialize, Default)]
struct Criteria {
    minimum_valid_until_ts: Option<u64>,
}

pub async fn post_query(State(federation): State<Federation>, body: Bytes) -> Result<Raw> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Error::too_large(format!("A question has at most {BODY_BYTES_MAX} bytes")));
    }
    let question: Question = serde_json::from_slice(&body)
        .map_err(|error| Error::bad_json(format!("The body is not as expected: {error}")))?;
    if question.server_keys.len() > SERVERS_MAX {
        return Err(Error::invalid_param(format!("At most {SERVERS_MAX} servers may be asked about at once")));
    }
    let mut words = Vec::new();
    for (server, keys) in &question.server_keys {
        let needed = keys.values().filter_map(|criteria| criteria.minimum_valid_until_ts).max();
        words.extend(federation.witnessed(server, needed).await?);
    }
    Ok(answer(&words))
}

pub async fn get_query(
    State(federation): State<Federation>,
    Path(server): Path<String>,
    axum::extract::RawQuery(query): axum::extract::RawQuery,
) -> Result<Raw> {
    let server = OwnedServerName::try_from(server).map_err(|_| Error::invalid_param("This is no server name"))?;
    let query = query.unwrap_or_default();
    let needed = url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "minimum_valid_until_ts")
        .and_then(|(_, value)| value.parse().ok());
    let word = federation.witnessed(&server, needed).await?;
    Ok(answer(word.as_slice()))
}

fn answer(words: &[Vec<u8>]) -> Raw {
    Writer::new().list("server_keys", words.iter().map(Vec::as_slice)).answer()
}

impl Federation {
    /// What a server says of its keys, with our signature below. Asks it when what we have is half spent.
    async fn witnessed(&self, server: &ServerName, needed_ms: Option<u64>) -> Result<Option<Vec<u8>>> {
        if server == self.server_name() {
            return Ok(Some(self.own_keys()));
        }
        let known = self.shard().get(&WORD, self.domain(), server.as_str())?;
        let now = self.now_ms();
        let serves = |word: &WordRecord| {
            let half = word.fetched_ms + word.valid_until_ms.saturating_sub(word.fetched_ms) / 2;
            now < half && needed_ms.is_none_or(|needed| needed <= word.valid_until_ms)
        };
        let word = match known {
            Some(word) if serves(&word) => Some(word),
            old => match self.ask_for_keys(server).await {
                Ok(word) => {
                    let record = word.record.clone();
                    self.keep_word(server, word).await;
                    Some(record)
                }
                // It is better to have an old word than none: old events are checked with it.
                Err(_) => old,
            },
        };
        let Some(word) = word else { return Ok(None) };
        let Ok(Json::Object(mut object)) = json::parse(word.json.as_bytes()) else { return Ok(None) };
        sign_object(&mut object, self.server_name().as_str(), self.signing_key());
        Ok(Some(object.to_bytes()))
    }
}
