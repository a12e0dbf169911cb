//! How stanzas name events: by the ids that their authors gave them. They are written down in two tables with the event itself, since
//! the content that says it goes with a redaction.

use koine_projection::message;
use koine_room::{Placed, ReadError, Room, RoomNo};
use koine_stanza::{BareJid, Jid};
use koine_store::{DomainId, Space, Table, Txn};
use ruma_common::{EventId, OwnedEventId, UserId};
use serde_json::Value;

use crate::core::Core;

/// (room, sender, id of a stanza) → the event that it became.
const MESSAGE_ID: Table<(RoomNo, String, String), String> = Table::new("xmpp.message_id", Space::Index, 0x88);
/// (room, event) → the id that its stanza had, or, for a reaction, the event it is to: what has to outlive its content.
const NAME: Table<(RoomNo, String), String> = Table::new("xmpp.name", Space::Index, 0x89);

/// Longest id of a stanza that is remembered.
const ID_BYTES_MAX: usize = 1023;
/// Newest events that are searched for one that is named, where the tables do not have it.
const RECENT_LOOK: usize = 64;
/// Reactions to one message that are looked at.
const REACTIONS_LOOK_MAX: usize = 1_000;

/// The id that the author of an event gave it as a stanza.
fn given(placed: &Placed) -> Option<String> {
    let content = placed.event.content().get();
    if !content.contains(message::KEEPSAKE) {
        return None;
    }
    let content: Value = serde_json::from_str(content).ok()?;
    message::kept_id(&content).map(ToOwned::to_owned)
}

/// Somebody's reactions to an event, with the events that they are.
pub(crate) fn reactions(room: &Room, who: &UserId, target: &EventId) -> Result<Vec<(String, OwnedEventId)>, ReadError> {
    room.reactions(who, target, REACTIONS_LOOK_MAX)
}

/// Remembers what stanzas call an event, and what a reaction is to, whoever is there to see it: it must be known when the reaction
/// is taken back.
pub(crate) fn remember(txn: &mut Txn, domain: DomainId, room: RoomNo, placed: &Placed) {
    if placed.event.state_key().is_some() {
        return;
    }
    let event = placed.event.event_id().to_string();
    if placed.event.kind() == "m.reaction" {
        let relation: Option<Value> = placed.event.content_field("m.relates_to");
        let target = relation.as_ref().and_then(|relation| relation.get("event_id")).and_then(Value::as_str);
        if let Some(target) = target {
            txn.put(&NAME, domain, &(room, event), &target.to_owned());
        }
        return;
    }
    let Some(id) = given(placed).filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX) else { return };
    let key = (room, placed.event.sender().to_string(), id);
    // Who gives an id twice means the first.
    if !matches!(txn.get(&MESSAGE_ID, domain, &key), Ok(Some(_))) {
        txn.put(&MESSAGE_ID, domain, &key, &event);
    }
    txn.put(&NAME, domain, &(room, event), &key.2);
}

impl Core {
    /// The event that a stanza names: by its own id, or by the one that somebody of `authors` gave it. Whoever names a
    /// correction means what it corrects.
    pub(crate) fn named(&self, room: &Room, authors: &[&UserId], id: &str) -> Result<Option<OwnedEventId>, ReadError> {
        let Some(event) = self.found(room, authors, id)? else { return Ok(None) };
        let Some(placed) = room.event(&event)? else { return Ok(Some(event)) };
        let relation: Option<Value> = placed.event.content_field("m.relates_to");
        let replaces =
            relation.filter(|relation| relation.get("rel_type").and_then(Value::as_str) == Some("m.replace"));
        let replaced = replaces.as_ref().and_then(|relation| relation.get("event_id")).and_then(Value::as_str);
        let Some(replaced) = replaced.and_then(|id| <&EventId>::try_from(id).ok()) else { return Ok(Some(event)) };
        let is_theirs = room.event(replaced)?.is_some_and(|original| original.event.sender() == placed.event.sender());
        Ok(Some(if is_theirs { replaced.to_owned() } else { event }))
    }

    fn found(&self, room: &Room, authors: &[&UserId], id: &str) -> Result<Option<OwnedEventId>, ReadError> {
        if let Ok(event) = <&EventId>::try_from(id)
            && room.event(event)?.is_some()
        {
            return Ok(Some(event.to_owned()));
        }
        for author in authors {
            let key = (room.no(), author.to_string(), id.to_owned());
            if let Some(event) = self.shard().get(&MESSAGE_ID, self.domain(), &key)? {
                return Ok(OwnedEventId::try_from(event).ok());
            }
        }
        let newest = room.newest(i64::MIN, room.published().order, RECENT_LOOK)?;
        let is_it = |placed: &Placed| {
            authors.contains(&placed.event.sender())
                && placed.event.state_key().is_none()
                && given(placed).as_deref() == Some(id)
        };
        Ok(newest.into_iter().find(|placed| is_it(placed)).map(|placed| placed.event.event_id().to_owned()))
    }

    /// The id by which stanzas name an event, be its content gone or not.
    pub(crate) fn name_of(&self, room: &Room, placed: &Placed) -> Result<String, ReadError> {
        let event = placed.event.event_id();
        let name = match placed.redacted_by {
            None => given(placed),
            Some(_) => self.shard().get(&NAME, self.domain(), &(room.no(), event.to_string()))?,
        };
        Ok(name.unwrap_or_else(|| event.to_string()))
    }

    /// The address that somebody said something from: with its resource, where it was said by XMPP.
    pub(crate) fn speaker(&self, address: &BareJid, placed: &Placed) -> Jid {
        let content: Option<Value> = placed.event.content_field(message::KEEPSAKE);
        let resource = content.as_ref().and_then(|kept| kept.get("resource")).and_then(Value::as_str);
        match resource.and_then(|resource| address.with_resource(resource).ok()) {
            Some(full) => full.into(),
            None => address.clone().into(),
        }
    }

    /// What a reaction was to whose content is gone.
    pub(crate) fn reacted_to(&self, room: &Room, placed: &Placed) -> Result<Option<OwnedEventId>, ReadError> {
        let key = (room.no(), placed.event.event_id().to_string());
        let target = self.shard().get(&NAME, self.domain(), &key)?;
        Ok(target.and_then(|target| OwnedEventId::try_from(target).ok()))
    }
}
