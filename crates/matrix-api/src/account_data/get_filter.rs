//! `GET /user/{userId}/filter/{filterId}`: a filter kept earlier.
//!
//! [CS-API §get_matrixclientv3useruseridfilterfilterid]

use axum::extract::State;
use ruma_client_api::filter::get_filter::v3;

use super::is_own;
use crate::{Api, Call, Error, Raw, Result};

pub async fn get_filter(State(api): State<Api>, call: Call<v3::Request>) -> Result<Raw> {
    is_own(&call.who, &call.request.user_id)?;
    let filter = api.accounts.filter(&call.request.user_id, &call.request.filter_id)?;
    Ok(Raw(filter.ok_or_else(|| Error::not_found("There is no such filter"))?))
}
