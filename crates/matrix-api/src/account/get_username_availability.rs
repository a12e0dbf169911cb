//! `GET /register/available`: could I have this name?
//!
//! [CS-API §get_matrixclientv3registeravailable]

use axum::extract::State;
use koine_account::{Class, LimitKey};
use ruma_client_api::account::get_username_availability::v3;

use crate::{Api, Call, Result, Ruma};

pub async fn get_username_availability(State(api): State<Api>, call: Call<v3::Request>) -> Result<Ruma<v3::Response>> {
    api.permit(Class::Registration, LimitKey::Address(call.peer.0))?;
    api.accounts.check_name(&call.request.username)?;
    Ok(Ruma(v3::Response::new(true)))
}
