//! `GET /rooms/{roomId}/timestamp_to_event`: the event next to a moment.
//!
//! [CS-API §get_matrixclientv1roomsroomidtimestamp_to_event]

use axum::extract::State;
use koine_room::Direction;
use ruma_client_api::room::get_event_by_timestamp::v1;
use ruma_common::api;

use super::room;
use crate::{Api, Call, Error, Result, Ruma};

pub async fn get_event_by_timestamp(State(api): State<Api>, call: Call<v1::Request>) -> Result<Ruma<v1::Response>> {
    let v1::Request { room_id, ts, dir, .. } = call.request;
    let direction = match dir {
        api::Direction::Forward => Direction::Forward,
        api::Direction::Backward => Direction::Backward,
    };
    let room = room(&api, &room_id)?;
    let found = api.rooms.event_near(&room, &call.who.user_id, ts, direction).await?;
    let found = found.ok_or_else(|| Error::not_found("There is no event on that side of the moment"))?;
    Ok(Ruma(v1::Response::new(found.event.event_id().to_owned(), found.event.origin_server_ts())))
}
