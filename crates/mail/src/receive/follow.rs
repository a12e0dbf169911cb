//! Correspondents who are asked into rooms: they come at once, for there is nobody to ask; but never into a room for encrypted
//! messages, whose words they could not read.

use std::sync::{Arc, Weak};

use koine_room::{Kind, Membership, ReadError, room_of};
use koine_store::{LogEntry, Position};
use ruma_common::{OwnedUserId, RoomId};
use serde_json::Map;

use crate::core::Core;

/// Most entries read from the log at once.
const BATCH: usize = 512;

/// Starts the task.
pub(crate) fn start(core: &Arc<Core>) {
    let weak = Arc::downgrade(core);
    let mut place = core.shard().position();
    let mut grown = core.shard().watch();
    tokio::spawn(async move {
        while grown.changed().await.is_ok() {
            if follow(&weak, &mut place).await.is_none() {
                return;
            }
        }
    });
}

async fn follow(core: &Weak<Core>, place: &mut Position) -> Option<()> {
    loop {
        let core = core.upgrade()?;
        let entries = match core.shard().log_after(*place, BATCH) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(reason = %error, "the log cannot be read: correspondents do not come where they are asked");
                return Some(());
            }
        };
        if entries.is_empty() {
            return Some(());
        }
        for (position, entry) in &entries {
            if let Err(error) = asked(&core, *position, entry) {
                tracing::error!(position = position.0, reason = %error, "an invitation of a correspondent cannot be read");
            }
            *place = *position;
        }
    }
}

fn asked(core: &Arc<Core>, position: Position, entry: &LogEntry) -> Result<(), ReadError> {
    let Some(no) = room_of(&entry.subject).filter(|_| entry.domain == core.domain()) else { return Ok(()) };
    if Kind::of(entry.kind) != Some(Kind::Event) {
        return Ok(());
    }
    let room = core.rooms().room_by_no(no)?;
    let order = i64::try_from(position.0).unwrap_or(i64::MAX);
    let Some(placed) = room.event_at(order)? else { return Ok(()) };
    let event = &placed.event;
    if event.kind() != "m.room.member" || event.membership().map(Membership::from) != Some(Membership::Invite) {
        return Ok(());
    }
    let Some(user) = event.state_key().and_then(|user| OwnedUserId::try_from(user).ok()) else { return Ok(()) };
    if core.correspondent(&user).is_none() {
        return Ok(());
    }
    let encrypted = room.current("m.room.encryption", "")?.is_some();
    // A room that is asked for with `is_direct` is where the two write from now on, whichever network asks.
    let direct = event.content_field::<bool>("is_direct") == Some(true);
    let pair = direct && !encrypted && room.published().joined + room.published().invited <= 2;
    let (core, sender, id) = (core.clone(), event.sender().to_owned(), room.id().to_owned());
    tokio::spawn(async move {
        if pair && let Err(error) = core.rooms().pair(&id, &sender, &user, false).await {
            tracing::warn!(room_id = %id, reason = %error, "a room of two is not known as one");
        }
        answer(&core, &user, &id, encrypted).await;
    });
    Ok(())
}

async fn answer(core: &Core, user: &OwnedUserId, room: &RoomId, encrypted: bool) {
    let done = match encrypted {
        true => core.rooms().leave(user, room, Some("Mail is not encrypted: nothing of this room can go there")).await,
        false => core.rooms().join(user, room, &core.profile_of(user, None), None, Map::new()).await,
    };
    if let Err(error) = done {
        tracing::debug!(room_id = %room, user_id = %user, reason = %error, "a correspondent did not come");
    }
}
