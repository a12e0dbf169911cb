//! The reader of the log.

use std::{collections::HashMap, sync::Arc, time::Duration};

use koine_room::{Kind, ReadError, Room, room_of};
use koine_store::{Direction, LogEntry, Position};
use ruma_common::{OwnedServerName, UserId};
use serde_json::json;

use super::{
    destination::Destination,
    tables::{BEHIND, CURSOR},
};
use crate::{Federation, federation::WeakFederation};

/// Most entries read from the log at once.
const BATCH: usize = 512;
/// How often our place in the log is written down.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Entries that are read again for a server that lagged behind when the program ended; beyond, it catches up from the
/// newest events of each room.
const REREAD_MAX: u64 = 100_000;

/// How often notes of events that everybody was told of are deleted.
const TRIM_EVERY: Duration = Duration::from_secs(600);

/// Begins to send.
pub(crate) fn start(federation: &Federation) {
    let weak = federation.downgrade();
    let mut grown = federation.shard().watch();
    let mut reader = match Reader::open(federation) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::error!(reason = %error, "nothing can be sent to other servers");
            return;
        }
    };
    tokio::spawn(async move {
        let mut save = tokio::time::interval(SAVE_EVERY);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut trim = tokio::time::interval(TRIM_EVERY);
        trim.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What was written shortly before the program ended, and nothing may be written for long.
        if !follow(&weak, &mut reader) {
            return;
        }
        loop {
            tokio::select! {
                changed = grown.changed() => if changed.is_err() { return },
                _ = save.tick() => {
                    let Some(federation) = weak.upgrade() else { return };
                    reader.save(&federation).await;
                    continue;
                }
                _ = trim.tick() => {
                    let Some(federation) = weak.upgrade() else { return };
                    if let Err(error) = federation.trim_tellers(reader.passed()).await {
                        tracing::warn!(reason = %error, "notes of what was told could not be deleted");
                    }
                    continue;
                }
            }
            if !follow(&weak, &mut reader) {
                return;
            }
        }
    });
}

fn follow(weak: &WeakFederation, reader: &mut Reader) -> bool {
    loop {
        let Some(federation) = weak.upgrade() else { return false };
        match reader.read(&federation) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(reason = %error, "the log cannot be read: other servers are not told what is new");
                return true;
            }
        }
    }
}

struct Reader {
    /// Everything up to here is in the queues.
    place: Position,
    /// What was written down last.
    saved: Position,
    /// Rows that are in the table of those behind.
    behind: HashMap<OwnedServerName, u64>,
}

impl Reader {
    fn open(federation: &Federation) -> Result<Self, ReadError> {
        let view = federation.shard().view();
        // At the very first start there is nobody to be told what happened before.
        let place = match view.cursor(CURSOR)? {
            Some(place) => place,
            None => {
                let place = view.position();
                // Whatever comes of it, what happens from now on is not lost with a crash.
                drop(federation.shard().submit(move |txn| txn.move_cursor(CURSOR, place)));
                place
            }
        };
        let mut behind = HashMap::new();
        for row in view.scan(&BEHIND, federation.domain(), .., Direction::Forward) {
            let (server, since) = row?;
            let Ok(server) = OwnedServerName::try_from(server) else { continue };
            behind.insert(server, since);
        }
        match federation.accounts().servers_to_write_to() {
            Ok(servers) => {
                for server in servers {
                    federation.outbox().destination(&server).add_messages(federation);
                }
            }
            Err(error) => {
                tracing::error!(reason = %error, "messages to devices of other servers wait for the next start");
            }
        }
        let reader = Self { place, saved: place, behind };
        for (server, since) in &reader.behind {
            let destination = federation.outbox().destination(server);
            if place.0.saturating_sub(*since) > REREAD_MAX || *since < view.trimmed().0 {
                destination.catch_up(federation, *since);
            } else {
                reread(federation, &destination, Position(*since), place)?;
            }
        }
        Ok(reader)
    }

    fn read(&mut self, federation: &Federation) -> Result<usize, ReadError> {
        let entries = federation.shard().log_after(self.place, BATCH)?;
        for (position, entry) in &entries {
            distribute(federation, *position, entry, None)?;
            self.place = *position;
        }
        Ok(entries.len())
    }

    /// Everything up to here has been told, or is not read again after a restart.
    fn passed(&self) -> u64 {
        let read_again = self.behind.values().filter(|since| self.saved.0.saturating_sub(**since) <= REREAD_MAX);
        read_again.min().copied().unwrap_or(self.saved.0)
    }

