//! Events that refer to others: replies in threads, edits, reactions, references.
//! [CS-API §forming-relationships-between-events]
//!
//! [`of`] says what an event refers to; the writer keeps that in a table by parent, so that children are found
//! without looking at the timeline. A redacted event refers to nothing any more, and its row goes with its content.

use std::{collections::HashSet, sync::Arc};

use koine_graph::Event;
use koine_store::Direction;
use ruma_common::{EventId, OwnedEventId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error::{CommandError, ReadError},
    room::{Placed, Room},
    tables::{Order, RELATION, RelationRecord},
    visibility::Viewer,
};

/// Most children of one event that a bundle is made of; of a longer thread the count is approximate, as it may be.
pub const BUNDLE_LOOK_MAX: usize = 5_000;
/// Most children from before the reader came that a bundle looks at, each by itself; of more nothing is told.
const OLD_LOOK_MAX: usize = 1_000;
/// Newest edits of an event of which the latest is chosen.
const EDITS_LOOK_MAX: usize = 16;
/// Levels that a recursive question follows. [CS-API §get_matrixclientv1roomsroomidrelationseventid] at least 3
pub const RECURSION_DEPTH_MAX: u8 = 3;
/// Most children that a recursive question collects.
const RECURSION_LOOK_MAX: usize = 5_000;
/// Hops from an event to the thread that it is in. [CS-API §threaded-read-receipts]
const THREAD_HOPS_MAX: usize = 3;
/// Longest part of `rel_type`, event type or key that is kept.
const WORD_BYTES_MAX: usize = 255;

/// What an event refers to, if it does.
pub fn of(event: &Event) -> Option<(OwnedEventId, RelationRecord)> {
    let relation = parse(event.content())?;
    let record = RelationRecord {
        rel_type: relation.rel_type,
        kind: event.kind().to_owned(),
        sender: event.sender().to_string(),
        event_id: event.event_id().to_string(),
        key: relation.key,
    };
    Some((relation.event_id, record))
}

struct Relation {
    rel_type: String,
    event_id: OwnedEventId,
    key: Option<String>,
}

fn parse(content: &RawValue) -> Option<Relation> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(rename = "m.relates_to", borrow)]
        relates_to: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct RelatesTo {
        rel_type: String,
        event_id: OwnedEventId,
        key: Option<String>,
    }
    // Nearly all content has none: looking for the bytes is much cheaper than parsing.
    if !content.get().contains("m.relates_to") {
        return None;
    }
    let content: Content<'_> = serde_json::from_str(content.get()).ok()?;
    let RelatesTo { rel_type, event_id, key } = serde_json::from_str(content.relates_to.get()).ok()?;
    let fits = rel_type.len() <= WORD_BYTES_MAX;
    let key = key.filter(|key| key.len() <= WORD_BYTES_MAX);
    fits.then_some(Relation { rel_type, event_id, key })
}

/// Which children of an event to read.
#[derive(Clone, Copy, Debug)]
pub struct RelationQuery<'a> {
    /// The event referred to.
    pub parent: &'a EventId,
    /// Only relations of this kind.
    pub rel_type: Option<&'a str>,
    /// Only events of this type.
    pub kind: Option<&'a str>,
    /// Where to begin.
    pub from: Option<Order>,
    /// Where to stop.
    pub to: Option<Order>,
    /// Backward is from new to old.
    pub direction: Direction,
    /// Events wanted.
    pub limit: usize,
    /// Also children of children.
    pub recurse: bool,
}

/// Children of an event.
#[derive(Debug, Default)]
pub struct Relations {
    /// In the order of the direction asked for.
    pub events: Vec<Arc<Placed>>,
    /// Where to go on; `None` when there are no more.
    pub next: Option<Order>,
}

/// What is told about the children of an event together with it. [CS-API §aggregations-of-child-events]
#[derive(Debug, Default)]
pub struct Bundle {
    /// The latest valid edit.
    pub replace: Option<Arc<Placed>>,
    /// The thread that the event is the root of.
    pub thread: Option<Thread>,
    /// Events that mention it, oldest first.
    pub references: Vec<OwnedEventId>,
}

