//! News of our people's devices and cross-signing keys, for the servers that share a room with them.
//!
//! [SS-API §device-management] What waits for a server is which devices changed; what they are like is looked up when it is
//! told. Of many changes of one user the newest is told alone: it names one before it that the server does not know, which
//! makes the server ask for the whole list. That is also how a server learns of it all after it was away for long.
//!
//! Whoever comes into a room is news to the servers in it that share no other room with them.

use std::{collections::BTreeMap, sync::Arc};

use koine_account::{DeviceChange, StoreUnavailable, ToldDevice, told_elsewhere};
use koine_room::{Membership, Placed, ReadError, Room};
use koine_store::{LogEntry, Position};
use ruma_common::{OwnedServerName, OwnedUserId, ServerName, UserId};
use serde_json::{Value, json};

use super::destination::Destination;
use crate::Federation;

/// Changes of one user's devices that are told one by one.
const CHANGES_MAX: usize = 20;
/// Devices of one user that are told when the user is new to a server; the first is enough for it to ask for the rest.
const DEVICES_MAX: usize = 20;
/// Users for whom something waits; beyond, the server catches up from the index of changes.
pub(super) const USERS_WAITING_MAX: usize = 2_000;
/// Units told in one transaction, roughly.
const UNITS_AT_ONCE: usize = 40;
/// Rooms of somebody that are looked at for servers to tell.
const ROOMS_MAX: usize = 10_000;
/// Other rooms of somebody in which a server is looked for before they count as new to it.
const OTHER_ROOMS_MAX: usize = 50;

/// What changed about somebody.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// A device.
    Device(DeviceChange),
    /// The user is new to the server.
    User,
    /// Cross-signing keys.
    SigningKeys,
}

/// What waits to be told to one server.
#[derive(Default)]
pub(super) struct Lists {
    of: BTreeMap<OwnedUserId, Waiting>,
    /// The place behind which those that are being told were not told.
    telling_since: Option<u64>,
}

#[derive(Clone, Default)]
struct Waiting {
    /// The place in the log behind which the user's news were not told.
    since: u64,
    devices: Vec<DeviceChange>,
    is_new: bool,
    signing_keys: bool,
}

/// News on their way: what comes meanwhile follows on them.
#[derive(Default)]
pub(super) struct Told {
    pub(super) units: Vec<String>,
    of: Vec<(OwnedUserId, Waiting)>,
}

impl Lists {
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.of.len() > USERS_WAITING_MAX
    }

    pub(super) fn clear(&mut self) {
        self.of.clear();
    }

    /// The place in the log behind which not all was told.
    pub(super) fn since(&self) -> Option<u64> {
        self.of.values().map(|waiting| waiting.since).chain(self.telling_since).min()
    }

    pub(super) fn add(&mut self, user: &UserId, position: Position, news: News) {
        let since = position.0.saturating_sub(1);
        let waiting = self.of.entry(user.to_owned()).or_insert_with(|| Waiting { since, ..Waiting::default() });
        waiting.since = waiting.since.min(since);
        match news {
            News::User => waiting.is_new = true,
            News::SigningKeys => waiting.signing_keys = true,
            News::Device(change) => waiting.add_change(change),
        }
    }

    fn take_first(&mut self) -> Option<(OwnedUserId, Waiting)> {
        let (user, waiting) = self.of.pop_first()?;
        self.telling_since = Some(self.telling_since.map_or(waiting.since, |since| since.min(waiting.since)));
        Some((user, waiting))
    }

    /// The server has what was on its way.
    pub(super) fn told(&mut self) {
        self.telling_since = None;
    }

    /// The server does not have them: they wait again, before what came meanwhile.
    pub(super) fn put_back(&mut self, told: Told) {
        self.telling_since = None;
        for (user, mut waiting) in told.of {
            if let Some(newer) = self.of.remove(&user) {
                newer.devices.into_iter().for_each(|change| waiting.add_change(change));
                waiting.is_new |= newer.is_new;
                waiting.signing_keys |= newer.signing_keys;
            }
            self.of.insert(user, waiting);
        }
    }
}

impl Waiting {
    fn add_change(&mut self, mut change: DeviceChange) {
        // A device is told once, as it is now; what came after its older change follows on what was before that.
        if let Some(at) = self.devices.iter().position(|known| known.device_id == change.device_id) {
            let old = self.devices.remove(at);
            if old.stream_id >= change.stream_id {
                return self.devices.insert(at, old);
            }
            match self.devices.get_mut(at) {
                Some(next) => next.previous = old.previous,
                None => change.previous = old.previous,
            }
        }
        if self.devices.len() >= CHANGES_MAX {
            self.devices.clear();
        }
        self.devices.push(change);
    }
}

