//! What somebody's rules say about an event of a room, with all actions.

use koine_account::StoreUnavailable;
use koine_room::{Placed, Room, UnreadContext};
use ruma_common::UserId;
use serde_json::Value;

use crate::{event::EventView, rules::PushRules, unread::Counted};

/// A rule that matched wants this.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// A notification.
    pub notify: bool,
    /// A highlighted one.
    pub highlight: bool,
    /// All actions, in the client's words.
    pub actions: Vec<Value>,
}

impl PushRules {
    /// What the rules of `user` say about an event. Nobody is told of their own.
    pub fn wanted(&self, user: &UserId, placed: &Placed, room: &Room) -> Result<Wanted, StoreUnavailable> {
        let matcher = self.matcher(user)?;
        let (event, context) = (&placed.event, UnreadContext::new(room, user));
        let view = EventView::new(
            event.event_id(),
            room.id(),
            event.sender(),
            event.kind(),
            event.state_key(),
            event.content(),
        );
        let decision = matcher.decide(user, &view, &Counted { room: &context, sender: event.sender() });
        Ok(Wanted { notify: decision.notify, highlight: decision.highlight, actions: decision.actions.to_vec() })
    }
}
