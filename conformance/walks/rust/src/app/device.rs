//! One logged-in client with its services, and how a step waits for what it is to see.

use std::future::Future;
use std::time::{Duration, Instant};

use koine_walk::{PASSWORD, Step, Wrong, expect, registration};
use matrix_sdk::encryption::{BackupDownloadStrategy, EncryptionSettings};
use matrix_sdk::ruma::api::client::keys::get_keys;
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use matrix_sdk::ruma::{OwnedEventId, RoomId, UserId, assign};
use matrix_sdk::{Client, Room, ThreadingSupport};
use matrix_sdk_ui::sync_service::{State, SyncService};
use matrix_sdk_ui::timeline::{EventTimelineItem, RoomExt, Timeline};

/// How long something that another device did may take until it is seen.
pub const SEEN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see.
pub async fn see<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> Step<T> {
    let deadline = Instant::now() + SEEN_WITHIN;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(Wrong(format!("expected {what} within {SEEN_WITHIN:?}, seen nothing of it")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A client whose services run.
pub struct Device {
    pub client: Client,
    pub sync: SyncService,
}

impl Device {
    async fn client(base: &str) -> Step<Client> {
        let settings = EncryptionSettings {
            auto_enable_cross_signing: true,
            backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
            auto_enable_backups: false,
        };
        let builder = Client::builder()
            .homeserver_url(base)
            .with_encryption_settings(settings)
            .with_threading_support(ThreadingSupport::Enabled { with_subscriptions: true });
        Ok(builder.build().await?)
    }

    /// The client finds out by itself that the server has sliding sync, or this fails as it fails in Element X.
    async fn with_services(client: Client) -> Step<Self> {
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        let versions = client.available_sliding_sync_versions().await;
        expect(
            "versions of sliding sync",
            vec!["Native".to_owned()],
            versions.iter().map(|v| format!("{v:?}")).collect(),
        )?;
        client.event_cache().subscribe()?;
        client.send_queue().set_enabled(true).await;
        let sync = SyncService::builder(client.clone()).build().await?;
        Ok(Self { client, sync })
    }

    pub async fn registered(base: &str, name: &str) -> Step<Self> {
        let client = Self::client(base).await?;
        client.matrix_auth().register(registration(name)).await?;
        Self::with_services(client).await
    }

    pub async fn logged_in(base: &str, name: &str) -> Step<Self> {
        let client = Self::client(base).await?;
        client.matrix_auth().login_username(name, PASSWORD).initial_device_display_name("second").await?;
        Self::with_services(client).await
    }

    /// Its services run, and others find its keys: who types a recovery key or a message takes longer than that.
    pub async fn start(&self) -> Step {
        self.sync.start().await;
        see("the services running", || async { matches!(self.sync.state().get(), State::Running).then_some(()) })
            .await?;
        let device = self.client.device_id().expect("devices are logged in when they are made");
        let wish =
            assign!(get_keys::v3::Request::new(), { device_keys: [(self.user().to_owned(), Vec::new())].into() });
        see("the device's keys on the server", || async {
            let found = self.client.send(wish.clone()).await.ok()?;
            found.device_keys.get(self.user())?.contains_key(device).then_some(())
        })
        .await
    }

    pub fn user(&self) -> &UserId {
        self.client.user_id().expect("devices are logged in when they are made")
    }

    pub async fn room(&self, id: &RoomId) -> Step<Room> {
        see(&format!("{id} on a device of {}", self.user()), || async { self.client.get_room(id) }).await
    }

    /// The room as it is when it is open on the screen.
    pub async fn open(&self, id: &RoomId) -> Step<Timeline> {
        let room = self.room(id).await?;
        self.look_at(id).await;
        Ok(room.timeline().await?)
    }

    /// The room is on the screen and no other. Of all others the list tells the newest event alone, and where more happened at once
    /// their timelines begin anew.
    pub async fn look_at(&self, id: &RoomId) {
        self.sync.room_list_service().subscribe_to_rooms(&[id]).await;
    }
}

/// Waits for an event that passes, as the timeline shows it.
pub async fn shown(
    timeline: &Timeline,
    what: &str,
    passes: impl Fn(&EventTimelineItem) -> bool,
) -> Step<EventTimelineItem> {
    see(what, || async {
        let items = timeline.items().await;
        items.iter().rev().filter_map(|item| item.as_event()).find(|event| passes(event)).cloned()
    })
    .await
}

pub fn body(event: &EventTimelineItem) -> Option<String> {
    event.content().as_message().map(|message| message.body().to_owned())
}

/// Waits for a message with this text; its id.
pub async fn message(timeline: &Timeline, text: &str) -> Step<OwnedEventId> {
    let found = shown(timeline, &format!("the message {text:?}"), |event| {
        !event.is_local_echo() && body(event).as_deref() == Some(text)
    })
    .await?;
    found.event_id().map(ToOwned::to_owned).ok_or_else(|| Wrong("a message without an id".to_owned()))
}

/// Sends a text, and waits until the server has it.
pub async fn say(timeline: &Timeline, text: &str) -> Step<OwnedEventId> {
    timeline.send(RoomMessageEventContent::text_plain(text).into()).await?;
    message(timeline, text).await
}
