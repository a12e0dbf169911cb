//! What is told beside rooms: messages to the device, keys, account data, receipts, typing,
//! followed threads.
//!
//! [MSC4186] [MSC3885] [MSC3884] [MSC3959] [MSC3960] [MSC3961] [MSC4308]

use std::collections::BTreeMap;

use koine_account::RoomAccountData;
use koine_room::{Changes, Membership, RoomNo};
use koine_store::Position;
use ruma_common::OwnedRoomId;
use serde_json::{json, value::RawValue};

use super::{
    look::{Candidate, Look, Place},
    request::Scope,
    room::Outcome,
};
use crate::{
    Error, Result, event,
    keys::{DeviceLists, one_time_key_counts},
    rooms::{before, listed},
    sync::Out,
    token::SyncToken,
};
use koine_push::PUSH_RULES;

const ACCOUNT_DATA: u8 = 1;
const RECEIPTS: u8 = 2;
const TYPING: u8 = 4;
/// Most messages to the device in one answer. [CS-API §send-to-device-messaging]
const MESSAGES_MAX: usize = 100;
/// Most threads in one answer; older ones are asked for.
const THREADS_MAX: usize = 100;

/// Which extensions tell of which rooms.
pub(super) struct Reach {
    pub(super) account_data: Part,
    receipts: Part,
    typing: Part,
}

/// The rooms of one extension.
#[derive(Default)]
pub(super) struct Part {
    on: bool,
    lists: u128,
    all_subscribed: bool,
    rooms: Vec<RoomNo>,
}

/// What the extensions have to say of rooms.
#[derive(Default)]
pub(super) struct Told {
    receipts: BTreeMap<OwnedRoomId, Box<RawValue>>,
    typing: BTreeMap<OwnedRoomId, Box<RawValue>>,
    /// Rooms whose account data are told if they changed after a position, or all of them.
    account_data: BTreeMap<OwnedRoomId, Option<Position>>,
}

impl Reach {
    pub(super) fn of(look: &Look<'_>) -> Result<Self> {
        let extensions = &look.body.extensions;
        let part = |scope: &Scope| {
            if scope.enabled != Some(true) {
                return Part::default();
            }
            let named = |name: &String| scope.lists.as_ref().is_none_or(|lists| lists.contains(name));
            let lists = look.body.lists.keys().enumerate().filter(|(_, name)| named(name));
            let ids = scope.rooms.as_deref().unwrap_or_default().iter();
            let rooms =
                ids.filter_map(|id| look.api.rooms.room(<&ruma_common::RoomId>::try_from(id.as_str()).ok()?).ok());
            Part {
                on: true,
                lists: lists.fold(0, |bits, (number, _)| bits | 1u128 << number),
                all_subscribed: scope.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|room| room == "*")),
                rooms: rooms.map(|room| room.no()).collect(),
            }
        };
        Ok(Self {
            account_data: part(&extensions.account_data),
            receipts: part(&extensions.receipts),
            typing: part(&extensions.typing),
        })
    }

    /// The extensions that tell of a room.
    pub(super) fn bits(&self, no: RoomNo, place: &Place) -> u8 {
        [(&self.account_data, ACCOUNT_DATA), (&self.receipts, RECEIPTS), (&self.typing, TYPING)]
            .into_iter()
            .filter(|(part, _)| part.covers(no, place))
            .fold(0, |bits, (_, bit)| bits | bit)
    }
}

impl Part {
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    fn covers(&self, no: RoomNo, place: &Place) -> bool {
        self.on
            && (place.lists & self.lists != 0
                || (place.subscribed && (self.all_subscribed || self.rooms.contains(&no))))
    }
}

