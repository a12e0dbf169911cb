//! Deleting: old history of a room, or the room as a whole, so that the disk is free again.
//!
//! History goes event by event. What the room still stands on stays: state, which rules refer to for ever, and the
//! newest events, which the next ones refer to. To readers what is gone was never here; other servers may have it still.
//!
//! A room goes in three steps, each of which may be repeated after a crash: its events and what hangs on them, its
//! state, and last the rows by which it is found.

use std::{collections::HashSet, sync::Arc};

use koine_graph::{Event, NodeId};
use koine_store::{AsKey, Direction, Key, KeyRange, PrefixOf, StoreError, Table, Txn, Value};
use ruma_common::{EventId, RoomId};

use crate::{
    error::CommandError,
    registry::Rooms,
    relations,
    room::Room,
    search,
    tables::{
        ALIAS, ASIDE, EVENT, HEAD, MEMBER, MEMBERSHIP, NETWORK_LISTED, Order, PARENT, PUBLIC, RECEIPT, RECEIPT_AT,
        REDACTION, RELATION, RETENTION, ROOM, ROOM_ALIAS, ROOM_ID, ROOM_NEXT, RoomNo, SERVER, SHOWN, STATE_NODE,
        TIMELINE, UNREAD,
    },
};

/// Rows that one command deletes.
const AT_ONCE: usize = 500;

/// What [`Rooms::purge_history`] spares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Events up to this order go.
    pub until: Order,
    /// Only those sent before this, in milliseconds since the epoch.
    pub sent_before: Option<u64>,
    /// Those of our own people, too, which other servers may have lost.
    pub own_too: bool,
}

impl Rooms {
    /// Deletes old history; how many events went.
    pub async fn purge_history(&self, room: &RoomId, purge: Purge) -> Result<u64, CommandError> {
        let room = self.room(room)?;
        self.purge_after(&room, Order::MIN, purge).await
    }

    /// The same for events above `after`.
    pub(crate) async fn purge_after(&self, room: &Arc<Room>, after: Order, purge: Purge) -> Result<u64, CommandError> {
        let (mut cursor, mut gone) = (after, 0);
        loop {
            let page = self.core.timeline(room.no(), cursor, purge.until, AT_ONCE, Direction::Forward)?;
            let Some(last) = page.last() else { return Ok(gone) };
            cursor = last.order;
            let newest: HashSet<_> = room.head.lock().extremities.iter().map(|(id, _)| id.clone()).collect();
            let goes = |event: &Event| {
                let sent: u64 = event.origin_server_ts().get().into();
                let is_own = event.sender().server_name() == self.server_name();
                !event.is_state()
                    && (purge.own_too || !is_own)
                    && purge.sent_before.is_none_or(|before| sent < before)
                    && !newest.contains(event.event_id())
            };
            let page: Vec<_> = page.into_iter().filter(|placed| goes(&placed.event)).collect();
            if page.is_empty() {
                continue;
            }
            gone += page.len() as u64;
            let (domain, no, room) = (self.core.domain(), room.no(), room.clone());
            let commit = self.core.shard.submit(move |txn| {
                for placed in &page {
                    txn.delete(&TIMELINE, domain, &(no, placed.order));
                    txn.delete(&EVENT, domain, placed.event.event_id().as_str());
                    search::forget(txn, domain, (no, placed.order))?;
                    txn.delete(&PARENT, domain, &(no, placed.order));
                    if let Some((parent, _)) = relations::of(&placed.event) {
                        txn.delete(&RELATION, domain, &(no, parent.to_string(), placed.order));
                    }
                }
                txn.on_durable(move |_| page.iter().for_each(|placed| room.drop_recent(placed)));
                Ok(())
            });
            commit.await?;
        }
    }

    /// Deletes a room, with everything that is kept about it.
    ///
    /// # Errors
    /// `Forbidden` while somebody of ours is in the room.
    pub async fn delete_room(&self, room: &RoomId) -> Result<(), CommandError> {
        let room = self.room(room)?;
        if !room.local_joined().is_empty() {
            return Err(CommandError::Forbidden("somebody of this server is in the room".into()));
        }
        let no = room.no();
        let mut roots: HashSet<NodeId> = [room.published().state.root()].into();
        self.delete_timeline(&room, &mut roots).await?;
        self.delete_outliers(&room).await?;
        self.delete_nodes(roots).await?;
        self.delete_rows(&RELATION, &(no,)).await?;
        self.delete_rows(&PARENT, &(no,)).await?;
        self.delete_rows(&RECEIPT, &(no,)).await?;
        self.delete_rows(&RECEIPT_AT, &(no,)).await?;
        self.delete_rows(&UNREAD, &(no,)).await?;
        self.delete_rows(&SERVER, &(no,)).await?;
        self.delete_rows(&REDACTION, &(no,)).await?;
        self.delete_rows(&SHOWN, &(no,)).await?;
        self.delete_rows(&NETWORK_LISTED, &(no,)).await?;
        self.delete_doors(&room).await?;
        // Whoever holds it still finds it broken, and no other can be loaded.
        self.forget_loaded(&room);
        Ok(())
    }

