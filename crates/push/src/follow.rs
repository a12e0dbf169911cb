//! The reader of the log that finds out whom to tell of what.
//!
//! It keeps its place durably, and beside it who has not been told everything: after a restart those parts of the log are
//! read once more for them. So a notification may come twice after a crash, but none is lost.

use std::{collections::HashMap, time::Duration};

use koine_account::Kind as AccountKind;
use koine_room::{Kind, ReadError, room_of};
use koine_store::{Direction, LogEntry, Position};
use ruma_common::{OwnedUserId, UserId};

use crate::{
    line::Notice,
    pushers::{LineKey, Pushers, WeakPushers},
    tables::{BEHIND, CURSOR, PusherKey},
};

/// Most entries read from the log at once.
const BATCH: usize = 512;
/// How often our place in the log is written down: after a crash, what was told since is told again.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Entries that are read again for those who were behind when the program ended.
const REREAD_MAX: u64 = 100_000;

pub(crate) fn start(pushers: &Pushers) {
    let weak = pushers.downgrade();
    let mut grown = pushers.cores().rooms.shard().watch();
    let mut reader = match Reader::open(pushers) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::error!(reason = %error, "nobody can be told of what is new through push gateways");
            return;
        }
    };
    tokio::spawn(async move {
        let mut save = tokio::time::interval(SAVE_EVERY);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = grown.changed() => if changed.is_err() { return },
                _ = save.tick() => {
                    let Some(pushers) = weak.upgrade() else { return };
                    reader.save(&pushers).await;
                    continue;
                }
            }
            if reader.follow(&weak).await.is_none() {
                return;
            }
        }
    });
}

struct Reader {
    /// Everything up to here is in the lines.
    place: Position,
    /// What was written down last.
    saved: Position,
    behind: HashMap<PusherKey, u64>,
}

impl Reader {
    fn open(pushers: &Pushers) -> Result<Self, ReadError> {
        let cores = pushers.cores();
        let view = cores.rooms.shard().view();
        // At the very first start there is nobody to be told what happened before.
        let place = match view.cursor(CURSOR)? {
            Some(place) => place,
            None => {
                let place = view.position();
                // Whoever is killed before the first time that a place is written down would start anew.
                drop(cores.rooms.shard().submit(move |txn| txn.move_cursor(CURSOR, place)));
                place
            }
        };
        let (mut behind, mut again) = (HashMap::new(), HashMap::new());
        for row in view.scan(&BEHIND, cores.domain, .., Direction::Forward) {
            let (key, since) = row?;
            let user = UserId::parse(format!("@{}:{}", key.0, cores.accounts.server_name()));
            if let Ok(user) = user {
                again.insert((user, key.1.clone(), key.2.clone()), since);
            }
            behind.insert(key, since);
        }
        let reader = Self { place, saved: place, behind };
        reader.reread(pushers, &again, view.trimmed())?;
        Ok(reader)
    }