    /// Writes down how far we are, and who is not.
    async fn save(&mut self, federation: &Federation) {
        let mut now = HashMap::new();
        for destination in federation.outbox().known() {
            if let Some(since) = destination.behind_since() {
                now.insert(destination.server().to_owned(), since);
            }
        }
        if self.place == self.saved && now == self.behind {
            return;
        }
        let (domain, place) = (federation.domain(), self.place);
        let gone: Vec<String> =
            self.behind.keys().filter(|server| !now.contains_key(*server)).map(ToString::to_string).collect();
        let changed = now.iter().filter(|(server, since)| self.behind.get(*server) != Some(since));
        let changed: Vec<(String, u64)> = changed.map(|(server, since)| (server.to_string(), *since)).collect();
        let saved = federation.shard().submit(move |txn| {
            for server in gone {
                txn.delete(&BEHIND, domain, server.as_str());
            }
            for (server, since) in changed {
                txn.put(&BEHIND, domain, server.as_str(), &since);
            }
            txn.move_cursor(CURSOR, place);
        });
        match saved.await {
            Ok(_) => (self.saved, self.behind) = (place, now),
            Err(error) => tracing::warn!(reason = %error, "the place of the federation sender was not written down"),
        }
    }
}

/// Fills the queue of a server from a part of the log that was read before.
fn reread(
    federation: &Federation,
    destination: &Arc<Destination>,
    from: Position,
    until: Position,
) -> Result<(), ReadError> {
    let mut place = from;
    loop {
        let entries = federation.shard().log_after(place, BATCH)?;
        for (position, entry) in &entries {
            if *position > until {
                return Ok(());
            }
            distribute(federation, *position, entry, Some(destination))?;
            place = *position;
        }
        if entries.is_empty() {
            return Ok(());
        }
    }
}

/// Puts what an entry tells of into the queues that it concerns, or only into that of `only`.
fn distribute(
    federation: &Federation,
    position: Position,
    entry: &LogEntry,
    only: Option<&Arc<Destination>>,
) -> Result<(), ReadError> {
    let ours = entry.domain == federation.domain();
    if ours && federation.distribute_account(position, entry, only)? {
        return Ok(());
    }
    let (Some(kind), Some(no)) = (Kind::of(entry.kind).filter(|_| ours), room_of(&entry.subject)) else {
        return Ok(());
    };
    if !matches!(kind, Kind::Event | Kind::Receipt) {
        return Ok(());
    }
    let room = federation.rooms().room_by_no(no)?;
    if kind == Kind::Receipt {
        return if only.is_some() { Ok(()) } else { distribute_receipt(federation, &room, position, entry) };
    }
    let order = i64::try_from(position.0).unwrap_or(i64::MAX);
    let Some(placed) = room.event_at(order)? else { return Ok(()) };
    federation.distribute_arrival(position, (&room, &placed), only)?;
    federation.forget_departed(&placed);
    if !federation.is_told_by_us(&placed)? {
        return Ok(());
    }
    let mut servers = room.servers()?;
    // Who is removed, or refused, is told so although none of theirs is in the room any more.
    // An invitation has come to its own server before.
    if placed.event.kind() == "m.room.member"
        && placed.event.membership() != Some(koine_graph::Membership::Invite)
        && let Some(target) = placed.event.state_key().and_then(|target| <&UserId>::try_from(target).ok())
    {
        servers.push(target.server_name().to_owned());
    }
    servers.sort();
    servers.dedup();
    for server in servers {
        if server == federation.server_name() || server == placed.event.sender().server_name() {
            continue;
        }
        match only {
            Some(only) if only.server() != server => {}
            Some(only) => only.add_event(federation, position, no),
            None => federation.outbox().destination(&server).add_event(federation, position, no),
        }
    }
    Ok(())
}

/// [SS-API §receipts]
fn distribute_receipt(
    federation: &Federation,
    room: &Room,
    position: Position,
    entry: &LogEntry,
) -> Result<(), ReadError> {
    let reader = std::str::from_utf8(&entry.body).ok().and_then(|reader| <&UserId>::try_from(reader).ok());
    let Some(reader) = reader.filter(|reader| reader.server_name() == federation.server_name()) else { return Ok(()) };
    let place = i64::try_from(position.0).unwrap_or(i64::MAX);
    for receipt in room.receipts_after(reader, Some(place - 1), place)? {
        if receipt.user != reader || receipt.kind != koine_room::ReceiptType::Read {
            continue;
        }
        let mut data = json!({ "ts": receipt.ts });
        if let Some(thread) = &receipt.thread {
            data["thread_id"] = json!(thread);
        }
        let read = json!({ reader.as_str(): { "data": data, "event_ids": [receipt.event_id] } });
        let content = json!({ room.id().as_str(): { "m.read": read } });
        let thread = receipt.thread.as_deref().unwrap_or_default();
        let key = format!("m.receipt {} {reader} {thread}", room.id());
        federation.tell_passing(room, Some(&key), &json!({ "edu_type": "m.receipt", "content": content }));
    }
    Ok(())
}