    /// The events, and the states that they had.
    async fn delete_timeline(&self, room: &Arc<Room>, roots: &mut HashSet<NodeId>) -> Result<(), CommandError> {
        let (domain, no) = (self.core.domain(), room.no());
        loop {
            let page = self.core.timeline(no, Order::MIN, Order::MAX, AT_ONCE, Direction::Forward)?;
            if page.is_empty() {
                return Ok(());
            }
            for placed in &page {
                roots
                    .extend([placed.state_before, placed.state_after, placed.current].map(koine_graph::StateMap::root));
            }
            // Their states go with the last of the events that had them: a crash before that leaves nodes behind, which
            // nothing reads.
            let room = room.clone();
            let commit = self.core.shard.submit(move |txn| {
                for placed in &page {
                    txn.delete(&TIMELINE, domain, &(no, placed.order));
                    txn.delete(&EVENT, domain, placed.event.event_id().as_str());
                    search::forget(txn, domain, (no, placed.order))?;
                }
                txn.on_durable(move |_| page.iter().for_each(|placed| room.drop_recent(placed)));
                Ok(())
            });
            commit.await?;
        }
    }

    /// Events that stand in no timeline. Costs a look at those of all rooms.
    async fn delete_outliers(&self, room: &Arc<Room>) -> Result<(), CommandError> {
        let (domain, no) = (self.core.domain(), room.no());
        let mut after = String::new();
        loop {
            let mut found = Vec::new();
            {
                let view = self.core.shard.view();
                let range = KeyRange::all().after(after.as_str());
                for row in view.scan(&ASIDE, domain, range, Direction::Forward).take(AT_ONCE) {
                    let (id, record) = row?;
                    after.clone_from(&id);
                    found.push((id, record.room == no));
                }
            }
            if found.is_empty() {
                return Ok(());
            }
            let found: Vec<_> = found.into_iter().filter(|(_, is_ours)| *is_ours).map(|(id, _)| id).collect();
            for id in &found {
                if let Ok(id) = <&EventId>::try_from(id.as_str()) {
                    self.core.forget(id);
                }
            }
            if !found.is_empty() {
                let commit =
                    self.core.shard.submit(move |txn| found.iter().for_each(|id| txn.delete(&ASIDE, domain, id)));
                commit.await?;
            }
        }
    }

    /// Nodes of states: an event's id stands in each leaf, so no other room shares them.
    async fn delete_nodes(&self, roots: HashSet<NodeId>) -> Result<(), CommandError> {
        let domain = self.core.domain();
        let mut seen = HashSet::new();
        let mut open: Vec<NodeId> = roots.into_iter().collect();
        let mut doomed = Vec::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            // The empty state is no node; and after a crash, some are gone already.
            if self.core.shard.get(&STATE_NODE, domain, &id.to_bytes())?.is_none() {
                continue;
            }
            open.extend(self.core.state_node(&id)?.children());
            doomed.push(id);
        }
        for some in doomed.chunks(AT_ONCE) {
            let some = some.to_vec();
            let commit = self.core.shard.submit(move |txn| {
                some.iter().for_each(|id| txn.delete(&STATE_NODE, domain, &id.to_bytes()));
            });
            commit.await?;
        }
        Ok(())
    }

    /// All rows of a table whose keys begin like this.
    async fn delete_rows<K: Key + AsKey<K>, V: Value>(
        &self,
        table: &'static Table<K, V>,
        prefix: &(impl PrefixOf<K> + ?Sized),
    ) -> Result<(), CommandError> {
        let domain = self.core.domain();
        loop {
            let rows: Vec<K> = {
                let view = self.core.shard.view();
                let rows = view.prefix(table, domain, prefix, Direction::Forward).take(AT_ONCE);
                rows.map(|row| row.map(|(key, _)| key)).collect::<Result<_, StoreError>>()?
            };
            if rows.is_empty() {
                return Ok(());
            }
            let commit = self.core.shard.submit(move |txn| rows.iter().for_each(|key| txn.delete(table, domain, key)));
            commit.await?;
        }
    }

    /// The rows by which a room is found: last, and in one command.
    async fn delete_doors(&self, room: &Arc<Room>) -> Result<(), CommandError> {
        let (domain, no, id) = (self.core.domain(), room.no(), room.id().to_string());
        // Of these there is one for each member; what knows of them afterwards is the room alone, which is going.
        for users in self.local_members(no)?.chunks(AT_ONCE) {
            let users = users.to_vec();
            let commit = self.core.shard.submit(move |txn| {
                users.iter().for_each(|user| txn.delete(&MEMBERSHIP, domain, &(user.as_str(), no)));
            });
            commit.await?;
        }
        self.delete_rows(&MEMBER, &(no,)).await?;
        let next = self.next_no_so_far();
        let commit = self.core.shard.submit(move |txn: &mut Txn| -> Result<(), StoreError> {
            for ((_, alias), ()) in txn.scan(&ROOM_ALIAS, domain, KeyRange::prefix(&(no,)))? {
                txn.delete(&ROOM_ALIAS, domain, &(no, alias.clone()));
                txn.delete(&ALIAS, domain, alias.as_str());
            }
            txn.delete(&PUBLIC, domain, &no);
            txn.delete(&RETENTION, domain, &no);
            txn.delete(&HEAD, domain, &no);
            txn.delete(&ROOM_ID, domain, &no);
            txn.delete(&ROOM, domain, id.as_str());
            let known: RoomNo = txn.get(&ROOM_NEXT, domain, &0)?.unwrap_or(0);
            txn.put(&ROOM_NEXT, domain, &0, &known.max(next));
            Ok(())
        });
        commit.await?;
        Ok(())
    }

    fn local_members(&self, no: RoomNo) -> Result<Vec<String>, StoreError> {
        let view = self.core.shard.view();
        let rows = view.prefix(&MEMBER, self.core.domain(), &(no, false), Direction::Forward);
        rows.map(|row| row.map(|((_, _, user), _)| user)).collect()
    }
}
