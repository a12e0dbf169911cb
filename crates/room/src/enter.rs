//! Coming into rooms that live on other servers, and being asked into them. [SS-API §joining-rooms] [SS-API
//! §inviting-to-a-room]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use koine_graph::{
    Event,
    auth::{self, Refusal},
    state::Edit,
};
use koine_store::{Commit, Direction, LogEntry, bytes::Bytes};
use ruma_common::{EventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, UserId};
use serde_json::value::RawValue;

use crate::{
    core::Core,
    error::ReadError,
    keep::{Keeping, Member, member_of},
    log::{self, Kind},
    partial::{Partial, Provisional},
    receive::{Given, ReceiveError},
    registry::Rooms,
    room::{Head, Published, Room},
    state::{NewNodes, Root},
    tables::{
        EVENT, HEAD, MEMBER, MEMBERSHIP, MemberRecord, Membership, MembershipRecord, OUTLIER, Order, PARTIAL, Place,
        REMOTE_ROOM, ROOM, ROOM_ID, RoomRecord, SERVER, SHOWN, TIMELINE, WHOLE,
    },
    write::RoomAt,
};

/// Members that one command writes.
const MEMBERS_AT_ONCE: usize = 2_000;

impl Rooms {
    /// Begins to come into a room through another server: what is returned takes the state that this server tells, and
    /// what allows it. The room is made anew when it is not known.
    pub fn entering(&self, room: &RoomId, version: &RoomVersionId) -> Result<Keeping, EnterError> {
        Ok(Keeping::new(self.known_or_new(&room.to_owned(), version)?))
    }

