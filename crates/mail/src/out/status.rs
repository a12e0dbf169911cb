//! What became of a mail, said where it was written: a notice of the correspondent about the event, with the facts for
//! programs in `koine.mail.status`; the gateway to XMPP makes an error of it.

use koine_room::{Membership, Room, RoomNo, Sender};
use ruma_common::{OwnedEventId, UserId};
use serde_json::{json, value::to_raw_value};

use super::Out;
use koine_projection::mail::Address;

/// Where a notice keeps its facts: `state` ("delayed", "failed" or "sent"), `event_id`, `events`, `recipient`, `code`, `text`.
pub(crate) const STATUS: &str = "koine.mail.status";
/// The device of what mail says by itself: the same is not said twice.
const DEVICE: &str = "koine.mail";
/// Longest part of another server's words that is shown, in characters.
const WORDS_MAX: usize = 300;

/// What became of a mail.
pub(crate) struct Status<'a> {
    /// `delayed`, `failed`, or `sent` where somebody wanted to take it back.
    pub(crate) state: &'static str,
    pub(crate) recipient: &'a str,
    /// As the other server said it: `550 5.1.1`.
    pub(crate) code: Option<&'a str>,
    pub(crate) text: &'a str,
}

impl Status<'_> {
    fn words(&self) -> String {
        let because = [self.code.unwrap_or_default(), self.text].join(" ");
        let because = koine_projection::mail::outward::header_text(&because, WORDS_MAX);
        let because = if because.is_empty() { String::new() } else { format!(": {because}") };
        match self.state {
            "delayed" => format!("The mail to {} is still under way{because}", self.recipient),
            "failed" => format!("The mail to {} could not be delivered{because}", self.recipient),
            _ => format!("The mail to {} was sent already; it cannot be taken back.", self.recipient),
        }
    }
}

impl Out {
    /// Says in a room what became of the mail that these events are. Where the correspondent may not speak, nothing is said.
    pub(crate) async fn tell(&self, room: RoomNo, events: &[String], status: &Status<'_>) {
        let Ok(room) = self.rooms().room_by_no(room) else { return };
        let (Some(first), Some(address)) = (events.first(), Address::parse(status.recipient)) else { return };
        let Some(ghost) = koine_projection::id::ghost_from_address(&address, self.rooms().server_name()) else {
            return;
        };
        let Ok(ghost) = UserId::parse(format!("@{ghost}:{}", self.rooms().server_name())) else { return };
        let content = json!({
            "msgtype": "m.notice",
            "body": status.words(),
            "m.relates_to": { "rel_type": "m.reference", "event_id": first },
            "m.mentions": {},
            STATUS: {
                "state": status.state, "event_id": first, "events": events, "recipient": status.recipient,
                "code": status.code, "text": koine_projection::mail::outward::header_text(status.text, WORDS_MAX),
            },
        });
        let once = format!("{} {first} {}", status.state, status.recipient);
        self.notice(&room, &ghost, &content, &once).await;
    }

    /// Says that nothing is mailed out of an encrypted room.
    pub(crate) async fn tell_not_mailed(&self, room: &Room, author: &UserId) {
        let Ok(people) = self.correspondents(room.no()) else { return };
        let Some(ghost) = people.first() else { return };
        let text = "This room is encrypted, and what is said here is not mailed: people with an address of mail cannot read it. \
                    Write to them in a room without encryption.";
        let content = json!({ "msgtype": "m.notice", "body": text, "m.mentions": { "user_ids": [author] } });
        self.notice(room, ghost, &content, &format!("encrypted {author}")).await;
    }

    async fn notice(&self, room: &Room, ghost: &UserId, content: &serde_json::Value, once: &str) {
        if room.local_membership(ghost) != Some(Membership::Join) {
            return;
        }
        let Ok(content) = to_raw_value(content) else { return };
        let sender = Sender { user: ghost, device: Some(DEVICE) };
        let said: Result<OwnedEventId, _> =
            self.rooms().send(sender, room.id(), "m.room.message", &content, Some(once)).await;
        if let Err(error) = said {
            tracing::debug!(room_id = %room.id(), reason = %error, "a notice about a mail was not taken by the room");
        }
    }
}
