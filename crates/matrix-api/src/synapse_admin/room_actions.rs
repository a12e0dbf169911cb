//! What admins do with one room: deleting it, shutting it out, giving somebody power in it, bringing somebody in, and
//! deleting its old history.

use axum::extract::State;
use http::Method;
use koine_room::{CreateRoom, Preset, Purge};
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{
    Asked, Jobs, Told, admin,
    jobs::{Job, Status},
    room,
    rooms::{find, is_inside},
};
use crate::{Api, Empty, Endpoints, Error, Json, Result, rooms::profile};

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    let path = |version: &str, tail: &str| format!("/_synapse/admin/{version}{tail}");
    endpoints.add_at("admin.rooms.delete", Method::DELETE, &path("v1", "/rooms/{room_id}"), delete);
    endpoints.add_at("admin.rooms.start_delete", Method::DELETE, &path("v2", "/rooms/{room_id}"), start_delete);
    let status = path("v2", "/rooms/{room_id}/delete_status");
    endpoints.add_at("admin.rooms.delete_status_of", Method::GET, &status, delete_status_of);
    let status = path("v2", "/rooms/delete_status/{delete_id}");
    endpoints.add_at("admin.rooms.delete_status", Method::GET, &status, delete_status);
    endpoints.add_at("admin.rooms.is_blocked", Method::GET, &path("v1", "/rooms/{room_id}/block"), is_blocked);
    endpoints.add_at("admin.rooms.block", Method::PUT, &path("v1", "/rooms/{room_id}/block"), block);
    let power = path("v1", "/rooms/{room_id}/make_room_admin");
    endpoints.add_at("admin.rooms.make_room_admin", Method::POST, &power, make_room_admin);
    endpoints.add_at("admin.rooms.join", Method::POST, &path("v1", "/join/{room_id}"), join);
    endpoints.add_at("admin.rooms.purge", Method::POST, &path("v1", "/purge_history/{room_id}"), purge);
    let until = path("v1", "/purge_history/{room_id}/{event_id}");
    endpoints.add_at("admin.rooms.purge", Method::POST, &until, purge);
    let status = path("v1", "/purge_history_status/{purge_id}");
    endpoints.add_at("admin.rooms.purge_status", Method::GET, &status, purge_status);
}

#[derive(Debug, Deserialize)]
struct Deletion {
    new_room_user_id: Option<OwnedUserId>,
    room_name: Option<String>,
    message: Option<String>,
    #[serde(default)]
    block: bool,
    #[serde(default = "yes")]
    purge: bool,
}

fn yes() -> bool {
    true
}

async fn delete(State(api): State<Api>, call: Told<Deletion>) -> Result<Json<Value>> {
    let who = admin(&call.who)?.to_owned();
    let id = known_or_blockable(&api, &call.path, call.body.block)?;
    // To the end, whoever waits.
    let work = tokio::spawn(async move { delete_to_the_end(&api, &who, &id, call.body).await });
    Ok(Json(work.await.map_err(Error::internal)??))
}

async fn start_delete(State(api): State<Api>, call: Told<Deletion>) -> Result<Json<Value>> {
    let who = admin(&call.who)?.to_owned();
    let id = known_or_blockable(&api, &call.path, call.body.block)?;
    let (there, subject) = (api.clone(), format!("delete {id}"));
    let work = async move { delete_to_the_end(&there, &who, &id, call.body).await };
    Ok(Json(json!({ "delete_id": Jobs::start(&api, subject, work) })))
}

/// A room that is here; or any, if it is to be shut out.
fn known_or_blockable(api: &Api, path: &[String], block: bool) -> Result<OwnedRoomId> {
    if block { room(api, path, 0) } else { Ok(find(api, path)?.id().to_owned()) }
}

