//! `POST /user/{userId}/filter`: keeps a filter, to be named in later requests.
//!
//! [CS-API §post_matrixclientv3useruseridfilter]

use axum::extract::State;
use ruma_client_api::filter::{FilterDefinition, create_filter::v3};
use ruma_common::UserId;
use serde_json::{Map, Value};

use super::is_own;
use crate::{Api, Checked, Error, Json, Loose, Result, body};

/// How large a filter may be.
const FILTER_BYTES_MAX: usize = 64 * 1024;

pub async fn create_filter(
    State(api): State<Api>,
    call: Loose<v3::Request, Checked, FILTER_BYTES_MAX>,
) -> Result<Json<Value>> {
    let user_id = call.path.first().map_or("", String::as_str);
    let user_id = UserId::parse(user_id).map_err(|_| Error::invalid_param("Not a user id"))?;
    is_own(&call.who, &user_id)?;
    // Refused now rather than when it is used; kept as it was said, with keys that we do not know.
    let filter: Map<String, Value> = body::parse(&call.body.0)?;
    let _: FilterDefinition = body::parse(&call.body.0)?;
    let filter_id = api.accounts.store_filter(&user_id, Value::Object(filter).to_string()).await?;
    Ok(Json(serde_json::json!({ "filter_id": filter_id })))
}
