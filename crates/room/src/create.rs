//! Making a room: all its first events in one commit. [CS-API §post_matrixclientv3createroom]

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use ruma_common::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};

use crate::{
    error::CommandError,
    membership::Profile,
    registry::Rooms,
    room::{Head, Room},
    state::Root,
    tables::{ALIAS, AliasRecord, PUBLIC, ROOM, ROOM_ALIAS, ROOM_ID, RoomRecord},
    write::{NewEvent, Staged},
};

/// Most events that the maker of a room may have put into it at once.
pub const INITIAL_EVENTS_MAX: usize = 1_000;

/// Which rules a room starts with. [CS-API §post_matrixclientv3createroom, presets]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// By invitation; guests may join; history shared.
    PrivateChat,
    /// The same, and whoever is invited has the maker's power.
    TrustedPrivateChat,
    /// Anyone may join.
    PublicChat,
}

/// A state event for a new room.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// Event type.
    pub kind: String,
    /// State key.
    pub state_key: String,
    /// Content.
    pub content: Value,
}

/// A room to make.
#[derive(Clone, Debug)]
pub struct CreateRoom {
    /// Who makes it, and how they are called.
    pub creator: OwnedUserId,
    /// The maker's profile, for their membership event.
    pub profile: Profile,
    /// Its version.
    pub version: RoomVersionId,
    /// The rules it starts with.
    pub preset: Preset,
    /// More keys for the content of the create event.
    pub creation_content: Map<String, Value>,
    /// Replaces top-level keys of the power levels that the preset makes.
    pub power_levels: Map<String, Value>,
    /// State that goes in after the preset's.
    pub initial_state: Vec<InitialState>,
    /// Name.
    pub name: Option<String>,
    /// Topic.
    pub topic: Option<String>,
    /// The alias to make for it.
    pub alias: Option<OwnedRoomAliasId>,
    /// People to invite, with their profiles.
    pub invite: Vec<(OwnedUserId, Profile)>,
    /// The invitations are to a chat between two.
    pub is_direct: bool,
    /// List it in the public directory.
    pub listed: bool,
}

