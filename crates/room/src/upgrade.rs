//! Replacing a room by one of another version. [CS-API §post_matrixclientv3roomsroomidupgrade]
//!
//! The new room is made in one commit, with the state that moves; then the banned are shut out of it, the aliases and
//! the place in the directory move over, and the old room is closed. If the server stops in between there is a room too
//! many, and asking again makes another: the tombstone decides which one replaces the old.

use std::sync::Arc;

use koine_graph::PowerLevels;
use ruma_common::{OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};

use crate::{
    create::{CreateRoom, INITIAL_EVENTS_MAX, InitialState, Preset},
    error::CommandError,
    membership::Profile,
    registry::Rooms,
    room::Room,
    send::Sender,
    tables::{ALIAS, Membership, PUBLIC, ROOM_ALIAS},
    write::NewEvent,
};

/// State with an empty state key that moves. [CS-API §room-upgrades, server behaviour]
const TRANSFERABLE: [&str; 8] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
];
/// Most bans that move.
const BANS_MAX: usize = 1_000;
/// What power levels are when a room does not say. [CS-API §mroompower_levels]
const LEVEL_DEFAULTS: [(&str, i64); 7] = [
    ("users_default", 0),
    ("events_default", 0),
    ("state_default", 50),
    ("ban", 50),
    ("kick", 50),
    ("redact", 50),
    ("invite", 0),
];
/// Level of the first creator where creators stand in the power levels.
const CREATOR_LEVEL: i64 = 100;
/// Level for replacing a room where creators stand above everyone. [RV12 §definitions]
const TOMBSTONE_LEVEL: i64 = 150;

/// A room to replace.
#[derive(Clone, Debug)]
pub struct Upgrade<'a> {
    /// Who replaces it.
    pub user: &'a UserId,
    /// Their profile, for the membership event in the new room.
    pub profile: Profile,
    /// The room.
    pub room: &'a RoomId,
    /// The version of the new room.
    pub version: RoomVersionId,
    /// More creators, where the new version has such.
    pub additional_creators: Vec<OwnedUserId>,
}

impl Rooms {
    /// Replaces a room; the id of the new one.
    ///
    /// # Errors
    /// `UnsupportedVersion`; `NotJoined`; `Forbidden` for who may not replace the room.
    pub async fn upgrade(&self, upgrade: Upgrade<'_>) -> Result<OwnedRoomId, CommandError> {
        let Upgrade { user, room: id, .. } = upgrade;
        let old = self.room(id)?;
        let levels = {
            let head = old.head.lock();
            if old.head_membership(&head, user)? != Some(Membership::Join) {
                return Err(CommandError::NotJoined);
            }
            old.power_levels(&head)?
        };
        // 1. Checks that the user has permission to send m.room.tombstone events in the room.
        if !levels.may_send(user, "m.room.tombstone", true) {
            return Err(CommandError::Forbidden(format!("{user} may not replace this room")));
        }
        // 2. and 3. Creates a replacement room; replicates transferable state events to it.
        let replacement = self.create(self.replacement(&old, &levels, upgrade)?).await?;
        let new = self.room(&replacement)?;
        self.transfer_bans(user, &old, &new).await?;
        // 4. Moves any local aliases to the new room.
        let names = self.move_names(&old, &new).await?;
        // 5. Sends a m.room.tombstone event to the old room.
        let tombstone = json!({ "body": "This room has been replaced", "replacement_room": replacement });
        self.set(user, id, "m.room.tombstone", &tombstone).await?;
        // What follows is for good order: the room is replaced also where its rules forbid it.
        self.move_canonical_alias(user, &old, &new, &names).await.or_else(unless_refused)?;
        // 6. Modifies the power levels of the old room.
        if let Some(closed) = closed_levels(&old, &levels)? {
            self.set(user, id, "m.room.power_levels", &closed).await.or_else(unless_refused)?;
        }
        Ok(replacement)
    }

