//! `PUT /directory/room/{roomAlias}`: a new alias for a room.
//!
//! [CS-API §put_matrixclientv3directoryroomroomalias]

use axum::extract::State;
use http::StatusCode;
use koine_room::CommandError;
use ruma_client_api::alias::create_alias::v3;

use crate::{Api, Call, Empty, Error, Result};

pub async fn set_alias(State(api): State<Api>, call: Call<v3::Request>) -> Result<Empty> {
    let request = call.request;
    // [AS-API §registration] An exclusive namespace is the service's own.
    let own = api.services.all().iter().find(|service| service.has_user(&call.who.user_id));
    if api.services.keeps_alias(request.room_alias.as_str(), own) {
        return Err(Error::new(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", "The alias is kept for an application service"));
    }
    match api.rooms.set_alias(&call.who.user_id, &request.room_alias, &request.room_id).await {
        Ok(()) => Ok(Empty),
        // [CS-API §put_matrixclientv3directoryroomroomalias] 409, unlike an alias that is taken in createRoom.
        Err(error @ CommandError::AliasTaken(_)) => {
            Err(Error::new(StatusCode::CONFLICT, "M_UNKNOWN", error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}
