//! `DELETE /directory/room/{roomAlias}`: an alias leads nowhere any more.
//!
//! [CS-API §delete_matrixclientv3directoryroomroomalias]

use axum::extract::State;
use ruma_client_api::alias::delete_alias::v3;

use crate::{Api, Call, Empty, Result};

pub async fn delete_alias(State(api): State<Api>, call: Call<v3::Request>) -> Result<Empty> {
    api.rooms.delete_alias(&call.who.user_id, &call.request.room_alias).await?;
    Ok(Empty)
}
