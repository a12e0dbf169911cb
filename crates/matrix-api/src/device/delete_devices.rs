//! `POST /delete_devices`: logs several devices out.
//!
//! [CS-API §post_matrixclientv3delete_devices]

use axum::extract::State;
use ruma_client_api::device::delete_devices::v3;
use ruma_common::OwnedDeviceId;
use serde::Deserialize;

use crate::{
    Api, Empty, Loose, Result,
    interactive::{self, Auth},
};

#[derive(Debug, Deserialize)]
pub struct Body {
    devices: Vec<OwnedDeviceId>,
    auth: Option<Auth>,
}

pub async fn delete_devices(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let passed = interactive::prove_owner_or_service(&api, &call.who, "delete_devices", call.body.auth).await?;
    api.accounts.delete_devices(&call.who.user_id, call.body.devices).await?;
    if let Some(passed) = &passed {
        api.accounts.interaction_done(passed);
    }
    Ok(Empty)
}
