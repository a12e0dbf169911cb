//! `GET /thirdparty/location` and `/thirdparty/user`: what a room or a user is in another network, and the other way round.
//!
//! [CS-API §get_matrixclientv3thirdpartylocationprotocol] [CS-API §get_matrixclientv3thirdpartyuserprotocol]
//! [CS-API §get_matrixclientv3thirdpartylocation] [CS-API §get_matrixclientv3thirdpartyuser]

use axum::extract::State;
use ruma_client_api::thirdparty as ruma;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{Api, Error, Json, Loose, Result, appservice::ask};

pub async fn location_for_protocol(
    State(api): State<Api>,
    call: Loose<ruma::get_location_for_protocol::v3::Request, IgnoredAny>,
) -> Result<Json<Vec<Value>>> {
    by_protocol(&api, "location", &call.path, &call.query, "No room leads into this network").await
}

pub async fn user_for_protocol(
    State(api): State<Api>,
    call: Loose<ruma::get_user_for_protocol::v3::Request, IgnoredAny>,
) -> Result<Json<Vec<Value>>> {
    by_protocol(&api, "user", &call.path, &call.query, "Nobody of this network is known here").await
}

pub async fn location_for_alias(
    State(api): State<Api>,
    call: Loose<ruma::get_location_for_room_alias::v3::Request, IgnoredAny>,
) -> Result<Json<Vec<Value>>> {
    found(
        ask::third_party(&api, None, &["thirdparty", "location"], &without_token(&call.query)).await,
        "This room leads into no other network",
    )
}

pub async fn user_for_user_id(
    State(api): State<Api>,
    call: Loose<ruma::get_user_for_user_id::v3::Request, IgnoredAny>,
) -> Result<Json<Vec<Value>>> {
    found(
        ask::third_party(&api, None, &["thirdparty", "user"], &without_token(&call.query)).await,
        "This user is in no other network",
    )
}

async fn by_protocol(
    api: &Api,
    what: &str,
    path: &[String],
    query: &str,
    nothing: &'static str,
) -> Result<Json<Vec<Value>>> {
    let [protocol] = path else { return Err(Error::unrecognized()) };
    let path = ["thirdparty", what, protocol.as_str()];
    found(ask::third_party(api, Some(protocol), &path, &without_token(query)).await, nothing)
}

fn found(all: Vec<Value>, nothing: &'static str) -> Result<Json<Vec<Value>>> {
    if all.is_empty() { Err(Error::not_found(nothing)) } else { Ok(Json(all)) }
}

/// A client's token is nobody's business but ours.
fn without_token(query: &str) -> String {
    let kept = query.split('&').filter(|pair| !pair.starts_with("access_token="));
    kept.collect::<Vec<_>>().join("&")
}
