//! The reader of the log that tells connected accounts what is new. It decides nothing and keeps nothing: a change
//! that it tells of is in the store already.

use std::{sync::Arc, sync::Weak, time::Duration, time::Instant};

use koine_store::{LogEntry, Position};
use ruma_common::{OwnedUserId, UserId};

use crate::{
    error::ReadError,
    hub::Subject,
    log::{Kind, room_of},
    registry::Rooms,
};

/// Most entries read from the log at once.
const BATCH: usize = 512;
/// Kinds of entries of other cores that concern everybody who shares a room with the account.
const CONTACTS_TOO: std::ops::RangeInclusive<u8> = 48..=63;
/// How often unused inboxes are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Starts the task; it ends when the last owner of `rooms` lets go.
pub(crate) fn start(rooms: &Arc<Rooms>) {
    let weak = Arc::downgrade(rooms);
    let cursor = rooms.core.hub.position();
    let mut grown = rooms.core.shard.watch();
    tokio::spawn(async move {
        let mut cursor = cursor;
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                changed = grown.changed() => if changed.is_err() { return },
                _ = sweep.tick() => {
                    let Some(rooms) = weak.upgrade() else { return };
                    rooms.core.hub.sweep(Instant::now());
                }
            }
            if follow(&weak, &mut cursor).is_none() {
                return;
            }
        }
    });
}

/// Reads the log from `cursor` to its end; `None` when the rooms are gone.
fn follow(rooms: &Weak<Rooms>, cursor: &mut Position) -> Option<()> {
    loop {
        let rooms = rooms.upgrade()?;
        let entries = match rooms.core.shard.log_after(*cursor, BATCH) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(reason = %error, "the log cannot be read: connected clients are not told what is new");
                return Some(());
            }
        };
        let Some((last, _)) = entries.last() else {
            // Positions without an entry of ours may have passed.
            rooms.core.hub.advance(*cursor);
            return Some(());
        };
        let last = *last;
        for (position, entry) in &entries {
            if let Err(error) = deliver(&rooms, *position, entry) {
                tracing::error!(position = position.0, reason = %error, "a change could not be told to connected clients");
            }
        }
        *cursor = last;
        rooms.core.hub.advance(last);
    }
}

fn deliver(rooms: &Rooms, position: Position, entry: &LogEntry) -> Result<(), ReadError> {
    let hub = &rooms.core.hub;
    let Some(kind) = Kind::of(entry.kind) else {
        // Whatever other cores write is about an account, which is its subject.
        let Some(user) = user(&entry.subject) else { return Ok(()) };
        if !CONTACTS_TOO.contains(&entry.kind) {
            hub.deliver([&*user].into_iter(), Subject::Account, position);
            return Ok(());
        }
        hub.deliver([&*user].into_iter(), Subject::Contacts, position);
        return rooms.for_contacts(&user, |contacts| hub.deliver(contacts, Subject::Contacts, position));
    };
    let Some(no) = room_of(&entry.subject) else { return Ok(()) };
    let about = user(&entry.body);
    let room = rooms.room_by_no(no)?;
    let subject = Subject::Room(no);
    match kind {
        Kind::Event | Kind::Receipt | Kind::Whole => {
            if kind != Kind::Receipt {
                hub.note_stirred(no);
            }
            // Who is not in the room any more, or not yet, learns of it too.
            hub.deliver(about.as_deref().into_iter(), subject, position);
            room.deliver(hub, subject, position);
        }
        Kind::Forget | Kind::PrivateReceipt | Kind::Member => {
            hub.deliver(about.as_deref().into_iter(), subject, position);
        }
    }
    Ok(())
}

fn user(bytes: &[u8]) -> Option<OwnedUserId> {
    let text = std::str::from_utf8(bytes).ok()?;
    <&UserId>::try_from(text).ok().map(ToOwned::to_owned)
}