impl Destination {
    /// News of users' devices, as they are now. What is answered is to be put back, unless it is told.
    pub(super) fn lists_to_tell(&self, federation: &Federation) -> Result<Told, StoreUnavailable> {
        let mut told = Told::default();
        while told.units.len() < UNITS_AT_ONCE {
            let Some((user, waiting)) = self.with_lists(Lists::take_first) else { break };
            let written = federation.write_news(&user, &waiting, &mut told.units);
            told.of.push((user, waiting));
            if let Err(error) = written {
                self.with_lists(|lists| lists.put_back(told));
                return Err(error);
            }
        }
        Ok(told)
    }
}

impl Federation {
    fn write_news(&self, user: &UserId, waiting: &Waiting, units: &mut Vec<String>) -> Result<(), StoreUnavailable> {
        let accounts = self.accounts();
        if waiting.is_new {
            let before = units.len();
            let stream_id = accounts.newest_device_change(user)?.map_or(0, |newest| newest.stream_id);
            for device_id in accounts.device_ids(user)? {
                if units.len() - before == DEVICES_MAX {
                    break;
                }
                // Without keys it is nothing that anybody could encrypt for, and to be asked after is enough.
                let device = accounts.told_device(user, &device_id)?;
                if device.keys.is_some() {
                    units.push(device_unit(user, &DeviceChange { stream_id, previous: None, device_id }, device));
                }
            }
        } else {
            for change in &waiting.devices {
                units.push(device_unit(user, change, accounts.told_device(user, &change.device_id)?));
            }
        }
        if waiting.signing_keys
            && let Some(keys) = accounts.keys_for_servers(user, &[])?
        {
            let mut content = json!({ "user_id": user });
            for (name, key) in [("master_key", keys.master), ("self_signing_key", keys.self_signing)] {
                if let Some(key) = key {
                    content[name] = json!(key);
                }
            }
            units.push(unit("m.signing_key_update", &content));
        }
        Ok(())
    }

    /// Queues what a log entry tells of accounts. `true`: it was of one.
    pub(super) fn distribute_account(
        &self,
        position: Position,
        entry: &LogEntry,
        only: Option<&Arc<Destination>>,
    ) -> Result<bool, ReadError> {
        let Some((kind, user)) = told_elsewhere(entry) else { return Ok(false) };
        if kind == koine_account::Kind::Outgoing {
            let server = std::str::from_utf8(&entry.body).ok().and_then(|server| <&ServerName>::try_from(server).ok());
            if let Some(server) = server.filter(|_| only.is_none()) {
                self.outbox().destination(server).add_messages(self);
            }
            return Ok(true);
        }
        let news = match kind {
            koine_account::Kind::SigningKeys => News::SigningKeys,
            _ => match DeviceChange::of(position, entry) {
                Some(change) => News::Device(change),
                None => return Ok(true),
            },
        };
        for server in self.rooms().servers_around(&user, ROOMS_MAX)? {
            self.tell_news(&server, only, |to| to.add_news(self, &user, position, news.clone()));
        }
        Ok(true)
    }

    /// Somebody of ours came into a room: they are news to servers that share no other with them.
    pub(super) fn distribute_arrival(
        &self,
        position: Position,
        (room, placed): (&Room, &Placed),
        only: Option<&Arc<Destination>>,
    ) -> Result<(), ReadError> {
        if placed.event.kind() != "m.room.member" {
            return Ok(());
        }
        let joined = placed.event.membership() == Some(koine_graph::Membership::Join);
        let user = placed.event.state_key().and_then(|user| <&UserId>::try_from(user).ok());
        let Some(user) = user.filter(|user| joined && user.server_name() == self.server_name()) else {
            return Ok(());
        };
        let is_still_here = room.local_membership(user) == Some(Membership::Join);
        if !is_still_here || room.is_joined_in(placed.state_before, user)? {
            return Ok(());
        }
        for server in room.servers()?.into_iter().filter(|server| server != self.server_name()) {
            if !self.rooms().shares_with_server(user, &server, Some(room.no()), OTHER_ROOMS_MAX)? {
                self.tell_news(&server, only, |to| to.add_news(self, user, position, News::User));
            }
        }
        Ok(())
    }

    /// Somebody of another server left a room: what is remembered of their keys may not be kept up to date any more.
    pub(super) fn forget_departed(&self, placed: &Placed) {
        use koine_graph::Membership::{Ban, Leave};
        let user = placed.event.state_key().and_then(|user| OwnedUserId::try_from(user).ok());
        let gone = placed.event.kind() == "m.room.member" && matches!(placed.event.membership(), Some(Leave | Ban));
        if let Some(user) = user.filter(|user| gone && user.server_name() != self.server_name()) {
            let accounts = self.accounts().clone();
            tokio::spawn(async move {
                if let Err(error) = accounts.forget_remote(&user).await {
                    tracing::warn!(user_id = %user, reason = %error, "what is remembered of somebody's keys stays");
                }
            });
        }
    }

