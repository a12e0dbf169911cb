//! What the projection asks of a room of two, and events of it as messages.

use koine_projection::message::{self, File, KEEPSAKE, Names};
use koine_room::{Placed, ReadError, Room};
use koine_stanza::{BareJid, Element, ns};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, UserId};
use serde_json::Value;

use crate::{core::Core, known, time};

/// A room of two as one of them sees it.
pub(crate) struct Talk<'a> {
    core: &'a Core,
    room: &'a Room,
    me: &'a UserId,
    peer: &'a UserId,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(core: &'a Core, room: &'a Room, (me, peer): (&'a UserId, &'a UserId)) -> Self {
        Self { core, room, me, peer }
    }

    /// An event as a message: without addresses, with id and type. `None` where there is nothing to be told.
    pub(crate) fn message(&self, placed: &Placed) -> Result<Option<Element>, ReadError> {
        let event = &placed.event;
        let content: Value = serde_json::from_str(event.content().get()).unwrap_or_default();
        let children = match (event.kind(), placed.redacted_by.as_deref()) {
            ("m.room.redaction", _) => match self.redacted(placed)? {
                Some(children) => Some(children),
                None => return Ok(None),
            },
            ("m.reaction", redaction) => self.reaction(placed, redaction, &content)?,
            ("m.room.message" | "m.room.encrypted" | "m.sticker", Some(redaction)) => {
                let at = self.room.event(redaction)?.map_or(0, |placed| placed.event.origin_server_ts().get().into());
                Some(vec![message::tombstone(&time::format(at), Some(&self.name(redaction)?))])
            }
            (kind, None) if !event.is_state() => message::write(kind, &content, self),
            _ => None,
        };
        let Some(children) = children else { return Ok(None) };
        let id = self.core.name_of(self.room, placed)?;
        // Whoever writes by Matrix wants to know what was read. [XEP-0333 §format]
        let wanted = matches!(event.kind(), "m.room.message" | "m.sticker") && content.get(KEEPSAKE).is_none();
        let markable = Some(Element::new("markable", ns::CHAT_MARKERS));
        let element = Element::new("message", ns::CLIENT)
            .with_attr("type", message::kept_type(&content))
            .with_attr("id", id)
            .with_children(children)
            .with_child_opt(markable.filter(|_| wanted && placed.redacted_by.is_none()));
        Ok(Some(element))
    }

    /// What a reaction, or one taken back, leaves of its sender's reactions.
    fn reaction(
        &self,
        placed: &Placed,
        redaction: Option<&EventId>,
        content: &Value,
    ) -> Result<Option<Vec<Element>>, ReadError> {
        if redaction.is_some() {
            return Ok(None);
        }
        let target = content.get("m.relates_to").and_then(|relation| relation.get("event_id")).and_then(Value::as_str);
        let Some(target) = target.and_then(|target| <&EventId>::try_from(target).ok()) else { return Ok(None) };
        let keys = known::reactions(self.room, placed.event.sender(), target)?;
        Ok(Some(message::reactions(&self.name(target)?, keys.into_iter().map(|(key, _)| key))))
    }

    /// What a redaction means to XMPP: a message taken back, or one reaction fewer.
    fn redacted(&self, placed: &Placed) -> Result<Option<Vec<Element>>, ReadError> {
        let Some(target) = placed.event.redacts(self.room.rules()) else { return Ok(None) };
        let Some(emptied) = self.room.event(&target)? else { return Ok(None) };
        match emptied.event.kind() {
            "m.reaction" => {
                // What it was a reaction to went with its content: the index of relations still knows.
                let Some(parent) = self.core.reacted_to(self.room, &emptied)? else { return Ok(None) };
                let keys = known::reactions(self.room, emptied.event.sender(), &parent)?;
                Ok(Some(message::reactions(&self.name(&parent)?, keys.into_iter().map(|(key, _)| key))))
            }
            "m.room.message" | "m.room.encrypted" | "m.sticker" => {
                Ok(Some(message::retraction(&self.core.name_of(self.room, &emptied)?)))
            }
            _ => Ok(None),
        }
    }

    fn name(&self, event: &EventId) -> Result<String, ReadError> {
        match self.room.event(event)? {
            Some(placed) => self.core.name_of(self.room, &placed),
            None => Ok(event.to_string()),
        }
    }
}

impl Names for Talk<'_> {
    fn user_of(&self, address: &BareJid) -> Option<OwnedUserId> {
        self.core.person_of(address)
    }

    fn address_of(&self, user: &UserId) -> Option<BareJid> {
        self.core.address_of(user)
    }

    fn event_of(&self, id: &str) -> Option<OwnedEventId> {
        self.core.named(self.room, &[self.me, self.peer], id).unwrap_or_else(|error| {
            tracing::error!(room_id = %self.room.id(), reason = %error, "an event could not be looked up");
            None
        })
    }

    fn name_of(&self, event: &EventId) -> String {
        self.name(event).unwrap_or_else(|_| event.to_string())
    }

    fn author_of(&self, event: &EventId) -> Option<(String, String)> {
        let placed = self.room.event(event).ok()??;
        let author = self.core.address_of(placed.event.sender())?;
        Some((author.to_string(), placed.event.content_field("body").unwrap_or_default()))
    }

    fn file_of(&self, url: &str) -> Option<File> {
        self.core.file_of(url)
    }

    fn url_of(&self, mxc: &str, name: &str) -> Option<String> {
        self.core.url_of(mxc, name)
    }
}