    /// Comes into a room by `event`, a membership event of somebody of ours, in the state that `keeping` was told.
    /// `left_out`: the members were left out of that state, and these servers are in the room; the room is partial until
    /// [`complete`](Self::complete) ends that.
    ///
    /// # Errors
    /// `Refused` when the rules do not allow the event in that state.
    pub async fn enter(
        &self,
        keeping: Keeping,
        event: Event,
        left_out: Option<Vec<OwnedServerName>>,
    ) -> Result<(), EnterError> {
        let room = keeping.room().clone();
        let kept = keeping.judge().await?;
        if kept.unjudged() > 0 {
            tracing::debug!(room_id = %room.id(), unjudged = kept.unjudged(), "events that nothing allows were left out");
        }
        let (core, state, members) = (self.core.clone(), kept.state, kept.members);
        let making = tokio::task::spawn_blocking(move || core.state_with(Root::EMPTY, state));
        let (before, nodes) = match making.await {
            Ok(made) => made.map_err(ReceiveError::from)?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        room.may_enter(&event, before)?;
        // Neither knows of the other, and each waits for the disk most of its time.
        let (stored, replaced) = tokio::join!(self.core.store_nodes(nodes), room.replace_members(&members));
        stored.map_err(ReceiveError::from)?;
        replaced?;
        let partial = left_out.map(|servers| Partial { join: event.event_id().to_owned(), servers });
        let commit = {
            let mut head = room.head.lock();
            let count = |wanted| members.iter().filter(|(_, membership, _)| *membership == wanted).count() as u64;
            let mut new = Head {
                state: before,
                extremities: Vec::new(),
                depth: event.depth(),
                joined: count(Membership::Join),
                invited: count(Membership::Invite),
                signed: None,
            };
            let staged = room.place(&mut new, event, before).map_err(ReceiveError::from)?;
            let servers = room.servers_before(&members).map_err(ReceiveError::from)?;
            *head = new.clone();
            room.partial.send_replace(partial.clone().map(Arc::new));
            self.adopt(&room);
            room.commit_after(&new, vec![staged], {
                let room = room.clone();
                move |txn| {
                    room.write_itself(txn);
                    room.write_partial(txn, partial.as_ref());
                    room.write_servers(txn, &servers);
                    room.write_locals(txn, &members);
                }
            })
        };
        commit.await.map_err(ReceiveError::from)?;
        Ok(())
    }

    /// Somebody of ours is asked into a room that nobody of ours is in. `shown` is what the inviting server tells of
    /// the room, stripped. [SS-API §put_matrixfederationv2inviteroomideventid]
    pub async fn invited(
        &self,
        version: &RoomVersionId,
        event: Event,
        shown: Vec<Box<RawValue>>,
    ) -> Result<(), EnterError> {
        self.outside(version, event, Some(shown)).await
    }

    /// A membership of somebody of ours changed in a room that nobody of ours is in: an invitation refused or taken
    /// back, a knock answered.
    pub async fn changed_outside(&self, version: &RoomVersionId, event: Event) -> Result<(), EnterError> {
        self.outside(version, event, None).await
    }

    async fn outside(
        &self,
        version: &RoomVersionId,
        event: Event,
        shown: Option<Vec<Box<RawValue>>>,
    ) -> Result<(), EnterError> {
        let room = self.known_or_new(&event.room_id().to_owned(), version)?;
        let Some((user, membership, _)) = member_of(&event) else { return Err(EnterError::NoMembership) };
        let commit = {
            let head = room.head.lock();
            self.adopt(&room);
            let (this, head) = (room.clone(), head.clone());
            let (domain, no) = (self.core.domain(), room.no());
            self.core.shard.submit(move |txn| {
                this.write_itself(txn);
                let body = Bytes::copy_from_slice(user.as_bytes());
                let entry = LogEntry { domain, subject: log::room_subject(no), kind: Kind::Event as u8, body };
                let order = Order::try_from(txn.append(entry).0).expect("positions stay far below 2^63");
                let placed = Arc::new(crate::room::Placed {
                    order,
                    event: event.clone(),
                    state_before: Root::EMPTY,
                    state_after: Root::EMPTY,
                    current: head.state,
                    redacted_by: None,
                    replaces: None,
                    txn: None,
                });
                txn.put(&TIMELINE, domain, &(no, order), &placed.record());
                txn.put(&EVENT, domain, event.event_id().as_str(), &Place { room: no, order });
                txn.put(&MEMBER, domain, &(no, false, user.to_string()), &MemberRecord { membership, order });
                let record = this.write_membership(txn, &user, membership, order, event.event_id());
                if let Some(shown) = shown {
                    let shown = shown.iter().map(|event| event.get()).collect::<Vec<_>>().join(",");
                    txn.put(&SHOWN, domain, &(no, user.to_string()), &format!("[{shown}]"));
                }
                txn.put(&HEAD, domain, &no, &head.record(order));
                let published = Published { order, ..Published::clone(&this.published()) };
                txn.on_durable(move |_| this.publish(published, vec![placed], vec![(user, record)]));
            })
        };
        commit.await.map_err(ReceiveError::from)?;
        Ok(())
    }

    /// The room, made anew under this version when it is not known. It is in nobody's sight until a commit writes it.
    fn known_or_new(&self, id: &OwnedRoomId, version: &RoomVersionId) -> Result<Arc<Room>, EnterError> {
        match self.room(id) {
            Ok(room) if room.version() == version => return Ok(room),
            Ok(room) => return Err(EnterError::OtherVersion(room.version().to_string())),
            Err(ReadError::NoSuchRoom) => {}
            Err(error) => return Err(ReceiveError::from(error).into()),
        }
        let rules = koine_graph::rules(version).ok_or_else(|| EnterError::OtherVersion(version.to_string()))?;
        let head = Head { state: Root::EMPTY, extremities: Vec::new(), depth: 0, joined: 0, invited: 0, signed: None };
        let place = (self.next_no(), id.clone());
        let room = Room::new(self.core.clone(), place, (version.clone(), rules), head, 0, HashMap::new());
        room.receipts_newest.store(0, std::sync::atomic::Ordering::Relaxed);
        Ok(Arc::new(room))
    }
}

/// Why a room could not be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The rules do not allow the event in the state that the other server told.
    #[error("the room's own state does not allow this: {0}")]
    Refused(Refusal),
    /// The room is known, or told, to have another version.
    #[error("the room has version {0}")]
    OtherVersion(String),
    /// The event is no membership event.
    #[error("the event is no membership event")]
    NoMembership,
    /// As when receiving events.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}

/// Servers by how many of their people are joined; none where nobody is any more.
type Servers = BTreeMap<String, u64>;

impl Room {
    fn may_enter(&self, event: &Event, before: Root) -> Result<(), EnterError> {
        let auth_events = self.auth_events_of(event)?;
        let given = Given { room: self, events: &auth_events };
        match auth::check(self.rules(), event, &Provisional { at: RoomAt { room: self, state: before }, given }) {
            Ok(()) => Ok(()),
            Err(error) => Err(match error.into_refusal() {
                Ok(refusal) => EnterError::Refused(refusal),
                Err(error) => ReceiveError::from(error).into(),
            }),
        }
    }

