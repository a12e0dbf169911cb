//! `GET /_matrix/key/v2/server`: our own keys. [SS-API §get_matrixkeyv2server]

use axum::extract::State;
use koine_graph::{
    json::{Json, Object},
    signatures::sign_object,
};

use crate::{Federation, answer::Raw};

/// How long our word about our keys holds. Long enough that nobody asks often, short enough for a key to be replaced.
const VALID_MS: u64 = 24 * 3_600 * 1_000;

pub async fn get_server_keys(State(federation): State<Federation>) -> Raw {
    Raw(federation.own_keys().into())
}

impl Federation {
    /// Our signed word about our keys.
    pub(crate) fn own_keys(&self) -> Vec<u8> {
        let text = |text: &str| Json::String(text.to_owned().into());
        let (name, key) = (self.server_name(), self.signing_key());
        let mut own = Object::with_capacity(1);
        own.insert("key", text(&key.public().to_base64()));
        let mut verify_keys = Object::with_capacity(1);
        verify_keys.insert(key.id().to_owned(), Json::Object(own));
        let mut old = Object::default();
        for (id, key, ended) in &self.config().old_keys {
            let mut entry = Object::with_capacity(2);
            entry.insert("key", text(key));
            entry.insert("expired_ts", Json::Integer(ended.get().into()));
            old.insert(id.clone(), Json::Object(entry));
        }
        let valid_until = i64::try_from(self.now_ms() + VALID_MS).expect("times stay far below 2^63");
        let mut word = Object::with_capacity(5);
        word.insert("server_name", text(name.as_str()));
        word.insert("verify_keys", Json::Object(verify_keys));
        word.insert("old_verify_keys", Json::Object(old));
        word.insert("valid_until_ts", Json::Integer(valid_until));
        sign_object(&mut word, name.as_str(), key);
        word.to_bytes()
    }
}
