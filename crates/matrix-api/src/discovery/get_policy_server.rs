//! `GET /.well-known/matrix/policy_server`: the key of the policy server that has this server's name.
//!
//! [CS-API §getwell-knownmatrixpolicy_server] The policy server is another program; the operator says its key.

use axum::extract::State;
use ruma_common::{api::auth_scheme::NoAuthentication, metadata};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::{Api, Error, Json, Loose, Result};

/// `GET /.well-known/matrix/policy_server`
pub struct GetPolicyServer;

metadata! {
    @for GetPolicyServer,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/.well-known/matrix/policy_server",
}

pub async fn get_policy_server(
    State(api): State<Api>,
    _call: Loose<GetPolicyServer, IgnoredAny>,
) -> Result<Json<Value>> {
    let key = api.config.policy_server_key.as_ref();
    let key = key.ok_or_else(|| Error::not_found("No policy server has this name"))?;
    Ok(Json(json!({ "public_keys": { "ed25519": key } })))
}
