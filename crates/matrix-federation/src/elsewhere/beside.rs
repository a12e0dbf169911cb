//! Coming into a room that others of ours are in, through another server: for restricted rooms that nobody of ours may
//! let anybody into. [SS-API §restricted-rooms]
//!
//! The room is here already, so that of the answer the signed event is enough.

use std::sync::Arc;

use http::Method;
use koine_room::{CommandError, Received, Room, Wish};
use ruma_common::OwnedServerName;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{SERVERS_TRIED_MAX, join::unusable, refused, worse};
use crate::{
    Federation,
    peers::{Bounds, parse, segment},
};

#[derive(Deserialize)]
struct Joined {
    event: Option<Box<RawValue>>,
}

impl Federation {
    pub(super) async fn join_beside(&self, room: &Arc<Room>, wish: &Wish<'_>) -> Result<(), CommandError> {
        let mut failure = None;
        for server in wish.via.iter().filter(|server| *server != self.server_name()).take(SERVERS_TRIED_MAX) {
            match self.join_beside_at(server, room, wish).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(peer = %server, room_id = %wish.room, reason = %error, "a server did not vouch");
                    failure = worse(failure, error);
                }
            }
        }
        Err(failure.unwrap_or(CommandError::NotReachable))
    }

    async fn join_beside_at(
        &self,
        server: &OwnedServerName,
        room: &Arc<Room>,
        wish: &Wish<'_>,
    ) -> Result<(), CommandError> {
        let template = self.ask_for_template(server, ("make_join", wish)).await.map_err(|error| refused(&error))?;
        if template.room_version != *room.version() {
            return Err(unusable("the room has another version here"));
        }
        let event = self.fill(room.rules(), &template, wish, "join")?;
        let (place, id) = (segment(wish.room.as_str()), segment(event.event_id().as_str()));
        let path = format!("/_matrix/federation/v2/send_join/{place}/{id}?omit_members=true");
        let bounds = Bounds { bytes: super::join::ROOM_BOUNDS.bytes, ..Bounds::default() };
        let answer = self.ask_bytes(server, (Method::PUT, &path), Some(event.json()), bounds).await;
        let joined: Joined = answer.and_then(|answer| parse(&answer)).map_err(|error| refused(&error))?;
        let signed = joined.event.ok_or_else(|| unusable("it did not sign the join"))?;
        let signed = self.check(room.rules(), &signed).await.map_err(|error| unusable(&error.to_string()))?;
        if signed.event_id() != event.event_id() {
            return Err(unusable("it signed something else"));
        }
        self.told_elsewhere(&signed).await.map_err(|error| CommandError::Damaged(error.to_string()))?;
        let gate = self.gates().pass(room.id()).await;
        let received = self.take_checked(server, room, signed).await;
        drop(gate);
        match received.map_err(|error| CommandError::Forbidden(error.to_string()))? {
            Received::Accepted | Received::Known => Ok(()),
            Received::SoftFailed(refusal) | Received::Rejected(refusal) => Err(CommandError::Refused(refusal)),
        }
    }
}
