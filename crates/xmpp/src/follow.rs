//! The reader of the log: what happened in rooms becomes stanzas for those who are connected.

use std::sync::{Arc, Weak, atomic::Ordering};

use koine_room::{Kind, Order, ReadError, room_of};
use koine_store::{LogEntry, Position};
use ruma_common::UserId;

use crate::core::Core;

/// Most entries read from the log at once.
const BATCH: usize = 512;

/// Starts the task. It begins at the end of the log: whoever was away asks the archive.
pub(crate) fn start(core: &Arc<Core>) {
    let weak = Arc::downgrade(core);
    let mut place = core.shard().position();
    core.im.telling.store(order(place), Ordering::Release);
    core.im.told.store(order(place), Ordering::Release);
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
                tracing::error!(reason = %error, "the log cannot be read: XMPP sessions are not told what is new");
                return Some(());
            }
        };
        if entries.is_empty() {
            return Some(());
        }
        for (position, entry) in &entries {
            core.im.telling.store(order(*position), Ordering::Release);
            if let Err(error) = tell(&core, *position, entry).await {
                tracing::error!(position = position.0, reason = %error, "a change could not be told to XMPP sessions");
            }
            *place = *position;
            core.im.told.store(order(*position), Ordering::Release);
        }
    }
}

/// A place in the log, as rooms count.
fn order(position: Position) -> Order {
    Order::try_from(position.0).unwrap_or(Order::MAX)
}

async fn tell(core: &Arc<Core>, position: Position, entry: &LogEntry) -> Result<(), ReadError> {
    if entry.domain != core.domain() {
        return Ok(());
    }
    match koine_account::Kind::of(entry.kind) {
        Some(koine_account::Kind::Account | koine_account::Kind::Device) => {}
        Some(koine_account::Kind::Profile) => {
            if let Some(user) = koine_account::user_of(&entry.subject) {
                crate::xep::avatar::changed(core, user);
            }
            return Ok(());
        }
        Some(_) => return Ok(()),
        None => return room_changed(core, position, entry).await,
    }
    if let Some(user) = koine_account::user_of(&entry.subject)
        && let Err(error) = core.end_logged_out(&user)
    {
        tracing::error!(user_id = %user, reason = %error, "whether sessions were logged out cannot be read");
    }
    Ok(())
}

async fn room_changed(core: &Arc<Core>, position: Position, entry: &LogEntry) -> Result<(), ReadError> {
    let Some(no) = room_of(&entry.subject) else { return Ok(()) };
    match Kind::of(entry.kind) {
        Some(Kind::Event) => {}
        Some(Kind::Receipt) => {
            let reader = std::str::from_utf8(&entry.body).ok().and_then(|reader| <&UserId>::try_from(reader).ok());
            let Some(reader) = reader else { return Ok(()) };
            return crate::im::read_up_to(core, no, reader, position).await;
        }
        _ => return Ok(()),
    }
    let room = core.rooms().room_by_no(no)?;
    let Some(placed) = room.event_at(order(position))? else { return Ok(()) };
    if crate::portal::happened(core, &room, &placed) {
        return Ok(());
    }
    if !crate::im::happened(core, &room, &placed).await? {
        crate::muc::invited(core, &room, &placed).await?;
        crate::xep::bookmarks::moved(core, &room, &placed).await?;
    }
    crate::muc::happened(core, &room, &placed).await
}
