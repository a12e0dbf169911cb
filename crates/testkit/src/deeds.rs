//! People act.

use std::sync::Arc;

use koine_room::{CommandError, Profile, Room, Rooms, Sender};
use ruma_common::{OwnedServerName, OwnedUserId, RoomId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};

use crate::plan::{Deed, Person};

/// Newest events among which somebody looks for one to redact.
const LOOKED_AT: usize = 20;

/// Somebody who is about to do something.
pub struct Actor<'a> {
    /// Their server's rooms.
    pub rooms: Arc<Rooms>,
    /// Who.
    pub user: &'a UserId,
    /// In which room.
    pub room: &'a RoomId,
    /// Tells people's ids.
    pub name: &'a (dyn Fn(Person) -> OwnedUserId + Sync),
    /// Tells servers' names.
    pub server: &'a (dyn Fn(usize) -> OwnedServerName + Sync),
}

impl Actor<'_> {
    /// Does it, if the room and the network let them.
    pub async fn act(&self, deed: &Deed, number: usize) -> Result<(), CommandError> {
        let Self { rooms, user, room, .. } = self;
        let target = |person: &Person| (self.name)(*person);
        match deed {
            Deed::Say => {
                let content = json!({ "msgtype": "m.text", "body": format!("{number}") });
                let content = to_raw_value(&content).expect("JSON");
                rooms.send(self.sender(), room, "m.room.message", &content, None).await.map(|_| ())
            }
            Deed::Set(kind, key) => {
                let field = kind.strip_prefix("m.room.").unwrap_or("thing");
                self.set(kind, key, &json!({ field: format!("{number}") })).await
            }
            Deed::Redact => self.redact().await,
            Deed::Join(server) => {
                let via = [(self.server)(*server)];
                rooms.join_via(user, room, &via, &Profile::default(), None, Map::new()).await
            }
            Deed::Leave => rooms.leave(user, room, None).await,
            Deed::Invite(other) => {
                rooms.invite(user, room, (&target(other), &Profile::default()), None, Map::new()).await
            }
            Deed::Kick(other) => rooms.kick(user, room, &target(other), None).await,
            Deed::Ban(other) => rooms.ban(user, room, &target(other), None).await,
            Deed::Unban(other) => rooms.unban(user, room, &target(other), None).await,
            Deed::Empower(other, level) => {
                let other = target(other);
                self.change_levels(|levels| match levels.get_mut("users") {
                    Some(Value::Object(users)) => drop(users.insert(other.to_string(), json!(level))),
                    _ => drop(levels.insert("users".into(), json!({ other.as_str(): level }))),
                })
                .await
            }
            Deed::AskOfState(level) => {
                self.change_levels(|levels| drop(levels.insert("state_default".into(), json!(level)))).await
            }
            Deed::OpenDoor(rule) => self.set("m.room.join_rules", "", &json!({ "join_rule": rule })).await,
        }
    }

    fn sender(&self) -> Sender<'_> {
        Sender { user: self.user, device: None }
    }

    async fn set(&self, kind: &str, key: &str, content: &Value) -> Result<(), CommandError> {
        let content = to_raw_value(content).expect("JSON");
        self.rooms.set_state(self.sender(), self.room, kind, key, &content).await.map(|_| ())
    }

    async fn change_levels(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), CommandError> {
        let room = self.rooms.room(self.room)?;
        let Some(present) = room.current("m.room.power_levels", "")? else { return Err(CommandError::NotJoined) };
        let mut levels: Map<String, Value> = serde_json::from_str(present.event.content().get()).unwrap_or_default();
        change(&mut levels);
        self.set("m.room.power_levels", "", &Value::Object(levels)).await
    }

    async fn redact(&self) -> Result<(), CommandError> {
        let room: Arc<Room> = self.rooms.room(self.room)?;
        let newest = room.newest(i64::MIN, i64::MAX, LOOKED_AT)?;
        let message = newest.iter().find(|placed| placed.event.kind() == "m.room.message");
        let Some(message) = message else { return Err(CommandError::NoSuchEvent) };
        self.rooms.redact(self.sender(), self.room, message.event.event_id(), None, None).await.map(|_| ())
    }
}
