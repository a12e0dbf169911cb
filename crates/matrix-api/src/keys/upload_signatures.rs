//! `POST /keys/signatures/upload`: a user signs keys.
//!
//! [CS-API §post_matrixclientv3keyssignaturesupload]

use std::collections::BTreeMap;

use axum::extract::State;
use koine_account::{SignatureRefused, SignedObjects};
use ruma_client_api::keys::upload_signatures::v3;
use ruma_common::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Api, Json, Loose, Result};

#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Body(SignedObjects);

pub async fn upload_signatures(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    let refused = api.accounts.upload_signatures(&call.who.user_id, call.body.0).await?;
    let mut failures: BTreeMap<OwnedUserId, BTreeMap<String, Value>> = BTreeMap::new();
    for (user_id, key_id, reason) in refused {
        let errcode = match reason {
            SignatureRefused::UnknownKey => "M_NOT_FOUND",
            SignatureRefused::OtherKey | SignatureRefused::NoSigningKey => "M_INVALID_PARAM",
            SignatureRefused::InvalidSignature => "M_INVALID_SIGNATURE",
            SignatureRefused::TooMany => "M_TOO_LARGE",
        };
        let failure = json!({ "errcode": errcode, "error": reason.to_string() });
        failures.entry(user_id).or_default().insert(key_id, failure);
    }
    Ok(Json(json!({ "failures": failures })))
}
