//! Rule 5.4.1: invites that follow from one to an address of a third party, like an e-mail address.
//! [RV1 §authorization-rules]

use ruma_common::UserId;

use super::{AuthState, Refusal, Room, Verdict};
use crate::{
    content::raw_field,
    event::{Event, Membership},
    json::{self, Json, Object},
    keys::PublicKey,
};

/// Most public keys of a third-party invite that are tried.
pub const PUBLIC_KEYS_MAX: usize = 16;

/// Most signatures of a third-party invite that are tried.
pub const SIGNATURES_MAX: usize = 16;

pub(super) fn check<S: AuthState + ?Sized>(room: &Room<'_, S>, event: &Event, target: &UserId) -> Verdict<S> {
    // 1. If target user is banned, reject.
    if room.membership(target)? == Some(Membership::Ban) {
        return Err(Refusal::InviteOfBanned(target.to_owned()).into());
    }

    // 2. If content.third_party_invite does not have a signed property, reject.
    let invite = raw_field(event.content(), "third_party_invite");
    let signed = invite.and_then(|invite| raw_field(invite, "signed")).ok_or(Refusal::ThirdPartyInviteUnsigned)?;
    let Ok(Json::Object(signed)) = json::parse(signed.get().as_bytes()) else {
        return Err(Refusal::ThirdPartyInviteUnsigned.into());
    };

    // 3. If signed does not have mxid and token properties, reject.
    let text = |key: &str| signed.get(key).and_then(Json::as_str).ok_or(Refusal::ThirdPartyInviteIncomplete);
    let (mxid, token) = (text("mxid")?, text("token")?);

    // 4. If mxid does not match state_key, reject.
    if mxid != target.as_str() {
        return Err(Refusal::ThirdPartyInviteOfOther.into());
    }

    // 5. If there is no m.room.third_party_invite event in the current room state with state_key matching token, reject.
    let original = room.get("m.room.third_party_invite", token)?.ok_or(Refusal::ThirdPartyInviteUnknown)?;

    // 6. If sender does not match sender of the m.room.third_party_invite, reject.
    if event.sender() != original.sender() {
        return Err(Refusal::ThirdPartyInviteBySomebodyElse.into());
    }

    // 7. If any signature in signed matches any public key in the m.room.third_party_invite event, allow.
    let mut message = Vec::new();
    signed.write_without(&["signatures", "unsigned"], &mut message);
    let keys = public_keys(&original);
    let signatures = signed.get("signatures").and_then(Json::as_object);
    let mut signatures = signatures
        .into_iter()
        .flat_map(|servers| servers.iter().filter_map(|(_, of_server)| of_server.as_object()))
        .flat_map(Object::iter)
        .filter(|(key_id, _)| key_id.starts_with("ed25519:"))
        .filter_map(|(_, signature)| signature.as_str())
        .take(SIGNATURES_MAX);
    if signatures.any(|signature| keys.iter().any(|key| key.verifies(&message, signature))) {
        return Ok(());
    }

    // 8. Otherwise, reject.
    Err(Refusal::ThirdPartyInviteForged.into())
}

/// The public keys are in content of m.room.third_party_invite as a single public key in the public_key property, and a
/// list of public keys in the public_keys property.
fn public_keys(original: &Event) -> Vec<PublicKey> {
    #[derive(serde::Deserialize)]
    struct Listed {
        public_key: String,
    }
    let single = original.content_field::<String>("public_key");
    let listed = original.content_field::<Vec<Listed>>("public_keys").unwrap_or_default();
    let all = single.into_iter().chain(listed.into_iter().map(|listed| listed.public_key));
    all.take(PUBLIC_KEYS_MAX).filter_map(|key| PublicKey::from_base64(&key).ok()).collect()
}