/// Shuts the room out if wanted, moves everybody of ours out of it, and deletes it.
async fn delete_to_the_end(api: &Api, who: &UserId, id: &RoomId, wanted: Deletion) -> Result<Value> {
    if wanted.block {
        api.rooms.block_room(id, Some(who)).await?;
    }
    let Ok(room) = api.rooms.room(id) else {
        return Ok(json!({ "kicked_users": [], "failed_to_kick_users": [], "local_aliases": [], "new_room_id": null }));
    };
    let new_room = match &wanted.new_room_user_id {
        Some(user) => Some(new_room(api, user, &wanted).await?),
        None => None,
    };
    let aliases = api.rooms.aliases(id)?;
    let (mut moved, mut stuck) = (Vec::new(), Vec::new());
    for user in room.local_people() {
        if !is_inside(room.local_membership(&user)) {
            continue;
        }
        if let Err(error) = api.rooms.leave(&user, id, None).await {
            tracing::warn!(user_id = %user, room_id = %id, reason = %error, "somebody could not be moved out of a room");
            stuck.push(user);
            continue;
        }
        if let Some((new_room, host)) = &new_room {
            let profile = profile(api, &user)?;
            let asked = api.rooms.invite(host, new_room, (&user, &profile), None, Map::new()).await;
            if asked.is_ok() {
                // An invitation stays one where this fails.
                let _ = api.rooms.join(&user, new_room, &profile, None, Map::new()).await;
            }
        }
        moved.push(user);
    }
    if wanted.purge && stuck.is_empty() {
        drop(room);
        api.rooms.delete_room(id).await?;
    }
    tracing::warn!(room_id = %id, admin = %who, purged = wanted.purge, "an admin deleted a room");
    Ok(json!({
        "kicked_users": moved,
        "failed_to_kick_users": stuck,
        "local_aliases": aliases,
        "new_room_id": new_room.map(|(room, _)| room),
    }))
}

/// Where those who are moved out find each other, and are told why.
async fn new_room(api: &Api, host: &OwnedUserId, wanted: &Deletion) -> Result<(OwnedRoomId, OwnedUserId)> {
    if !api.accounts.is_local(host) || !api.accounts.is_active(host)? {
        return Err(Error::invalid_param(format!("There is no user {host} here")));
    }
    let new = CreateRoom {
        creator: host.clone(),
        profile: profile(api, host)?,
        version: api.config.default_room_version.clone(),
        preset: Preset::PrivateChat,
        creation_content: Map::new(),
        power_levels: json!({ "users_default": -10 }).as_object().cloned().unwrap_or_default(),
        initial_state: Vec::new(),
        name: Some(wanted.room_name.clone().unwrap_or_else(|| "Content Violation Notification".to_owned())),
        topic: None,
        alias: None,
        invite: Vec::new(),
        is_direct: false,
        listed: false,
    };
    let room = api.rooms.create(new).await?;
    let message = wanted.message.as_deref().unwrap_or("The room that you were in has been closed by the operator.");
    let content = to_raw_value(&json!({ "msgtype": "m.text", "body": message })).map_err(Error::internal)?;
    let sender = koine_room::Sender { user: host, device: None };
    api.rooms.send(sender, &room, "m.room.message", &content, None).await?;
    Ok((room, host.clone()))
}

fn told(job: &Job) -> Value {
    let mut told = json!({ "delete_id": job.id, "status": job.status.as_str() });
    match &job.status {
        Status::Complete(result) => told["shutdown_room"] = result.clone(),
        Status::Failed(error) => told["error"] = json!(error),
        Status::Active => {}
    }
    told
}

async fn delete_status_of(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let jobs = api.jobs().of(&format!("delete {}", room(&api, &call.path, 0)?));
    match jobs.is_empty() {
        true => Err(Error::not_found("No delete task for this room")),
        false => Ok(Json(json!({ "results": jobs.iter().map(told).collect::<Vec<_>>() }))),
    }
}

async fn delete_status(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let job = api.jobs().get(&call.path[0]).ok_or_else(|| Error::not_found("delete id not found"))?;
    Ok(Json(told(&job)))
}

async fn is_blocked(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    Ok(Json(match api.rooms.room_blocked_by(&room(&api, &call.path, 0)?)? {
        Some(by) => json!({ "block": true, "user_id": by }),
        None => json!({ "block": false }),
    }))
}

