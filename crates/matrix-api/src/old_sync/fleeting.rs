//! What the stream tells beside events of rooms: receipts, who types, who is there.

use koine_room::{Changes, Order, Room};
use serde_json::{Value, json};

use crate::{
    Api, Error, Result, User,
    event::{self, Ignored},
    presence,
};

/// Most events of each kind in one answer.
const EVENTS_MAX: usize = 100;

/// One look at what is not events of rooms.
pub(super) struct Fleeting<'a> {
    pub(super) api: &'a Api,
    pub(super) who: &'a User,
    pub(super) ignored: &'a Ignored,
    /// Receipts are told from here to there.
    pub(super) receipts: (Order, Order),
    /// Typing and presence after this mark.
    pub(super) mark: u64,
}

impl Fleeting<'_> {
    /// Everything new, of the rooms that `wanted` says yes to and the reader is in.
    pub(super) fn events(&self, changes: &Changes, wanted: impl Fn(&Room) -> bool) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        for no in &changes.rooms {
            let room = self.api.rooms.room_by_no(*no)?;
            if wanted(&room) && events.len() < EVENTS_MAX {
                events.extend(self.receipts(&room)?);
            }
        }
        for no in changes.fleeting.iter().take(EVENTS_MAX) {
            let room = self.api.rooms.room_by_no(*no)?;
            if wanted(&room) {
                events.extend(self.typing(&room));
            }
        }
        Ok(events)
    }

    /// Of people who share a room with the reader.
    pub(super) fn presence(&self, changes: &Changes) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        if changes.people.is_empty() {
            return Ok(events);
        }
        let presences = self.api.accounts.presences();
        let mut contacts = self.api.rooms.contacts(&self.who.user_id)?;
        for user in changes.people.iter().filter_map(|person| presences.user(*person)).take(EVENTS_MAX) {
            if contacts.contains(&user)? {
                events.extend(presence::event(self.api, &user, self.ignored));
            }
        }
        Ok(events)
    }

    /// [CS-API §mreceipt]
    fn receipts(&self, room: &Room) -> Result<Option<Value>> {
        let (from, up_to) = self.receipts;
        let mut receipts = room.receipts_after(&self.who.user_id, Some(from), up_to)?;
        receipts.retain(|receipt| !self.ignored.contains(receipt.user.as_str()));
        let Some(event) = event::receipts(&receipts) else { return Ok(None) };
        let mut event: Value = serde_json::from_str(event.get()).map_err(Error::internal)?;
        event["room_id"] = json!(room.id());
        Ok(Some(event))
    }

    /// [CS-API §mtyping]
    fn typing(&self, room: &Room) -> Option<Value> {
        let mut users = room.typing_after(self.mark)?;
        users.retain(|user| !self.ignored.contains(user.as_str()));
        Some(json!({ "type": "m.typing", "room_id": room.id(), "content": { "user_ids": users } }))
    }
}
