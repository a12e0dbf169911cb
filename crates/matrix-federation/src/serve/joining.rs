//! People of other servers come in, ask to be let in, and leave. [SS-API §joining-rooms] [SS-API §knocking-rooms]
//! [SS-API §leaving-rooms-rejecting-invites]

use std::sync::Arc;

use axum::{extract::State, response::Response};
use bytes::Bytes;
use http::StatusCode;
use koine_graph::Event;
use koine_room::{CommandError, Membership, ReadError, Received, Room};
use ruma_common::{RoomVersionId, ServerName, UserId};
use serde_json::{json, value::RawValue};

use crate::{
    Error, Federation, Signed,
    answer::{Raw, Result, Writer},
    serve::history::state_in_parts,
};

/// [SS-API §get_matrixfederationv1make_joinroomiduserid]
pub async fn make_join(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    federation.template(&signed, Membership::Join)
}

/// [SS-API §get_matrixfederationv1make_leaveroomiduserid]
pub async fn make_leave(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    federation.template(&signed, Membership::Leave)
}

/// [SS-API §get_matrixfederationv1make_knockroomiduserid]
pub async fn make_knock(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    federation.template(&signed, Membership::Knock)
}

/// The version before [SS-API §put_matrixfederationv2send_joinroomideventid].
pub async fn send_join_v1(State(federation): State<Federation>, signed: Signed) -> Result<Response> {
    federation.let_join(&signed, (b"[200,", b"]"), false).await
}

/// [SS-API §put_matrixfederationv2send_joinroomideventid]
pub async fn send_join(State(federation): State<Federation>, signed: Signed) -> Result<Response> {
    let omit_members = signed.query.get("omit_members") == Some("true");
    federation.let_join(&signed, (b"", b""), omit_members).await
}

/// The version before [SS-API §put_matrixfederationv2send_leaveroomideventid].
pub async fn send_leave_v1(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    federation.take_membership(&signed, Membership::Leave).await?;
    Ok(Raw(Bytes::from_static(b"[200,{}]")))
}

/// [SS-API §put_matrixfederationv2send_leaveroomideventid]
pub async fn send_leave(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    federation.take_membership(&signed, Membership::Leave).await?;
    Ok(Raw(Bytes::from_static(b"{}")))
}

/// [SS-API §put_matrixfederationv1send_knockroomideventid]
pub async fn send_knock(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let (room, _) = federation.take_membership(&signed, Membership::Knock).await?;
    let shown = shown(&room)?;
    Ok(Writer::new().events("knock_room_state", &shown).answer())
}

/// The state shown to who is invited or knocks, as whole events. [SS-API §put_matrixfederationv2inviteroomideventid]
pub(crate) fn shown(room: &Room) -> std::result::Result<Vec<Event>, ReadError> {
    let shown = room.shown_state(room.published().state)?;
    Ok(shown.iter().map(|placed| placed.event.clone()).collect())
}

impl Federation {
    fn template(&self, signed: &Signed, membership: Membership) -> Result<Raw> {
        let (id, user) = (signed.path.room(0)?, signed.path.user(1)?);
        if user.server_name() != signed.origin {
            return Err(Error::forbidden(format!("{user} is not of {}", signed.origin)));
        }
        let room = self.attended(&id, &signed.origin)?;
        if membership != Membership::Leave {
            whole(&room)?;
            check_version(&room, signed)?;
        }
        let template = self.rooms().template(&room, &user, membership).map_err(|error| refuse(error, membership))?;
        Ok(Raw::of(&json!({ "room_version": template.version, "event": template.event })))
    }

    /// Takes a join in and tells the room, between `before` and `after`.
    async fn let_join(
        &self,
        signed: &Signed,
        (before, after): (&'static [u8], &'static [u8]),
        omit_members: bool,
    ) -> Result<Response> {
        let servers = self.attended(&signed.path.room(0)?, &signed.origin)?.servers()?;
        let (room, event) = self.take_membership(signed, Membership::Join).await?;
        let state = room.state_before_event(event.event_id())?;
        let state = state.ok_or_else(|| Error::internal("a join that was taken has no state before it"))?;
        // Without names, the room is called by people, whom the joiner will want to know.
        let heroes = if omit_members { room.heroes(event.sender())?.unwrap_or_default() } else { Vec::new() };
        let joiner = event.sender().to_owned();
        let wanted = move |kind: &str, state_key: &str| {
            !omit_members
                || kind != "m.room.member"
                || state_key == joiner.as_str()
                || heroes.iter().any(|hero| hero.as_str() == state_key)
        };
        let mut start = before.to_vec();
        let mut head = Writer::new()
            .value("origin", &json!(self.server_name()))
            .value("members_omitted", &json!(omit_members))
            .event("event", &event);
        if omit_members {
            head = head.value("servers_in_room", &json!(servers));
        }
        start.extend(head.open_list("state"));
        let making = move || room.walk_state(state, wanted, &[event], omit_members);
        let walk = tokio::task::spawn_blocking(making).await.map_err(Error::internal)??;
        Ok(state_in_parts(start, walk, after))
    }

