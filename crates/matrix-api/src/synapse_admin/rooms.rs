//! `/_synapse/admin/v1/rooms`: the rooms of this server, one of them, its people and its state.

use axum::extract::State;
use http::Method;
use koine_graph::ClientForm;
use koine_room::{Membership, Room, RoomNo, creators};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Asked, Page, admin, room};
use crate::{Api, Endpoints, Error, Json, Result, rooms::query};

/// Rooms read at once.
const BATCH: usize = 500;

pub(super) fn endpoints(endpoints: &mut Endpoints) {
    let all = "/_synapse/admin/v1/rooms";
    endpoints.add_at("admin.rooms.list", Method::GET, all, list);
    endpoints.add_at("admin.rooms.get", Method::GET, &format!("{all}/{{room_id}}"), get);
    endpoints.add_at("admin.rooms.members", Method::GET, &format!("{all}/{{room_id}}/members"), members);
    endpoints.add_at("admin.rooms.state", Method::GET, &format!("{all}/{{room_id}}/state"), state);
}

#[derive(Debug, Deserialize)]
struct Filter {
    search_term: Option<String>,
    order_by: Option<String>,
    dir: Option<String>,
    public_rooms: Option<bool>,
    empty_rooms: Option<bool>,
}

/// A room as lists tell it.
fn listed(api: &Api, room: &Room) -> Result<Value> {
    let summary = room.summary()?;
    let text = |kind: &str, field: &str| -> Result<Option<String>> {
        Ok(room.current(kind, "")?.and_then(|event| event.event.content_field::<String>(field)))
    };
    let create = room.current("m.room.create", "")?;
    let federates = create.as_ref().and_then(|create| create.event.content_field::<bool>("m.federate")).unwrap_or(true);
    Ok(json!({
        "room_id": room.id(),
        "name": summary.name,
        "canonical_alias": summary.canonical_alias,
        "joined_members": summary.joined,
        "joined_local_members": room.local_joined().len(),
        "version": room.version(),
        "creator": create.and_then(|create| creators(&create.event).into_iter().next()),
        "encryption": text("m.room.encryption", "algorithm")?,
        "federatable": federates,
        "public": api.rooms.is_listed(room.id())?,
        "join_rules": summary.join_rule,
        "guest_access": text("m.room.guest_access", "guest_access")?,
        "history_visibility": text("m.room.history_visibility", "history_visibility")?,
        "state_events": room.state_count()?,
        "room_type": summary.room_type,
    }))
}

async fn list(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let (page, filter): (Page, Filter) = (query(&call.query)?, query(&call.query)?);
    if filter.search_term.as_deref() == Some("") {
        return Err(Error::invalid_param("`search_term` must not be empty"));
    }
    let order = filter.order_by.as_deref().unwrap_or("name");
    let mut found = Vec::new();
    let mut after: RoomNo = 0;
    loop {
        let batch = api.rooms.list(after, BATCH)?;
        let Some((last, _)) = batch.last() else { break };
        after = *last;
        for (no, _) in batch {
            // One that was never finished is no room.
            let Ok(room) = api.rooms.room_by_no(no) else { continue };
            let shown = listed(&api, &room)?;
            if filter.passes(&shown) {
                found.push(shown);
            }
        }
    }
    let (key, greatest_first) = match order {
        "name" | "alphabetical" => ("name", false),
        "joined_members" | "size" => ("joined_members", true),
        "joined_local_members" => ("joined_local_members", true),
        "version" => ("version", true),
        "creator" => ("creator", false),
        "state_events" => ("state_events", true),
        "room_id" => ("room_id", false),
        other => return Err(Error::invalid_param(format!("Rooms cannot be sorted by {other:?}"))),
    };
    found.sort_by(|a, b| match (a[key].as_u64(), b[key].as_u64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a[key].as_str().unwrap_or_default().cmp(b[key].as_str().unwrap_or_default()),
    });
    if greatest_first != (filter.dir.as_deref() == Some("b")) {
        found.reverse();
    }
    let total = found.len();
    let (rooms, next) = page.of(found);
    let mut answer = json!({ "rooms": rooms, "offset": page.from, "total_rooms": total });
    if let Some(next) = next {
        answer["next_batch"] = json!(next);
    }
    if page.from > 0 {
        answer["prev_batch"] = json!(page.from.saturating_sub(page.limit));
    }
    Ok(Json(answer))
}

impl Filter {
    fn passes(&self, shown: &Value) -> bool {
        let has = |key: &str, part: &str| shown[key].as_str().is_some_and(|text| text.to_lowercase().contains(part));
        let found = self.search_term.as_ref().map(|term| term.to_lowercase()).is_none_or(|term| {
            has("name", &term)
                || has("canonical_alias", &term)
                || shown["room_id"].as_str() == self.search_term.as_deref()
        });
        found
            && self.public_rooms.is_none_or(|wanted| shown["public"] == wanted)
            && self.empty_rooms.is_none_or(|wanted| (shown["joined_members"] == 0) == wanted)
    }
}

async fn get(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let room = find(&api, &call.path)?;
    let summary = room.summary()?;
    let mut shown = listed(&api, &room)?;
    shown["topic"] = json!(summary.topic);
    shown["avatar"] = json!(summary.avatar_url);
    shown["forgotten"] = json!(room.is_forgotten_by_all());
    let mut devices = 0;
    for user in room.local_joined() {
        devices += api.accounts.devices(&user)?.len();
    }
    shown["joined_local_devices"] = json!(devices);
    Ok(Json(shown))
}

/// The room that a request is about.
pub(super) fn find(api: &Api, path: &[String]) -> Result<std::sync::Arc<Room>> {
    let id = room(api, path, 0)?;
    api.rooms.room(&id).map_err(|_| Error::not_found("Room not found"))
}

async fn members(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let members = find(&api, &call.path)?.joined_members()?;
    let members: Vec<_> = members.into_iter().map(|(user, _)| user).collect();
    Ok(Json(json!({ "members": members, "total": members.len() })))
}

async fn state(State(api): State<Api>, call: Asked) -> Result<Json<Value>> {
    admin(&call.who)?;
    let room = find(&api, &call.path)?;
    let mut events = Vec::new();
    for placed in room.state_events(room.published().state, None)? {
        let mut json = Vec::with_capacity(placed.event.json().len());
        placed.event.write_client_json(room.rules(), ClientForm::Full, None, &mut json);
        events.push(serde_json::from_slice::<Box<RawValue>>(&json).map_err(Error::internal)?);
    }
    Ok(Json(json!({ "state": events })))
}

/// Whether somebody of ours is in the room, or asked into it.
pub(super) fn is_inside(membership: Option<Membership>) -> bool {
    matches!(membership, Some(Membership::Join | Membership::Invite | Membership::Knock))
}
