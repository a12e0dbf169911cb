//! A space of ours and its children, for a server whose people look around. [SS-API §get_matrixfederationv1hierarchyroomid]

use axum::extract::State;
use koine_room::{Preview, SpaceChild};
use ruma_common::OwnedRoomId;
use serde_json::{Value, json};

use super::query::chunk;
use crate::{
    Error, Federation, Signed, acl,
    answer::{Raw, Result},
};

/// [SS-API §get_matrixfederationv1hierarchyroomid]
pub async fn hierarchy(State(federation): State<Federation>, signed: Signed) -> Result<Raw> {
    let id = signed.path.room(0)?;
    let suggested_only = match signed.query.get("suggested_only") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Error::invalid_param("suggested_only is true or false")),
    };
    let unknown = || Error::not_found(format!("There is no room {id} here that {} may know of", signed.origin));
    let room = federation.known_room(&id)?.filter(|room| room.is_attended()).ok_or_else(unknown)?;
    acl::check(&room, &signed.origin)?;
    if !federation.rooms().may_server_preview(&room, &signed.origin)? {
        return Err(unknown());
    }
    let space = room.as_space(suggested_only)?;
    let mut children: Vec<Value> = Vec::new();
    let mut inaccessible: Vec<&OwnedRoomId> = Vec::new();
    for child in &space.children {
        // What we cannot speak for is left to those who can.
        let Some(room) = federation.known_room(&child.room_id)?.filter(|room| room.is_attended()) else { continue };
        let may =
            acl::allows(&room, &signed.origin)? && federation.rooms().may_server_preview(&room, &signed.origin)?;
        match may {
            true => children.push(told(&room.preview()?)),
            false => inaccessible.push(&child.room_id),
        }
    }
    let mut room = told(&space.preview);
    room["children_state"] = space.children.iter().map(stripped).collect();
    Ok(Raw::of(&json!({ "room": room, "children": children, "inaccessible_children": inaccessible })))
}

/// [CS-API §get_matrixclientv1room_summaryroomidoralias]
fn told(preview: &Preview) -> Value {
    let mut told = chunk(&preview.summary);
    for (name, text) in [("room_version", &preview.version), ("encryption", &preview.encryption)] {
        if let Some(text) = text {
            told[name] = json!(text);
        }
    }
    if let Some(allowed) = &preview.allowed_rooms {
        told["allowed_room_ids"] = json!(allowed);
    }
    told
}

/// A stripped `m.space.child` event, with its time.
fn stripped(child: &SpaceChild) -> Value {
    json!({
        "type": "m.space.child",
        "state_key": child.room_id,
        "sender": child.sender,
        "origin_server_ts": child.origin_server_ts,
        "content": child.content,
    })
}