    fn replacement(&self, old: &Room, levels: &PowerLevels, upgrade: Upgrade<'_>) -> Result<CreateRoom, CommandError> {
        let Upgrade { user, profile, version, additional_creators, .. } = upgrade;
        let rules =
            koine_graph::rules(&version).ok_or_else(|| CommandError::UnsupportedVersion(version.to_string()))?;
        let create = content_of(old, "m.room.create", "")?.unwrap_or_default();
        let mut creation_content = Map::new();
        for key in ["type", "m.federate"] {
            if let Some(value) = create.get(key) {
                creation_content.insert(key.to_owned(), value.clone());
            }
        }
        let mut predecessor = json!({ "room_id": old.id() });
        // Since version 12 the event may be left out, as the new room's id comes first and the tombstone after.
        if !rules.authorization.room_create_event_id_as_room_id
            && let Some(last) = old.extremities().last()
        {
            predecessor["event_id"] = json!(last);
        }
        creation_content.insert("predecessor".to_owned(), predecessor);
        let mut creators = Vec::new();
        if rules.authorization.additional_room_creators {
            for creator in additional_creators {
                if creator != user && !creators.contains(&creator) {
                    creators.push(creator);
                }
            }
            if !creators.is_empty() {
                creation_content.insert("additional_creators".to_owned(), json!(creators));
            }
        }
        creators.push(user.to_owned());

        let mut initial_state = Vec::new();
        for kind in TRANSFERABLE {
            if let Some(content) = content_of(old, kind, "")? {
                let content = Value::Object(content);
                initial_state.push(InitialState { kind: kind.to_owned(), state_key: String::new(), content });
            }
        }
        for child in old.state_events(old.published().state, Some("m.space.child"))? {
            let content: Value = serde_json::from_str(child.event.content().get()).unwrap_or_default();
            let is_child = content["via"].as_array().is_some_and(|via| !via.is_empty());
            if is_child && initial_state.len() < INITIAL_EVENTS_MAX {
                let (kind, state_key) = (child.event.kind().to_owned(), child.event.state_key().unwrap_or_default());
                initial_state.push(InitialState { kind, state_key: state_key.to_owned(), content });
            }
        }

        let wanted = new_levels(old, levels, &rules, &creators)?;
        // Who replaces the room may have too little power there to set all of it: they get that for a moment.
        let mut first = wanted.clone();
        if !rules.authorization.explicitly_privilege_room_creators {
            let needed = highest(&wanted);
            if first["users"].get(user.as_str()).and_then(Value::as_i64).is_none_or(|level| level < needed) {
                first["users"][user.as_str()] = json!(needed);
                let content = Value::Object(wanted);
                let kind = "m.room.power_levels".to_owned();
                initial_state.push(InitialState { kind, state_key: String::new(), content });
            }
        }
        Ok(CreateRoom {
            creator: user.to_owned(),
            profile,
            version,
            preset: Preset::PublicChat,
            creation_content,
            power_levels: first,
            initial_state,
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            is_direct: false,
            listed: false,
        })
    }

    /// Shuts out of `new` who is shut out of `old`, as far as `user` may do that.
    async fn transfer_bans(&self, user: &UserId, old: &Room, new: &Arc<Room>) -> Result<(), CommandError> {
        let mut members = old.state_events(old.published().state, Some("m.room.member"))?;
        members.retain(|member| member.event.membership().map(Membership::from) == Some(Membership::Ban));
        if members.is_empty() {
            return Ok(());
        }
        let commit = {
            let mut head = new.head.lock();
            let mut staged = Vec::new();
            for member in members.iter().take(BANS_MAX) {
                let mut content = json!({ "membership": "ban" });
                if let Some(reason) = member.event.content_field::<String>("reason") {
                    content["reason"] = json!(reason);
                }
                let content = to_raw_value(&content).map_err(|error| CommandError::BadContent(error.to_string()))?;
                let target = member.event.state_key().unwrap_or_default();
                match new.stage(&mut head, NewEvent::state(user, "m.room.member", target, &content)) {
                    Ok(ban) => staged.push(ban),
                    Err(CommandError::Refused(_)) => break,
                    Err(error) => return Err(error),
                }
            }
            if staged.is_empty() {
                return Ok(());
            }
            new.commit(&head, staged, |_| {})
        };
        commit.await?;
        Ok(())
    }

