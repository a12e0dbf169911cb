//! Whether servers agree: on the room's state, on its history, on the state after each event; and each with itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use koine_room::{Fate, Membership, ReadError, Room, Root};
use ruma_common::{OwnedEventId, OwnedServerName, UserId};

/// Differences that are told one by one.
const TOLD_MAX: usize = 5;

/// A room as one server knows it.
pub struct Side {
    /// The server.
    pub server: OwnedServerName,
    /// The room.
    pub room: Arc<Room>,
}

/// Everything that is not as it should be between servers that are in the same room.
pub fn differences(sides: &[Side]) -> Vec<String> {
    let mut found = Vec::new();
    for side in sides {
        match side.inconsistencies() {
            Ok(wrong) => found.extend(wrong.into_iter().map(|wrong| format!("{}: {wrong}", side.server))),
            Err(error) => found.push(format!("{}: {error}", side.server)),
        }
    }
    let Some((first, others)) = sides.split_first() else { return found };
    for other in others {
        match first.compare_states(other).and_then(|mut wrong| {
            wrong.extend(first.compare_histories(other)?);
            Ok(wrong)
        }) {
            Ok(wrong) => found.extend(wrong),
            Err(error) => found.push(format!("{} and {}: {error}", first.server, other.server)),
        }
    }
    found
}

/// Servers that believe to be in the room although each of their people was thrown out by an event that never reached them.
///
/// There are others that stay behind, and rightly so: a resolution removes people of whom no event says so, when what let
/// them in came beside something that forbids it, and then nobody has anything to tell their server; and who was thrown out
/// comes in again through a server that has not heard of it yet. So only what rests on their present stay counts.
pub fn untold(side: &Side, ghosts: &[Side]) -> Vec<String> {
    let is_untold = |ghost: &Side, user: &UserId| {
        let Ok(Some(member)) = side.room.current("m.room.member", user.as_str()) else { return false };
        let membership = member.event.membership().map(Membership::from);
        let Ok(Some(stay)) = ghost.room.current("m.room.member", user.as_str()) else { return false };
        matches!(membership, Some(Membership::Leave | Membership::Ban))
            && member.event.auth_events().iter().any(|id| id == stay.event.event_id())
            && matches!(ghost.room.fate(member.event.event_id()), Ok(None))
    };
    let of_all = |ghost: &&Side| ghost.room.local_joined().iter().all(|user| is_untold(ghost, user));
    ghosts.iter().filter(of_all).map(|ghost| format!("{} was not told that it is out", ghost.server)).collect()
}

/// How many events came to which end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// In the history.
    pub accepted: usize,
    /// Allowed by their own branch alone.
    pub soft_failed: usize,
    /// In the history, but not here: nobody of the server was in the room.
    pub gaps: usize,
}

