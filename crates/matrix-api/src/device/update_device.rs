//! `PUT /devices/{deviceId}`: names a device.
//!
//! [CS-API §put_matrixclientv3devicesdeviceid]. Only application services may make devices by this.

use axum::extract::State;
use ruma_client_api::device::update_device::v3;

use crate::{Api, Call, Empty, Error, Result};

pub async fn update_device(State(api): State<Api>, call: Call<v3::Request>) -> Result<Empty> {
    let (user_id, device_id) = (&call.who.user_id, &call.request.device_id);
    match call.request.display_name {
        Some(name) => api.accounts.rename_device(user_id, device_id, name).await?,
        None if api.accounts.device(user_id, device_id)?.is_none() => {
            return Err(Error::not_found("You have no such device"));
        }
        None => {}
    }
    Ok(Empty)
}
