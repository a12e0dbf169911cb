//! `GET /devices/{deviceId}`: one of the devices I am logged in on.
//!
//! [CS-API §get_matrixclientv3devicesdeviceid]

use axum::extract::State;
use ruma_client_api::device::get_device::v3;

use super::as_ruma;
use crate::{Api, Call, Error, Result, Ruma};

pub async fn get_device(State(api): State<Api>, call: Call<v3::Request>) -> Result<Ruma<v3::Response>> {
    let device = api.accounts.device(&call.who.user_id, &call.request.device_id)?;
    let device = device.ok_or_else(|| Error::not_found("You have no such device"))?;
    Ok(Ruma(v3::Response::new(as_ruma(device))))
}
