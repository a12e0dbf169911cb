//! `POST /rooms/{roomId}/upgrade`: replacing a room by one of another version.
//!
//! [CS-API §post_matrixclientv3roomsroomidupgrade] What people here have set for the old room goes with them, also when
//! somebody replaces a room by hand, with a room that names its predecessor and a tombstone. [CS-API §room-upgrades]

use axum::extract::State;
use koine_push::{EditError, Kind, NewRule, Position, Ruleset};
use koine_room::{Membership, Room, Upgrade};
use ruma_client_api::room::upgrade_room::v3;
use ruma_common::{OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{path, permit, profile};
use crate::{Api, Error, Json, Loose, Result};

/// Most creators that a room may have beside the one who makes it.
const CREATORS_MAX: usize = 100;

#[derive(Debug, Deserialize)]
pub struct Body {
    new_version: Option<String>,
    #[serde(default)]
    additional_creators: Vec<OwnedUserId>,
}

pub async fn upgrade_room(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    let room: OwnedRoomId = path(&call.path, 0)?;
    let (user, body) = (&call.who.user_id, call.body);
    call.who.not_suspended()?;
    permit(&api, &call.who)?;
    let name = body.new_version.ok_or_else(|| Error::missing_param("`new_version` is missing"))?;
    let version = RoomVersionId::try_from(name.as_str()).map_err(|_| {
        Error::new(http::StatusCode::BAD_REQUEST, "M_UNSUPPORTED_ROOM_VERSION", format!("{name:?} is no room version"))
    })?;
    if body.additional_creators.len() > CREATORS_MAX {
        return Err(Error::invalid_param(format!("At most {CREATORS_MAX} additional creators are allowed")));
    }
    let profile = profile(&api, user)?;
    let additional_creators = body.additional_creators;
    let replacement = api.rooms.upgrade(Upgrade { user, profile, room: &room, version, additional_creators }).await?;
    take_along(&api, &replacement).await;
    Ok(Json(json!({ "replacement_room": replacement })))
}

/// Gives the people here who are in the room that `replacement` replaces the same settings for `replacement`.
/// The room is replaced already, so that what cannot be done is only told to the operator.
pub(super) async fn take_along(api: &Api, replacement: &RoomId) {
    let Ok(new) = api.rooms.room(replacement) else { return };
    let Ok(Some(old)) = api.rooms.predecessor(&new) else { return };
    for user in old.local_joined() {
        if let Err(error) = settings(api, &user, &old, &new).await {
            tracing::warn!(room_id = %replacement, user_id = %user, reason = %error,
                "settings of a replaced room could not be taken along");
        }
    }
}

/// Gives somebody who came into a room, maybe one of another server, the settings that they had for the room which it
/// replaces.
pub(super) async fn bring_along(api: &Api, user: &UserId, room: &RoomId) {
    let Ok(new) = api.rooms.room(room) else { return };
    let Ok(Some(old)) = api.rooms.named_predecessor(&new) else { return };
    if !matches!(old.local_membership(user), Some(Membership::Join | Membership::Leave)) {
        return;
    }
    if let Err(error) = settings(api, user, &old, &new).await {
        tracing::warn!(room_id = %room, user_id = %user, reason = %error,
            "settings of a replaced room could not be brought along");
    }
}

async fn settings(api: &Api, user: &UserId, old: &Room, new: &Room) -> Result<()> {
    let rules = api.push.ruleset(user)?;
    if rules.get(Kind::Room, old.id().as_str()).is_some() || names(&rules, old.id()) {
        api.push.change(user, |rules| push_rules(rules, old.id(), new.id())).await?;
    }
    if let Some(tags) = api.accounts.account_data(user, Some(old.id()), "m.tag")? {
        let taken = move |present: Option<&str>| present.is_none().then_some(tags);
        api.accounts.edit_account_data(user, Some(new.id()), "m.tag", taken).await?;
    }
    let (from, to) = (old.id().to_string(), new.id().to_string());
    let direct = move |present: Option<&str>| direct_with(present?, &from, &to);
    api.accounts.edit_account_data(user, None, "m.direct", direct).await?;
    Ok(())
}

/// Whether a rule of the user asks for this room by name.
fn names(rules: &Ruleset, room: &RoomId) -> bool {
    rules.of(Kind::Override).iter().any(|rule| !rule.default && asks_for(rule.conditions.as_deref(), room))
}

fn asks_for(conditions: Option<&[Value]>, room: &RoomId) -> bool {
    conditions.into_iter().flatten().any(|condition| is_room(condition, room))
}

fn is_room(condition: &Value, room: &RoomId) -> bool {
    condition["kind"] == "event_match" && condition["key"] == "room_id" && condition["pattern"] == room.as_str()
}

/// Repeats the rules for `old` for `new`, where there are none yet.
fn push_rules(rules: &mut Ruleset, old: &RoomId, new: &RoomId) -> std::result::Result<(), EditError> {
    if let (Some(rule), None) = (rules.get(Kind::Room, old.as_str()), rules.get(Kind::Room, new.as_str())) {
        let (actions, enabled) = (rule.actions.clone(), rule.enabled);
        let rule = NewRule { kind: Kind::Room, rule_id: new.to_string(), actions, conditions: None, pattern: None };
        rules.put(rule, Position::default())?;
        rules.set_enabled(Kind::Room, new.as_str(), enabled)?;
    }
    let muted = rules.of(Kind::Override).iter().find(|rule| !rule.default && asks_for(rule.conditions.as_deref(), old));
    if let Some(rule) = muted.cloned()
        && rules.get(Kind::Override, new.as_str()).is_none()
    {
        let mut conditions = rule.conditions.unwrap_or_default();
        for condition in conditions.iter_mut().filter(|condition| is_room(condition, old)) {
            condition["pattern"] = json!(new);
        }
        let (actions, rule_id) = (rule.actions, new.to_string());
        let copy = NewRule { kind: Kind::Override, rule_id, actions, conditions: Some(conditions), pattern: None };
        rules.put(copy, Position::default())?;
        rules.set_enabled(Kind::Override, new.as_str(), rule.enabled)?;
    }
    Ok(())
}

/// `m.direct` with the new room wherever the old one is; `None` where that changes nothing.
fn direct_with(content: &str, old: &str, new: &str) -> Option<String> {
    let mut content: Value = serde_json::from_str(content).ok()?;
    let mut changed = false;
    for rooms in content.as_object_mut()?.values_mut().filter_map(Value::as_array_mut) {
        if rooms.iter().any(|room| room == old) && !rooms.iter().any(|room| room == new) {
            rooms.push(json!(new));
            changed = true;
        }
    }
    changed.then(|| content.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_between_two_stays_one() {
        let content = r#"{"@a:b.c":["!old:b.c","!other:b.c"],"@d:b.c":["!other:b.c"],"x":1}"#;
        let changed = direct_with(content, "!old:b.c", "!new:b.c").expect("a change");
        let expected = json!({ "@a:b.c": ["!old:b.c", "!other:b.c", "!new:b.c"], "@d:b.c": ["!other:b.c"], "x": 1 });
        assert_eq!(serde_json::from_str::<Value>(&changed).expect("JSON"), expected);
        assert_eq!(direct_with(&changed, "!old:b.c", "!new:b.c"), None);
        assert_eq!(direct_with("[]", "!old:b.c", "!new:b.c"), None);
    }
}
