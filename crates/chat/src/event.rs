//! One event of a room as a line: the same fields in `tail`, `read` and `send`. docs/chat.md is its contract.

use matrix_sdk::{
    Room,
    deserialized_responses::{TimelineEvent, TimelineEventKind},
    ruma::RoomId,
};
use serde::Serialize;
use serde_json::Value;

use crate::{harmless, heard, replay, trust};

/// An event as scripts see it.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    r#type: &'static str,
    /// Where it was said.
    pub room_id: String,
    /// What it is called.
    pub event_id: String,
    /// Who said it.
    pub sender: String,
    /// When, by the sender's server, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Its type in Matrix, after decryption.
    pub event_type: String,
    /// What it is: text, notice, emote, image, file, audio, video, location, reaction, redaction, state, undecryptable, other.
    pub kind: String,
    /// What it says, or the key of a reaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The event it edits, reacts to, or removes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The message it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The thread it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The state key of state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
    /// Its content as it is, for what has no body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
    /// A file: name, type, size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileLine>,
    /// How it travelled.
    pub encryption: Encryption,
    /// Whether it was shown before, without its key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

/// What is known of a file without fetching it.
#[derive(Clone, Debug, Serialize)]
pub struct FileLine {
    /// Its name.
    pub name: String,
    /// Its MIME type as the sender says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Bytes, as the sender says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether the file itself is encrypted.
    pub encrypted: bool,
}

/// How an event travelled and what that means.
#[derive(Clone, Debug, Serialize)]
pub struct Encryption {
    /// `plain`, `decrypted` or `undecryptable`.
    pub state: &'static str,
    /// A code: how sure the sender is, or why it cannot be read.
    pub code: &'static str,
    /// The same in words.
    pub words: &'static str,
    /// The device that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The Megolm session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}

impl Encryption {
    fn plain() -> Self {
        Self { state: "plain", code: "plain", words: "not encrypted", device_id: None, session_id: None }
    }