    /// Makes the local aliases of `old` lead to `new`, and lists `new` in its place; the aliases.
    async fn move_names(&self, old: &Room, new: &Room) -> Result<Vec<String>, CommandError> {
        let _writer = self.alias_writer.lock().await;
        let names: Vec<String> = self.aliases(old.id())?.into_iter().map(|alias| alias.to_string()).collect();
        let (domain, from, to, moving) = (self.core.domain(), old.no(), new.no(), names.clone());
        self.core
            .shard
            .submit(move |txn| {
                for name in moving {
                    let Ok(Some(record)) = txn.get(&ALIAS, domain, name.as_str()) else { continue };
                    txn.put(&ALIAS, domain, name.as_str(), &crate::tables::AliasRecord { room: to, ..record });
                    txn.delete(&ROOM_ALIAS, domain, &(from, name.clone()));
                    txn.put(&ROOM_ALIAS, domain, &(to, name), &());
                }
                if txn.get(&PUBLIC, domain, &from).ok().flatten().is_some() {
                    txn.delete(&PUBLIC, domain, &from);
                    txn.put(&PUBLIC, domain, &to, &());
                }
            })
            .await?;
        Ok(names)
    }

    /// The new room is called as the old one was, by the aliases that moved; the old one is called so no more.
    async fn move_canonical_alias(
        &self,
        user: &UserId,
        old: &Room,
        new: &Room,
        names: &[String],
    ) -> Result<(), CommandError> {
        let Some(mut content) = content_of(old, "m.room.canonical_alias", "")? else { return Ok(()) };
        let moved = |alias: &Value| alias.as_str().is_some_and(|alias| names.iter().any(|name| name == alias));
        if content.get("alias").is_some_and(|alias| !moved(alias)) {
            content.remove("alias");
        }
        if let Some(others) = content.get_mut("alt_aliases").and_then(Value::as_array_mut) {
            others.retain(moved);
        }
        let others = content.get("alt_aliases").and_then(Value::as_array).is_some_and(|others| !others.is_empty());
        if content.get("alias").is_none() && !others {
            return Ok(());
        }
        self.set(user, new.id(), "m.room.canonical_alias", &Value::Object(content)).await?;
        self.set(user, old.id(), "m.room.canonical_alias", &json!({})).await
    }

    async fn set(&self, user: &UserId, room: &RoomId, kind: &str, content: &Value) -> Result<(), CommandError> {
        let content = to_raw_value(content).map_err(|error| CommandError::BadContent(error.to_string()))?;
        self.set_state(Sender { user, device: None }, room, kind, "", &content).await?;
        Ok(())
    }

    /// The room that `room` replaces, if both say so.
    pub fn predecessor(&self, room: &Room) -> Result<Option<Arc<Room>>, CommandError> {
        let Some(old) = self.named_predecessor(room)? else { return Ok(None) };
        let tombstone = content_of(&old, "m.room.tombstone", "")?.unwrap_or_default();
        let is_replaced = tombstone.get("replacement_room").and_then(Value::as_str) == Some(room.id().as_str());
        Ok(is_replaced.then_some(old))
    }

    /// The room that `room` says it replaces. The word of the old room may still be on its way.
    pub fn named_predecessor(&self, room: &Room) -> Result<Option<Arc<Room>>, CommandError> {
        let Some(create) = content_of(room, "m.room.create", "")? else { return Ok(None) };
        let id = create.get("predecessor").and_then(|predecessor| predecessor["room_id"].as_str());
        Ok(id.and_then(|id| <&RoomId>::try_from(id).ok()).and_then(|id| self.room(id).ok()))
    }
}

/// What is forbidden is left as it is.
fn unless_refused(error: CommandError) -> Result<(), CommandError> {
    match error {
        CommandError::Refused(_) | CommandError::Forbidden(_) => Ok(()),
        other => Err(other),
    }
}