    /// Writes the members of other servers in place of whatever was known of them. Nobody of ours is in the room yet,
    /// so that nobody sees it half done.
    async fn replace_members(self: &Arc<Self>, members: &[Member]) -> Result<(), ReceiveError> {
        let (domain, no) = (self.core.domain(), self.no());
        let new: HashSet<&str> = members.iter().map(|(user, _, _)| user.as_str()).collect();
        let mut gone = Vec::new();
        for row in self.core.shard.view().prefix(&MEMBER, domain, &(no, true), Direction::Forward) {
            let ((_, _, user), _) = row?;
            if !new.contains(user.as_str()) {
                gone.push(user);
            }
        }
        let remote = members.iter().filter(|(user, _, _)| !self.is_local(user));
        let mut rows = remote.map(|(user, membership, _)| (user.to_string(), Some(*membership))).collect::<Vec<_>>();
        rows.extend(gone.into_iter().map(|user| (user, None)));
        let mut under_way: Option<Commit> = None;
        while !rows.is_empty() {
            let some = rows.split_off(rows.len().saturating_sub(MEMBERS_AT_ONCE));
            let commit = self.core.shard.submit(move |txn| {
                for (user, membership) in some {
                    match membership {
                        Some(Membership::Join) => txn.put(&REMOTE_ROOM, domain, &(user.clone(), no), &()),
                        _ => txn.delete(&REMOTE_ROOM, domain, &(user.clone(), no)),
                    }
                    match membership {
                        Some(membership) => {
                            txn.put(&MEMBER, domain, &(no, true, user), &MemberRecord { membership, order: OUTLIER });
                        }
                        None => txn.delete(&MEMBER, domain, &(no, true, user)),
                    }
                }
            });
            // One is written while the next is made.
            if let Some(before) = under_way.replace(commit) {
                before.await?;
            }
        }
        if let Some(last) = under_way {
            last.await?;
        }
        Ok(())
    }

    /// The servers of the joined, and those of whom a row is left from an earlier stay.
    fn servers_before(&self, members: &[Member]) -> Result<Servers, ReadError> {
        let mut servers = Servers::new();
        for row in self.core.shard.view().prefix(&SERVER, self.core.domain(), &(self.no(),), Direction::Forward) {
            let ((_, server), _) = row?;
            servers.insert(server, 0);
        }
        for (user, _, _) in members.iter().filter(|(_, membership, _)| *membership == Membership::Join) {
            match servers.get_mut(user.server_name().as_str()) {
                Some(joined) => *joined += 1,
                None => drop(servers.insert(user.server_name().to_string(), 1)),
            }
        }
        Ok(servers)
    }

    fn write_partial(&self, txn: &mut koine_store::Txn, partial: Option<&Partial>) {
        let (domain, no) = (self.core.domain(), self.no());
        txn.delete(&WHOLE, domain, &no);
        match partial {
            Some(partial) => txn.put(&PARTIAL, domain, &no, &partial.record()),
            None => txn.delete(&PARTIAL, domain, &no),
        }
    }

    fn write_servers(&self, txn: &mut koine_store::Txn, servers: &Servers) {
        let (domain, no) = (self.core.domain(), self.no());
        for (server, joined) in servers {
            match joined {
                0 => txn.delete(&SERVER, domain, &(no, server.clone())),
                joined => txn.put(&SERVER, domain, &(no, server.clone()), joined),
            }
        }
    }

    fn write_locals(self: &Arc<Self>, txn: &mut koine_store::Txn, members: &[Member]) {
        let (domain, no) = (self.core.domain(), self.no());
        for (user, membership, event_id) in members.iter().filter(|(user, _, _)| self.is_local(user)) {
            let record = MemberRecord { membership: *membership, order: OUTLIER };
            txn.put(&MEMBER, domain, &(no, false, user.to_string()), &record);
            self.keep_membership(txn, user, *membership, event_id);
        }
    }

    fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.core.config.server_name
    }

    /// The rows by which the registry finds the room.
    fn write_itself(&self, txn: &mut koine_store::Txn) {
        let domain = self.core.domain();
        let record = RoomRecord { no: self.no(), version: self.version().to_string() };
        txn.put(&ROOM, domain, self.id().as_str(), &record);
        txn.put(&ROOM_ID, domain, &self.no(), &self.id().to_string());
    }

    /// What the state told of somebody of ours, if we did not know better.
    fn keep_membership(
        self: &Arc<Self>,
        txn: &mut koine_store::Txn,
        user: &UserId,
        membership: Membership,
        event_id: &EventId,
    ) {
        let (domain, key) = (self.core.domain(), (user.to_string(), self.no()));
        if txn.get(&MEMBERSHIP, domain, &key).ok().flatten().is_some_and(|known| known.membership == membership) {
            return;
        }
        let order = Order::try_from(txn.position().0).expect("positions stay far below 2^63");
        let record = MembershipRecord {
            membership,
            order,
            since: order,
            event_id: event_id.to_string(),
            forgotten: false,
            joined_at: (membership == Membership::Join).then_some(order),
            left_at: None,
        };
        txn.put(&MEMBERSHIP, domain, &key, &record);
        // Readers learn of it, too: others of ours may come in again through whoever's state this is.
        let (room, user) = (self.clone(), user.to_owned());
        txn.on_durable(move |_| room.publish_member(user, record));
    }
}

impl Core {
    /// The state in which these events hold, and its nodes.
    pub(crate) fn state_made_of(&self, events: &[Event]) -> Result<(Root, NewNodes), ReadError> {
        let edits = events
            .iter()
            .filter_map(|event| Some(Edit::set(event.kind(), event.state_key()?, event.event_id().to_owned())));
        self.state_with(Root::EMPTY, edits)
    }
}