    fn unreadable((code, words): trust::Finding, session_id: Option<String>) -> Self {
        Self { state: "undecryptable", code, words, device_id: None, session_id }
    }
}

/// Reads an event of a room.
pub async fn line(room: &Room, event: &TimelineEvent) -> Line {
    let json = event.raw().deserialize_as_unchecked::<Value>().unwrap_or_default();
    let event_id = json.get("event_id").and_then(Value::as_str).unwrap_or_default();
    let encryption = match &event.kind {
        TimelineEventKind::Decrypted(decrypted) if replay::is_repeated(&room.client(), event_id).await => {
            let session_id = decrypted.encryption_info.session_id().map(ToOwned::to_owned);
            Encryption::unreadable(replay::FINDING, session_id)
        }
        TimelineEventKind::PlainText { .. } => Encryption::plain(),
        TimelineEventKind::Decrypted(decrypted) => {
            let info = &decrypted.encryption_info;
            let (code, words) = trust::now(&room.client(), info).await;
            Encryption {
                state: "decrypted",
                code,
                words,
                device_id: info.sender_device.as_ref().map(ToString::to_string),
                session_id: info.session_id().map(ToOwned::to_owned),
            }
        }
        TimelineEventKind::UnableToDecrypt { event, utd_info } => {
            let session_id = utd_info.session_id.clone();
            let finding = match session_id.as_deref().is_some_and(heard::is_unopened) {
                true => trust::DAMAGED_BACKUP,
                false => trust::why(event, utd_info, room.crypto_context_info().await),
            };
            Encryption::unreadable(finding, session_id)
        }
    };
    from_json(room.room_id(), &json, encryption)
}

/// Reads an event's JSON. Whatever is missing or misshapen is left out, never refused: it came from strangers.
pub fn from_json(room_id: &RoomId, json: &Value, encryption: Encryption) -> Line {
    let text = |path: &str| json.pointer(path).and_then(Value::as_str).map(ToOwned::to_owned);
    let event_type = text("/type").unwrap_or_default();
    let state_key = text("/state_key");
    let relation = text("/content/m.relates_to/rel_type");
    let related = text("/content/m.relates_to/event_id");
    let edits = relation.as_deref() == Some("m.replace");
    let content = if edits { "/content/m.new_content" } else { "/content" };
    let mut body = text(&format!("{content}/body")).or_else(|| text("/content/body"));
    let mut about = None;
    let mut file = None;
    let kind = if encryption.state == "undecryptable" {
        body = None;
        "undecryptable"
    } else if state_key.is_some() {
        body = None;
        "state"
    } else {
        match event_type.as_str() {
            "m.room.message" => {
                let msgtype =
                    text(&format!("{content}/msgtype")).or_else(|| text("/content/msgtype")).unwrap_or_default();
                match msgtype.as_str() {
                    "m.text" => "text",
                    "m.notice" => "notice",
                    "m.emote" => "emote",
                    "m.location" => "location",
                    "m.key.verification.request" => "verification",
                    media @ ("m.image" | "m.file" | "m.audio" | "m.video") => {
                        file = Some(file_line(json, content));
                        media.strip_prefix("m.").map_or("file", |kind| match kind {
                            "image" => "image",
                            "audio" => "audio",
                            "video" => "video",
                            _ => "file",
                        })
                    }
                    _ => "other",
                }
            }
            "m.sticker" => {
                file = Some(file_line(json, content));
                "image"
            }
            "m.reaction" => {
                body = text("/content/m.relates_to/key");
                about = related.clone();
                "reaction"
            }
            "m.room.redaction" => {
                about = text("/content/redacts").or_else(|| text("/redacts"));
                body = text("/content/reason");
                "redaction"
            }
            _ => "other",
        }
    };
    if edits {
        about = related.clone();
    }
    let keep_content = matches!(kind, "state" | "other");
    Line {
        r#type: "event",
        room_id: room_id.to_string(),
        event_id: text("/event_id").unwrap_or_default(),
        sender: text("/sender").unwrap_or_default(),
        timestamp_ms: json.pointer("/origin_server_ts").and_then(Value::as_u64).unwrap_or_default(),
        kind: kind.to_owned(),
        body,
        about,
        reply_to: text("/content/m.relates_to/m.in_reply_to/event_id"),
        thread: if relation.as_deref() == Some("m.thread") { related } else { None },
        state_key,
        content: keep_content.then(|| json.get("content").cloned()).flatten(),
        file,
        encryption,
        again: false,
        event_type,
    }
}

fn file_line(json: &Value, content: &str) -> FileLine {
    let at = |path: &str| json.pointer(&format!("{content}{path}"));
    let text = |path: &str| at(path).and_then(Value::as_str).map(ToOwned::to_owned);
    FileLine {
        name: text("/filename").or_else(|| text("/body")).unwrap_or_default(),
        mime: text("/info/mimetype"),
        size: at("/info/size").and_then(Value::as_u64),
        encrypted: at("/file").is_some(),
    }
}

impl Line {
    /// The event for a person: who, what, and what is to be said about it.
    pub fn sentence(&self) -> String {
        let sender = harmless::line(&self.sender);
        let body = harmless::text(self.body.as_deref().unwrap_or_default());
        let said = match self.kind.as_str() {
            "undecryptable" => format!("[cannot be read: {}]", self.encryption.words),
            "emote" => format!("* {body}"),
            "reaction" => format!("reacts with {body}"),
            "redaction" => "removes a message".to_owned(),
            "state" => format!("[{}]", harmless::line(&self.event_type)),
            "text" | "notice" => body,
            other => match &self.file {
                Some(file) => format!("[{other}: {}]", harmless::line(&file.name)),
                None => format!("[{}] {body}", harmless::line(&self.event_type)),
            },
        };
        let edited = if self.about.is_some() && matches!(self.kind.as_str(), "text" | "notice" | "emote") {
            " (edit)"
        } else {
            ""
        };
        let warning = if self.encryption.state == "decrypted" && trust::is_warning(self.encryption.code) {
            format!("  [!] {}", self.encryption.words)
        } else {
            String::new()
        };
        format!("{} {} {sender}: {said}{edited}{warning}", clock(self.timestamp_ms), trust::mark(self.encryption.code))
    }
}

/// Time of day, UTC.
pub fn clock(timestamp_ms: u64) -> String {
    let seconds = timestamp_ms / 1000;
    format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use matrix_sdk::ruma::room_id;
    use serde_json::json;

    use super::*;

    fn read(json: &Value) -> Line {
        from_json(room_id!("!r:x"), json, Encryption::plain())
    }

    #[test]
    fn messages_edits_reactions_and_replies_are_told_apart() {
        let text =
            read(&json!({"type": "m.room.message", "event_id": "$1", "sender": "@a:x", "origin_server_ts": 3_660_000,
            "content": {"msgtype": "m.text", "body": "hello", "m.relates_to": {"m.in_reply_to": {"event_id": "$0"}}}}));
        assert_eq!(
            (text.kind.as_str(), text.body.as_deref(), text.reply_to.as_deref()),
            ("text", Some("hello"), Some("$0"))
        );
        assert_eq!(text.sentence(), "01:01   @a:x: hello");
        let edit = read(&json!({"type": "m.room.message", "content": {"msgtype": "m.text", "body": "* new",
            "m.new_content": {"msgtype": "m.text", "body": "new"}, "m.relates_to": {"rel_type": "m.replace", "event_id": "$1"}}}));
        assert_eq!((edit.body.as_deref(), edit.about.as_deref()), (Some("new"), Some("$1")));
        let reaction = read(&json!({"type": "m.reaction", "content": {"m.relates_to": {"rel_type": "m.annotation",
            "event_id": "$1", "key": "👍"}}}));
        assert_eq!(
            (reaction.kind.as_str(), reaction.body.as_deref(), reaction.about.as_deref()),
            ("reaction", Some("👍"), Some("$1"))
        );
    }

    #[test]
    fn nonsense_is_read_without_complaint() {
        for json in [
            json!(null),
            json!([]),
            json!({"content": 3, "type": {}, "origin_server_ts": -1}),
            json!({"content": {"file": 1, "msgtype": "m.image"}, "type": "m.room.message"}),
        ] {
            read(&json).sentence();
        }
    }

    #[test]
    fn what_is_printed_for_people_is_harmless() {
        let text = read(&json!({"type": "m.room.message", "sender": "@\u{1b}[2J:x",
            "content": {"msgtype": "m.text", "body": "a\u{1b}]0;title\u{7}"}}));
        assert!(!text.sentence().chars().any(harmless::acts));
    }
}
