//! What the screen is told without asking: rooms, the open timeline, who types, who wants to verify.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use futures_util::{Stream, StreamExt};
use matrix_sdk::{
    Client, Room, RoomState,
    deserialized_responses::RawAnySyncOrStrippedState,
    ruma::{
        OwnedEventId, OwnedUserId,
        events::{StateEventType, room::history_visibility::HistoryVisibility},
    },
};
use matrix_sdk_crypto::IdentityStatusChange;
use matrix_sdk_ui::{
    Timeline,
    timeline::{EncryptedMessage, EventTimelineItem, TimelineDetails, TimelineItem},
};
use tokio::sync::{broadcast, mpsc};

use super::{
    items,
    state::{Event, Item, RoomRow},
};
use crate::{heard, identity, replay, session::name_of, trust};

/// Events fetched when a room is opened of which little is kept here.
const FIRST_PAGE: u16 = 40;
/// Answered messages fetched for one timeline, so that the answers make sense.
const QUOTES_MAX: usize = 200;

/// The list of rooms, from what is kept here.
pub async fn rooms(client: &Client) -> Vec<RoomRow> {
    let mut parents: HashMap<String, Vec<String>> = HashMap::new();
    let all = client.rooms();
    for space in all.iter().filter(|room| room.is_space() && room.state() == RoomState::Joined) {
        for child in space.get_state_events(StateEventType::SpaceChild).await.unwrap_or_default() {
            let RawAnySyncOrStrippedState::Sync(raw) = child else { continue };
            // A child without servers to reach it by was removed. [CS-API §mspacechild]
            let via = raw.get_field::<serde_json::Value>("content").ok().flatten();
            let is_child = via.is_some_and(|content| content.get("via").is_some());
            if let (true, Ok(Some(id))) = (is_child, raw.get_field::<String>("state_key")) {
                parents.entry(id).or_default().push(space.room_id().to_string());
            }
        }
    }
    let mut rows = Vec::new();
    for room in all {
        if !matches!(room.state(), RoomState::Joined | RoomState::Invited) {
            continue;
        }
        let unread = room.unread_notification_counts();
        let invited = room.state() == RoomState::Invited;
        let inviter = match invited {
            true => room.invite_details().await.ok().map(|invite| invite.inviter_id.to_string()),
            false => None,
        };
        let id = room.room_id().to_string();
        rows.push(RoomRow {
            name: name_of(&room).await,
            topic: room.topic().unwrap_or_default(),
            unread: unread.notification_count,
            highlights: unread.highlight_count,
            encrypted: room.encryption_state().is_encrypted(),
            public: room.is_public().unwrap_or_default(),
            shows_past: matches!(
                room.history_visibility_or_default(),
                HistoryVisibility::Shared | HistoryVisibility::WorldReadable
            ),
            space: room.is_space(),
            invited,
            inviter,
            parents: parents.remove(&id).unwrap_or_default(),
            latest_ms: room.latest_event_timestamp().map_or(0, |at| u64::from(at.get())),
            members: room.joined_members_count(),
            id,
        });
    }
    rows
}

/// Whether this device is verified.
pub async fn is_verified(client: &Client) -> bool {
    let device = client.encryption().get_own_device().await;
    device.ok().flatten().is_some_and(|device| device.is_verified_with_cross_signing())
}

/// Which timeline it is.
pub struct Place {
    /// The room.
    pub room: String,
    /// Whether it is one of its threads.
    pub thread: bool,
    /// Whether the server is left alone.
    pub offline: bool,
}

