//! `PUT /devices/{deviceId}`: names a device; an application service makes one by it, for a user of its.
//!
//! [CS-API §put_matrixclientv3devicesdeviceid] [AS-API §creating-devices]

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use koine_account::{Class, LimitKey};
use ruma_client_api::device::update_device::v3;

use crate::{Api, Call, Empty, Error, Result};

pub async fn update_device(State(api): State<Api>, call: Call<v3::Request>) -> Result<Response> {
    let (user_id, device_id) = (&call.who.user_id, &call.request.device_id);
    let name = call.request.display_name;
    if call.who.is_service {
        api.permit(Class::Login, LimitKey::User(user_id))?;
        let is_new = api.accounts.put_device(user_id, device_id, name).await?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        return Ok((status, Empty).into_response());
    }
    match name {
        Some(name) => api.accounts.rename_device(user_id, device_id, name).await?,
        None if api.accounts.device(user_id, device_id)?.is_none() => {
            return Err(Error::not_found("You have no such device"));
        }
        None => {}
    }
    Ok(Empty.into_response())
}
