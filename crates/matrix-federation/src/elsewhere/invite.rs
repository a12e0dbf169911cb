//! Asking somebody of another server into a room of ours. [SS-API §inviting-to-a-room]

use std::sync::Arc;

use http::Method;
use koine_graph::Event;
use koine_room::{CommandError, Received, Room};
use ruma_common::{RoomVersionId, UserId};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue, value::to_raw_value};

use super::{join::unusable, refused};
use crate::{
    Federation, PeerError,
    answer::Writer,
    peers::{Bounds, parse, segment},
};

#[derive(Deserialize)]
struct Signed {
    event: Box<RawValue>,
}

impl Federation {
    pub(super) async fn invite_there(
        &self,
        sender: &UserId,
        room: &Arc<Room>,
        target: &UserId,
        content: &Value,
    ) -> Result<(), CommandError> {
        let content = to_raw_value(content).map_err(|error| CommandError::BadContent(error.to_string()))?;
        let draft = room.draft_invitation(sender, target, &content)?;
        let draft = self.rooms().recommended(room, draft).await?;
        let signed = self.ask_for_signature(room, target, &draft).await?;
        let gate = self.gates().pass(room.id()).await;
        let received = self.rooms().receive(room.id(), signed).await;
        drop(gate);
        match received? {
            Received::Accepted | Received::Known => Ok(()),
            Received::SoftFailed(refusal) | Received::Rejected(refusal) => Err(CommandError::Refused(refusal)),
        }
    }

    async fn ask_for_signature(&self, room: &Room, target: &UserId, draft: &Event) -> Result<Event, CommandError> {
        let server = target.server_name();
        let mut shown = crate::serve::shown(room)?;
        shown.extend(room.current("m.room.member", draft.sender().as_str())?.map(|placed| placed.event.clone()));
        let place = format!("{}/{}", segment(room.id().as_str()), segment(draft.event_id().as_str()));
        let body = Writer::new()
            .value("room_version", &json!(room.version()))
            .event("event", draft)
            .events("invite_room_state", &shown)
            .bytes();
        let path = format!("/_matrix/federation/v2/invite/{place}");
        let answer = self.ask_bytes(server, (Method::PUT, &path), Some(&body), Bounds::default()).await;
        let is_old = matches!(room.version(), RoomVersionId::V1 | RoomVersionId::V2);
        let raw = match answer {
            Ok(answer) => parse::<Signed>(&answer).map_err(|error| refused(&error))?.event,
            // COMPAT(servers before v1.0 of the specification)
            Err(PeerError::Refused { status, errcode, .. })
                if is_old && status.as_u16() == 404 && errcode == "M_UNRECOGNIZED" =>
            {
                let path = format!("/_matrix/federation/v1/invite/{place}");
                let answer = self.ask_bytes(server, (Method::PUT, &path), Some(draft.json()), Bounds::default()).await;
                let answer = answer.map_err(|error| refused(&error))?;
                let (_, signed): (u16, Signed) = parse(&answer).map_err(|error| refused(&error))?;
                signed.event
            }
            Err(PeerError::Refused { status, message, .. }) if status.as_u16() == 404 => {
                return Err(CommandError::Forbidden(message));
            }
            Err(error) => return Err(refused(&error)),
        };
        let signed = self.check(room.rules(), &raw).await.map_err(|error| unusable(&error.to_string()))?;
        if signed.event_id() != draft.event_id() || signed.content().get() != draft.content().get() {
            return Err(unusable("it signed something else"));
        }
        Ok(signed)
    }
}
