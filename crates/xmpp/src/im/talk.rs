//! What the projection asks of a room of two, and events of it as messages.

use koine_projection::message::{self, File, Names};
use koine_room::{Placed, ReadError, RelationQuery, Room, Viewer};
use koine_stanza::{BareJid, Element, ns};
use koine_store::Direction;
use ruma_common::{EventId, OwnedEventId, OwnedUserId, UserId};
use serde_json::Value;

use super::MESSAGE_ID;
use crate::{core::Core, time};

/// Newest events that are searched for one that is named, where the index does not have it yet.
const RECENT_LOOK: usize = 64;
/// Reactions to one message that are looked at.
const REACTIONS_LOOK_MAX: usize = 500;

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
        let id = match placed.redacted_by {
            Some(_) => self.core.name_of_emptied(self.room, placed)?,
            None => message::kept_id(&content).unwrap_or(event.event_id().as_str()).to_owned(),
        };
        let element = Element::new("message", ns::CLIENT)
            .with_attr("type", message::kept_type(&content))
            .with_attr("id", id)
            .with_children(children);
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
        let keys = self.reactions(placed.event.sender(), target)?;
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
                let keys = self.reactions(emptied.event.sender(), &parent)?;
                Ok(Some(message::reactions(&self.name(&parent)?, keys.into_iter().map(|(key, _)| key))))
            }
            "m.room.message" | "m.room.encrypted" | "m.sticker" => {
                Ok(Some(message::retraction(&self.core.name_of_emptied(self.room, &emptied)?)))
            }
            _ => Ok(None),
        }
    }

    /// Somebody's reactions to an event, with the events that they are.
    pub(crate) fn reactions(&self, who: &UserId, target: &EventId) -> Result<Vec<(String, OwnedEventId)>, ReadError> {
        let mut viewer = Viewer::new(self.room, self.viewer())?;
        let query = RelationQuery {
            parent: target,
            rel_type: Some("m.annotation"),
            kind: Some("m.reaction"),
            from: None,
            to: None,
            direction: Direction::Forward,
            limit: REACTIONS_LOOK_MAX,
            recurse: false,
        };
        let found = self.room.relations(&mut viewer, &query)?;
        let own = found.events.iter().filter(|placed| placed.event.sender() == who && placed.redacted_by.is_none());
        let key = |placed: &Placed| {
            let relation: Value = placed.event.content_field("m.relates_to")?;
            Some((relation.get("key")?.as_str()?.to_owned(), placed.event.event_id().to_owned()))
        };
        Ok(own.filter_map(|placed| key(placed)).collect())
    }

    /// Whoever of the two is of this server: somebody of another has no membership here to look with.
    fn viewer(&self) -> &UserId {
        if self.core.accounts().is_local(self.me) { self.me } else { self.peer }
    }

    fn name(&self, event: &EventId) -> Result<String, ReadError> {
        let placed = self.room.event(event)?;
        Ok(match placed {
            Some(placed) if placed.redacted_by.is_some() => self.core.name_of_emptied(self.room, &placed)?,
            Some(placed) => {
                let content: Value = serde_json::from_str(placed.event.content().get()).unwrap_or_default();
                message::kept_id(&content).unwrap_or(event.as_str()).to_owned()
            }
            None => event.to_string(),
        })
    }

    fn find(&self, id: &str) -> Result<Option<OwnedEventId>, ReadError> {
        if let Ok(event) = <&EventId>::try_from(id)
            && self.room.event(event)?.is_some()
        {
            return Ok(Some(event.to_owned()));
        }
        for sender in [self.me, self.peer] {
            let key = (self.room.no(), sender.as_str(), id);
            if let Some(event) = self.core.shard().get(&MESSAGE_ID, self.core.domain(), &key)? {
                return Ok(OwnedEventId::try_from(event).ok());
            }
        }
        let newest = self.room.newest(i64::MIN, self.room.published().order, RECENT_LOOK)?;
        let named = newest.into_iter().find(|placed| {
            let content: Value = serde_json::from_str(placed.event.content().get()).unwrap_or_default();
            message::kept_id(&content) == Some(id)
        });
        Ok(named.map(|placed| placed.event.event_id().to_owned()))
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
        self.find(id).unwrap_or_else(|error| {
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

impl Core {
    /// Remembers by which id a stanza names the event that it became.
    pub(super) fn remember_id(&self, room: &Room, placed: &Placed) {
        let content: Option<Value> = placed.event.content_field(message::KEEPSAKE);
        let id = content.as_ref().and_then(|kept| kept.get("id")).and_then(Value::as_str);
        let Some(id) = id.filter(|id| !id.is_empty() && id.len() <= 1023) else { return };
        let key = (room.no(), placed.event.sender().to_string(), id.to_owned());
        let (domain, event) = (self.domain(), placed.event.event_id().to_string());
        // Nobody waits: until it is there, the newest events are searched.
        drop(self.shard().submit(move |txn| {
            if !matches!(txn.get(&MESSAGE_ID, domain, &key), Ok(Some(_))) {
                txn.put(&MESSAGE_ID, domain, &key, &event);
            }
            txn.put(&NAME, domain, &(key.0, event), &key.2);
        }));
    }

    /// The id by which stanzas name an event whose content is gone.
    fn name_of_emptied(&self, room: &Room, placed: &Placed) -> Result<String, ReadError> {
        let event = placed.event.event_id();
        let name = self.shard().get(&NAME, self.domain(), &(room.no(), event.as_str()))?;
        Ok(name.unwrap_or_else(|| event.to_string()))
    }

    /// Remembers what a reaction is to, for when its content is gone.
    pub(super) fn remember_reaction(&self, room: &Room, placed: &Placed) {
        let relation: Option<Value> = placed.event.content_field("m.relates_to");
        let target = relation.as_ref().and_then(|relation| relation.get("event_id")).and_then(Value::as_str);
        let Some(target) = target.map(ToOwned::to_owned) else { return };
        let (domain, key) = (self.domain(), (room.no(), placed.event.event_id().to_string()));
        drop(self.shard().submit(move |txn| txn.put(&NAME, domain, &key, &target)));
    }

    fn reacted_to(&self, room: &Room, placed: &Placed) -> Result<Option<OwnedEventId>, ReadError> {
        let target = self.shard().get(&NAME, self.domain(), &(room.no(), placed.event.event_id().as_str()))?;
        Ok(target.and_then(|target| OwnedEventId::try_from(target).ok()))
    }
}

/// (room, event) → the id that its stanza had, or, for a reaction, the event it is to: what has to outlive its content.
const NAME: koine_store::Table<(koine_room::RoomNo, String), String> =
    koine_store::Table::new("xmpp.name", koine_store::Space::Index, 0x89);
