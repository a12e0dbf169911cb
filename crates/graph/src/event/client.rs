//! Events as clients see them, spliced from the pieces that are at hand. [CS-API §room-event-format]

use ruma_common::room_version_rules::RoomVersionRules;
use serde_json::value::RawValue;

use super::Event;
use crate::{content, json::write_string};

/// Which of the two forms that clients get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientForm {
    /// With `room_id`: `/messages`, `/context`, `/event`, ... [CS-API §definition-clientevent]
    Full,
    /// Without: in `/sync` the room is told by the place. [CS-API §definition-clienteventwithoutroomid]
    WithoutRoomId,
}

impl Event {
    /// The event as clients see it. `unsigned` is what the caller has to say about it for this reader.
    pub fn client_json(
        &self,
        rules: &RoomVersionRules,
        form: ClientForm,
        unsigned: Option<&RawValue>,
    ) -> Box<RawValue> {
        let mut out = Vec::with_capacity(self.json().len() + unsigned.map_or(0, |unsigned| unsigned.get().len()));
        self.write_client_json(rules, form, unsigned, &mut out);
        raw(out)
    }

    /// Appends the event as clients see it.
    pub fn write_client_json(
        &self,
        rules: &RoomVersionRules,
        form: ClientForm,
        unsigned: Option<&RawValue>,
        out: &mut Vec<u8>,
    ) {
        let redacts = self.redacts(rules);
        out.extend_from_slice(b"{\"content\":");
        match &redacts {
            // [CS-API §mroomredaction] Old rooms have it at the top, new ones in the content; clients get both.
            Some(redacts) if content::raw_field(self.content(), "redacts").is_none() => {
                self.write_content_with("redacts", redacts.as_str(), out);
            }
            _ => out.extend_from_slice(self.content().get().as_bytes()),
        }
        write_field("event_id", self.event_id().as_str(), out);
        out.extend_from_slice(b",\"origin_server_ts\":");
        out.extend_from_slice(self.origin_server_ts().get().to_string().as_bytes());
        if let Some(redacts) = &redacts {
            write_field("redacts", redacts.as_str(), out);
        }
        if form == ClientForm::Full {
            write_field("room_id", self.room_id().as_str(), out);
        }
        self.write_sender_and_type(out);
        if let Some(unsigned) = unsigned {
            out.extend_from_slice(b",\"unsigned\":");
            out.extend_from_slice(unsigned.get().as_bytes());
        }
        out.push(b'}');
    }

    /// A state event in the form shown to somebody outside of the room. [CS-API §stripped-state]
    pub fn stripped_json(&self) -> Box<RawValue> {
        let mut out = Vec::with_capacity(self.content().get().len() + 256);
        out.extend_from_slice(b"{\"content\":");
        out.extend_from_slice(self.content().get().as_bytes());
        self.write_sender_and_type(&mut out);
        out.push(b'}');
        raw(out)
    }

    /// The same, but for the create event of a room whose id is that event's hash: it comes with everything that is
    /// hashed and signed, so that whoever is shown it can tell whether it is the room's. [MSC4311]
    pub fn shown_json(&self, rules: &RoomVersionRules) -> Box<RawValue> {
        let proves = self.is("m.room.create", "") && rules.authorization.room_create_event_id_as_room_id;
        // What a redaction leaves of it is what is hashed, and nothing else that its sender may have put there.
        match proves.then(|| crate::redact(rules, self)) {
            Some(Ok(kept)) => raw(kept.json().to_vec()),
            _ => self.stripped_json(),
        }
    }

    fn write_sender_and_type(&self, out: &mut Vec<u8>) {
        write_field("sender", self.sender().as_str(), out);
        if let Some(state_key) = self.state_key() {
            write_field("state_key", state_key, out);
        }
        write_field("type", self.kind(), out);
    }

    fn write_content_with(&self, key: &str, value: &str, out: &mut Vec<u8>) {
        let content = self.content().get().trim();
        let inside = content.strip_prefix('{').and_then(|content| content.strip_suffix('}')).unwrap_or_default();
        out.push(b'{');
        write_string(key, out);
        out.push(b':');
        write_string(value, out);
        if !inside.trim().is_empty() {
            out.push(b',');
            out.extend_from_slice(inside.as_bytes());
        }
        out.push(b'}');
    }
}

fn write_field(key: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b',');
    write_string(key, out);
    out.push(b':');
    write_string(value, out);
}

fn raw(json: Vec<u8>) -> Box<RawValue> {
    let json = String::from_utf8(json).expect("made of strings");
    RawValue::from_string(json).expect("made of JSON pieces with JSON between them")
}
