//! `POST /keys/device_signing/upload`: a user publishes their cross-signing keys.
//!
//! [CS-API §post_matrixclientv3keysdevice_signingupload]. The first keys, and the same once more, need no proof beyond
//! the access token; replacing any does.

use axum::extract::State;
use koine_account::{CrossSigningKeys, UploadCrossSigningError};
use ruma_client_api::keys::upload_signing_keys::v3;
use ruma_common::CanonicalJsonObject;
use serde::Deserialize;

use crate::{
    Api, Empty, Loose, Result,
    interactive::{self, Auth},
};

#[derive(Debug, Deserialize)]
pub struct Body {
    auth: Option<Auth>,
    master_key: Option<CanonicalJsonObject>,
    self_signing_key: Option<CanonicalJsonObject>,
    user_signing_key: Option<CanonicalJsonObject>,
}

pub async fn upload_cross_signing(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let Body { auth, master_key: master, self_signing_key: self_signing, user_signing_key: user_signing } = call.body;
    let keys = || CrossSigningKeys {
        master: master.clone(),
        self_signing: self_signing.clone(),
        user_signing: user_signing.clone(),
    };
    let user_id = &call.who.user_id;
    match api.accounts.upload_cross_signing(user_id, keys(), false).await {
        Err(UploadCrossSigningError::ProofNeeded) => {}
        outcome => return Ok(outcome.map(|()| Empty)?),
    }
    let passed = interactive::prove_owner_or_service(&api, &call.who, "upload_cross_signing", auth).await?;
    api.accounts.upload_cross_signing(user_id, keys(), true).await?;
    if let Some(passed) = &passed {
        api.accounts.interaction_done(passed);
    }
    Ok(Empty)
}
