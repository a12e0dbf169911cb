//! The archive of a room: its timeline, as far as whoever asks may see it. [XEP-0313 §business-storeret-muc]

use std::sync::Arc;

use koine_projection::{message, muc::Role};
use koine_room::{Direction, Order, Placed, ReadError, Room, Span, Viewer};
use koine_stanza::{Condition, Element, Jid, StanzaError, ns};
use ruma_common::{EventId, OwnedUserId, UserId};

use super::{hall, name, settings::Settings, standing, unreadable, words};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    time,
    xep::archive::{Asked, EXTENDED, Found, LOOK_MAX, form, no_such, results, with_words},
};

/// Asked of a room.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Room, ns::MAM), (At::Room, EXTENDED)],
    handlers: &[
        Handler {
            at: &[At::Room],
            verbs: &[Verb::Get, Verb::Set],
            name: "query",
            ns: ns::MAM,
            run: |core, request| {
                Box::pin(async move {
                    match request.verb {
                        Verb::Get => Ok(Some(Element::new("query", ns::MAM).with_child(form().element()))),
                        Verb::Set => search(core, request).await,
                    }
                })
            },
        },
        Handler {
            at: &[At::Room],
            verbs: &[Verb::Get],
            name: "metadata",
            ns: ns::MAM,
            run: |core, request| Box::pin(async move { metadata(&core, &request) }),
        },
    ],
};

/// Somebody who reads the archive of a room.
struct Reader<'a> {
    core: &'a Core,
    room: Arc<Room>,
    user: OwnedUserId,
    address: String,
    /// Real addresses are shown.
    shows_jids: bool,
}

impl<'a> Reader<'a> {
    fn of(core: &'a Core, request: &Request) -> Result<Self, StanzaError> {
        let Some(room) = name::room(core, &request.to.to_bare())? else {
            return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room"));
        };
        let forbidden = || StanzaError::new(Condition::Forbidden, "the archive is for those who are in the room");
        let user = core.person_of(&request.from.to_bare()).ok_or_else(forbidden)?;
        let read = |error: ReadError| unreadable(&error);
        match Viewer::new(&room, &user).map_err(read)?.newest() {
            Ok(_) => {}
            Err(ReadError::NotJoined) => return Err(forbidden()),
            Err(error) => return Err(read(error)),
        }
        let settings = Settings::of(core.rooms(), &room).map_err(read)?;
        let (_, role) = standing::of(&room, &user, settings.members_only).map_err(read)?;
        let shows_jids = !settings.own.semi_anonymous || role == Role::Moderator;
        Ok(Self { core, room, user, address: request.to.to_bare().to_string(), shows_jids })
    }

    fn event(&self, id: &str) -> Result<Option<Arc<Placed>>, ReadError> {
        let Ok(id) = <&EventId>::try_from(id) else { return Ok(None) };
        let Some(placed) = self.room.event(id)?.filter(|placed| !placed.is_outlier()) else { return Ok(None) };
        let mut viewer = Viewer::new(&self.room, &self.user)?;
        Ok(viewer.may_see(&placed)?.then_some(placed))
    }

    fn place(&self, id: &str) -> Result<Order, StanzaError> {
        let placed = self.event(id).map_err(|error| unreadable(&error))?;
        Ok(placed.ok_or_else(no_such)?.order)
    }

    /// A page, and whether there is nothing further.
    fn page(&self, asked: &Asked) -> Result<(Vec<Found>, bool), ReadError> {
        let mut viewer = Viewer::new(&self.room, &self.user)?;
        let newest = viewer.newest()?;
        let (mut from, to) = asked.wanted.span(asked.direction);
        let by = asked.wanted.with.as_ref();
        let (mut found, mut looked) = (Vec::new(), 0);
        loop {
            // One more than wanted, to learn whether there is anything further.
            let span = Span { from, to, direction: asked.direction, limit: asked.limit + 1 - found.len() };
            let page = self.room.page(span, newest, |placed| {
                looked += 1;
                let ts = u64::from(placed.event.origin_server_ts().get());
                let wanted = asked.wanted.is_in_time(ts) && by.is_none_or(|with| self.is_by(placed, with));
                Ok(wanted && !placed.event.is_state() && viewer.may_see(placed)?)
            })?;
            found.extend(page.events.iter().filter_map(|placed| self.archived(placed)));
            match page.end {
                Some(end) if found.len() <= asked.limit && looked < LOOK_MAX => from = Some(end),
                end => {
                    let complete = end.is_none() && found.len() <= asked.limit;
                    found.truncate(asked.limit);
                    return Ok((found, complete));
                }
            }
        }
    }

