//! Who tells other servers of a membership event. Mostly its sender's server does; but who comes in, knocks or leaves
//! through another server has that one tell it. [SS-API §joining-rooms]
//!
//! What is noted is needed until the reader of the log has passed the event, and those that lag behind have been told of
//! it; then the row goes.

use koine_graph::Event;
use koine_room::{Placed, ReadError};
use koine_store::{CommitError, Direction};

use super::tables::{TELLER, TellerRecord};
use crate::Federation;

/// A row younger than this stays: its event may still be on its way, while what is missing before it is fetched.
const KEPT_MS: u64 = 3_600 * 1_000;
/// Most rows that one command deletes.
const TRIMMED_AT_ONCE: usize = 1_000;

impl Federation {
    /// Notes that an event of another server is ours to tell the others of: it came in through us.
    /// [SS-API §put_matrixfederationv2send_joinroomideventid]
    pub(crate) async fn relay(&self, event: &Event) -> Result<(), CommitError> {
        self.note_teller(event, true).await
    }

    /// Notes that an event of ours is told by the server through which it came in.
    pub(crate) async fn told_elsewhere(&self, event: &Event) -> Result<(), CommitError> {
        self.note_teller(event, false).await
    }

    async fn note_teller(&self, event: &Event, ours: bool) -> Result<(), CommitError> {
        let (domain, id, written_ms) = (self.domain(), event.event_id().to_string(), self.now_ms());
        self.shard()
            .submit(move |txn| {
                let record = TellerRecord { ours, position: txn.position().0, written_ms };
                txn.put(&TELLER, domain, id.as_str(), &record);
            })
            .await?;
        Ok(())
    }

    /// Whether we tell other servers of an event.
    pub(super) fn is_told_by_us(&self, placed: &Placed) -> Result<bool, ReadError> {
        let is_ours = placed.event.sender().server_name() == self.server_name();
        if placed.event.kind() != "m.room.member" {
            return Ok(is_ours);
        }
        // In a room that nobody of ours is in, whoever is the server that we went through.
        if placed.state_after.is_empty() {
            return Ok(false);
        }
        let noted = self.shard().get(&TELLER, self.domain(), placed.event.event_id().as_str())?;
        Ok(noted.map_or(is_ours, |noted| noted.ours))
    }

    /// Deletes what is noted of events before `place`, of which everybody has been told.
    pub(super) async fn trim_tellers(&self, place: u64) -> Result<(), CommitError> {
        let (view, domain) = (self.shard().view(), self.domain());
        let oldest = self.now_ms().saturating_sub(KEPT_MS);
        let rows = view.scan(&TELLER, domain, .., Direction::Forward).filter_map(Result::ok);
        let done = rows.filter(|(_, noted)| noted.position < place && noted.written_ms < oldest);
        let done: Vec<String> = done.map(|(id, _)| id).take(TRIMMED_AT_ONCE).collect();
        if !done.is_empty() {
            self.shard()
                .submit(move |txn| {
                    for id in done {
                        txn.delete(&TELLER, domain, id.as_str());
                    }
                })
                .await?;
        }
        Ok(())
    }
}
