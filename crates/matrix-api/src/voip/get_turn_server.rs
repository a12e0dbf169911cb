//! `GET /voip/turnServer`: credentials for the TURN server.
//!
//! [CS-API §get_matrixclientv3voipturnserver] The server and we share a secret: the user name carries the time at which it
//! ends, and the password is an HMAC over it, as coturn's `use-auth-secret` wants.

use axum::extract::State;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use ruma_client_api::voip::get_turn_server_info::v3;
use ruma_common::{MilliSecondsSinceUnixEpoch, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::{Api, Call, Json, Result};

/// The TURN server that callers meet at. Without addresses or secret, clients are told of none.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TurnConfig {
    /// Its addresses, as "turn:turn.example.org?transport=udp". Default: none. Needs a restart.
    pub uris: Vec<String>,

    /// The secret shared with it: coturn's `static-auth-secret`. Default: none. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "a long random text")]
    pub shared_secret: Option<String>,

    /// How long credentials are good for, in seconds. Calls that last longer end. Default: 86400. Needs a restart.
    pub lifetime_s: u64,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self { uris: Vec::new(), shared_secret: None, lifetime_s: 24 * 60 * 60 }
    }
}

impl std::fmt::Debug for TurnConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TurnConfig").field("uris", &self.uris).finish_non_exhaustive()
    }
}

pub async fn get_turn_server(State(api): State<Api>, call: Call<v3::Request>) -> Result<Json<Value>> {
    let now_s = u64::from(MilliSecondsSinceUnixEpoch::now().get()) / 1000;
    Ok(Json(credentials(&api.config.turn, &call.who.user_id, now_s)))
}

fn credentials(config: &TurnConfig, user: &UserId, now_s: u64) -> Value {
    let Some(secret) = config.shared_secret.as_ref().filter(|_| !config.uris.is_empty()) else { return json!({}) };
    let username = format!("{}:{user}", now_s.saturating_add(config.lifetime_s));
    let mut hmac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("a key may have any length");
    hmac.update(username.as_bytes());
    let password = BASE64_STANDARD.encode(hmac.finalize().into_bytes());
    json!({ "username": username, "password": password, "uris": config.uris, "ttl": config.lifetime_s })
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;

    use super::*;

    #[test]
    fn the_password_is_an_hmac_over_the_name() {
        let config = TurnConfig {
            uris: vec!["turn:turn.example.org".to_owned()],
            shared_secret: Some("secret".to_owned()),
            ..TurnConfig::default()
        };
        let answer = credentials(&config, user_id!("@alice:example.org"), 1_000);
        assert_eq!(answer["username"], "87400:@alice:example.org");
        assert_eq!(answer["password"], "cSD2WpHEHsXDAHMctViJcN4wxVQ=");
        assert_eq!(answer["ttl"], 86_400);
        assert_eq!(credentials(&TurnConfig::default(), user_id!("@alice:example.org"), 0), json!({}));
    }
}