    /// Whether somebody said it, by their address or by their nickname in the room.
    fn is_by(&self, placed: &Placed, with: &Jid) -> bool {
        match with.resource().filter(|_| with.to_bare().to_string() == self.address) {
            Some(nick) => words::nick_in(&self.room, placed) == nick,
            None => self.core.person_of(&with.to_bare()).is_some_and(|user| user == *placed.event.sender()),
        }
    }

    fn archived(&self, placed: &Placed) -> Option<Found> {
        let user: &UserId = placed.event.sender();
        let nick = words::nick_in(&self.room, placed);
        let (mut message, from_room) = match &placed.redacted_by {
            // [XEP-0424 §tombstones]
            Some(redaction) if words::is_said(placed.event.kind()) => {
                let stamp = time::format(placed.event.origin_server_ts().get().into());
                let message = Element::new("message", ns::CLIENT)
                    .with_attr("type", "groupchat")
                    .with_attr("id", words::id_of(placed))
                    .with_child(message::tombstone(&stamp, Some(redaction.as_str())));
                (message, false)
            }
            _ => {
                let words = words::of_event(self.core, &self.room, placed)?;
                (words.message, words.from_room)
            }
        };
        let from = if from_room { self.address.clone() } else { format!("{}/{nick}", self.address) };
        message.set_attr("from", Some(from));
        message.retain_children(|child| child.ns() != ns::CHAT_STATES);
        let id = hall::occupant_id(self.core, self.room.id(), user);
        message.push(Element::new("occupant-id", ns::OCCUPANT_ID).with_attr("id", id));
        if self.shows_jids
            && let Some(jid) = self.core.address_of(user)
        {
            let item = Element::new("item", ns::MUC_USER).with_attr("jid", jid.to_string());
            message.push(Element::new("x", ns::MUC_USER).with_child(item));
        }
        let ts = placed.event.origin_server_ts().get().into();
        Some(Found { order: placed.order, id: placed.event.event_id().to_string(), ts, message })
    }
}

async fn search(core: Arc<Core>, request: Request) -> Answer {
    let reader = Reader::of(&core, &request)?;
    let query = &request.payload;
    let asked = Asked::read(query, |id| reader.place(id))?;
    let (page, complete) = match &asked.wanted.words {
        Some(words) if asked.wanted.ids.is_empty() => {
            let hits = with_words(&core, &reader.user, vec![reader.room.id().to_owned()], &asked, words).await?;
            let complete = hits.len() <= asked.limit;
            (hits.iter().take(asked.limit).filter_map(|hit| reader.archived(&hit.placed)).collect(), complete)
        }
        _ if asked.wanted.ids.is_empty() => reader.page(&asked).map_err(|error| unreadable(&error))?,
        _ => {
            // [XEP-0313 §query-uids] All of them or none.
            let mut page = Vec::new();
            for id in &asked.wanted.ids {
                let placed = reader.event(id).map_err(|error| unreadable(&error))?.ok_or_else(no_such)?;
                page.push(reader.archived(&placed).ok_or_else(no_such)?);
            }
            (page, true)
        }
    };
    let (messages, fin) = results(query, page, complete);
    for message in messages {
        let message = message.with_attr("from", reader.address.clone()).with_attr("to", request.from.to_string());
        core.deliver(message).await;
    }
    Ok(Some(fin))
}

/// The first and the last message. [XEP-0313 §metadata]
fn metadata(core: &Core, request: &Request) -> Answer {
    let reader = Reader::of(core, request)?;
    let mut metadata = Element::new("metadata", ns::MAM);
    for (name, direction) in [("start", Direction::Forward), ("end", Direction::Backward)] {
        let asked = Asked { wanted: Default::default(), direction, limit: 1 };
        let (page, _) = reader.page(&asked).map_err(|error| unreadable(&error))?;
        if let Some(found) = page.first() {
            let end = Element::new(name, ns::MAM).with_attr("id", found.id.as_str());
            metadata.push(end.with_attr("timestamp", time::format(found.ts)));
        }
    }
    Ok(Some(metadata))
}
