//! Somebody of another server asks somebody of ours into a room. [SS-API §inviting-to-a-room]

use axum::extract::State;
use http::StatusCode;
use koine_account::InviteRule;
use koine_graph::{Event, RoomVersionRules};
use ruma_common::{RoomId, RoomVersionId, UserId};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue, value::to_raw_value};

use crate::{
    Error, Federation, Signed, acl,
    answer::{Raw, Result, Writer},
};

/// Most events that an inviting server may show of the room.
const SHOWN_MAX: usize = 50;

#[derive(Deserialize)]
struct Invitation {
    room_version: RoomVersionId,
    event: Box<RawValue>,
    #[serde(default)]
    invite_room_state: Vec<Box<RawValue>>,
}

/// [SS-API §put_matrixfederationv2inviteroomideventid]
pub async fn invite(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let invitation: Invitation = signed.parse()?;
    let event = federation.take_invitation(&signed, invitation).await?;
    Ok(Writer::new().event("event", &event).answer())
}

/// [SS-API §put_matrixfederationv1inviteroomideventid]
pub async fn invite_v1(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    #[derive(Deserialize, Default)]
    struct Unsigned {
        #[serde(default)]
        invite_room_state: Vec<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Legacy {
        #[serde(default)]
        unsigned: Unsigned,
    }
    let event: Box<RawValue> = signed.parse()?;
    let legacy: Legacy = signed.parse()?;
    let invite_room_state = legacy.unsigned.invite_room_state;
    // Rooms of versions 1 and 2 look the same; only these are invited to in this way.
    let invitation = Invitation { room_version: RoomVersionId::V1, event, invite_room_state };
    let event = federation.take_invitation(&signed, invitation).await?;
    let mut out = b"[200,".to_vec();
    out.extend_from_slice(&Writer::new().event("event", &event).bytes());
    out.push(b']');
    Ok(Raw(out.into()))
}

impl Federation {
    async fn take_invitation(&self, signed: &Signed, invitation: Invitation) -> Result<Event> {
        let (id, event_id) = (signed.path.room(0)?, signed.path.event(1)?);
        let version = invitation.room_version;
        let rules = koine_graph::rules(&version).ok_or_else(|| {
            let message = format!("Room version {version} is not supported here");
            Error::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", message)
                .with("room_version", version.as_str())
        })?;
        let invalid = |what: &str| Error::invalid_param(what.to_owned());
        let event = Event::parse(&rules, invitation.event.get().as_bytes())
            .map_err(|error| Error::invalid_param(format!("This is no event: {error}")))?;
        if event.event_id() != event_id || event.room_id() != id {
            return Err(invalid("The event is another one than the path names"));
        }
        if event.kind() != "m.room.member" || event.membership() != Some(koine_graph::Membership::Invite) {
            return Err(invalid("The event is no invitation"));
        }
        if event.sender().server_name() != signed.origin {
            return Err(invalid("The inviting user is of another server"));
        }
        let target = event.state_key().and_then(|target| <&UserId>::try_from(target).ok());
        let target = target.filter(|target| target.server_name() == self.server_name());
        let target = target.ok_or_else(|| invalid("The invited user is of another server"))?;
        if !self.accounts().is_active(target)? {
            return Err(Error::not_found(format!("There is no user {target} here")));
        }
        // [CS-API §invite-permission] What is ignored arrives, and is not shown.
        if self.accounts().invite_rules(target)?.rule_for(event.sender()) == InviteRule::Block {
            let message = format!("{target} does not want to be invited");
            return Err(Error::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", message));
        }
        let room = self.known_room(&id)?;
        if let Some(room) = &room {
            acl::check(room, &signed.origin)?;
        }
        let checked = self.check_event(&rules, event.clone()).await;
        let checked = checked.map_err(|error| Error::invalid_param(error.to_string()))?;
        if checked != event {
            return Err(invalid("The content is not the one that was hashed"));
        }
        let event = self.countersign(&rules, &event).map_err(|error| Error::invalid_param(error.to_string()))?;
        // Where somebody of ours is in the room, the event comes as every other one.
        if !room.is_some_and(|room| room.is_attended()) {
            let shown = self.shown_by(&rules, &id, &invitation.invite_room_state).await?;
            let gate = self.gates().pass(&id).await;
            self.rooms().invited(&version, event.clone(), shown).await?;
            drop(gate);
        }
        Ok(event)
    }
}

impl Federation {
    /// What the inviting server shows of the room, checked where the version demands it: the create event, whose hash
    /// names the room, and nothing that is of another room or badly signed.
    /// [SS-API §put_matrixfederationv2inviteroomideventid]
    async fn shown_by(
        &self,
        rules: &RoomVersionRules,
        room: &RoomId,
        told: &[Box<RawValue>],
    ) -> Result<Vec<Box<RawValue>>> {
        if !rules.authorization.room_create_event_id_as_room_id {
            return Ok(stripped(rules, room, told));
        }
        let invalid = |what: String| Error::invalid_param(what);
        let mut events = Vec::with_capacity(told.len().min(SHOWN_MAX));
        for raw in told.iter().take(SHOWN_MAX) {
            let event = self.check(rules, raw).await;
            let event =
                event.map_err(|error| invalid(format!("What is shown of the room is not in order: {error}")))?;
            if event.room_id() != room {
                return Err(invalid(format!("What is shown is of the room {}", event.room_id())));
            }
            events.push(event);
        }
        if !events.iter().any(|event| event.is("m.room.create", "")) {
            return Err(invalid("The create event of the room is not shown".into()));
        }
        Ok(events.iter().filter(|event| event.is_state()).map(|event| event.shown_json(rules)).collect())
    }
}

/// What the inviting server shows of the room, stripped. [CS-API §stripped-state]
pub(crate) fn stripped(rules: &RoomVersionRules, room: &RoomId, told: &[Box<RawValue>]) -> Vec<Box<RawValue>> {
    let mut shown = Vec::new();
    for raw in told.iter().take(SHOWN_MAX) {
        if let Ok(event) = Event::parse(rules, raw.get().as_bytes()) {
            if event.room_id() == room && event.is_state() {
                shown.push(event.shown_json(rules));
            }
            continue;
        }
        // COMPAT(servers before v1.16): stripped already.
        let Ok(Value::Object(fields)) = serde_json::from_str(raw.get()) else { continue };
        let field = |name: &str| fields.get(name).filter(|value| value.is_string());
        if let (Some(kind), Some(state_key), Some(sender), Some(content)) =
            (field("type"), field("state_key"), field("sender"), fields.get("content").filter(|c| c.is_object()))
        {
            let stripped = json!({ "type": kind, "state_key": state_key, "sender": sender, "content": content });
            shown.extend(to_raw_value(&stripped));
        }
    }
    shown
}