    fn reread(&self, pushers: &Pushers, again: &HashMap<LineKey, u64>, trimmed: Position) -> Result<(), ReadError> {
        let Some(oldest) = again.values().min() else { return Ok(()) };
        let from = oldest.saturating_sub(1).max(self.place.0.saturating_sub(REREAD_MAX)).max(trimmed.0);
        let mut place = Position(from);
        loop {
            let entries = pushers.cores().rooms.shard().log_after(place, BATCH)?;
            for (position, entry) in &entries {
                if *position > self.place {
                    return Ok(());
                }
                let is_for = |key: &LineKey| again.get(key).is_some_and(|since| position.0 >= *since);
                distribute(pushers, *position, entry, &is_for)?;
                place = *position;
            }
            if entries.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads to the end of the log; `None` when nobody is left to do it for.
    async fn follow(&mut self, weak: &WeakPushers) -> Option<()> {
        loop {
            let pushers = weak.upgrade()?;
            let entries = match pushers.cores().rooms.shard().log_after(self.place, BATCH) {
                Ok(entries) if entries.is_empty() => return Some(()),
                Ok(entries) => entries,
                Err(error) => {
                    tracing::error!(reason = %error, "the log cannot be read: push gateways are not told what is new");
                    return Some(());
                }
            };
            for (position, entry) in &entries {
                if let Err(error) = distribute(&pushers, *position, entry, &|_| true) {
                    tracing::error!(position = position.0, reason = %error, "nobody is told of an event that cannot be read");
                }
                if entry.kind == AccountKind::Device as u8
                    && let Some(user) =
                        koine_account::user_of(&entry.subject).filter(|user| pushers.book().has_any(user))
                    && let Ok(device) = std::str::from_utf8(&entry.body)
                {
                    pushers.forget_device(&user, device.into()).await;
                }
                self.place = *position;
            }
        }
    }

    /// Writes down how far we are, and who is not.
    async fn save(&mut self, pushers: &Pushers) {
        let mut now: HashMap<PusherKey, u64> = HashMap::new();
        for ((user, app_id, pushkey), line) in pushers.lines() {
            if let Some(since) = line.behind_since() {
                now.insert((user.localpart().to_owned(), app_id, pushkey), since);
            }
        }
        if self.place == self.saved && now == self.behind {
            return;
        }
        let gone: Vec<PusherKey> = self.behind.keys().filter(|key| !now.contains_key(*key)).cloned().collect();
        let changed = now.iter().filter(|(key, since)| self.behind.get(*key) != Some(since));
        let changed: Vec<(PusherKey, u64)> = changed.map(|(key, since)| (key.clone(), *since)).collect();
        let (domain, place) = (pushers.cores().domain, self.place);
        let saved = pushers.cores().rooms.shard().submit(move |txn| {
            for key in gone {
                txn.delete(&BEHIND, domain, &key);
            }
            for (key, since) in changed {
                txn.put(&BEHIND, domain, &key, &since);
            }
            txn.move_cursor(CURSOR, place);
        });
        match saved.await {
            Ok(_) => (self.saved, self.behind) = (place, now),
            Err(error) => tracing::warn!(reason = %error, "the place of the push reader was not written down"),
        }
    }
}

/// Puts what an entry tells of into the lines that it concerns.
fn distribute(
    pushers: &Pushers,
    position: Position,
    entry: &LogEntry,
    is_for: &dyn Fn(&LineKey) -> bool,
) -> Result<(), ReadError> {
    let cores = pushers.cores();
    if entry.domain != cores.domain {
        return Ok(());
    }
    let (Some(kind), Some(no)) = (Kind::of(entry.kind), room_of(&entry.subject)) else { return Ok(()) };
    let notice = |room| Notice { position: position.0, room, since_ms: pushers.now_ms() };
    match kind {
        Kind::Event => {
            let Some((room, placed)) = pushers.event(no, position.0)? else { return Ok(()) };
            let joined = room.published().joined;
            let mut owners = pushers.book().owners(joined, || room.local_joined(), |user| room.is_joined(user));
            // Who is invited is told, though not in the room. [CS-API §default-override-rules]
            if placed.event.kind() == "m.room.member"
                && let Some(Ok(target)) = placed.event.state_key().map(OwnedUserId::try_from)
                && pushers.book().has_any(&target)
                && !owners.contains(&target)
            {
                owners.push(target);
            }
            for user in owners {
                if pushers.wanted(&user, &room, &placed)?.is_some() {
                    tell_all(pushers, &user, notice(Some(no)), is_for)?;
                }
            }
        }
        Kind::Receipt | Kind::PrivateReceipt => {
            let reader = std::str::from_utf8(&entry.body).ok().and_then(|reader| <&UserId>::try_from(reader).ok());
            let Some(reader) = reader.filter(|reader| pushers.book().has_any(reader)) else { return Ok(()) };
            if pushers.badges().has_changed(cores, reader, no)? {
                pushers.badges().total(cores, reader, Some(no))?;
                tell_all(pushers, reader, notice(None), is_for)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn tell_all(
    pushers: &Pushers,
    user: &UserId,
    notice: Notice,
    is_for: &dyn Fn(&LineKey) -> bool,
) -> Result<(), ReadError> {
    let all =
        pushers.book().set_before(user, notice.position).map_err(|error| ReadError::Damaged(error.to_string()))?;
    for pusher in all {
        if is_for(&(user.to_owned(), pusher.app_id.clone(), pusher.pushkey.clone())) {
            pushers.tell(user, &pusher, notice);
        }
    }
    Ok(())
}
