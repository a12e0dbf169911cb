//! What counts as unread: the rules' answer to the room's question.

use koine_room::{Placed, UnreadContext, UnreadRules, Verdict, creators};
use ruma_common::UserId;
use serde_json::Value;

use crate::{event::EventView, matcher::Surroundings, rules::PushRules};

/// The level needed to address everybody, unless the room says otherwise. [CS-API §mroompower_levels]
const NOTIFICATION_LEVEL_DEFAULT: i64 = 50;

/// The level of a room's creator while there are no power levels.
const CREATOR_LEVEL: i64 = 100;

impl UnreadRules for PushRules {
    fn verdict(&self, user: &UserId, event: &Placed, room: &UnreadContext<'_>) -> Verdict {
        let matcher = match self.matcher(user) {
            Ok(matcher) => matcher,
            Err(error) => {
                tracing::warn!(user_id = %user, %error, "push rules cannot be read; an event is not counted");
                return Verdict::default();
            }
        };
        let event = &event.event;
        let view = EventView::new(
            event.event_id(),
            room.room_id(),
            event.sender(),
            event.kind(),
            event.state_key(),
            event.content(),
        );
        let decision = matcher.decide(user, &view, &Counted { room, sender: event.sender() });
        Verdict { notify: decision.notify, highlight: decision.highlight }
    }
}

/// The room, as conditions ask about it.
pub(crate) struct Counted<'a> {
    pub(crate) room: &'a UnreadContext<'a>,
    pub(crate) sender: &'a UserId,
}

impl Surroundings for Counted<'_> {
    fn member_count(&self) -> u64 {
        self.room.joined()
    }

    fn display_name(&self) -> Option<&str> {
        self.room.display_name()
    }

    fn sender_may_notify(&self, key: &str) -> bool {
        let is_creator =
            || self.room.create().is_some_and(|create| creators(&create.event).contains(&self.sender.to_owned()));
        // Since room version 12 the creators stand above every level.
        let authorization = &self.room.room().rules().authorization;
        if authorization.explicitly_privilege_room_creators && is_creator() {
            return true;
        }
        let levels =
            self.room.power_levels().and_then(|placed| serde_json::from_str(placed.event.content().get()).ok());
        match levels {
            Some(levels) => may_notify(&levels, self.sender, key),
            None => is_creator() && CREATOR_LEVEL >= NOTIFICATION_LEVEL_DEFAULT,
        }
    }
}

/// Whether the power levels let the sender notify people in this way. [CS-API §conditions-1]
fn may_notify(levels: &Value, sender: &UserId, key: &str) -> bool {
    let of_sender = level(&levels["users"][sender.as_str()]).or_else(|| level(&levels["users_default"])).unwrap_or(0);
    let needed = level(&levels["notifications"][key]).unwrap_or(NOTIFICATION_LEVEL_DEFAULT);
    of_sender >= needed
}

/// Before room version 10 a level could also be written as a string.
fn level(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn who_may_address_everybody_is_a_matter_of_power_levels() {
        for (levels, expected) in [
            (json!({}), false),
            (json!({ "users": { "@bob:example.org": 50 } }), true),
            (json!({ "users": { "@bob:example.org": 49 } }), false),
            (json!({ "users": { "@bob:example.org": "50" } }), true),
            (json!({ "users_default": 60 }), true),
            (json!({ "users_default": 60, "users": { "@bob:example.org": 10 } }), false),
            (json!({ "notifications": { "room": 0 } }), true),
            (json!({ "notifications": { "room": 20 }, "users_default": 19 }), false),
            (json!({ "notifications": { "other": 0 } }), false),
            (json!({ "users": [], "notifications": 7 }), false),
        ] {
            assert_eq!(may_notify(&levels, user_id!("@bob:example.org"), "room"), expected, "{levels}");
        }
    }
}