impl Look<'_> {
    /// Collects what the extensions have to say of a room that was looked at.
    pub(super) fn room_extensions(&self, candidate: &Candidate, outcome: &Outcome, told: &mut Told) -> Result<()> {
        let (room, bits) = (&candidate.room, candidate.extensions);
        // What an extension told before, it told up to where the room is known.
        let before = candidate.known.as_deref().filter(|_| !outcome.is_initial);
        let known = |bit: u8| before.filter(|known| known.extensions & bit != 0);
        if bits & ACCOUNT_DATA != 0 {
            let after = known(ACCOUNT_DATA).map(|known| Position(u64::try_from(known.until).unwrap_or(0)));
            told.account_data.insert(room.id().to_owned(), after);
        }
        if candidate.record.membership != Membership::Join {
            return Ok(());
        }
        if bits & RECEIPTS != 0 {
            let after = known(RECEIPTS).map(|known| known.until);
            let mut receipts = room.receipts_after(&self.who.user_id, after, self.now.order())?;
            receipts.retain(|receipt| !self.ignored.contains(receipt.user.as_str()));
            if after.is_none() {
                // At first those that the client can place, and its own.
                let own = &self.who.user_id;
                receipts.retain(|receipt| receipt.user == *own || outcome.timeline.contains(&receipt.event_id));
            }
            if let Some(event) = event::receipts(&receipts) {
                told.receipts.insert(room.id().to_owned(), event);
            }
        }
        if bits & TYPING != 0 {
            let mark = known(TYPING).map(|known| known.fleeting);
            if let Some(mut users) = room.typing_after(mark.unwrap_or(0)) {
                users.retain(|user| !self.ignored.contains(user.as_str()));
                if mark.is_some() || !users.is_empty() {
                    let event = json!({ "type": "m.typing", "content": { "user_ids": users } });
                    let event = serde_json::value::to_raw_value(&event).map_err(Error::internal)?;
                    told.typing.insert(room.id().to_owned(), event);
                }
            }
        }
        Ok(())
    }

    /// Writes the part `extensions`; whether it holds news.
    pub(super) fn extensions(
        &self,
        changes: Option<&Changes>,
        candidates: &[Candidate],
        told: &Told,
        out: &mut Out,
    ) -> Result<bool> {
        let start = out.mark();
        out.open_field("extensions", b'{');
        let empty = out.mark();
        let mut has_news = self.to_device(out)?;
        has_news |= self.encryption(changes, out)?;
        has_news |= self.account_data(changes, told, candidates, out)?;
        has_news |= self.thread_subscriptions(changes, out)?;
        for (name, events) in [("receipts", &told.receipts), ("typing", &told.typing)] {
            if !events.is_empty() {
                has_news = true;
                out.open_field(name, b'{');
                out.field("rooms", events);
                out.close(b'}');
            }
        }
        match out.mark() > empty {
            true => out.close(b'}'),
            false => out.undo(start),
        }
        Ok(has_news)
    }

    /// Where the client's device is, by the token of messages to it: one of ours, of `/sync` too. A token of another
    /// server names nothing here; who has one has nothing of ours.
    fn device_since(&self) -> Result<Option<SyncToken>> {
        let Some(since) = &self.body.extensions.to_device.since else { return Ok(None) };
        match self.api.tokens().parse_sync(since) {
            Ok(token) => Ok(Some(token)),
            Err(error) if error.errcode() == "M_UNKNOWN_POS" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// [MSC3885]
    fn to_device(&self, out: &mut Out) -> Result<bool> {
        let wish = &self.body.extensions.to_device;
        if wish.enabled != Some(true) {
            return Ok(false);
        }
        let (accounts, user, device) = (&self.api.accounts, &self.who.user_id, &self.who.device_id);
        let known = self.device_since()?.map_or(Position(0), |since| since.to_device);
        let limit = wish.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(MESSAGES_MAX);
        let mut next = self.now;
        let mut messages = Vec::new();
        if accounts.device_state(user, device)?.has_messages {
            let limit = limit.clamp(1, MESSAGES_MAX);
            let postbox = accounts.postbox((user, device), known, self.now.position, limit)?;
            accounts.throw_away_acknowledged(user, device, &postbox);
            next.to_device = postbox.more_after.unwrap_or(self.now.position);
            messages = postbox.messages;
        }
        out.open_field("to_device", b'{');
        out.field("next_batch", &self.api.tokens().print_sync(next));
        out.list_field("events", &messages);
        out.close(b'}');
        Ok(!messages.is_empty())
    }

    /// [MSC3884]
    fn encryption(&self, changes: Option<&Changes>, out: &mut Out) -> Result<bool> {
        if self.body.extensions.e2ee.enabled != Some(true) {
            return Ok(false);
        }
        let (api, user) = (self.api, &self.who.user_id);
        out.open_field("e2ee", b'{');
        let mut has_news = false;
        // A connection that is new, after a restart for example, goes on where the token of its messages ends.
        let since = match self.base.token {
            Some(token) => Some(token),
            None => self.device_since()?,
        };
        if let Some(since) = since {
            let (rooms, keys) = match changes {
                Some(changes) => {
                    let mut rooms = Vec::new();
                    for no in &changes.rooms {
                        rooms.extend(api.rooms.membership(user, *no)?.map(|record| (*no, record)));
                    }
                    (rooms, changes.contacts || changes.account)
                }
                None => (api.rooms.memberships(user)?, true),
            };
            if keys || !rooms.is_empty() {
                let lists = DeviceLists::between(api, user, (since, self.now), &rooms, keys)?;
                if !lists.is_empty() {
                    has_news = true;
                    out.field("device_lists", &lists);
                }
            }
        }
        let device = api.accounts.device_state(user, &self.who.device_id)?;
        out.field("device_one_time_keys_count", &one_time_key_counts(&device.one_time_keys));
        out.field("device_unused_fallback_key_types", &device.unused_fallback_keys);
        out.close(b'}');
        Ok(has_news)
    }

    /// [MSC3959]
    fn account_data(
        &self,
        changes: Option<&Changes>,
        told: &Told,
        candidates: &[Candidate],
        out: &mut Out,
    ) -> Result<bool> {
        if self.body.extensions.account_data.enabled != Some(true) {
            return Ok(false);
        }
        let (start, mut has_news) = (out.mark(), false);
        out.open_field("account_data", b'{');
        let after = self.base.account_data;
        if after.is_none() || changes.is_none_or(|changes| changes.account) {
            let events = self.global_account_data(after)?;
            if !events.is_empty() {
                has_news = true;
                out.list_field("global", events);
            }
        }
        let rooms = self.room_account_data(told, candidates)?;
        if !rooms.is_empty() {
            has_news = true;
            out.open_field("rooms", b'{');
            for (room, events) in rooms {
                out.list_field(room.as_str(), events);
            }
            out.close(b'}');
        }
        match has_news {
            true => out.close(b'}'),
            false => out.undo(start),
        }
        Ok(has_news)
    }

    /// [MSC4308]
    fn thread_subscriptions(&self, changes: Option<&Changes>, out: &mut Out) -> Result<bool> {
        let wish = &self.body.extensions.thread_subscriptions;
        let after = self.base.threads;
        let may_have_news = after.is_none() || changes.is_none_or(|changes| changes.account);
        if wish.enabled != Some(true) || !may_have_news {
            return Ok(false);
        }
        let limit = wish.limit.unwrap_or(THREADS_MAX).clamp(1, THREADS_MAX);
        let (mut found, has_more) =
            self.api.accounts.thread_subscriptions(&self.who.user_id, after, self.now.position, limit)?;
        let oldest = found.last().map(before);
        if after.is_none() {
            // Who begins knows of none that ended.
            found.retain(|thread| thread.is_subscribed);
        }
        if found.is_empty() && !has_more {
            return Ok(false);
        }
        let mut told = listed(&found);
        if let (true, Some(oldest)) = (has_more, oldest) {
            told["prev_batch"] = json!(oldest);
        }
        out.field("io.element.msc4308.thread_subscriptions", &told);
        Ok(true)
    }

    fn global_account_data(&self, after: Option<Position>) -> Result<Vec<Vec<u8>>> {
        let user = &self.who.user_id;
        let data = self.api.accounts.global_account_data_after(user, after)?;
        let mut events: Vec<_> = data.iter().map(|data| event::account_data(&data.kind, &data.content)).collect();
        // Who never changed a push rule has none stored, but has rules. [CS-API §push-rules-events]
        if after.is_none() && !data.iter().any(|data| data.kind == PUSH_RULES) {
            events.push(event::account_data(PUSH_RULES, &self.api.push.content(user)?));
        }
        Ok(events)
    }

    fn room_account_data(&self, told: &Told, candidates: &[Candidate]) -> Result<BTreeMap<OwnedRoomId, Vec<Vec<u8>>>> {
        let mut events: BTreeMap<OwnedRoomId, Vec<Vec<u8>>> = BTreeMap::new();
        if candidates.is_empty() || told.account_data.is_empty() {
            return Ok(events);
        }
        // One reading for all rooms: from where the one that is furthest behind stands.
        let after = told.account_data.values().copied().min().flatten();
        for RoomAccountData { room_id, kind, content, position } in
            self.api.accounts.room_account_data_after(&self.who.user_id, after)?
        {
            let is_news =
                told.account_data.get(&room_id).is_some_and(|after| after.is_none_or(|after| position > after));
            if is_news {
                events.entry(room_id).or_default().push(event::account_data(&kind, &content));
            }
        }
        Ok(events)
    }
}
