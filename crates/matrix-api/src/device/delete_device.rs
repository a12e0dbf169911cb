//! `DELETE /devices/{deviceId}`: logs a device out.
//!
//! [CS-API §delete_matrixclientv3devicesdeviceid]

use axum::extract::State;
use ruma_client_api::device::delete_device::v3;
use serde::Deserialize;

use crate::{
    Api, Empty, Loose, Result,
    interactive::{self, Auth},
};

#[derive(Debug, Deserialize)]
pub struct Body {
    auth: Option<Auth>,
}

pub async fn delete_device(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let passed = interactive::prove_owner_or_service(&api, &call.who, "delete_device", call.body.auth).await?;
    let devices = call.path.into_iter().take(1).map(Into::into).collect();
    api.accounts.delete_devices(&call.who.user_id, devices).await?;
    if let Some(passed) = &passed {
        api.accounts.interaction_done(passed);
    }
    Ok(Empty)
}