impl Side {
    /// Events that the present leads back to, by the graph.
    fn history(&self) -> Result<BTreeSet<OwnedEventId>, ReadError> {
        let mut next = self.room.extremities();
        let mut seen = BTreeSet::new();
        while let Some(id) = next.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            if let Some(event) = self.room.known_event(&id)? {
                next.extend(event.prev_events().iter().cloned());
            }
        }
        Ok(seen)
    }

    /// Events that nothing refers to.
    fn ends(&self) -> BTreeSet<OwnedEventId> {
        self.room.extremities().into_iter().collect()
    }

    /// Counts the events of the history by what became of them here.
    pub fn count(&self) -> Result<Count, ReadError> {
        let mut count = Count::default();
        for id in self.history()? {
            match self.room.fate(&id)? {
                Some(Fate::Accepted(_)) => count.accepted += 1,
                Some(Fate::SoftFailed(_)) => count.soft_failed += 1,
                Some(Fate::Rejected) => {}
                Some(Fate::Outlier) | None => count.gaps += 1,
            }
        }
        Ok(count)
    }

    fn state(&self, root: Root) -> Result<BTreeMap<(String, String), OwnedEventId>, ReadError> {
        let events = self.room.state_events(root, None)?;
        let entry = |event: &koine_graph::Event| {
            let key = (event.kind().to_owned(), event.state_key().unwrap_or_default().to_owned());
            (key, event.event_id().to_owned())
        };
        Ok(events.iter().map(|placed| entry(&placed.event)).collect())
    }

    fn describe(&self, id: Option<&OwnedEventId>) -> String {
        let Some(id) = id else { return "nothing".to_owned() };
        let fate = match self.room.fate(id) {
            Ok(Some(Fate::Accepted(_))) => "accepted",
            Ok(Some(Fate::SoftFailed(_))) => "soft-failed",
            Ok(Some(Fate::Outlier)) => "outlier",
            Ok(Some(Fate::Rejected)) => "rejected",
            Ok(None) => return format!("{id} (not known)"),
            Err(error) => return format!("{id} ({error})"),
        };
        match self.room.known_event(id) {
            Ok(Some(event)) => {
                let key = event.state_key().map_or_else(String::new, |key| format!("/{key}"));
                let ts = u64::from(event.origin_server_ts().get()) % 100_000_000;
                format!("{id} ({fate} {}{key} of {} at {ts}: {})", event.kind(), event.sender(), event.content().get())
            }
            _ => format!("{id} ({fate})"),
        }
    }

    fn compare_states(&self, other: &Self) -> Result<Vec<String>, ReadError> {
        let (one, two) = (self.room.published().state, other.room.published().state);
        if one == two {
            return Ok(Vec::new());
        }
        self.compare_roots("now", other, (one, two))
    }

    fn compare_roots(&self, when: &str, other: &Self, (one, two): (Root, Root)) -> Result<Vec<String>, ReadError> {
        let (one, two) = (self.state(one)?, other.state(two)?);
        let keys: BTreeSet<_> = one.keys().chain(two.keys()).collect();
        let differ = keys.into_iter().filter(|key| one.get(*key) != two.get(*key)).take(TOLD_MAX);
        Ok(differ
            .map(|key| {
                let (ours, theirs) = (self.describe(one.get(key)), other.describe(two.get(key)));
                format!("{when}: {}/{} is {ours} on {}, {theirs} on {}", key.0, key.1, self.server, other.server)
            })
            .collect())
    }

    fn compare_histories(&self, other: &Self) -> Result<Vec<String>, ReadError> {
        let (ours, theirs) = (self.history()?, other.history()?);
        let mut wrong = Vec::new();
        let (our_ends, their_ends) = (self.ends(), other.ends());
        if our_ends != their_ends {
            wrong.push(format!("{} ends with {our_ends:?}, {} with {their_ends:?}", self.server, other.server));
        }
        for id in ours.intersection(&theirs) {
            let (one, two) = (self.room.fate(id)?, other.room.fate(id)?);
            match (after(one), after(two)) {
                (Some(one), Some(two)) if one == two => {}
                (None, None) if one == two && one == Some(Fate::Rejected) => {}
                // A gap: it came as part of a state, while nobody of the server was in the room.
                (_, None) if matches!(two, None | Some(Fate::Outlier)) => {}
                (None, _) if matches!(one, None | Some(Fate::Outlier)) => {}
                (Some(one), Some(two)) => {
                    wrong.push(format!("{}: the states after it differ", self.describe(Some(id))));
                    wrong.extend(self.compare_roots("after it", other, (one, two))?);
                }
                _ => wrong.push(format!(
                    "{} on {}, {} on {}",
                    self.describe(Some(id)),
                    self.server,
                    other.describe(Some(id)),
                    other.server
                )),
            }
            if wrong.len() >= TOLD_MAX {
                break;
            }
        }
        Ok(wrong)
    }

    /// What the tables beside the state say must follow from it.
    fn inconsistencies(&self) -> Result<Vec<String>, ReadError> {
        let published = self.room.published();
        let members = self.room.state_events(published.state, Some("m.room.member"))?;
        let mut wrong = Vec::new();
        let mut servers: BTreeSet<OwnedServerName> = BTreeSet::new();
        let mut counted = [0; 2];
        for placed in &members {
            let Some(user) = placed.event.state_key().and_then(|user| <&UserId>::try_from(user).ok()) else { continue };
            let membership = placed.event.membership().map(Membership::from);
            match membership {
                Some(Membership::Join) => {
                    counted[0] += 1;
                    servers.insert(user.server_name().to_owned());
                }
                Some(Membership::Invite) => counted[1] += 1,
                _ => {}
            }
            if user.server_name() == self.server && self.room.local_membership(user) != membership {
                let known = self.room.local_membership(user);
                wrong.push(format!("{user} is {membership:?} in the state and {known:?} in the list"));
            }
        }
        if [published.joined, published.invited] != counted {
            wrong.push(format!("joined and invited are {counted:?}, counted as {published:?}"));
        }
        let listed: BTreeSet<OwnedServerName> = self.room.servers()?.into_iter().collect();
        if listed != servers {
            wrong.push(format!("its servers are {servers:?}, listed are {listed:?}"));
        }
        Ok(wrong)
    }
}

fn after(fate: Option<Fate>) -> Option<Root> {
    match fate {
        Some(Fate::Accepted(after) | Fate::SoftFailed(after)) => Some(after),
        _ => None,
    }
}
