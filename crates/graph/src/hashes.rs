//! Hashes of events: of their whole content, and of what a redaction leaves, which is their name.
//! [SS-API §calculating-the-content-hash-for-an-event] [SS-API §calculating-the-reference-hash-for-an-event]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma_common::{
    EventId, OwnedEventId,
    room_version_rules::{EventIdFormatVersion, RoomVersionRules},
};
use sha2::{Digest as _, Sha256};

use crate::{
    json::{Json, Object},
    keys::BASE64,
    redaction::redacted,
};

/// Keys that the content hash leaves out.
const NOT_IN_CONTENT_HASH: &[&str] = &["hashes", "signatures", "unsigned"];

/// Keys that the reference hash and signatures leave out.
const NOT_IN_REFERENCE_HASH: &[&str] = &["signatures", "unsigned"];

/// SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Hash over the full event, as kept in its `hashes`.
pub fn content_hash(event: &Object<'_>) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(1024);
    event.write_without(NOT_IN_CONTENT_HASH, &mut bytes);
    sha256(&bytes)
}

/// Whether `hashes.sha256` of an event is its content hash. If not, only its redacted form may be used.
pub fn content_hash_matches(event: &Object<'_>) -> bool {
    let stated = event.get("hashes").and_then(Json::as_object).and_then(|hashes| hashes.get("sha256"));
    let stated = stated.and_then(Json::as_str).and_then(|hash| BASE64.decode(hash).ok());
    stated.is_some_and(|stated| stated == content_hash(event))
}

/// The bytes of an event that are signed and that its reference hash is taken of: redacted, without signatures.
pub(crate) fn signed_bytes(rules: &RoomVersionRules, event: &Object<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024);
    redacted(&rules.redaction, event).write_without(NOT_IN_REFERENCE_HASH, &mut bytes);
    bytes
}

/// Hash over what a redaction leaves of the event.
pub fn reference_hash(rules: &RoomVersionRules, event: &Object<'_>) -> [u8; 32] {
    sha256(&signed_bytes(rules, event))
}

/// The event id that is made of a reference hash; `None` in room versions 1 and 2, where ids are free.
/// [RV4 §event-ids]
pub(crate) fn event_id(rules: &RoomVersionRules, reference_hash: &[u8; 32]) -> Option<OwnedEventId> {
    let encoded = match rules.event_id_format {
        EventIdFormatVersion::V1 => return None,
        EventIdFormatVersion::V2 => BASE64.encode(reference_hash),
        _ => URL_SAFE_NO_PAD.encode(reference_hash),
    };
    Some(OwnedEventId::try_from(format!("${encoded}")).expect("a dollar sign and base64 make an event id"))
}

/// Whether an event of a room with these rules can have this id: a name of a server's choice in versions 1 and 2, a hash
/// later. [RV4 §event-ids]
pub fn is_event_id(rules: &RoomVersionRules, id: &EventId) -> bool {
    let hash = id.as_str().strip_prefix('$').unwrap_or_default();
    match rules.event_id_format {
        EventIdFormatVersion::V1 => id.server_name().is_some(),
        EventIdFormatVersion::V2 => BASE64.decode(hash).is_ok_and(|hash| hash.len() == 32),
        _ => URL_SAFE_NO_PAD.decode(hash).is_ok_and(|hash| hash.len() == 32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    #[test]
    fn an_event_id_has_the_form_of_its_room_version() {
        let named = EventId::parse("$name:a.example").unwrap();
        let hashed = EventId::parse("$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg").unwrap();
        let old_hash = EventId::parse("$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk").unwrap();
        for (version, id, is) in [
            ("1", &named, true),
            ("1", &hashed, false),
            ("3", &old_hash, true),
            ("3", &named, false),
            ("4", &hashed, true),
            ("11", &old_hash, false),
            ("11", &EventId::parse("$").unwrap(), false),
        ] {
            let rules = rules(&version.try_into().unwrap()).unwrap();
            assert_eq!(is_event_id(&rules, id), is, "{id} in version {version}");
        }
    }
}
