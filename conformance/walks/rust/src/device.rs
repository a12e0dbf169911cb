//! One logged-in client, what it sees in its syncs, and what it complains about.

use std::time::{Duration, Instant};

use koine_walk::{Step, Wrong, registration};
use matrix_sdk::config::SyncSettings;
use matrix_sdk::ruma::{OwnedEventId, RoomId, UserId};
use matrix_sdk::sync::SyncResponse;
use matrix_sdk::{Client, Room};
use serde_json::Value;

/// How long something that another device did may take until a sync shows it.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// The errcode with which something is refused.
pub fn refusal<T>(outcome: Result<T, matrix_sdk::Error>) -> String {
    match outcome {
        Ok(_) => "no refusal".to_owned(),
        Err(error) => {
            error.client_api_error_kind().map_or_else(|| error.to_string(), |kind| kind.errcode().to_string())
        }
    }
}

/// A client and where its sync stands.
pub struct Device {
    pub client: Client,
}

impl Device {
    async fn new(base: &str) -> Step<Self> {
        Ok(Self { client: Client::builder().homeserver_url(base).build().await? })
    }

    pub async fn registered(base: &str, name: &str) -> Step<Self> {
        let device = Self::new(base).await?;
        device.client.matrix_auth().register(registration(name)).await?;
        device.sync().await?;
        Ok(device)
    }

    pub async fn logged_in(base: &str, name: &str, password: &str) -> Result<Self, (Wrong, String)> {
        let device = Self::new(base).await.map_err(|wrong| (wrong, String::new()))?;
        let login = device.client.matrix_auth().login_username(name, password).initial_device_display_name("phone");
        if let Err(error) = login.await {
            return Err((Wrong(error.to_string()), refusal::<()>(Err(error))));
        }
        device.sync().await.map_err(|wrong| (wrong, String::new()))?;
        Ok(device)
    }

    pub fn user(&self) -> &UserId {
        self.client.user_id().expect("devices are logged in when they are made")
    }

    pub fn room(&self, id: &RoomId) -> Step<Room> {
        self.client.get_room(id).ok_or_else(|| Wrong(format!("expected {} to know the room, seen none", self.user())))
    }

    pub async fn sync(&self) -> Step<SyncResponse> {
        Ok(self.client.sync_once(SyncSettings::new().timeout(Duration::ZERO)).await?)
    }

    /// Syncs until `find` returns something for a response, and returns that.
    pub async fn sync_until<T>(&self, what: &str, find: impl Fn(&SyncResponse) -> Option<T>) -> Step<T> {
        let deadline = Instant::now() + SEEN_WITHIN;
        while Instant::now() < deadline {
            let seen = self.client.sync_once(SyncSettings::new().timeout(Duration::from_secs(1))).await?;
            if let Some(found) = find(&seen) {
                return Ok(found);
            }
        }
        Err(Wrong(format!("expected {what} in a sync within {SEEN_WITHIN:?}, seen nothing of it")))
    }

    /// The event with this id, as it comes down the timeline.
    pub async fn event(&self, room: &RoomId, id: &OwnedEventId, what: &str) -> Step<Value> {
        self.sync_until(what, |seen| timeline(seen, room).into_iter().find(|e| e["event_id"] == id.as_str())).await
    }
}

/// A room's timeline in a response, as JSON: what the server sent, before the SDK makes something of it.
pub fn timeline(seen: &SyncResponse, room: &RoomId) -> Vec<Value> {
    let Some(update) = seen.rooms.joined.get(room) else { return Vec::new() };
    update.timeline.events.iter().filter_map(|e| e.raw().deserialize_as_unchecked().ok()).collect()
}

/// A room's ephemeral events of one type.
pub fn ephemeral(seen: &SyncResponse, room: &RoomId, kind: &str) -> Option<Value> {
    let events = &seen.rooms.joined.get(room)?.ephemeral;
    events.iter().filter_map(|e| e.deserialize_as_unchecked::<Value>().ok()).rfind(|e| e["type"] == kind)
}