/// A thread in short. [CS-API §server-side-aggregation-of-mthread-relationships]
#[derive(Debug)]
pub struct Thread {
    /// Its newest event.
    pub latest: Arc<Placed>,
    /// Events in it.
    pub count: u64,
    /// The reader said something in it.
    pub participated: bool,
}

impl Bundle {
    /// There is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.replace.is_none() && self.thread.is_none() && self.references.is_empty()
    }
}

type Row = (Order, RelationRecord);

impl Room {
    fn children(
        &self,
        parent: &EventId,
        after: Order,
        up_to: Order,
        direction: Direction,
        look_max: usize,
    ) -> Result<Vec<Row>, ReadError> {
        if after >= up_to {
            return Ok(Vec::new());
        }
        let view = self.core.shard.view();
        let first = (self.no(), parent.to_string(), after.saturating_add(1));
        let last = (self.no(), parent.to_string(), up_to);
        let rows = view.scan(&RELATION, self.core.domain(), first..=last, direction).take(look_max);
        rows.map(|row| {
            let ((_, _, order), record) = row?;
            Ok((order, record))
        })
        .collect()
    }

    /// Children of an event that the viewer may see.
    pub fn relations(&self, viewer: &mut Viewer<'_>, query: &RelationQuery<'_>) -> Result<Relations, ReadError> {
        let newest = viewer.newest()?;
        let (after, up_to) = match query.direction {
            Direction::Backward => (query.to.unwrap_or(Order::MIN), query.from.unwrap_or(newest).min(newest)),
            Direction::Forward => (query.from.unwrap_or(Order::MIN), query.to.unwrap_or(newest).min(newest)),
        };
        let rows = match query.recurse {
            false => self.children(query.parent, after, up_to, query.direction, RECURSION_LOOK_MAX)?,
            true => self.descendants(query.parent, after, up_to, query.direction)?,
        };
        let wanted = rows.into_iter().filter(|(_, record)| {
            query.rel_type.is_none_or(|rel_type| rel_type == record.rel_type)
                && query.kind.is_none_or(|kind| kind == record.kind)
        });
        let mut found = Relations::default();
        for (order, record) in wanted {
            if found.events.len() == query.limit {
                found.next = found.events.last().map(|placed: &Arc<Placed>| match query.direction {
                    Direction::Backward => placed.order - 1,
                    Direction::Forward => placed.order,
                });
                break;
            }
            if let Some(placed) = self.child(order, &record)?
                && viewer.may_see(&placed)?
            {
                found.events.push(placed);
            }
        }
        Ok(found)
    }

    /// Somebody's reactions to an event, oldest first: what each says, and the event that it is. At most `most` children of
    /// the event are looked at. Whether the asker may see them is theirs to know.
    pub fn reactions(
        &self,
        who: &UserId,
        target: &EventId,
        most: usize,
    ) -> Result<Vec<(String, OwnedEventId)>, ReadError> {
        let mut found = Vec::new();
        for (order, record) in self.children(target, Order::MIN, Order::MAX, Direction::Forward, most)? {
            let RelationRecord { rel_type, kind, sender, key, .. } = &record;
            if rel_type != "m.annotation" || kind != "m.reaction" || sender != who.as_str() {
                continue;
            }
            if let (Some(key), Some(placed)) = (key, self.child(order, &record)?)
                && placed.redacted_by.is_none()
            {
                found.push((key.clone(), placed.event.event_id().to_owned()));
            }
        }
        Ok(found)
    }

