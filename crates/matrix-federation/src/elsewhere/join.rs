//! Coming into a room through a server that is in it, and asking to be let in.
//! [SS-API §joining-rooms] [SS-API §knocking-rooms]

use std::collections::HashMap;

use base64::Engine as _;
use http::Method;
use koine_graph::{Draft, Event, Legacy, RoomVersionRules};
use koine_room::{CommandError, EnterError, ReceiveError, Wish};
use ruma_common::{EventId, OwnedEventId, OwnedServerName, RoomVersionId};
use serde::Deserialize;
use serde_json::{Value, value::RawValue, value::to_raw_value};

use super::{SERVERS_TRIED_MAX, Template, arrive::ROOM, content, refused, worse};
use crate::{
    Federation, PeerError,
    peers::{Bounds, segment},
};

/// Bounds of the answer that is a whole room.
pub(super) const ROOM_BOUNDS: Bounds =
    Bounds { bytes: 512 * 1024 * 1024, time: std::time::Duration::from_secs(600), urgent: true };

impl Federation {
    pub(super) async fn join_through(&self, wish: Wish<'_>) -> Result<(), CommandError> {
        if let Some(room) = self.known_room(wish.room)?.filter(|room| room.is_attended()) {
            return self.join_beside(&room, &wish).await;
        }
        let mut failure = None;
        for server in wish.via.iter().filter(|server| *server != self.server_name()).take(SERVERS_TRIED_MAX) {
            // What comes meanwhile waits until the room is there.
            let gate = self.gates().pass(wish.room).await;
            match self.join_at(server, &wish).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(peer = %server, room_id = %wish.room, reason = %error, "a server did not let us in");
                    failure = worse(failure, error);
                }
            }
            drop(gate);
        }
        Err(failure.unwrap_or(CommandError::NotReachable))
    }

    async fn join_at(&self, server: &OwnedServerName, wish: &Wish<'_>) -> Result<(), CommandError> {
        let template = self.ask_for_template(server, ("make_join", wish)).await.map_err(|error| refused(&error))?;
        let version = template.room_version.clone();
        let rules = supported(&version)?;
        let event = self.fill(&rules, &template, wish, "join")?;
        let path = format!(
            "/_matrix/federation/v2/send_join/{}/{}?omit_members={}",
            segment(wish.room.as_str()),
            segment(event.event_id().as_str()),
            self.config().partial_joins
        );
        let mut keeping = self.rooms().entering(wish.room, &version).map_err(entered)?;
        let answer = self.ask_stream(server, (Method::PUT, &path), Some(event.json()), ROOM_BOUNDS).await;
        let answer = answer.map_err(|error| refused(&error))?;
        let told = self.keep_arriving(answer, &rules, &mut keeping, ROOM).await;
        let told = told.map_err(|error| unusable(&error.to_string()))?;
        tracing::debug!(
            peer = %server, room_id = %wish.room, told = told.count, refused = told.refused, "the state of a room"
        );
        let is_partial = told.field::<bool>("members_omitted").unwrap_or(false);
        if is_partial && !self.config().partial_joins {
            return Err(unusable("it left members out, which nobody asked for"));
        }
        check_room(&told.creates, &version)?;
        let event = match told.field::<Box<RawValue>>("event") {
            // With the signature of who vouches for us. [SS-API §restricted-rooms]
            Some(signed) => {
                let signed = self.check(&rules, &signed).await.map_err(|error| unusable(&error.to_string()))?;
                if signed.event_id() == event.event_id() { signed } else { event }
            }
            None => event,
        };
        self.told_elsewhere(&event).await?;
        let left_out = is_partial.then_some(told.servers);
        self.rooms().enter(keeping, event, left_out).await.map_err(entered)?;
        if is_partial {
            self.complete_room(self.rooms().room(wish.room)?, Some(server.clone()));
        }
        Ok(())
    }

    pub(super) async fn knock_through(&self, wish: Wish<'_>) -> Result<(), CommandError> {
        let mut failure = None;
        for server in wish.via.iter().filter(|server| *server != self.server_name()).take(SERVERS_TRIED_MAX) {
            let gate = self.gates().pass(wish.room).await;
            match self.knock_at(server, &wish).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = worse(failure, error),
            }
            drop(gate);
        }
        Err(failure.unwrap_or(CommandError::NotReachable))
    }

    async fn knock_at(&self, server: &OwnedServerName, wish: &Wish<'_>) -> Result<(), CommandError> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Knocked {
            knock_room_state: Vec<Box<RawValue>>,
        }
        let template = self.ask_for_template(server, ("make_knock", wish)).await.map_err(|error| refused(&error))?;
        let rules = supported(&template.room_version)?;
        let event = self.fill(&rules, &template, wish, "knock")?;
        let path = format!(
            "/_matrix/federation/v1/send_knock/{}/{}",
            segment(wish.room.as_str()),
            segment(event.event_id().as_str())
        );
        let knocked: Result<Knocked, PeerError> = self.ask(server, (Method::PUT, &path), Some(event.json())).await;
        let knocked = knocked.map_err(|error| refused(&error))?;
        let shown = crate::serve::stripped(&rules, wish.room, &knocked.knock_room_state);
        self.rooms()
            .invited(&template.room_version, event, shown)
            .await
            .map_err(|error| CommandError::Forbidden(error.to_string()))
    }

    /// The event that a template becomes: ours, about ours, saying what we want it to say.
    pub(super) fn fill(
        &self,
        rules: &RoomVersionRules,
        template: &Template,
        wish: &Wish<'_>,
        membership: &str,
    ) -> Result<Event, CommandError> {
        let field = |name: &str| template.event.get(name);
        let is = |name: &str, wanted: &str| field(name).and_then(Value::as_str) == Some(wanted);
        if !is("sender", wish.user.as_str())
            || !is("state_key", wish.user.as_str())
            || !is("room_id", wish.room.as_str())
            || !is("type", "m.room.member")
        {
            return Err(unusable("its template is about something else"));
        }
        let mut hashes = HashMap::new();
        let content = content(template, wish, membership);
        let draft = Draft {
            room_id: Some(wish.room.to_owned()),
            sender: wish.user.to_owned(),
            kind: "m.room.member".to_owned(),
            state_key: Some(wish.user.to_string()),
            content: to_raw_value(&content).map_err(|error| CommandError::BadContent(error.to_string()))?,
            redacts: None,
            prev_events: references(field("prev_events"), &mut hashes)?,
            auth_events: references(field("auth_events"), &mut hashes)?,
            depth: field("depth").and_then(Value::as_u64).unwrap_or(1),
            origin_server_ts: self.now(),
        };
        let opaque_id = self.rooms().opaque_id();
        let reference_hash = |id: &EventId| hashes.get(id).copied();
        let legacy = Legacy { opaque_id: &opaque_id, reference_hash: &reference_hash };
        draft
            .seal_with(rules, self.server_name(), self.signing_key(), Some(&legacy))
            .map_err(|error| unusable(&error.to_string()))
    }
}

