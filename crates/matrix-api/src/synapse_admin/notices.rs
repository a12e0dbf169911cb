//! `/_synapse/admin/v1/send_server_notice`: what the operator has to say to somebody. [CS-API §server-notices]
//!
//! Each person has one room for it, made by an account that nobody can log in to. It is found again by who made it; the
//! tag `m.server_notice` tells it to clients. Who leaves it is asked in again with the next notice.

use axum::extract::State;
use http::Method;
use koine_account::{CreateError, NewAccount};
use koine_room::{CreateRoom, Membership, Preset, Profile, Room, Sender, creators};
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{Told, admin};
use crate::{Api, Endpoints, Error, Json, Result};

/// Local part of the account that notices come from.
const SENDER: &str = "_server";
/// How it is called.
const SENDER_NAME: &str = "Server Notices";
const ROOM_NAME: &str = "Server Notices";
const TAG: &str = "m.server_notice";

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    let path = "/_synapse/admin/v1/send_server_notice";
    endpoints.add_at("admin.notices.send", Method::POST, path, send);
    endpoints.add_at("admin.notices.send", Method::PUT, &format!("{path}/{{txn_id}}"), send);
}

#[derive(Debug, Default, Deserialize)]
struct Notice {
    user_id: Option<OwnedUserId>,
    #[serde(rename = "type")]
    kind: Option<String>,
    state_key: Option<String>,
    content: Option<Box<RawValue>>,
}

/// Who sends notices on this server.
pub(crate) fn notices_user(api: &Api) -> OwnedUserId {
    let id = UserId::parse(format!("@{SENDER}:{}", api.rooms.server_name()));
    id.expect("a server name makes a user id")
}

async fn send(State(api): State<Api>, call: Told<Notice>) -> Result<Json<Value>> {
    let who = admin(&call.who)?;
    let notice = call.body;
    let target = notice.user_id.ok_or_else(|| Error::missing_param("`user_id` is missing"))?;
    let content = notice.content.ok_or_else(|| Error::missing_param("`content` is missing"))?;
    if !content.get().starts_with('{') {
        return Err(Error::bad_json("`content` is an object"));
    }
    if !api.accounts.is_local(&target) {
        return Err(Error::invalid_param("Server notices can only be sent to local users"));
    }
    if !api.accounts.is_active(&target)? {
        return Err(Error::not_found("User not found"));
    }
    let from = sender(&api).await?;
    let room = room_for(&api, &from, &target).await?;
    let kind = notice.kind.as_deref().unwrap_or("m.room.message");
    let device = format!("notices of {who}");
    let sender = Sender { user: &from, device: Some(&device) };
    let event_id: OwnedEventId = match notice.state_key {
        Some(state_key) => api.rooms.set_state(sender, &room, kind, &state_key, &content).await?,
        None => api.rooms.send(sender, &room, kind, &content, call.path.first().map(String::as_str)).await?,
    };
    Ok(Json(json!({ "event_id": event_id })))
}

/// The account that notices come from, made if there is none yet.
async fn sender(api: &Api) -> Result<OwnedUserId> {
    let user = notices_user(api);
    if let Some(info) = api.accounts.user(&user)? {
        // Somebody's own account must not speak for the operator.
        return match info.has_password || info.is_deactivated {
            true => Err(Error::forbidden(format!("{user} is somebody's account: no notices can come from it"))),
            false => Ok(user),
        };
    }
    match api.accounts.create(NewAccount { name: Some(SENDER.to_owned()), is_own: true, ..NewAccount::default() }).await
    {
        Ok(_) | Err(CreateError::NameTaken) => {}
        Err(error) => return Err(error.into()),
    }
    api.accounts.set_profile_field(&user, "displayname", SENDER_NAME.into()).await?;
    Ok(user)
}

/// The room of notices for somebody, into which they are asked if they are not there.
async fn room_for(api: &Api, from: &UserId, target: &UserId) -> Result<OwnedRoomId> {
    for (no, record) in api.rooms.memberships(target)? {
        let room = api.rooms.room_by_no(no)?;
        if !is_made_by(&room, from)? || room.local_membership(from) != Some(Membership::Join) {
            continue;
        }
        if !matches!(record.membership, Membership::Join | Membership::Invite) {
            api.rooms.invite(from, room.id(), (target, &Profile::default()), None, Map::new()).await?;
            tag(api, target, &room.id().to_owned()).await?;
        }
        return Ok(room.id().to_owned());
    }
    let new = CreateRoom {
        creator: from.to_owned(),
        profile: Profile { displayname: Some(SENDER_NAME.to_owned()), avatar_url: None },
        version: api.config.default_room_version.clone(),
        preset: Preset::PrivateChat,
        creation_content: Map::new(),
        // Nobody but the operator speaks here.
        power_levels: json!({ "users_default": -10 }).as_object().cloned().unwrap_or_default(),
        initial_state: Vec::new(),
        name: Some(ROOM_NAME.to_owned()),
        topic: None,
        alias: None,
        invite: vec![(target.to_owned(), Profile::default())],
        is_direct: false,
        listed: false,
    };
    let room = api.rooms.create(new).await?;
    tag(api, target, &room).await?;
    Ok(room)
}

fn is_made_by(room: &Room, user: &UserId) -> Result<bool> {
    let create = room.current("m.room.create", "")?;
    Ok(create.is_some_and(|create| creators(&create.event).iter().any(|creator| creator == user)))
}

async fn tag(api: &Api, target: &UserId, room: &OwnedRoomId) -> Result<()> {
    let edit = |content: Option<&str>| {
        let mut content: Value = content.and_then(|content| serde_json::from_str(content).ok()).unwrap_or(json!({}));
        content["tags"][TAG] = json!({});
        Some(content.to_string())
    };
    api.accounts.edit_account_data(target, Some(room), "m.tag", edit).await?;
    Ok(())
}
