//! What people of ours do in the mirror of a room elsewhere, as stanzas for that room.

use std::sync::Arc;

use koine_projection::message::{self, File, Names};
use koine_room::{Membership, Placed, Room};
use koine_stanza::{BareJid, Element, ns};
use ruma_common::{EventId, OwnedEventId, OwnedUserId, UserId};
use serde_json::Value;

use super::{tables, worker::Worker};
use crate::{core::Core, known};

/// What the projection asks of the mirror.
pub(super) struct InMirror<'a> {
    pub(super) core: &'a Core,
    pub(super) room: &'a Room,
    pub(super) address: &'a BareJid,
    /// Whose words they are: ids that people give their stanzas are theirs alone.
    pub(super) speaker: &'a UserId,
}

impl Names for InMirror<'_> {
    fn user_of(&self, address: &BareJid) -> Option<OwnedUserId> {
        self.core.person_of(address)
    }

    fn address_of(&self, user: &UserId) -> Option<BareJid> {
        self.core.address_of(user)
    }

    fn event_of(&self, id: &str) -> Option<OwnedEventId> {
        tables::event_named(self.core, self.room, id)
            .or_else(|| self.core.named(self.room, &[self.speaker], id).ok().flatten())
    }

    /// Corrections name a message as its author did. [XEP-0308 §rules]
    fn name_of(&self, event: &EventId) -> String {
        let placed = self.room.event(event).ok().flatten();
        placed.and_then(|placed| self.core.name_of(self.room, &placed).ok()).unwrap_or_else(|| event.to_string())
    }

    fn author_of(&self, event: &EventId) -> Option<(String, String)> {
        let placed = self.room.event(event).ok().flatten()?;
        let member = self.room.current("m.room.member", placed.event.sender().as_str()).ok().flatten();
        let nick = member.and_then(|member| member.event.content_field::<String>("displayname"));
        let nick = nick.unwrap_or_else(|| placed.event.sender().localpart().to_owned());
        Some((format!("{}/{nick}", self.address), placed.event.content_field("body").unwrap_or_default()))
    }

    fn file_of(&self, url: &str) -> Option<File> {
        self.core.file_of(url)
    }

    fn url_of(&self, mxc: &str, name: &str) -> Option<String> {
        self.core.url_of(mxc, name)
    }
}

impl Worker {
    /// Something happened here, by one of ours.
    pub(super) async fn tell(&mut self, core: &Arc<Core>, placed: &Placed) {
        let Some(room) = self.room.clone() else { return };
        let sender = placed.event.sender().to_owned();
        if placed.event.kind() == "m.room.member" {
            let member = placed.event.state_key().and_then(|key| <&UserId>::try_from(key).ok());
            let left =
                matches!(placed.event.membership().map(Membership::from), Some(Membership::Leave | Membership::Ban));
            if let Some(member) = member.filter(|_| left) {
                self.leave(core, member).await;
            }
            return;
        }
        if !self.seats.contains_key(&sender) {
            return;
        }
        let Some(children) = self.children(core, &room, placed) else { return };
        let Some(seat) = self.seats.get(&sender) else { return };
        let id = placed.event.event_id().as_str();
        let message = Element::new("message", ns::CLIENT)
            .with_attr("from", seat.jid.to_string())
            .with_attr("to", self.address.to_string())
            .with_attr("type", "groupchat")
            .with_attr("id", id)
            .with_children(children)
            .with_child(Element::new("origin-id", ns::STANZA_ID).with_attr("id", id));
        self.send(core, &sender, message).await;
    }

    /// What a message says about an event; `None` where there is nothing to say.
    fn children(&self, core: &Arc<Core>, room: &Arc<Room>, placed: &Placed) -> Option<Vec<Element>> {
        let event = &placed.event;
        let content: Value = serde_json::from_str(event.content().get()).ok()?;
        // In rooms, a message is what the room calls it.
        let name = |event: &EventId| {
            let own = || room.event(event).ok().flatten().and_then(|placed| core.name_of(room, &placed).ok());
            tables::name_of(core, room, event).or_else(own).unwrap_or_else(|| event.to_string())
        };
        let reactions = |target: &EventId| {
            let keys = known::reactions(room, event.sender(), target).ok()?.into_iter().map(|(key, _)| key);
            Some(message::reactions(&name(target), keys))
        };
        match (event.kind(), event.state_key()) {
            ("m.room.topic", Some("")) => {
                let topic = content["topic"].as_str().unwrap_or_default();
                Some(vec![Element::text_of("subject", ns::CLIENT, topic)])
            }
            (_, Some(_)) => None,
            ("m.reaction", _) => {
                reactions(&OwnedEventId::try_from(content["m.relates_to"]["event_id"].as_str()?).ok()?)
            }
            ("m.room.redaction", _) => {
                let target = room.event(&event.redacts(room.rules())?).ok().flatten()?;
                match target.event.kind() {
                    "m.reaction" => reactions(&core.reacted_to(room, &target).ok().flatten()?),
                    "m.room.message" | "m.sticker" | "m.room.encrypted" if target.event.sender() == event.sender() => {
                        Some(message::retraction(&name(target.event.event_id())))
                    }
                    _ => None,
                }
            }
            (kind, None) => {
                let names = InMirror { core, room, address: &self.address, speaker: event.sender() };
                let mut children = message::write(kind, &content, &names)?;
                // [XEP-0461 §business-id]
                if let Some(answered) = content["m.relates_to"]["m.in_reply_to"]["event_id"].as_str()
                    && let Ok(answered) = <&EventId>::try_from(answered)
                    && let Some(reply) = children.iter_mut().find(|child| child.is("reply", ns::REPLY))
                {
                    reply.set_attr("id", Some(name(answered)));
                }
                Some(children)
            }
        }
    }
}