impl Rooms {
    /// Makes a room in one commit; its id when that is durable.
    ///
    /// # Errors
    /// `UnsupportedVersion`, `AliasTaken`, `InvalidRoomState` when the rules refuse what was asked for.
    pub async fn create(&self, new: CreateRoom) -> Result<OwnedRoomId, CommandError> {
        let rules = koine_graph::rules(&new.version)
            .ok_or_else(|| CommandError::UnsupportedVersion(new.version.to_string()))?;
        // Held until the alias is durable, so that no other room can take it meanwhile.
        let _alias = match &new.alias {
            Some(alias) => {
                let guard = self.alias_writer.lock().await;
                if self.core.shard.get(&ALIAS, self.core.domain(), alias.as_str())?.is_some() {
                    return Err(CommandError::AliasTaken(alias.to_string()));
                }
                Some(guard)
            }
            None => None,
        };
        let commit = {
            let content = new.create_content(&rules);
            let content = to_raw_value(&content).map_err(|error| CommandError::BadContent(error.to_string()))?;
            let empty = |id: OwnedRoomId| {
                let place = (0, id);
                let head =
                    Head { state: Root::EMPTY, extremities: vec![], depth: 0, joined: 0, invited: 0, signed: None };
                Room::new(self.core.clone(), place, (new.version.clone(), rules.clone()), head, 0, HashMap::new())
            };
            let create = NewEvent::state(&new.creator, "m.room.create", "", &content);
            // Since version 12 the id of a room is the hash of its create event. [RV12 §event-format]
            let (room, mut head, first) = if rules.authorization.room_create_event_id_as_room_id {
                let nameless = empty(self.new_room_id());
                let mut head = nameless.head.lock().clone();
                let first = nameless.stage(&mut head, create)?;
                let id = first.event.room_id().to_owned();
                let room = empty(id).numbered(self.next_no());
                room.announce(&first);
                (Arc::new(room), head, first)
            } else {
                let room = empty(self.new_room_id()).numbered(self.next_no());
                let mut head = room.head.lock().clone();
                let first = room.stage(&mut head, create)?;
                (Arc::new(room), head, first)
            };
            let mut staged = vec![first];
            new.stage_rest(&room, &mut head, &mut staged, &|user| !self.invites_elsewhere(user))?;
            *room.head.lock() = head.clone();
            room.receipts_newest.store(0, Ordering::Relaxed);
            self.adopt(&room);
            let (domain, no, id) = (self.core.domain(), room.no(), room.id().to_owned());
            let record = RoomRecord { no, version: new.version.to_string() };
            let alias = new.alias.as_ref().map(ToString::to_string);
            let creator = new.creator.to_string();
            let listed = new.listed;
            let commit = room.commit(&head, staged, move |txn| {
                txn.put(&ROOM, domain, id.as_str(), &record);
                txn.put(&ROOM_ID, domain, &no, &id.to_string());
                if let Some(alias) = alias {
                    txn.put(&ALIAS, domain, alias.as_str(), &AliasRecord { room: no, creator });
                    txn.put(&ROOM_ALIAS, domain, &(no, alias), &());
                }
                if listed {
                    txn.put(&PUBLIC, domain, &no, &());
                }
            });
            (commit, room.id().to_owned())
        };
        let (commit, id) = commit;
        commit.await?;
        for (user, profile) in new.invite.iter().filter(|(user, _)| self.invites_elsewhere(user)) {
            let extra = if new.is_direct { Map::from_iter([("is_direct".into(), json!(true))]) } else { Map::new() };
            // The room is there: who cannot be reached can be asked again.
            if let Err(reason) = self.invite(&new.creator, &id, (user, profile), None, extra).await {
                tracing::info!(room_id = %id, user_id = %user, %reason, "somebody was not invited to a new room");
            }
        }
        Ok(id)
    }

    /// An invitation that another server signs before it is in a room.
    fn invites_elsewhere(&self, user: &UserId) -> bool {
        user.server_name() != self.server_name() && self.elsewhere.get().is_some()
    }
}

impl CreateRoom {
    fn create_content(&self, rules: &koine_graph::RoomVersionRules) -> Map<String, Value> {
        let mut content = self.creation_content.clone();
        // [RV11 §remove-the-creator-property-of-mroomcreate-events]
        if rules.authorization.use_room_create_sender {
            content.remove("creator");
        } else {
            content.insert("creator".into(), json!(self.creator));
        }
        content.insert("room_version".into(), json!(self.version));
        let trusted = self.preset == Preset::TrustedPrivateChat && !self.invite.is_empty();
        if rules.authorization.additional_room_creators && trusted {
            // [CS-API §post_matrixclientv3createroom] trusted_private_chat: the invited become creators.
            let named = content.get("additional_creators").and_then(Value::as_array).cloned().unwrap_or_default();
            let mut all = named;
            for (user, _) in &self.invite {
                if !all.contains(&json!(user)) {
                    all.push(json!(user));
                }
            }
            content.insert("additional_creators".into(), all.into());
        }
        content
    }

