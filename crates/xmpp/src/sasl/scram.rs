//! SCRAM: both sides prove that they know the password, and that the same TLS is around them. RFC 5802, RFC 7677.
//!
//! Names that nobody has get a salt and a count of iterations like others, always the same ones, and fail as others do who
//! mistype.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac as _};
use koine_account::{ScramHash, ScramKeys};
use ruma_common::OwnedUserId;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::{Attempt, END_POINT, EXPORTER, Failure, check_authzid, named, permit};

/// Characters of what we add to the client's nonce.
const NONCE_BYTES: usize = 18;
/// The fewest iterations of PBKDF2. [RFC7677 §4]
const ITERATIONS_MIN: u32 = 4096;

/// SCRAM after the challenge.
pub(crate) struct Challenged {
    keys: ScramKeys,
    /// Nobody, if there is no such account.
    user: Option<OwnedUserId>,
    authzid: String,
    nonce: String,
    /// What `c=` must hold.
    binding: Vec<u8>,
    /// client-first-message-bare "," server-first-message ","
    messages: String,
}

/// Takes the client-first-message; answers the server-first-message. [RFC5802 §5]
pub(super) fn begin(
    message: &[u8],
    hash: ScramHash,
    is_plus: bool,
    attempt: &Attempt<'_>,
) -> Result<(Vec<u8>, Challenged), Failure> {
    let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
    let first = First::parse(text).ok_or(Failure::MalformedRequest)?;
    let mut binding = first.header.as_bytes().to_vec();
    match first.flag {
        Flag::Bound(kind) if is_plus => {
            let data = match kind {
                EXPORTER => attempt.security.exporter.as_ref(),
                END_POINT => attempt.security.end_point.as_ref(),
                _ => None,
            };
            binding.extend(data.ok_or(Failure::MalformedRequest)?);
        }
        Flag::Bound(_) => return Err(Failure::MalformedRequest),
        _ if is_plus => return Err(Failure::MalformedRequest),
        // [RFC5802 §6] It can, and thinks that we cannot: somebody took our offer from the list.
        Flag::CouldBind if attempt.offer.has_plus() => return Err(Failure::NotAuthorized),
        Flag::CouldBind | Flag::None => {}
    }
    let aimed = named(&first.name, attempt);
    permit(attempt, aimed.as_ref())?;
    let found = match &aimed {
        Some(user) => attempt.core.accounts().scram_keys(user.localpart(), hash).map_err(|error| {
            tracing::error!(reason = %error, "an account cannot be read: nobody can log in");
            Failure::TemporaryAuthFailure
        })?,
        None => None,
    };
    // An account has one salt however its name is written, and so has one that is not there.
    let decoy = decoy(aimed.as_ref().map_or(&*first.name, |user| user.as_str()), hash, attempt);
    let (keys, user) = match found {
        Some(keys) => (keys, aimed),
        None => (decoy, None),
    };
    let nonce = format!("{}{}", first.nonce, BASE64_STANDARD.encode(rand::random::<[u8; NONCE_BYTES]>()));
    let mut challenge = format!("r={nonce},s={},i={}", BASE64_STANDARD.encode(&keys.salt), keys.iterations);
    challenge.push_str(",h=");
    challenge.push_str(&BASE64_STANDARD.encode(digest(hash, offer_text(attempt).as_bytes())));
    let messages = format!("{},{challenge},", first.bare);
    let authzid = first.authzid;
    Ok((challenge.into_bytes(), Challenged { keys, user, authzid, nonce, binding, messages }))
}

/// What the client should have been offered, as one text. [XEP-0474 §4.1]
fn offer_text(attempt: &Attempt<'_>) -> String {
    let sorted = |list: &[&str]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list.join("\u{1e}")
    };
    let mut text = sorted(&attempt.offer.mechanisms);
    if !attempt.offer.bindings.is_empty() {
        text.push('\u{1f}');
        text.push_str(&sorted(&attempt.offer.bindings));
    }
    text
}

impl Challenged {
    /// Takes the client-final-message; answers who it is, and the server-final-message.
    pub(super) fn finish(self, message: &[u8], attempt: &Attempt<'_>) -> Result<(OwnedUserId, Vec<u8>), Failure> {
        let text = std::str::from_utf8(message).map_err(|_| Failure::MalformedRequest)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Failure::MalformedRequest)?;
        let mut parts = without_proof.split(',');
        let binding = parts.next().and_then(|part| part.strip_prefix("c=")).ok_or(Failure::MalformedRequest)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(Failure::MalformedRequest)?;
        let binding = BASE64_STANDARD.decode(binding).map_err(|_| Failure::MalformedRequest)?;
        let proof = BASE64_STANDARD.decode(proof).map_err(|_| Failure::MalformedRequest)?;
        let hash = self.keys.hash;
        let auth_message = format!("{}{without_proof}", self.messages);
        let signature = hmac(hash, &self.keys.stored_key, auth_message.as_bytes());
        if proof.len() != signature.len() {
            return Err(Failure::NotAuthorized);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        let proves = digest(hash, &client_key).ct_eq(&self.keys.stored_key)
            & binding.ct_eq(&self.binding)
            & nonce.as_bytes().ct_eq(self.nonce.as_bytes());
        let user = self.user.filter(|_| bool::from(proves)).ok_or(Failure::NotAuthorized)?;
        check_authzid(&self.authzid, Some(&user), attempt)?;
        let verifier = hmac(hash, &self.keys.server_key, auth_message.as_bytes());
        Ok((user, format!("v={}", BASE64_STANDARD.encode(verifier)).into_bytes()))
    }
}

