//! `POST /createRoom`: a new room with all its first events.
//!
//! [CS-API §post_matrixclientv3createroom]

use axum::extract::State;
use http::StatusCode;
use koine_room::{CreateRoom, InitialState, Preset};
use ruma_client_api::room::create_room::v3;
use ruma_common::{OwnedRoomAliasId, OwnedUserId, RoomVersionId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{invite_user::check_invite_rules, permit, profile};
use crate::{Api, Error, Json, Loose, Result, appservice, own_requests::About};

/// Most people invited at once.
const INVITES_MAX: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Body {
    visibility: Option<Visibility>,
    room_alias_name: Option<String>,
    name: Option<String>,
    topic: Option<String>,
    invite: Vec<OwnedUserId>,
    invite_3pid: Vec<Value>,
    room_version: Option<String>,
    creation_content: Option<Map<String, Value>>,
    initial_state: Vec<StateEvent>,
    preset: Option<PresetName>,
    is_direct: bool,
    power_level_content_override: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    Public,
    Private,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the specification's names")]
enum PresetName {
    PrivateChat,
    TrustedPrivateChat,
    PublicChat,
}

#[derive(Debug, Deserialize)]
struct StateEvent {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    state_key: String,
    content: Map<String, Value>,
}

pub async fn create_room(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    let (who, body) = (call.who, call.body);
    who.not_suspended()?;
    permit(&api, &who)?;
    if body.invite.len() > INVITES_MAX {
        return Err(Error::invalid_param(format!(
            "{} invitations, at most {INVITES_MAX} are allowed",
            body.invite.len()
        )));
    }
    if !body.invite_3pid.is_empty() {
        return Err(Error::new(
            StatusCode::FORBIDDEN,
            "M_THREEPID_DENIED",
            "This server invites by user id only: it asks no identity server",
        ));
    }
    let version = match body.room_version {
        None => api.config.default_room_version.clone(),
        Some(name) => RoomVersionId::try_from(name.as_str()).map_err(|_| {
            Error::new(StatusCode::BAD_REQUEST, "M_UNSUPPORTED_ROOM_VERSION", format!("{name:?} is no room version"))
        })?,
    };
    let listed = body.visibility == Some(Visibility::Public);
    let preset = match body.preset {
        Some(PresetName::PrivateChat) => Preset::PrivateChat,
        Some(PresetName::TrustedPrivateChat) => Preset::TrustedPrivateChat,
        Some(PresetName::PublicChat) => Preset::PublicChat,
        None if listed => Preset::PublicChat,
        None => Preset::PrivateChat,
    };
    let alias = body.room_alias_name.map(|name| alias(&api, &name)).transpose()?;
    let mut invite = Vec::with_capacity(body.invite.len());
    for user in body.invite {
        check_invite_rules(&api, &who.user_id, &user)?;
        appservice::ask::make_wanted(&api, &user).await?;
        let profile = profile(&api, &user)?;
        if !invite.iter().any(|(other, _)| *other == user) {
            invite.push((user, profile));
        }
    }
    let initial_state = body.initial_state.into_iter().map(|event| InitialState {
        kind: event.kind,
        state_key: event.state_key,
        content: Value::Object(event.content),
    });
    let new = CreateRoom {
        creator: who.user_id.clone(),
        profile: profile(&api, &who.user_id)?,
        version,
        preset,
        creation_content: body.creation_content.unwrap_or_default(),
        power_levels: body.power_level_content_override.unwrap_or_default(),
        initial_state: initial_state.collect(),
        name: body.name,
        topic: body.topic,
        alias,
        invite,
        is_direct: body.is_direct,
        listed,
    };
    let _under_way = api.own_requests().begin(&who, About::Room);
    let room_id = api.rooms.create(new).await?;
    Ok(Json(json!({ "room_id": room_id })))
}

/// The whole alias for a local part.
fn alias(api: &Api, name: &str) -> Result<OwnedRoomAliasId> {
    if name.is_empty() || name.contains([':', '\0']) {
        return Err(Error::invalid_param(format!("{name:?} cannot be the name of an alias")));
    }
    OwnedRoomAliasId::try_from(format!("#{name}:{}", api.rooms.server_name()))
        .map_err(|error| Error::invalid_param(format!("{name:?} cannot be the name of an alias: {error}")))
}