    /// Children, their children, and so on, in the order of the direction.
    fn descendants(
        &self,
        parent: &EventId,
        after: Order,
        up_to: Order,
        direction: Direction,
    ) -> Result<Vec<Row>, ReadError> {
        let mut seen: HashSet<OwnedEventId> = HashSet::from([parent.to_owned()]);
        let mut level = vec![parent.to_owned()];
        let mut all: Vec<Row> = Vec::new();
        for _ in 0..RECURSION_DEPTH_MAX {
            let mut next = Vec::new();
            for parent in &level {
                let left = RECURSION_LOOK_MAX.saturating_sub(seen.len());
                // A child outside of the span may have children inside, so all are followed.
                for (order, record) in self.children(parent, Order::MIN, Order::MAX, direction, left)? {
                    let Ok(id) = OwnedEventId::try_from(record.event_id.as_str()) else { continue };
                    if seen.insert(id.clone()) {
                        next.push(id);
                        all.push((order, record));
                    }
                }
            }
            level = next;
        }
        all.retain(|(order, _)| *order > after && *order <= up_to);
        all.sort_by_key(|(order, _)| *order);
        if matches!(direction, Direction::Backward) {
            all.reverse();
        }
        Ok(all)
    }

    fn child(&self, order: Order, record: &RelationRecord) -> Result<Option<Arc<Placed>>, ReadError> {
        let id = <&EventId>::try_from(record.event_id.as_str())
            .map_err(|_| ReadError::Damaged(format!("room {}: the relation at {order} names no event", self.no())))?;
        self.event(id)
    }

    /// What to tell about the children of `placed` as `viewer` may see them; `ignored` says whose are left out.
    pub fn bundle(
        &self,
        viewer: &mut Viewer<'_>,
        placed: &Placed,
        ignored: impl Fn(&str) -> bool,
    ) -> Result<Bundle, ReadError> {
        let mut bundle = Bundle::default();
        let event = &placed.event;
        // [CS-API §aggregations-of-child-events] State events do not receive bundled aggregations.
        if event.state_key().is_some() || !viewer.is_parent(placed.order)? {
            return Ok(bundle);
        }
        let up_to = if viewer.is_joined() { Order::MAX } else { viewer.newest().unwrap_or(placed.order) };
        let mut rows = self.children(event.event_id(), Order::MIN, up_to, Direction::Backward, BUNDLE_LOOK_MAX)?;
        rows.retain(|(_, record)| !ignored(&record.sender));
        let rows = self.seen_rows(viewer, rows)?;
        if rows.is_empty() {
            return Ok(bundle);
        }
        bundle.replace = self.latest_edit(placed, &rows)?;
        bundle.thread = self.thread_in_short(viewer, placed, &rows)?;
        for (_, record) in rows.iter().rev().filter(|(_, record)| record.rel_type == "m.reference") {
            bundle.references.extend(OwnedEventId::try_from(record.event_id.as_str()));
        }
        Ok(bundle)
    }

    /// Those children that the viewer may see: what came since they are in the room, and of what was before, each as its state
    /// has it.
    fn seen_rows(&self, viewer: &mut Viewer<'_>, rows: Vec<Row>) -> Result<Vec<Row>, ReadError> {
        let here_since = viewer.record().filter(|_| viewer.is_joined()).and_then(|record| record.joined_at);
        let mut old = 0;
        let mut seen = Vec::with_capacity(rows.len());
        for (order, record) in rows {
            let is_seen = here_since.is_some_and(|since| order >= since) || {
                old += 1;
                let child = if old > OLD_LOOK_MAX { None } else { self.child(order, &record)? };
                child.map(|child| viewer.may_see(&child)).transpose()?.unwrap_or(false)
            };
            if is_seen {
                seen.push((order, record));
            }
        }
        Ok(seen)
    }

