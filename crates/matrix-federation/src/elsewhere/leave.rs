//! Refusing invitations and taking knocks back, in rooms that nobody of ours is in.
//! [SS-API §leaving-rooms-rejecting-invites]

use http::Method;
use koine_graph::{Draft, Event, Legacy};
use koine_room::{CommandError, Wish};
use ruma_common::{EventId, OwnedServerName};
use serde_json::value::to_raw_value;

use super::{SERVERS_TRIED_MAX, join::supported, refused};
use crate::{
    Federation, PeerError,
    peers::{Bounds, segment},
};

impl Federation {
    pub(super) async fn leave_through(&self, wish: Wish<'_>) -> Result<(), CommandError> {
        let room = self.rooms().room(wish.room)?;
        let mut left = None;
        for server in wish.via.iter().filter(|server| *server != self.server_name()).take(SERVERS_TRIED_MAX) {
            match self.leave_at(server, &wish).await {
                Ok(event) => {
                    left = Some(event);
                    break;
                }
                Err(error) => {
                    tracing::debug!(peer = %server, room_id = %wish.room, reason = %error, "a server did not let us go");
                }
            }
        }
        // Nobody can be kept waiting before a door that does not open: here, at least, the invitation is gone.
        let event = match left {
            Some(event) => event,
            None => self.leave_alone(&room, &wish)?,
        };
        self.rooms()
            .changed_outside(room.version(), event)
            .await
            .map_err(|error| CommandError::Forbidden(error.to_string()))
    }

    async fn leave_at(&self, server: &OwnedServerName, wish: &Wish<'_>) -> Result<Event, CommandError> {
        let template = self.ask_for_template(server, ("make_leave", wish)).await.map_err(|error| refused(&error))?;
        let rules = supported(&template.room_version)?;
        let event = self.fill(&rules, &template, wish, "leave")?;
        let place = format!("{}/{}", segment(wish.room.as_str()), segment(event.event_id().as_str()));
        let path = format!("/_matrix/federation/v2/send_leave/{place}");
        let put = |path: String| {
            let json = event.json().clone();
            async move { self.ask_bytes(server, (Method::PUT, &path), Some(&json), Bounds::default()).await }
        };
        match put(path).await {
            Ok(_) => Ok(event),
            // COMPAT(servers before v1.0 of the specification)
            Err(PeerError::Refused { status, errcode, .. })
                if status.as_u16() == 404 && errcode == "M_UNRECOGNIZED" =>
            {
                put(format!("/_matrix/federation/v1/send_leave/{place}")).await.map_err(|error| refused(&error))?;
                Ok(event)
            }
            Err(error) => Err(refused(&error)),
        }
    }

    /// A leave that follows the invitation and is known to us alone.
    fn leave_alone(&self, room: &koine_room::Room, wish: &Wish<'_>) -> Result<Event, CommandError> {
        let record = room.local_record(wish.user).ok_or(CommandError::NotJoined)?;
        let before = room.event_at(record.order)?.ok_or(CommandError::NoSuchEvent)?;
        let id = before.event.event_id().to_owned();
        let content = serde_json::json!({ "membership": "leave" });
        let draft = Draft {
            room_id: Some(wish.room.to_owned()),
            sender: wish.user.to_owned(),
            kind: "m.room.member".to_owned(),
            state_key: Some(wish.user.to_string()),
            content: to_raw_value(&content).map_err(|error| CommandError::BadContent(error.to_string()))?,
            redacts: None,
            prev_events: vec![id.clone()],
            auth_events: vec![id],
            depth: before.event.depth() + 1,
            origin_server_ts: self.now(),
        };
        let rules = room.rules();
        let reference_hash = |_: &EventId| Some(before.event.reference_hash(rules));
        let opaque_id = self.rooms().opaque_id();
        let legacy = Legacy { opaque_id: &opaque_id, reference_hash: &reference_hash };
        draft
            .seal_with(rules, self.server_name(), self.signing_key(), Some(&legacy))
            .map_err(|error| CommandError::BadContent(error.to_string()))
    }
}