pub(super) fn supported(version: &RoomVersionId) -> Result<RoomVersionRules, CommandError> {
    koine_graph::rules(version).ok_or_else(|| CommandError::UnsupportedVersion(version.to_string()))
}

pub(super) fn unusable(what: &str) -> CommandError {
    tracing::debug!(reason = what, "another server's answer was not usable");
    CommandError::NotReachable
}

fn entered(error: EnterError) -> CommandError {
    match error {
        EnterError::Refused(refusal) => CommandError::Refused(refusal),
        // Nothing that the other server told: it is our own store.
        EnterError::Receive(ours @ (ReceiveError::Read(_) | ReceiveError::Commit(_) | ReceiveError::Unsettled)) => {
            ours.into()
        }
        other => CommandError::Forbidden(other.to_string()),
    }
}

/// The room must be of the version that the template named.
fn check_room(creates: &[Event], version: &RoomVersionId) -> Result<(), CommandError> {
    let [create] = creates else { return Err(unusable("its state has not exactly one create event")) };
    let named = create.content_field::<String>("room_version").unwrap_or_else(|| "1".to_owned());
    match named == version.as_str() {
        true => Ok(()),
        false => Err(unusable("the room has another version than the template said")),
    }
}

/// Ids of events that are referred to; in versions 1 and 2 each with its hash.
fn references(
    given: Option<&Value>,
    hashes: &mut HashMap<OwnedEventId, [u8; 32]>,
) -> Result<Vec<OwnedEventId>, CommandError> {
    let bad = || unusable("its template refers to what are no events");
    let given = given.and_then(Value::as_array).ok_or_else(bad)?;
    let mut ids = Vec::with_capacity(given.len());
    for reference in given {
        let (id, hash) = match reference {
            Value::String(id) => (id.as_str(), None),
            Value::Array(pair) => {
                let id = pair.first().and_then(Value::as_str).ok_or_else(bad)?;
                (id, pair.get(1).and_then(|hashes| hashes.get("sha256")?.as_str()))
            }
            _ => return Err(bad()),
        };
        let id = <&EventId>::try_from(id).map_err(|_| bad())?.to_owned();
        if let Some(hash) = hash {
            let hash = base64::engine::general_purpose::STANDARD_NO_PAD.decode(hash.trim_end_matches('='));
            let hash = hash.ok().and_then(|hash| <[u8; 32]>::try_from(hash).ok()).ok_or_else(bad)?;
            hashes.insert(id.clone(), hash);
        }
        ids.push(id);
    }
    Ok(ids)
}
