//! Signatures of servers under JSON objects and events.
//! [appendices §signing-json] [SS-API §validating-hashes-and-signatures-on-received-events]

use ruma_common::{OwnedServerName, ServerName, UserId, room_version_rules::RoomVersionRules};

use crate::{
    event::{Event, EventError},
    hashes::signed_bytes,
    json::{self, Json, Object},
    keys::{PublicKey, SigningKey},
};

/// Most signatures of one server that are tried.
pub const SIGNATURES_PER_SERVER_MAX: usize = 16;

/// Why an object or event does not count as signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The server did not sign at all, or only with keys or algorithms that we cannot know.
    #[error("{0} has not signed it")]
    NotSigned(OwnedServerName),
    /// The server signed with these keys, none of which is at hand: fetch one and try again.
    #[error("the keys {keys:?} of {server} are not at hand")]
    KeysMissing {
        /// Whose keys.
        server: OwnedServerName,
        /// Their ids.
        keys: Vec<String>,
    },
    /// A signature by a key that is at hand is wrong: a broken or forging peer.
    #[error("the signature of {server} with {key} is wrong")]
    Wrong {
        /// Whose signature.
        server: OwnedServerName,
        /// The key it names.
        key: String,
    },
    /// The event names no valid sender, so nobody can have signed it.
    #[error("it names no valid sender")]
    NoSender,
}

/// Looks up the keys of servers. The caller sees to it that a key it gives was valid when the event was made.
pub trait Keys {
    /// The key `key_id` (`ed25519:...`) of `server`, if it is at hand.
    fn key(&self, server: &ServerName, key_id: &str) -> Option<PublicKey>;
}

impl<F: Fn(&ServerName, &str) -> Option<PublicKey>> Keys for F {
    fn key(&self, server: &ServerName, key_id: &str) -> Option<PublicKey> {
        self(server, key_id)
    }
}

/// Signs a JSON object, keeping signatures that are there. For everything but events.
pub fn sign_object(object: &mut Object<'_>, name: &str, key: &SigningKey) {
    let mut bytes = Vec::with_capacity(1024);
    object.write_without(&["signatures", "unsigned"], &mut bytes);
    add_signature(object, name, key, &bytes);
}

/// Signs an event, keeping signatures that are there.
pub fn sign_event(rules: &RoomVersionRules, event: &mut Object<'_>, server: &ServerName, key: &SigningKey) {
    let bytes = signed_bytes(rules, event);
    add_signature(event, server.as_str(), key, &bytes);
}

pub(crate) fn add_signature(object: &mut Object<'_>, name: &str, key: &SigningKey, signed: &[u8]) {
    put_signature(object, name, (key.id(), key.sign_base64(signed)));
}

fn put_signature(object: &mut Object<'_>, name: &str, (key_id, signature): (&str, String)) {
    let mut signatures = match object.remove("signatures") {
        Some(Json::Object(signatures)) => signatures,
        _ => Object::with_capacity(1),
    };
    let mut of_name = match signatures.remove(name) {
        Some(Json::Object(of_name)) => of_name,
        _ => Object::with_capacity(1),
    };
    of_name.insert(key_id.to_owned(), Json::String(signature.into()));
    signatures.insert(name.to_owned(), Json::Object(of_name));
    object.insert("signatures", Json::Object(signatures));
}

/// An event with a signature more, which somebody else made and which is not looked at here.
pub fn with_signature(
    rules: &RoomVersionRules,
    event: &Event,
    server: &ServerName,
    (key_id, signature): (&str, &str),
) -> Result<Event, EventError> {
    let Json::Object(mut object) = json::parse(event.json())? else { return Err(EventError::NotAnObject) };
    put_signature(&mut object, server.as_str(), (key_id, signature.to_owned()));
    Event::parse(rules, &object.to_bytes())
}