    fn tell_news(
        &self,
        server: &OwnedServerName,
        only: Option<&Arc<Destination>>,
        tell: impl FnOnce(&Arc<Destination>),
    ) {
        match only {
            Some(only) if only.server() != server => {}
            Some(only) => tell(only),
            None => tell(&self.outbox().destination(server)),
        }
    }

    /// All that a server that was away since a place in the log has to know of our people's devices: the newest of each.
    pub(super) fn news_since(
        &self,
        server: &ServerName,
        since: Position,
    ) -> Result<Vec<(OwnedUserId, News)>, NewsError> {
        let accounts = self.accounts();
        let mut news = Vec::new();
        for user in accounts.keys_changed(since, self.shard().position())? {
            if !accounts.is_local(&user) || !self.rooms().shares_with_server(&user, server, None, ROOMS_MAX)? {
                continue;
            }
            if let Some(newest) = accounts.newest_device_change(&user)?.filter(|newest| newest.stream_id > since.0) {
                news.push((user.clone(), News::Device(newest)));
            }
            news.push((user, News::SigningKeys));
        }
        Ok(news)
    }
}

/// Why news could not be gathered.
#[derive(Debug, thiserror::Error)]
pub(super) enum NewsError {
    #[error(transparent)]
    Accounts(#[from] StoreUnavailable),
    #[error(transparent)]
    Rooms(#[from] ReadError),
}

/// What is told of a device as it is now. [SS-API §definition-mdevice_list_update]
fn device_unit(user: &UserId, change: &DeviceChange, device: ToldDevice) -> String {
    let mut content = json!({
        "user_id": user,
        "device_id": change.device_id,
        "stream_id": change.stream_id,
        "prev_id": change.previous.as_slice(),
        "deleted": device.is_deleted,
    });
    if let Some(name) = device.display_name {
        content["device_display_name"] = json!(name);
    }
    if let Some(keys) = device.keys {
        content["keys"] = json!(keys);
    }
    unit("m.device_list_update", &content)
}

fn unit(edu_type: &str, content: &Value) -> String {
    json!({ "edu_type": edu_type, "content": content }).to_string()
}

#[cfg(test)]
mod tests {
    use ruma_common::user_id;

    use super::*;

    fn change(stream_id: u64, previous: Option<u64>, device_id: &str) -> News {
        News::Device(DeviceChange { stream_id, previous, device_id: device_id.to_owned() })
    }

    fn chain(lists: &Lists) -> Vec<(u64, Option<u64>, String)> {
        let devices = lists.of.values().flat_map(|waiting| waiting.devices.clone());
        devices.map(|change| (change.stream_id, change.previous, change.device_id)).collect()
    }

    #[test]
    fn each_device_is_told_once_and_the_chain_holds() {
        let (mut lists, alice) = (Lists::default(), user_id!("@alice:example.org"));
        lists.add(alice, Position(5), change(5, Some(3), "A"));
        lists.add(alice, Position(7), change(7, Some(5), "B"));
        lists.add(alice, Position(9), change(9, Some(7), "A"));
        assert_eq!(chain(&lists), [(7, Some(3), "B".to_owned()), (9, Some(7), "A".to_owned())]);
        lists.add(alice, Position(10), change(10, Some(9), "A"));
        assert_eq!(chain(&lists), [(7, Some(3), "B".to_owned()), (10, Some(7), "A".to_owned())]);
        // Read again from the log.
        lists.add(alice, Position(7), change(7, Some(5), "B"));
        assert_eq!(chain(&lists).len(), 2);
        assert_eq!(lists.since(), Some(4));
    }

    #[test]
    fn of_too_many_changes_the_newest_stays() {
        let (mut lists, alice) = (Lists::default(), user_id!("@alice:example.org"));
        for n in 1..=CHANGES_MAX as u64 + 1 {
            lists.add(alice, Position(n), change(n, Some(n - 1), &format!("D{n}")));
        }
        let last = CHANGES_MAX as u64 + 1;
        assert_eq!(chain(&lists), [(last, Some(last - 1), format!("D{last}"))]);
    }

    #[test]
    fn news_that_come_while_some_are_told_follow_on_them() {
        let (mut lists, alice) = (Lists::default(), user_id!("@alice:example.org"));
        lists.add(alice, Position(5), change(5, Some(3), "A"));
        let told = Told { units: vec![], of: lists.take_first().into_iter().collect() };
        lists.add(alice, Position(9), change(9, Some(5), "A"));
        assert_eq!(chain(&lists), [(9, Some(5), "A".to_owned())]);
        assert_eq!(lists.since(), Some(4), "it is not told yet");
        lists.put_back(told);
        assert_eq!(chain(&lists), [(9, Some(3), "A".to_owned())]);
        lists.take_first();
        lists.told();
        assert_eq!(lists.since(), None);
    }
}
