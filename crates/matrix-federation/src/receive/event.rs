//! One event of another server, from its signature to its place in the room.

use std::{sync::Arc, time::Duration};

use koine_graph::Event;
use koine_room::{Decided, Membership, ReceiveError, Received, Room};
use ruma_common::{ServerName, UserId};

use crate::Federation;

/// How long one event may keep us busy with what is missing before it.
const EVENT_TIME_MAX: Duration = Duration::from_secs(120);

/// What became of an event that nothing is wrong with.
pub(super) enum Taken {
    /// It is where it belongs.
    In,
    /// What comes before it could not be had.
    Waits,
}

/// The same before it is durable.
pub(super) enum Taking {
    /// It is decided.
    Done(Taken),
    /// The room has decided; the disk is busy with it.
    Decided(Decided),
    /// Something is missing before it.
    Lacks(Event),
}

impl Federation {
    /// Checks an event and takes it into its room. The reason why not is for its sender to read.
    pub(super) async fn take_event(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
    ) -> Result<Taken, String> {
        match self.begin_taking(origin, room, event).await? {
            Taking::Done(taken) => Ok(taken),
            Taking::Decided(decided) => settled(origin, room, decided.durable().await),
            Taking::Lacks(event) => self.take_lacking(origin, room, event).await,
        }
    }

    /// The same as far as it goes without waiting for the disk or the sender: whoever has many events goes on with the next.
    pub(super) async fn begin_taking(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
    ) -> Result<Taking, String> {
        let event = self.check_event(room.rules(), event).await.map_err(|error| error.to_string())?;
        if !room.is_attended() {
            return self.take_outside(origin, room, event).await.map(|()| Taking::Done(Taken::In));
        }
        match self.rooms().decide(room.id(), event.clone()).await {
            Ok(decided) => Ok(Taking::Decided(decided)),
            Err(ReceiveError::Missing { .. }) => Ok(Taking::Lacks(event)),
            Err(error) => settled(origin, room, Err(error)).map(Taking::Done),
        }
    }

    /// An event before which something is missing, which `origin` is asked for.
    pub(super) async fn take_lacking(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
    ) -> Result<Taken, String> {
        let taking = self.fill_gap(origin, room, event);
        let Ok(received) = tokio::time::timeout(EVENT_TIME_MAX, taking).await else { return Ok(Taken::Waits) };
        settled(origin, room, received)
    }
    /// The same for one that is checked: what is missing before it is fetched from `origin`.
    pub(crate) async fn take_checked(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
    ) -> Result<Received, ReceiveError> {
        match self.rooms().receive(room.id(), event.clone()).await {
            Err(ReceiveError::Missing { .. }) => self.fill_gap(origin, room, event).await,
            verdict => verdict,
        }
    }

    /// A change of the membership of somebody of ours, in a room that nobody of ours is in: an invitation taken back, a
    /// knock refused. Nothing proves that the room allows it. So an invitation is taken back by who invited; a knock is
    /// refused by whoever says so, who must have sent it themselves. Either names what it ends among the events that allow it: what
    /// comes late, after another knock, ends nothing.
    async fn take_outside(&self, origin: &ServerName, room: &Arc<Room>, event: Event) -> Result<(), String> {
        let nobody = || Err("nobody of this server is in the room".to_owned());
        let Some(target) = event.state_key().filter(|_| event.kind() == "m.room.member") else { return nobody() };
        let Ok(target) = <&UserId>::try_from(target) else { return nobody() };
        let ends = matches!(event.membership(), Some(koine_graph::Membership::Leave | koine_graph::Membership::Ban));
        let Some(record) = room.local_record(target).filter(|_| ends) else { return nobody() };
        let ended = room.event_at(record.order).map_err(|error| error.to_string())?;
        let Some(ended) = ended.filter(|ended| event.auth_events().iter().any(|id| id == ended.event.event_id()))
        else {
            return Err("it ends no membership that is known here".to_owned());
        };
        let may_end = match record.membership {
            Membership::Invite => ended.event.sender() == event.sender(),
            Membership::Knock => event.sender().server_name() == origin,
            _ => false,
        };
        if !may_end {
            return nobody();
        }
        self.rooms().changed_outside(room.version(), event).await.map_err(|error| error.to_string())
    }
}

/// What is told of a verdict to who sent the event.
pub(super) fn settled(
    origin: &ServerName,
    room: &Room,
    received: Result<Received, ReceiveError>,
) -> Result<Taken, String> {
    match received {
        // [SS-API §soft-failure] Its sender did nothing wrong.
        Ok(Received::Known | Received::Accepted | Received::SoftFailed(_)) => Ok(Taken::In),
        Ok(Received::Rejected(refusal)) => Err(refusal.to_string()),
        // What is told of an event is what is wrong with it, not what we lack to judge it.
        Err(error @ ReceiveError::Missing { .. }) => {
            tracing::debug!(peer = %origin, room_id = %room.id(), reason = %error, "an event waits for what is before it");
            Ok(Taken::Waits)
        }
        Err(error) => Err(error.to_string()),
    }
}
