//! `GET /devices`: what am I logged in on?
//!
//! [CS-API §get_matrixclientv3devices]

use axum::extract::State;
use ruma_client_api::device::get_devices::v3;

use super::as_ruma;
use crate::{Api, Call, Result, Ruma};

pub async fn get_devices(State(api): State<Api>, call: Call<v3::Request>) -> Result<Ruma<v3::Response>> {
    let devices = api.accounts.devices(&call.who.user_id)?;
    Ok(Ruma(v3::Response::new(devices.into_iter().map(as_ruma).collect())))
}
