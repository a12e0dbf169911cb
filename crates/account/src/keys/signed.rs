//! Signed JSON objects: what is signed, and whether a signature holds. [appendices §signing-json]

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ed25519_dalek::{Signature, VerifyingKey};
use ruma_common::{CanonicalJsonObject, CanonicalJsonValue};

/// Unpadded, but some clients pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The object without what is not signed. Two of them are the same key if they are equal here.
pub(crate) fn signed_part(object: &CanonicalJsonObject) -> CanonicalJsonObject {
    let mut signed = object.clone();
    signed.remove("signatures");
    signed.remove("unsigned");
    signed
}

/// The object as canonical JSON.
pub(crate) fn canonical(object: &CanonicalJsonObject) -> String {
    serde_json::to_string(object).expect("an object of canonical JSON has string keys and no failing parts")
}

/// An object that we wrote as canonical JSON.
pub(crate) fn parse(json: &str) -> Result<CanonicalJsonObject, crate::StoreUnavailable> {
    serde_json::from_str(json).map_err(|_| crate::StoreUnavailable::damaged("a key that is no JSON object"))
}

/// A text in the object.
pub(crate) fn text<'a>(object: &'a CanonicalJsonObject, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// The signature that `user` made with the key `key_id`.
pub(crate) fn signature<'a>(object: &'a CanonicalJsonObject, user: &str, key_id: &str) -> Option<&'a str> {
    object.get("signatures")?.as_object()?.get(user)?.as_object()?.get(key_id)?.as_str()
}

/// A text in the object's `keys`.
pub(crate) fn key<'a>(object: &'a CanonicalJsonObject, key_id: &str) -> Option<&'a str> {
    object.get("keys")?.as_object()?.get(key_id)?.as_str()
}

/// Whether `signature` is one of the object by the owner of `public_key`.
pub(crate) fn is_signature(object: &CanonicalJsonObject, signature: &str, public_key: &str) -> bool {
    let Some(key) = public_key_of(public_key) else { return false };
    let Some(signature) = BASE64.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok()) else {
        return false;
    };
    key.verify_strict(canonical(&signed_part(object)).as_bytes(), &signature).is_ok()
}

/// An ed25519 key, if this is one.
pub(crate) fn public_key_of(text: &str) -> Option<VerifyingKey> {
    let bytes: [u8; 32] = BASE64.decode(text).ok()?.try_into().ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}

/// Adds a signature to those the object has.
pub(crate) fn add_signature(object: &mut CanonicalJsonObject, user: String, key_id: String, signature: String) {
    let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
    let signatures = object.entry("signatures".to_owned()).or_insert_with(empty);
    let CanonicalJsonValue::Object(signatures) = signatures else { return };
    let CanonicalJsonValue::Object(of_user) = signatures.entry(user).or_insert_with(empty) else { return };
    of_user.insert(key_id, signature.into());
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    fn object(json: serde_json::Value) -> CanonicalJsonObject {
        serde_json::from_value(json).expect("canonical JSON")
    }

    #[test]
    fn a_signature_holds_for_what_was_signed_and_by_whom() {
        let signer = SigningKey::from_bytes(&[7; 32]);
        let public = BASE64.encode(signer.verifying_key().as_bytes());
        let mut signed = object(serde_json::json!({ "b": 1, "a": "ä", "unsigned": { "x": 2 } }));
        let signature = BASE64.encode(signer.sign(r#"{"a":"ä","b":1}"#.as_bytes()).to_bytes());
        assert!(is_signature(&signed, &signature, &public));
        assert!(is_signature(&signed, &format!("{signature}=="), &public), "padding is no matter");
        add_signature(&mut signed, "@a:b".to_owned(), "ed25519:x".to_owned(), signature.clone());
        assert_eq!(super::signature(&signed, "@a:b", "ed25519:x"), Some(&*signature));
        assert!(is_signature(&signed, &signature, &public), "signatures are not signed");
        let other = BASE64.encode(SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes());
        assert!(!is_signature(&signed, &signature, &other));
        signed.insert("b".to_owned(), true.into());
        assert!(!is_signature(&signed, &signature, &public));
        assert!(!is_signature(&signed, "nonsense", "nonsense"));
    }
}
