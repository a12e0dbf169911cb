//! A message that another network could not deliver: who wrote it in XMPP gets an error for it, as XMPP has it.
//! [RFC6120 §8.3.1] [RFC6121 §8.1]
//!
//! That it failed is an event by whom it was for, with `koine.mail.status` in it; the room tells everybody in words, and this
//! tells programs which message it was. Nobody else than its author gets the error.

use std::sync::Arc;

use koine_room::{Placed, ReadError, Room};
use koine_stanza::{Condition, Element, StanzaError, ns};
use ruma_common::{OwnedEventId, UserId};
use serde_json::Value;

use crate::core::Core;

/// Where the facts are.
const STATUS: &str = "koine.mail.status";
/// Messages of one mail that get an error.
const EVENTS_MAX: usize = 100;

/// Errors for the messages that an event says were not delivered; for the sessions of `author`, with whom `from` talks.
pub(crate) fn errors(
    core: &Arc<Core>,
    room: &Room,
    placed: &Placed,
    (author, from): (&UserId, &UserId),
) -> Result<Vec<Element>, ReadError> {
    // Nearly no event is one: looking for the bytes is much cheaper than parsing.
    if !placed.event.content().get().contains(STATUS) {
        return Ok(Vec::new());
    }
    let Some(status) = placed.event.content_field::<Value>(STATUS) else { return Ok(Vec::new()) };
    // Whoever lives elsewhere cannot say such a thing of what others wrote.
    let is_correspondent = core.accounts().is_local(from) && from.localpart().starts_with("_mail_");
    if status["state"] != "failed" || !is_correspondent {
        return Ok(Vec::new());
    }
    let (Some(from), Some(to)) = (core.address_of(from), core.address_of(author)) else { return Ok(Vec::new()) };
    let code = status["code"].as_str().unwrap_or_default();
    let text = [code, status["text"].as_str().unwrap_or_default()].join(" ");
    let condition = condition(code);
    let mut errors = Vec::new();
    for event in status["events"].as_array().into_iter().flatten().take(EVENTS_MAX) {
        let Some(event) = event.as_str().and_then(|event| OwnedEventId::try_from(event).ok()) else { continue };
        let Some(original) = room.event(&event)?.filter(|original| original.event.sender() == author) else { continue };
        let error = Element::new("message", ns::CLIENT)
            .with_attr("from", from.to_string())
            .with_attr("to", to.to_string())
            .with_attr("type", "error")
            .with_attr("id", core.name_of(room, &original)?)
            .with_child(StanzaError::new(condition, text.trim()).element());
        errors.push(error);
    }
    Ok(errors)
}

/// What a code of mail means in XMPP. [RFC 3463]
fn condition(code: &str) -> Condition {
    match code.rsplit(' ').next().unwrap_or_default() {
        "5.1.1" | "5.1.3" | "5.1.6" | "5.1.10" | "5.2.1" => Condition::ItemNotFound,
        "5.1.2" | "5.4.4" => Condition::RemoteServerNotFound,
        "5.4.7" => Condition::RemoteServerTimeout,
        "5.2.2" | "5.3.4" => Condition::ResourceConstraint,
        _ => Condition::ServiceUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_mail_have_their_conditions() {
        for (code, expected) in [
            ("550 5.1.1", Condition::ItemNotFound),
            ("550 5.1.2", Condition::RemoteServerNotFound),
            ("550 5.4.7", Condition::RemoteServerTimeout),
            ("552 5.2.2", Condition::ResourceConstraint),
            ("550", Condition::ServiceUnavailable),
            ("", Condition::ServiceUnavailable),
        ] {
            assert_eq!(condition(code), expected, "{code}");
        }
    }
}