fn content_of(room: &Room, kind: &str, state_key: &str) -> Result<Option<Map<String, Value>>, CommandError> {
    let event = room.current(kind, state_key)?;
    Ok(event.map(|placed| serde_json::from_str(placed.event.content().get()).unwrap_or_default()))
}

/// The power levels of the new room: those of the old one, with the creators in the place where the new version has
/// them.
fn new_levels(
    old: &Room,
    levels: &PowerLevels,
    rules: &koine_graph::RoomVersionRules,
    creators: &[OwnedUserId],
) -> Result<Map<String, Value>, CommandError> {
    let mut wanted = content_of(old, "m.room.power_levels", "")?.unwrap_or_default();
    // Since version 10 levels are numbers, and nothing else. [RV10 §values-in-mroompower_levels-events-must-be-integers]
    wanted.values_mut().for_each(as_integers);
    for (key, level) in LEVEL_DEFAULTS {
        wanted.entry(key).or_insert(json!(level));
    }
    for key in ["users", "events"] {
        if !wanted.get(key).is_some_and(Value::is_object) {
            wanted.insert(key.to_owned(), json!({}));
        }
    }
    let had_privileged = old.rules().authorization.explicitly_privilege_room_creators;
    let tombstone = wanted["events"].get("m.room.tombstone").and_then(Value::as_i64);
    if let Some(users) = wanted.get_mut("users").and_then(Value::as_object_mut) {
        if rules.authorization.explicitly_privilege_room_creators {
            // [RV12 §authorization-rules] Creators do not stand in the power levels.
            users.retain(|user, _| !creators.iter().any(|creator| creator == user));
        } else if had_privileged {
            for creator in levels.creators() {
                users.insert(creator.to_string(), json!(CREATOR_LEVEL.max(tombstone.unwrap_or(0))));
            }
        } else if users.is_empty() {
            users.insert(creators.last().map(ToString::to_string).unwrap_or_default(), json!(CREATOR_LEVEL));
        }
    }
    if rules.authorization.explicitly_privilege_room_creators && !had_privileged {
        wanted["events"]["m.room.tombstone"] = json!(TOMBSTONE_LEVEL.max(tombstone.unwrap_or(0)));
    }
    Ok(wanted)
}

/// Makes numbers of texts that hold such, as old versions allow, also one level down.
fn as_integers(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Ok(level) = text.trim().parse::<i64>() {
                *value = json!(level);
            }
        }
        Value::Object(values) => values.values_mut().for_each(|value| {
            if !value.is_object() {
                as_integers(value);
            }
        }),
        _ => {}
    }
}

/// The highest level that these power levels ask for or give.
fn highest(levels: &Map<String, Value>) -> i64 {
    let flat = levels.values().filter_map(Value::as_i64);
    let maps = ["users", "events"].into_iter().filter_map(|key| levels.get(key).and_then(Value::as_object));
    flat.chain(maps.flat_map(|map| map.values().filter_map(Value::as_i64))).max().unwrap_or(0).max(CREATOR_LEVEL)
}

/// The power levels of the old room in which nobody but moderators speaks or invites; `None` when they are so already.
fn closed_levels(old: &Room, levels: &PowerLevels) -> Result<Option<Value>, CommandError> {
    let mut content = content_of(old, "m.room.power_levels", "")?.unwrap_or_default();
    // The greater of 50 and users_default + 1.
    let least = levels.users_default().saturating_add(1).max(50);
    let mut changed = false;
    for (key, present) in [("events_default", levels.events_default()), ("invite", levels.invite())] {
        if present < least {
            content.insert(key.to_owned(), json!(least));
            changed = true;
        }
    }
    Ok(changed.then_some(Value::Object(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_written_as_text_become_numbers() {
        let mut levels = json!({ "ban": "50", "users": { "@a:b.c": " 100", "@d:b.c": 3 }, "x": "none" });
        levels.as_object_mut().expect("an object").values_mut().for_each(as_integers);
        assert_eq!(levels, json!({ "ban": 50, "users": { "@a:b.c": 100, "@d:b.c": 3 }, "x": "none" }));
        assert_eq!(highest(levels.as_object().expect("an object")), 100);
    }
}
