//! What was said before: on entering, and the subject. [XEP-0045 §enter-history]
//!
//! The history is the room's timeline, and shows what whoever enters may see of it.

use std::sync::Arc;

use koine_room::{Direction, Placed, ReadError, Room, Span, Viewer};
use koine_stanza::{Element, StanzaError, ns};
use ruma_common::UserId;

use super::{
    hall::{Hall, Inside, Seat},
    unreadable, words,
};
use crate::{core::Core, time};

/// Messages told to who enters and does not say how many they want.
const MESSAGES_USUAL: usize = 20;
/// Most messages told on entering; for more there is the archive.
const MESSAGES_MAX: usize = 100;
/// Most events looked at for them.
const LOOKED_MAX: usize = 500;

/// How much history is wanted. [XEP-0045 §enter-managehistory]
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    messages: usize,
    chars: Option<usize>,
    /// Nothing before this time, in milliseconds.
    since: u64,
}

impl Wish {
    /// What `<history/>` says. What is no number or time counts as not said.
    pub(super) fn parse(history: Option<&Element>, now_ms: u64) -> Self {
        let number = |name: &str| history.and_then(|history| history.attr(name)?.trim().parse::<u64>().ok());
        let by_seconds = number("seconds").map(|seconds| now_ms.saturating_sub(seconds.saturating_mul(1_000)));
        let by_date = history.and_then(|history| history.attr("since")).and_then(time::parse);
        let bounded = by_seconds.is_some() || by_date.is_some();
        let usual = if bounded { MESSAGES_MAX } else { MESSAGES_USUAL };
        Self {
            messages: number("maxstanzas")
                .map_or(usual, |max| usize::try_from(max).unwrap_or(usize::MAX))
                .min(MESSAGES_MAX),
            chars: number("maxchars").map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
            since: by_seconds.max(by_date).unwrap_or(0),
        }
    }
}

/// The messages told to a session that enters, oldest first, each with its time.
pub(super) fn before_entering(
    core: &Core,
    hall: &Hall,
    room: &Arc<Room>,
    inside: &Inside,
    user: &UserId,
    seat: &Seat,
    wish: &Wish,
) -> Result<Vec<Element>, StanzaError> {
    if wish.messages == 0 || wish.chars == Some(0) {
        return Ok(Vec::new());
    }
    let read = |error: ReadError| unreadable(&error);
    let mut viewer = Viewer::new(room, user).map_err(read)?;
    let (mut found, mut chars, mut looked, mut full) = (Vec::new(), 0, 0, false);
    let span = Span { from: Some(seat.since), to: None, direction: Direction::Backward, limit: LOOKED_MAX };
    room.page(span, seat.since, |placed: &Placed| {
        looked += 1;
        if full || looked > LOOKED_MAX || u64::from(placed.event.origin_server_ts().get()) < wish.since {
            full = true;
            return Ok(false);
        }
        let Some(words) = words::of_event(core, room, placed).filter(|words| words.is_history) else {
            return Ok(false);
        };
        if !viewer.may_see(placed)? {
            return Ok(false);
        }
        let message = spoken(core, hall, inside, words, placed, seat).with_child(delay(seat, placed));
        if let Some(max) = wish.chars {
            chars += message.to_xml().len();
            if chars > max {
                full = true;
                return Ok(false);
            }
        }
        found.push(message);
        full = found.len() >= wish.messages;
        Ok(false)
    })
    .map_err(read)?;
    found.reverse();
    Ok(found)
}

/// A message of somebody in the room, addressed to a session.
pub(super) fn spoken(
    core: &Core,
    hall: &Hall,
    inside: &Inside,
    words: words::Words,
    placed: &Placed,
    seat: &Seat,
) -> Element {
    let user = placed.event.sender();
    let nick = inside.speaker(user, words.nick.as_deref()).or(words.nick.as_deref()).unwrap_or(user.localpart());
    let mut message = words.message;
    message
        .set_attr("from", Some(if words.from_room { seat.room.to_string() } else { format!("{}/{nick}", seat.room) }));
    message.set_attr("to", Some(seat.jid.to_string()));
    message.push(hall.occupant_id(core, user));
    message.push(stanza_id(placed, &seat.room.to_string()));
    message
}

/// The id that stays: that of the event. [XEP-0359]
pub(super) fn stanza_id(placed: &Placed, by: &str) -> Element {
    Element::new("stanza-id", ns::STANZA_ID).with_attr("id", placed.event.event_id().as_str()).with_attr("by", by)
}

/// [XEP-0203]
fn delay(seat: &Seat, placed: &Placed) -> Element {
    Element::new("delay", ns::DELAY)
        .with_attr("from", seat.room.to_string())
        .with_attr("stamp", time::format(placed.event.origin_server_ts().get().into()))
}

/// The subject as it is, for a session that entered. [XEP-0045 §enter-subject]
pub(super) fn subject(
    core: &Core,
    hall: &Hall,
    room: &Room,
    inside: &Inside,
    seat: &Seat,
) -> Result<Element, StanzaError> {
    let topic = room.current("m.room.topic", "").map_err(|error| unreadable(&error))?;
    let Some(placed) = topic else {
        return Ok(Element::new("message", ns::CLIENT)
            .with_attr("from", seat.room.to_string())
            .with_attr("to", seat.jid.to_string())
            .with_attr("type", "groupchat")
            .with_child(Element::new("subject", ns::CLIENT)));
    };
    Ok(subject_message(core, hall, inside, &placed, seat).with_child(delay(seat, &placed)))
}

/// A change of the subject, for a session.
pub(super) fn subject_message(core: &Core, hall: &Hall, inside: &Inside, placed: &Placed, seat: &Seat) -> Element {
    let user = placed.event.sender();
    let from = match inside.speaker(user, None) {
        Some(nick) => format!("{}/{nick}", seat.room),
        None => seat.room.to_string(),
    };
    let topic = placed.event.content_field::<String>("topic").unwrap_or_default();
    Element::new("message", ns::CLIENT)
        .with_attr("from", from)
        .with_attr("to", seat.jid.to_string())
        .with_attr("id", words::id_of(placed))
        .with_attr("type", "groupchat")
        .with_child(Element::text_of("subject", ns::CLIENT, topic))
        .with_child(hall.occupant_id(core, user))
        .with_child(stanza_id(placed, &seat.room.to_string()))
}