    /// Checks a membership event that another server made from our template, and takes it into the room.
    async fn take_membership(&self, signed: &Signed, wanted: Membership) -> Result<(Arc<Room>, Event)> {
        let (id, event_id) = (signed.path.room(0)?, signed.path.event(1)?);
        let room = self.attended(&id, &signed.origin)?;
        if wanted != Membership::Leave {
            whole(&room)?;
        }
        let raw: &RawValue =
            serde_json::from_slice(&signed.body).map_err(|error| Error::not_json(error.to_string()))?;
        let invalid = |what: &str| Err(Error::invalid_param(what.to_owned()));
        let mut event = Event::parse(room.rules(), raw.get().as_bytes())
            .map_err(|error| Error::invalid_param(format!("This is no event: {error}")))?;
        if event.event_id() != event_id || event.room_id() != id {
            return invalid("The event is another one than the path names");
        }
        if event.kind() != "m.room.member" || event.membership().map(Membership::from) != Some(wanted) {
            return invalid("The event does not change a membership to what is asked here");
        }
        if event.sender().server_name() != signed.origin || event.state_key() != Some(event.sender().as_str()) {
            return invalid("The event is not about its sender, or its sender is of another server");
        }
        if wanted == Membership::Join && self.vouches(&event) {
            // Whoever asks may have written the name of somebody of ours themselves.
            self.rooms().check_conditions(&room, event.sender())?;
            event = self.countersign(room.rules(), &event).map_err(|error| Error::invalid_param(error.to_string()))?;
        }
        let checked = self.check_event(room.rules(), event.clone()).await;
        let checked = checked.map_err(|error| Error::invalid_param(error.to_string()))?;
        if checked != event {
            return invalid("The content is not the one that was hashed");
        }
        let gate = self.gates().pass(&id).await;
        self.relay(&checked).await?;
        let received = self.take_checked(&signed.origin, &room, checked.clone()).await?;
        drop(gate);
        match received {
            Received::Accepted => {}
            Received::Known if room.event(&event_id)?.is_some_and(|placed| !placed.is_outlier()) => {}
            Received::Known => return Err(Error::forbidden("The event was refused before")),
            Received::Rejected(refusal) | Received::SoftFailed(refusal) => {
                return Err(Error::forbidden(refusal.to_string()));
            }
        }
        // As the room keeps it, which a policy server may have signed.
        let kept = room.event(&event_id)?.map(|placed| placed.event.clone());
        Ok((room, kept.unwrap_or(checked)))
    }

    /// Whether somebody of ours vouches for a join. [SS-API §restricted-rooms]
    fn vouches(&self, join: &Event) -> bool {
        let voucher: Option<String> = join.content_field("join_authorised_via_users_server");
        voucher.is_some_and(|voucher| is_of(&voucher, self.server_name()))
    }
}

/// Who may come in is not ours to say while we do not know who is in.
fn whole(room: &Room) -> Result<()> {
    if room.is_partial() { Err(Error::partial()) } else { Ok(()) }
}

fn is_of(user: &str, server: &ServerName) -> bool {
    <&UserId>::try_from(user).is_ok_and(|user| user.server_name() == server)
}

/// The asking server says which versions it knows; none means the first.
fn check_version(room: &Room, signed: &Signed) -> Result<()> {
    let mut named = signed.query.all("ver").peekable();
    let known = match named.peek() {
        Some(_) => named.any(|version| version == room.version().as_str()),
        None => *room.version() == RoomVersionId::V1,
    };
    if known {
        return Ok(());
    }
    let message = format!("The room has version {}, which the asking server does not know", room.version());
    Err(Error::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", message)
        .with("room_version", room.version().as_str()))
}

fn refuse(error: CommandError, membership: Membership) -> Error {
    match error {
        CommandError::Refused(refusal) => Error::forbidden(refusal.to_string()),
        CommandError::Forbidden(reason) if membership == Membership::Join => Error::forbidden(reason),
        other => other.into(),
    }
}