    /// Everything after the create event, in the order of the specification.
    fn stage_rest(
        &self,
        room: &Arc<Room>,
        head: &mut Head,
        staged: &mut Vec<Staged>,
        invited_here: &dyn Fn(&UserId) -> bool,
    ) -> Result<(), CommandError> {
        let mut add = |kind: &str, state_key: &str, content: &Value| -> Result<(), CommandError> {
            let content = to_raw_value(content).map_err(|error| CommandError::BadContent(error.to_string()))?;
            let event = room.stage(head, NewEvent::state(&self.creator, kind, state_key, &content));
            staged.push(event.map_err(|error| match error {
                CommandError::Refused(refusal) => CommandError::InvalidRoomState(format!("{kind}: {refusal}")),
                other => other,
            })?);
            Ok(())
        };
        add("m.room.member", self.creator.as_str(), &self.profile.content("join"))?;
        add("m.room.power_levels", "", &self.power_levels(room))?;
        if let Some(alias) = &self.alias {
            add("m.room.canonical_alias", "", &json!({ "alias": alias }))?;
        }
        let given =
            |kind: &str| self.initial_state.iter().any(|event| event.kind == kind && event.state_key.is_empty());
        let (join_rule, guests) = match self.preset {
            Preset::PrivateChat | Preset::TrustedPrivateChat => ("invite", "can_join"),
            Preset::PublicChat => ("public", "forbidden"),
        };
        // Forbidding guests is what a room does that says nothing of them.
        let says_nothing = |kind: &str| kind == "m.room.guest_access" && guests == "forbidden";
        for (kind, content) in [
            ("m.room.join_rules", json!({ "join_rule": join_rule })),
            ("m.room.history_visibility", json!({ "history_visibility": "shared" })),
            ("m.room.guest_access", json!({ "guest_access": guests })),
        ] {
            if !(given(kind) || says_nothing(kind)) {
                add(kind, "", &content)?;
            }
        }
        for event in &self.initial_state {
            if event.kind == "m.room.create" || event.kind == "m.room.member" {
                return Err(CommandError::BadContent(format!("initial_state cannot hold {}", event.kind)));
            }
            add(&event.kind, &event.state_key, &event.content)?;
        }
        if let Some(name) = &self.name {
            add("m.room.name", "", &json!({ "name": name }))?;
        }
        if let Some(topic) = &self.topic {
            // The rich form stands beside the plain one. [CS-API §mroomtopic]
            let rich = json!({ "m.text": [{ "body": topic, "mimetype": "text/plain" }] });
            add("m.room.topic", "", &json!({ "topic": topic, "m.topic": rich }))?;
        }
        for (user, profile) in self.invite.iter().filter(|(user, _)| invited_here(user)) {
            let mut content = profile.content("invite");
            if self.is_direct {
                content["is_direct"] = json!(true);
            }
            add("m.room.member", user.as_str(), &content)?;
        }
        Ok(())
    }

    fn power_levels(&self, room: &Room) -> Value {
        let rules = &room.rules().authorization;
        let mut users = Map::new();
        if !rules.explicitly_privilege_room_creators {
            users.insert(self.creator.to_string(), json!(100));
            if self.preset == Preset::TrustedPrivateChat {
                users.extend(self.invite.iter().map(|(user, _)| (user.to_string(), json!(100))));
            }
        }
        // Only creators replace a room in the versions where they stand above everyone. [RV12 §definitions]
        let tombstone = if rules.explicitly_privilege_room_creators { 150 } else { 100 };
        let mut levels = json!({
            "users": users,
            "users_default": 0,
            "events": {
                "m.room.name": 50,
                "m.room.power_levels": 100,
                "m.room.history_visibility": 100,
                "m.room.canonical_alias": 50,
                "m.room.avatar": 50,
                "m.room.tombstone": tombstone,
                "m.room.server_acl": 100,
                "m.room.encryption": 100,
            },
            "events_default": 0,
            "state_default": 50,
            "ban": 50,
            "kick": 50,
            "redact": 50,
            "invite": if self.preset == Preset::PublicChat { 50 } else { 0 },
            "historical": 100,
        });
        if let Some(levels) = levels.as_object_mut() {
            levels.extend(self.power_levels.clone());
        }
        levels
    }
}

/// The creator of a room and, since version 12, whoever else the create event names. For display; the rules have
/// their own reading.
pub fn creators(create: &koine_graph::Event) -> Vec<OwnedUserId> {
    let content: Value = serde_json::from_str(create.content().get()).unwrap_or_default();
    let named = content.get("additional_creators").and_then(Value::as_array).into_iter().flatten();
    let named = named.filter_map(|user| <&UserId>::try_from(user.as_str()?).ok().map(ToOwned::to_owned));
    std::iter::once(create.sender().to_owned()).chain(named).collect()
}