/// Keys of an account that does not exist: the same salt each time it is asked for.
fn decoy(name: &str, hash: ScramHash, attempt: &Attempt<'_>) -> ScramKeys {
    let secret = &attempt.core.secret;
    let text = format!("decoy {hash:?} {name}");
    let salt = hmac(ScramHash::Sha256, secret, text.as_bytes())[..16].to_vec();
    let iterations = attempt.core.accounts().config().passwords.scram_iterations.max(ITERATIONS_MIN);
    // Which nobody can know the inverse of.
    let stored_key = digest(hash, &rand::random::<[u8; 32]>());
    ScramKeys { hash, salt, iterations, server_key: stored_key.clone(), stored_key }
}

/// What a client says of channel bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag<'a> {
    /// It cannot.
    None,
    /// It can, but thinks that we cannot.
    CouldBind,
    /// It does, with this.
    Bound(&'a str),
}

/// The client-first-message.
#[derive(Debug)]
struct First<'a> {
    flag: Flag<'a>,
    /// gs2-header
    header: &'a str,
    authzid: String,
    /// client-first-message-bare
    bare: &'a str,
    name: String,
    nonce: &'a str,
}

impl<'a> First<'a> {
    /// [RFC5802 §7]
    fn parse(text: &'a str) -> Option<Self> {
        let (flag, rest) = text.split_once(',')?;
        let (authzid, bare) = rest.split_once(',')?;
        let header = &text[..text.len() - bare.len()];
        let flag = match flag {
            "n" => Flag::None,
            "y" => Flag::CouldBind,
            _ => Flag::Bound(flag.strip_prefix("p=").filter(|kind| !kind.is_empty())?),
        };
        let authzid = match authzid {
            "" => String::new(),
            _ => unescape(authzid.strip_prefix("a=")?)?,
        };
        // An `m=` in front is an extension that we would have to know.
        let mut parts = bare.split(',');
        let name = unescape(parts.next()?.strip_prefix("n=")?)?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        let is_printable = |byte: u8| matches!(byte, 0x21..=0x7e) && byte != b',';
        let is_good = !name.is_empty() && !nonce.is_empty() && nonce.bytes().all(is_printable);
        is_good.then_some(Self { flag, header, authzid, bare, name, nonce })
    }
}

/// `saslname`: `=2C` and `=3D` are the only escapes.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        match part.split_at_checked(2)? {
            ("2C", rest) => out = out + "," + rest,
            ("3D", rest) => out = out + "=" + rest,
            _ => return None,
        }
    }
    Some(out)
}

fn digest(hash: ScramHash, bytes: &[u8]) -> Vec<u8> {
    match hash {
        ScramHash::Sha1 => Sha1::digest(bytes).to_vec(),
        ScramHash::Sha256 => Sha256::digest(bytes).to_vec(),
        ScramHash::Sha512 => Sha512::digest(bytes).to_vec(),
    }
}

fn hmac(hash: ScramHash, key: &[u8], text: &[u8]) -> Vec<u8> {
    const ANY: &str = "any length is a key";
    match hash {
        ScramHash::Sha1 => {
            Hmac::<Sha1>::new_from_slice(key).expect(ANY).chain_update(text).finalize().into_bytes().to_vec()
        }
        ScramHash::Sha256 => {
            Hmac::<Sha256>::new_from_slice(key).expect(ANY).chain_update(text).finalize().into_bytes().to_vec()
        }
        ScramHash::Sha512 => {
            Hmac::<Sha512>::new_from_slice(key).expect(ANY).chain_update(text).finalize().into_bytes().to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_taken_apart() {
        let first = First::parse("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").expect("the one of RFC 5802");
        assert_eq!((first.flag, first.header, first.name.as_str()), (Flag::None, "n,,", "user"));
        let first = First::parse("p=tls-exporter,a=x@y,n=a=2Cb=3D,r=1,x=y").expect("with everything");
        assert_eq!((first.flag, first.authzid.as_str()), (Flag::Bound("tls-exporter"), "x@y"));
        assert_eq!((first.name.as_str(), first.header), ("a,b=", "p=tls-exporter,a=x@y,"));
        for wrong in
            ["", "n", "n,,", "n,,n=,r=1", "n,,n=a", "n,,n=a,r=", "x,,n=a,r=1", "n,,m=1,n=a,r=1", "n,,n=a=2c,r=1"]
        {
            assert!(First::parse(wrong).is_none(), "{wrong}");
        }
    }

    /// [XEP-0474 §4.3]
    #[test]
    fn the_hash_of_the_offer_is_the_published_one() {
        let text = "SCRAM-SHA-1\u{1e}SCRAM-SHA-1-PLUS\u{1f}tls-exporter\u{1e}tls-server-end-point";
        assert_eq!(BASE64_STANDARD.encode(digest(ScramHash::Sha1, text.as_bytes())), "G6k/rBLDqgOhRRaCuuatSDFkJ08=");
    }
}