#[derive(Debug, Deserialize)]
struct Block {
    block: bool,
}

async fn block(State(api): State<Api>, call: Told<Block>) -> Result<Json<Value>> {
    let who = admin(&call.who)?;
    let id = room(&api, &call.path, 0)?;
    api.rooms.block_room(&id, call.body.block.then_some(who)).await?;
    tracing::warn!(room_id = %id, admin = %who, block = call.body.block, "an admin shut a room out, or let it in");
    Ok(Json(json!({ "block": call.body.block })))
}

#[derive(Debug, Default, Deserialize)]
struct Somebody {
    user_id: Option<OwnedUserId>,
}

async fn make_room_admin(State(api): State<Api>, call: Told<Somebody>) -> Result<Empty> {
    let who = admin(&call.who)?.to_owned();
    let room = find(&api, &call.path)?;
    let user = call.body.user_id.unwrap_or_else(|| who.clone());
    api.rooms.make_room_admin(room.id(), (&user, &profile(&api, &user)?)).await?;
    tracing::warn!(room_id = %room.id(), user_id = %user, admin = %who, "an admin gave somebody power in a room");
    Ok(Empty)
}

/// Brings somebody of ours into a room, where the admin may invite if need be.
async fn join(State(api): State<Api>, call: Told<Somebody>) -> Result<Json<Value>> {
    let who = admin(&call.who)?;
    let user = call.body.user_id.ok_or_else(|| Error::missing_param("`user_id` is missing"))?;
    if !api.accounts.is_local(&user) {
        return Err(Error::invalid_param("This endpoint can only be used with local users"));
    }
    if !api.accounts.is_active(&user)? {
        return Err(Error::not_found("User not found"));
    }
    let room = find(&api, &call.path)?;
    let profile = profile(&api, &user)?;
    if !is_inside(room.local_membership(&user)) && room.summary()?.join_rule.as_deref() != Some("public") {
        api.rooms.invite(who, room.id(), (&user, &profile), None, Map::new()).await?;
    }
    api.rooms.join(&user, room.id(), &profile, None, Map::new()).await?;
    Ok(Json(json!({ "room_id": room.id() })))
}

#[derive(Debug, Default, Deserialize)]
struct History {
    #[serde(default)]
    delete_local_events: bool,
    purge_up_to_event_id: Option<OwnedEventId>,
    purge_up_to_ts: Option<u64>,
}

async fn purge(State(api): State<Api>, call: Told<History>) -> Result<Json<Value>> {
    admin(&call.who)?;
    let room = find(&api, &call.path)?;
    let in_path = call.path.get(1).map(|id| OwnedEventId::try_from(id.as_str())).transpose();
    let event = in_path.map_err(|_| Error::invalid_param("Not an event id"))?.or(call.body.purge_up_to_event_id);
    let own_too = call.body.delete_local_events;
    let purge = match (event, call.body.purge_up_to_ts) {
        (Some(event), _) => {
            let event = room.event(&event)?.ok_or_else(|| Error::not_found("Event not found"))?;
            Purge { until: event.order.saturating_sub(1), sent_before: None, own_too }
        }
        (None, Some(moment)) => Purge { until: room.published().order, sent_before: Some(moment), own_too },
        (None, None) => {
            return Err(Error::missing_param("Either `purge_up_to_event_id` or `purge_up_to_ts` must be said"));
        }
    };
    let (there, id) = (api.clone(), room.id().to_owned());
    let work = async move { Ok(json!({ "events": there.rooms.purge_history(&id, purge).await? })) };
    Ok(Json(json!({ "purge_id": Jobs::start(&api, format!("purge {}", room.id()), work) })))
}

async fn purge_status(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let job = api.jobs().get(&call.path[0]).ok_or_else(|| Error::not_found("purge id not found"))?;
    let mut told = json!({ "status": job.status.as_str() });
    if let Status::Failed(error) = &job.status {
        told["error"] = json!(error);
    }
    Ok(Json(told))
}
