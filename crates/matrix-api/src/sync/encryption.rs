//! The parts of an answer that belong to end-to-end encryption: messages to the device, device lists, counts of keys.
//!
//! [CS-API §extensions-to-sync] [CS-API §e2e-extensions-to-sync]

use koine_account::{DeviceState, Postbox};
use koine_store::Position;

use super::{get_sync::Look, out::Out, rooms::Changed};
use crate::{
    Result,
    keys::{DeviceLists, one_time_key_counts},
};

/// Most messages in one answer. [CS-API §send-to-device-messaging]
const MESSAGES_MAX: usize = 100;

impl Look<'_> {
    /// How many keys and messages the reader's device has: one row.
    pub(super) fn device_state(&self) -> Result<DeviceState> {
        Ok(self.api.accounts.device_state(&self.who.user_id, &self.who.device_id)?)
    }

    /// The messages to answer with. Those that the device has by its token are thrown away.
    pub(super) fn postbox(&self, state: &DeviceState) -> Result<Postbox> {
        if !state.has_messages {
            return Ok(Postbox::default());
        }
        let known = self.since.map_or(Position(0), |since| since.to_device);
        let device = (&*self.who.user_id, &*self.who.device_id);
        let postbox = self.api.accounts.postbox(device, known, self.now.position, MESSAGES_MAX)?;
        self.api.accounts.throw_away_acknowledged(&self.who.user_id, &self.who.device_id, &postbox);
        Ok(postbox)
    }

    pub(super) fn write_messages(&self, postbox: &Postbox, out: &mut Out) {
        if !postbox.messages.is_empty() {
            out.open_field("to_device", b'{');
            out.list_field("events", &postbox.messages);
            out.close(b'}');
        }
    }

    /// Whose devices to ask for anew and whose to forget; not in a first sync, which asks for whom it needs.
    pub(super) fn device_lists(&self, changed: &Changed, out: &mut Out) -> Result<DeviceLists> {
        let Some(since) = self.since else { return Ok(DeviceLists::default()) };
        // Signatures that another device of the reader made are the account's own.
        let keys = changed.contacts || changed.account;
        if !keys && changed.rooms.is_empty() {
            return Ok(DeviceLists::default());
        }
        let (api, user) = (self.api, &self.who.user_id);
        let lists = DeviceLists::between(api, user, (since, self.now), &changed.rooms, keys)?;
        if !lists.is_empty() {
            out.field("device_lists", &lists);
        }
        Ok(lists)
    }

    pub(super) fn write_device_state(&self, state: &DeviceState, out: &mut Out) {
        out.field("device_one_time_keys_count", &one_time_key_counts(&state.one_time_keys));
        out.field("device_unused_fallback_key_types", &state.unused_fallback_keys);
    }
}