/// Whether `server` signed an event with `key`, which it calls `key_id`.
pub fn is_signed_with(
    rules: &RoomVersionRules,
    event: &Event,
    server: &ServerName,
    (key_id, key): (&str, &PublicKey),
) -> bool {
    let Ok(Json::Object(object)) = json::parse(event.json()) else { return false };
    let of_server = object.get("signatures").and_then(|all| all.as_object()?.get(server.as_str())?.as_object());
    let signature = of_server.and_then(|of_server| of_server.get(key_id)?.as_str());
    signature.is_some_and(|signature| key.verifies(&signed_bytes(rules, &object), signature))
}

/// Checks that `server` signed a JSON object. For everything but events.
pub fn verify_object(object: &Object<'_>, server: &ServerName, keys: &impl Keys) -> Result<(), SignatureError> {
    let mut bytes = Vec::with_capacity(1024);
    object.write_without(&["signatures", "unsigned"], &mut bytes);
    verify(object, server, &bytes, keys)
}

/// Checks that every server that must sign the event did so.
pub fn verify_event(rules: &RoomVersionRules, event: &Object<'_>, keys: &impl Keys) -> Result<(), SignatureError> {
    let bytes = signed_bytes(rules, event);
    for server in signers(rules, event).ok_or(SignatureError::NoSender)? {
        verify(event, &server, &bytes, keys)?;
    }
    Ok(())
}

/// The servers that must sign an event; `None` when it has no valid sender.
pub fn signers(rules: &RoomVersionRules, event: &Object<'_>) -> Option<Vec<OwnedServerName>> {
    let text = |object: &Object<'_>, key: &str| object.get(key).and_then(Json::as_str).map(ToOwned::to_owned);
    let content = event.get("content").and_then(Json::as_object);
    let membership = match text(event, "type").as_deref() {
        Some("m.room.member") => content.and_then(|content| text(content, "membership")),
        _ => None,
    };
    let mut servers = Vec::with_capacity(2);
    let mut add = |server: &ServerName| {
        if !servers.iter().any(|known: &OwnedServerName| known == server) {
            servers.push(server.to_owned());
        }
    };
    let sender = text(event, "sender")?;
    let sender = <&UserId>::try_from(sender.as_str()).ok()?;
    // An invite that follows from a third party's goes out in the name of somebody whose server may be elsewhere.
    let by_third_party = membership.as_deref() == Some("invite")
        && content.is_some_and(|content| content.get("third_party_invite").is_some());
    if !by_third_party {
        add(sender.server_name());
    }
    if rules.signatures.check_event_id_server {
        let id = text(event, "event_id")?;
        add(<&ServerName>::try_from(id.split_once(':')?.1).ok()?);
    }
    // [RV8 §authorization-rules] The server that vouches for a restricted join signs as well.
    if rules.signatures.check_join_authorised_via_users_server
        && membership.as_deref() == Some("join")
        && let Some(voucher) = content.and_then(|content| content.get("join_authorised_via_users_server"))
    {
        add(<&UserId>::try_from(voucher.as_str()?).ok()?.server_name());
    }
    Some(servers)
}

fn verify(object: &Object<'_>, server: &ServerName, signed: &[u8], keys: &impl Keys) -> Result<(), SignatureError> {
    let signatures = object.get("signatures").and_then(Json::as_object);
    let of_server = signatures.and_then(|signatures| signatures.get(server.as_str())).and_then(Json::as_object);
    let of_server = of_server.ok_or_else(|| SignatureError::NotSigned(server.to_owned()))?;
    let mut missing = Vec::new();
    let mut valid = false;
    let ours = of_server.iter().filter(|(key_id, _)| key_id.starts_with("ed25519:"));
    for (key_id, signature) in ours.take(SIGNATURES_PER_SERVER_MAX) {
        let Some(key) = keys.key(server, key_id) else {
            missing.push(key_id.to_owned());
            continue;
        };
        if !signature.as_str().is_some_and(|signature| key.verifies(signed, signature)) {
            return Err(SignatureError::Wrong { server: server.to_owned(), key: key_id.to_owned() });
        }
        valid = true;
    }
    match (valid, missing.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => Err(SignatureError::NotSigned(server.to_owned())),
        (false, false) => Err(SignatureError::KeysMissing { server: server.to_owned(), keys: missing }),
    }
}
