//! The threads of a room, those spoken in last first. [CS-API §get_matrixclientv1roomsroomidthreads]
//!
//! There is no table of threads: the events that others refer to are looked through, newest first, and those that are
//! roots of threads put in order. That costs a read for each such event, and is bounded.

use std::sync::Arc;

use koine_store::Direction;

use crate::{
    error::ReadError,
    relations,
    room::{Placed, Room},
    tables::{Order, PARENT, RELATION, RelationRecord},
    visibility::Viewer,
};

/// Most events with children that one question looks at, newest first: threads of older roots are not listed.
pub const THREAD_PARENTS_LOOK_MAX: usize = 5_000;
/// Most children of one event looked at to learn whether it is the root of a thread.
const CHILDREN_LOOK_MAX: usize = 5_000;

/// Which threads to list.
#[derive(Clone, Copy, Debug)]
pub struct ThreadsQuery {
    /// Only threads whose newest event stands at or before this place.
    pub from: Option<Order>,
    /// Only threads that the viewer began or spoke in.
    pub participated: bool,
    /// Threads wanted.
    pub limit: usize,
}

/// Some threads of a room.
#[derive(Debug, Default)]
pub struct Threads {
    /// The roots, in the order of the newest event of each thread, newest first.
    pub roots: Vec<Arc<Placed>>,
    /// Where to go on; `None` when there are no more.
    pub next: Option<Order>,
}

/// What the children of an event say about the thread that it may be the root of.
struct Replies {
    newest: Order,
    by_viewer: bool,
}

impl Room {
    /// The threads that the viewer may see; `ignored` says whose replies do not count.
    ///
    /// # Errors
    /// `NotJoined` for who may not read the room.
    pub fn threads(
        &self,
        viewer: &mut Viewer<'_>,
        query: ThreadsQuery,
        ignored: impl Fn(&str) -> bool,
    ) -> Result<Threads, ReadError> {
        let newest = viewer.newest()?;
        let mut found: Vec<(Order, Arc<Placed>)> = Vec::new();
        let view = self.core.shard.view();
        let range = (self.no(), Order::MIN)..=(self.no(), newest);
        for row in view.scan(&PARENT, self.core.domain(), range, Direction::Backward).take(THREAD_PARENTS_LOOK_MAX) {
            let ((_, order), ()) = row?;
            let Some(root) = self.event_at(order)?.filter(|root| root.order == order) else { continue };
            // A child of another event is no root of a thread, nor is state.
            if root.event.is_state() || relations::of(&root.event).is_some() {
                continue;
            }
            let Some(replies) = self.replies(viewer, &root, newest, &ignored)? else { continue };
            let is_late = query.from.is_some_and(|from| replies.newest > from);
            // [CS-API §server-side-aggregation-of-mthread-relationships] Who began it has participated as well.
            let participated = replies.by_viewer || root.event.sender() == viewer.user();
            if is_late || (query.participated && !participated) || !viewer.may_see(&root)? {
                continue;
            }
            found.push((replies.newest, root));
        }
        found.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
        let next = found.get(query.limit).map(|(next, _)| *next);
        found.truncate(query.limit);
        Ok(Threads { roots: found.into_iter().map(|(_, root)| root).collect(), next })
    }

    fn replies(
        &self,
        viewer: &Viewer<'_>,
        root: &Placed,
        newest: Order,
        ignored: impl Fn(&str) -> bool,
    ) -> Result<Option<Replies>, ReadError> {
        let view = self.core.shard.view();
        let parent = root.event.event_id().to_string();
        let range = (self.no(), parent.clone(), Order::MIN)..=(self.no(), parent, newest);
        let mut found: Option<Replies> = None;
        for row in view.scan(&RELATION, self.core.domain(), range, Direction::Backward).take(CHILDREN_LOOK_MAX) {
            let ((_, _, order), record): (_, RelationRecord) = row?;
            if record.rel_type != "m.thread" || ignored(&record.sender) {
                continue;
            }
            let replies = found.get_or_insert(Replies { newest: order, by_viewer: false });
            if record.sender == viewer.user().as_str() {
                replies.by_viewer = true;
                break;
            }
        }
        Ok(found)
    }
}
