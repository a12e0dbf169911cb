//! `PUT /directory/list/appservice/{networkId}/{roomId}`: a bridge puts a room into the list of its network.
//!
//! [CS-API §put_matrixclientv3directorylistappservicenetworkidroomid] [AS-API §published-room-directories] The list is named
//! by the `instance_id` that the protocols of the bridge are told with.

use axum::extract::State;
use ruma_common::{OwnedRoomId, api::auth_scheme::AppserviceToken, metadata};
use serde::Deserialize;

use super::ask::instance_id;
use crate::{Api, Empty, Loose, Result, rooms::path};

/// `PUT /directory/list/appservice/{networkId}/{roomId}`
pub struct SetVisibility;

metadata! {
    @for SetVisibility,
    method: PUT,
    rate_limited: false,
    authentication: AppserviceToken,
    history: {
        1.0 => "/_matrix/client/r0/directory/list/appservice/{network_id}/{room_id}",
        1.1 => "/_matrix/client/v3/directory/list/appservice/{network_id}/{room_id}",
    }
}

#[derive(Debug, Deserialize)]
pub struct Body {
    visibility: Visibility,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    Public,
    Private,
}

pub async fn set_visibility(State(api): State<Api>, call: Loose<SetVisibility, Body>) -> Result<Empty> {
    let network: &str = path(&call.path, 0)?;
    let room: OwnedRoomId = path(&call.path, 1)?;
    let list = instance_id(&call.who, network);
    api.rooms.set_listed_in(&list, &room, call.body.visibility == Visibility::Public).await?;
    Ok(Empty)
}
