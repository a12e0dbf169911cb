//! Giving somebody power over a room in the name of somebody who has it: for the operator of the server, who is asked
//! when all who had power are gone.

use koine_graph::Level;
use ruma_common::{OwnedUserId, RoomId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};

use crate::{error::CommandError, membership::Profile, registry::Rooms, room::Room, send::Sender, tables::Membership};

const POWER_LEVELS: &str = "m.room.power_levels";
/// What a creator gives, who stands above all numbers.
const CREATORS_GIFT: i64 = 100;

impl Rooms {
    /// Gives `user` as much power as the mightiest of ours in the room has, and asks them in if they are outside.
    ///
    /// # Errors
    /// `Forbidden` where nobody of ours may give power away.
    pub async fn make_room_admin(
        &self,
        room: &RoomId,
        (user, profile): (&UserId, &Profile),
    ) -> Result<(), CommandError> {
        let room = self.room(room)?;
        let Some((giver, level)) = mightiest(&room)? else {
            return Err(CommandError::Forbidden("no user of this server has the power to give power here".into()));
        };
        let stored = room.current(POWER_LEVELS, "")?;
        let mut content: Map<String, Value> =
            stored.and_then(|event| serde_json::from_str(event.event.content().get()).ok()).unwrap_or_default();
        match content.entry("users").or_insert_with(|| json!({})) {
            Value::Object(users) => drop(users.insert(user.to_string(), json!(level))),
            other => *other = json!({ user.as_str(): level }),
        }
        let content = to_raw_value(&content).map_err(|error| CommandError::BadContent(error.to_string()))?;
        self.set_state(Sender { user: &giver, device: None }, room.id(), POWER_LEVELS, "", &content).await?;
        let is_public = room.summary()?.join_rule.as_deref() == Some("public");
        match room.local_membership(user) {
            Some(Membership::Join | Membership::Invite) => Ok(()),
            _ if is_public => Ok(()),
            _ => self.invite(&giver, room.id(), (user, profile), None, Map::new()).await,
        }
    }
}

/// Who of ours has the most power, if that suffices to give it away; and what they can give.
fn mightiest(room: &Room) -> Result<Option<(OwnedUserId, i64)>, CommandError> {
    let head = room.head.lock().clone();
    let levels = room.power_levels(&head)?;
    let mut best: Option<(OwnedUserId, i64)> = None;
    for user in room.local_joined() {
        if !levels.may_send(&user, POWER_LEVELS, true) {
            continue;
        }
        let level = match levels.user_level(&user) {
            Level::Creator => CREATORS_GIFT.max(levels.level_for_event(POWER_LEVELS, true)),
            Level::Number(level) => level,
        };
        if best.as_ref().is_none_or(|(_, known)| level > *known) {
            best = Some((user, level));
        }
    }
    Ok(best)
}
