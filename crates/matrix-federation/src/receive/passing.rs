//! Ephemeral units: who types, who has read what. [SS-API §edus]
//!
//! Those about devices and presence are handed on to `devices.rs` and `presence.rs`.

use std::{collections::BTreeMap, time::Duration};

use koine_room::{Receipt, ReceiptType};
use ruma_common::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Federation, acl};

/// How long somebody types who does not say so again. [SS-API §typing-notifications]
const TYPING_TIME: Duration = Duration::from_secs(30);
/// Most receipts of one unit that are looked at.
const RECEIPTS_MAX: usize = 1_000;

#[derive(Deserialize)]
struct Unit<'a> {
    edu_type: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Typing {
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    typing: bool,
}

/// Room → type of receipt → reader → how far.
type Receipts = BTreeMap<OwnedRoomId, BTreeMap<String, BTreeMap<OwnedUserId, ReadUpTo>>>;

#[derive(Deserialize)]
struct ReadUpTo {
    event_ids: Vec<OwnedEventId>,
    data: ReadData,
}

#[derive(Deserialize)]
struct ReadData {
    ts: Option<u64>,
    thread_id: Option<String>,
}

impl Federation {
    /// Takes a unit in; one that is not understood, or not its sender's to tell, is dropped. [SS-API §edus]
    pub(super) async fn take_passing(&self, origin: &ServerName, raw: &RawValue) {
        let Ok(unit) = serde_json::from_str::<Unit<'_>>(raw.get()) else { return };
        match unit.edu_type.as_str() {
            "m.typing" => self.take_typing(origin, unit.content),
            "m.receipt" => self.take_receipts(origin, unit.content).await,
            "m.presence" => self.take_presence(origin, unit.content),
            "m.device_list_update" => self.take_device_list_update(origin, unit.content).await,
            "m.signing_key_update" => self.take_signing_key_update(origin, unit.content).await,
            "m.direct_to_device" => self.take_messages(origin, unit.content).await,
            other => tracing::debug!(peer = %origin, edu_type = other, "an ephemeral unit that nothing here takes"),
        }
    }

    /// [SS-API §typing-notifications]
    fn take_typing(&self, origin: &ServerName, content: &RawValue) {
        let Ok(typing) = serde_json::from_str::<Typing>(content.get()) else { return };
        if typing.user_id.server_name() != origin || !self.may_take_part(&typing.room_id, origin) {
            return;
        }
        let time = typing.typing.then_some(TYPING_TIME);
        if let Err(error) = self.rooms().typed_elsewhere(&typing.user_id, &typing.room_id, time) {
            tracing::debug!(peer = %origin, room_id = %typing.room_id, reason = %error, "typing was not noted");
        }
    }

    /// [SS-API §receipts]
    async fn take_receipts(&self, origin: &ServerName, content: &RawValue) {
        let Ok(receipts) = serde_json::from_str::<Receipts>(content.get()) else { return };
        let mut left = RECEIPTS_MAX;
        for (room, kinds) in receipts {
            if !self.may_take_part(&room, origin) {
                continue;
            }
            for (user, read) in kinds.into_iter().filter(|(kind, _)| kind == "m.read").flat_map(|(_, users)| users) {
                if user.server_name() != origin {
                    continue;
                }
                for event_id in read.event_ids {
                    let Some(rest) = left.checked_sub(1) else { return };
                    left = rest;
                    let receipt = Receipt {
                        user: user.clone(),
                        kind: ReceiptType::Read,
                        thread: read.data.thread_id.clone(),
                        event_id,
                        ts: read.data.ts.unwrap_or_else(|| self.now_ms()),
                    };
                    if let Err(error) = self.rooms().read_elsewhere(&room, receipt).await {
                        tracing::debug!(peer = %origin, room_id = %room, reason = %error, "a receipt was not noted");
                    }
                }
            }
        }
    }

    fn may_take_part(&self, room: &RoomId, server: &ServerName) -> bool {
        let Ok(Some(room)) = self.known_room(room) else { return false };
        acl::allows(&room, server).unwrap_or(false)
    }
}
