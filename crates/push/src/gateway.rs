//! Notifications as push gateways take them.
//!
//! [PG-API §post_matrixpushv1notify]

use koine_room::{Placed, Room};
use ruma_common::UserId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{pusher::Pusher, verdict::Wanted};

/// Largest content that goes into a notification; a longer one is left out, for gateways refuse what is large.
const CONTENT_BYTES_MAX: usize = 4 * 1024;

/// The body of a request about an event.
pub(crate) fn of_event(
    pusher: &Pusher,
    user: &UserId,
    (room, placed): (&Room, &Placed),
    wanted: &Wanted,
    unread: u64,
) -> Value {
    let event = &placed.event;
    let mut notification = Map::new();
    let mut add = |name: &str, value: Value| notification.insert(name.to_owned(), value);
    add("event_id", json!(event.event_id()));
    add("room_id", json!(room.id()));
    add("counts", json!({ "unread": unread }));
    add("prio", json!(if is_urgent(event.kind(), wanted) { "high" } else { "low" }));
    let mut tweaks = Map::new();
    if !pusher.is_event_id_only() {
        add("type", json!(event.kind()));
        add("sender", json!(event.sender()));
        let texts = [
            ("sender_display_name", text(room, "m.room.member", event.sender().as_str(), "displayname")),
            ("room_name", text(room, "m.room.name", "", "name")),
            ("room_alias", text(room, "m.room.canonical_alias", "", "alias")),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                add(name, json!(text));
            }
        }
        if event.kind() == "m.room.member" {
            add("user_is_target", json!(event.state_key() == Some(user.as_str())));
        }
        if event.content().get().len() <= CONTENT_BYTES_MAX
            && let Ok(content) = serde_json::from_str(event.content().get())
        {
            add("content", content);
        }
        for tweak in wanted.actions.iter().filter_map(Value::as_object) {
            if let Some(name) = tweak.get("set_tweak").and_then(Value::as_str) {
                // A highlight without a value is one. [CS-API §actions]
                tweaks.insert(name.to_owned(), tweak.get("value").cloned().unwrap_or(json!(true)));
            }
        }
    }
    add("devices", json!([device(pusher, tweaks)]));
    json!({ "notification": notification })
}

/// The body of a request that says nothing but how much is unread.
pub(crate) fn of_count(pusher: &Pusher, unread: u64) -> Value {
    json!({ "notification": { "counts": { "unread": unread }, "devices": [device(pusher, Map::new())] } })
}

fn device(pusher: &Pusher, tweaks: Map<String, Value>) -> Value {
    let mut data = pusher.data.clone();
    data.remove("url");
    let mut device = json!({
        "app_id": pusher.app_id,
        "pushkey": pusher.pushkey,
        "pushkey_ts": pusher.created_ms / 1000,
        "data": data,
    });
    if !tweaks.is_empty() {
        device["tweaks"] = Value::Object(tweaks);
    }
    device
}

/// Worth waking the device up for: it makes a sound or stands out, or only the device can tell what it is.
fn is_urgent(kind: &str, wanted: &Wanted) -> bool {
    let sounds = wanted.actions.iter().any(|action| action.get("set_tweak").is_some_and(|tweak| tweak == "sound"));
    wanted.highlight || sounds || kind == "m.room.encrypted"
}

fn text(room: &Room, kind: &str, state_key: &str, field: &str) -> Option<String> {
    let placed = room.current(kind, state_key).ok().flatten()?;
    let content: Map<String, Value> = serde_json::from_str(placed.event.content().get()).ok()?;
    content.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The push keys that a gateway says are no good any more.
pub(crate) fn rejected(answer: &[u8]) -> Vec<String> {
    #[derive(Deserialize, Default)]
    struct Answer {
        #[serde(default)]
        rejected: Vec<String>,
    }
    serde_json::from_slice::<Answer>(answer).unwrap_or_default().rejected
}