/// Follows a timeline.
pub async fn timeline(
    Place { room, thread, offline }: Place,
    timeline: Arc<Timeline>,
    typing: Option<broadcast::Receiver<Vec<OwnedUserId>>>,
    events: mpsc::Sender<Event>,
) {
    let own = timeline.room().own_user_id().to_string();
    let (mut items, changes) = timeline.subscribe().await;
    let mut changes = Box::pin(changes);
    let mut typing = typing;
    let mut identities = match thread {
        true => None,
        false => timeline.room().subscribe_to_identity_status_changes().await.ok().map(Box::pin),
    };
    let mut changed = BTreeSet::new();
    let mut asked: HashSet<OwnedEventId> = HashSet::new();
    let shown = async |items: &[Arc<TimelineItem>]| Event::Timeline {
        room: room.clone(),
        thread,
        items: lines(items, &own, timeline.room()).await,
    };
    let now: Vec<_> = items.iter().cloned().collect();
    if events.send(shown(&now).await).await.is_err() {
        return;
    }
    let few = now.len() < usize::from(FIRST_PAGE);
    let first = {
        let timeline = timeline.clone();
        async move {
            // Offline there is only what is kept here, and that is shown already.
            if offline {
                return;
            }
            if few {
                let _ = timeline.paginate_backwards(FIRST_PAGE).await;
            }
            timeline.fetch_members().await;
        }
    };
    let mut first = std::pin::pin!(first);
    let mut begun = false;
    loop {
        tokio::select! {
            () = &mut first, if !begun => begun = true,
            diffs = changes.next() => {
                let Some(diffs) = diffs else { return };
                for diff in diffs {
                    diff.apply(&mut items);
                }
                let now: Vec<_> = items.iter().cloned().collect();
                if events.send(shown(&now).await).await.is_err() {
                    return;
                }
                for wanted in unanswered(&now) {
                    if !offline && asked.len() < QUOTES_MAX && asked.insert(wanted.clone()) {
                        let timeline = timeline.clone();
                        tokio::spawn(async move { timeline.fetch_details_for_event(&wanted).await });
                    }
                }
            }
            changes = next_identities(&mut identities) => {
                identity::note(&mut changed, changes);
                let users = changed.iter().map(ToString::to_string).collect();
                if events.send(Event::Changed { room: room.clone(), users }).await.is_err() {
                    return;
                }
            }
            names = next_typing(&mut typing) => {
                let event = Event::Typing { room: room.clone(), names };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The lines of a timeline, with what is known of their senders now.
async fn lines(from: &[Arc<TimelineItem>], own: &str, room: &Room) -> Vec<Item> {
    let client = &room.client();
    let mut sessions: HashMap<String, trust::Finding> = HashMap::new();
    let mut lines = Vec::with_capacity(from.len());
    for one in from {
        let mut line = items::item(one, own);
        let info = one.as_event().and_then(|event| event.encryption_info());
        if let (true, Some(info)) = (line.trust == "unverified-person", info) {
            let session = info.session_id().unwrap_or_default();
            let known = sessions.get(session).copied();
            let finding = match known {
                Some(finding) => finding,
                None => trust::now(client, info).await,
            };
            sessions.insert(session.to_owned(), finding);
            (line.trust, line.words) = finding;
        }
        if let (true, Some(event)) = (line.trust == "no-key", one.as_event().and_then(|event| event.original_json())) {
            let session = one.as_event().and_then(session_of);
            (line.trust, line.words) = match session.is_some_and(heard::is_unopened) {
                true => trust::DAMAGED_BACKUP,
                false => trust::precise((line.trust, line.words), event, room.crypto_context_info().await),
            };
        }
        if let (true, Some(event_id)) = (info.is_some(), &line.event_id)
            && replay::is_repeated(client, event_id).await
        {
            line.unreadable(replay::FINDING);
        }
        lines.push(line);
    }
    lines
}

/// The session of a message that cannot be read.
fn session_of(event: &EventTimelineItem) -> Option<&str> {
    match event.content().as_unable_to_decrypt()? {
        EncryptedMessage::MegolmV1AesSha2 { session_id, .. } => Some(session_id),
        _ => None,
    }
}

/// Answers of which what they answer is not loaded.
fn unanswered(items: &[Arc<TimelineItem>]) -> Vec<OwnedEventId> {
    let events = items.iter().filter_map(|item| item.as_event());
    let answers = events.filter(|event| {
        event.content().in_reply_to().is_some_and(|reply| matches!(reply.event, TimelineDetails::Unavailable))
    });
    answers.filter_map(|event| event.event_id().map(ToOwned::to_owned)).collect()
}

async fn next_identities(
    identities: &mut Option<impl Stream<Item = Vec<IdentityStatusChange>> + Unpin>,
) -> Vec<IdentityStatusChange> {
    match identities {
        Some(identities) => match identities.next().await {
            Some(changes) => changes,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn next_typing(typing: &mut Option<broadcast::Receiver<Vec<OwnedUserId>>>) -> Vec<String> {
    let Some(receiver) = typing else { return std::future::pending().await };
    loop {
        match receiver.recv().await {
            Ok(users) => return users.iter().map(ToString::to_string).collect(),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

/// Tells of everybody who wants to verify.
pub async fn asked(mut asks: mpsc::Receiver<(OwnedUserId, String)>, events: mpsc::Sender<Event>) {
    while let Some((who, flow)) = asks.recv().await {
        let event = Event::Asked { who: who.to_string(), flow };
        if events.send(event).await.is_err() {
            return;
        }
    }
}