    /// [CS-API §validity-of-replacement-events]
    fn latest_edit(&self, placed: &Placed, rows: &[Row]) -> Result<Option<Arc<Placed>>, ReadError> {
        let original = &placed.event;
        // [CS-API §server-side-aggregation-of-mreplace-relationships] not with a redacted original.
        if placed.redacted_by.is_some() {
            return Ok(None);
        }
        // Same sender, same type; neither may be state, nor the original an edit.
        let edits = rows.iter().filter(|(_, record)| {
            record.rel_type == "m.replace"
                && record.sender == original.sender().as_str()
                && record.kind == original.kind()
        });
        if parse(original.content()).is_some_and(|relation| relation.rel_type == "m.replace") {
            return Ok(None);
        }
        let mut latest: Option<Arc<Placed>> = None;
        for (order, record) in edits.take(EDITS_LOOK_MAX) {
            let Some(edit) = self.child(*order, record)? else { continue };
            let has_content =
                edit.event.kind() == "m.room.encrypted" || edit.event.content().get().contains("\"m.new_content\"");
            if edit.event.state_key().is_some() || !has_content {
                continue;
            }
            let age = |placed: &Placed| (placed.event.origin_server_ts(), placed.event.event_id().to_owned());
            if latest.as_ref().is_none_or(|other| age(&edit) > age(other)) {
                latest = Some(edit);
            }
        }
        Ok(latest)
    }

    fn thread_in_short(
        &self,
        viewer: &mut Viewer<'_>,
        placed: &Placed,
        rows: &[Row],
    ) -> Result<Option<Thread>, ReadError> {
        let replies = || rows.iter().filter(|(_, record)| record.rel_type == "m.thread");
        let Some((order, newest)) = replies().next() else { return Ok(None) };
        // A child of another event is no root of a thread.
        if parse(placed.event.content()).is_some() {
            return Ok(None);
        }
        let Some(latest) = self.child(*order, newest)? else { return Ok(None) };
        let user = viewer.user().as_str();
        let participated = placed.event.sender() == user || replies().any(|(_, record)| record.sender == user);
        Ok(Some(Thread { latest, count: replies().count() as u64, participated }))
    }

    /// The root of the thread that an event is in; `None` is the main timeline. [CS-API §threaded-read-receipts]
    pub fn thread_of(&self, event: &Event) -> Result<Option<OwnedEventId>, ReadError> {
        let mut relation = parse(event.content());
        for _ in 0..THREAD_HOPS_MAX {
            let Some(Relation { rel_type, event_id, .. }) = relation else { return Ok(None) };
            if rel_type == "m.thread" {
                return Ok(Some(event_id));
            }
            let Some(parent) = self.event(&event_id)? else { return Ok(None) };
            relation = parse(parent.event.content());
        }
        Ok(None)
    }

    /// Whether `event` is `root`, or leads to it within a few relations of whatever kind.
    pub(crate) fn leads_to(&self, event: &Event, root: &EventId) -> Result<bool, ReadError> {
        if event.event_id() == root {
            return Ok(true);
        }
        let mut relation = parse(event.content());
        for _ in 0..=THREAD_HOPS_MAX {
            let Some(Relation { event_id, .. }) = relation else { return Ok(false) };
            if event_id == root {
                return Ok(true);
            }
            let Some(parent) = self.event(&event_id)? else { return Ok(false) };
            relation = parse(parent.event.content());
        }
        Ok(false)
    }

    /// Refuses what a client may not relate to what, before it becomes an event.
    ///
    /// # Errors
    /// `DuplicateAnnotation`, `BadContent` for a thread on an event that is itself a child.
    pub(crate) fn check_relation(&self, sender: &UserId, kind: &str, content: &RawValue) -> Result<(), CommandError> {
        let Some(relation) = parse(content) else { return Ok(()) };
        match relation.rel_type.as_str() {
            // [CS-API §avoiding-duplicate-annotations]
            "m.annotation" => {
                let rows =
                    self.children(&relation.event_id, Order::MIN, Order::MAX, Direction::Backward, BUNDLE_LOOK_MAX)?;
                let same = |record: &RelationRecord| {
                    record.rel_type == "m.annotation"
                        && record.sender == sender.as_str()
                        && record.kind == kind
                        && record.key == relation.key
                };
                match rows.iter().any(|(_, record)| same(record)) {
                    true => Err(CommandError::DuplicateAnnotation),
                    false => Ok(()),
                }
            }
            // [CS-API §validation-of-mthread-relationships]
            "m.thread" => match self.event(&relation.event_id)? {
                Some(root) if parse(root.event.content()).is_some() => Err(CommandError::ThreadOnChild),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
