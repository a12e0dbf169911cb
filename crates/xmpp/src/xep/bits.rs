//! XEP-0231: Bits of Binary. The bits that an account has are its pictures: whoever knows the hash of one, as presence and
//! metadata tell it, gets it from the account while no client is there.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_stanza::{Condition, Element, StanzaError};

use super::avatar;
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const BOB: &str = "urn:xmpp:bob";
/// For how long others keep a picture, in seconds: it is named by its hash, so it never changes.
const MAX_AGE_S: u64 = 86_400;

/// Asked of accounts.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Account, BOB)],
    handlers: &[Handler {
        at: &[At::Account],
        verbs: &[Verb::Get],
        name: "data",
        ns: BOB,
        run: |core, request| Box::pin(async move { get(&core, &request) }),
    }],
};

/// [XEP-0231 §retrieving]
fn get(core: &Core, request: &Request) -> Answer {
    let nothing = || StanzaError::new(Condition::ItemNotFound, "there are no such bits");
    let user = request.account.as_ref().filter(|user| core.is_account(user)).ok_or_else(nothing)?;
    let cid = request.payload.attr("cid");
    let cid = cid.ok_or_else(|| StanzaError::new(Condition::BadRequest, "say which, by `cid`"))?;
    let hash = cid.strip_prefix("sha1+").and_then(|rest| rest.strip_suffix("@bob.xmpp.org")).ok_or_else(nothing)?;
    let blocked = core.person_of(&request.from.to_bare()).is_some_and(|asker| core.has_blocked(user, &asker));
    let bytes = avatar::picture(core, user, hash).filter(|_| !blocked).ok_or_else(nothing)?;
    let kind = avatar::current(core, user).filter(|(current, _)| current == hash);
    let kind = kind.as_ref().and_then(|(_, info)| info.kind()).unwrap_or("image/png");
    let data = Element::text_of("data", BOB, BASE64_STANDARD.encode(bytes))
        .with_attr("cid", cid)
        .with_attr("max-age", MAX_AGE_S.to_string())
        .with_attr("type", kind);
    Ok(Some(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, condition};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_picture_is_had_by_its_hash() {
        let world = World::new();
        let (alice, mut bob) = (world.connect("alice", "a").await, world.connect("bob", "b").await);
        avatar::set(world.core(), alice.session.user(), b"not quite a picture", "image/png").await;
        let (hash, _) = avatar::current(world.core(), alice.session.user()).expect("she has one");
        let ask = |hash: &str| {
            format!(
                "<iq type='get' id='b' to='alice@example.org'><data xmlns='{BOB}' cid='sha1+{hash}@bob.xmpp.org'/></iq>"
            )
        };
        let got = bob.ask(&ask(&hash)).await;
        let data = got.child("data", BOB).expect("the picture");
        assert_eq!(BASE64_STANDARD.decode(data.text()).expect("base64"), b"not quite a picture");
        assert_eq!(condition(&bob.ask(&ask("00")).await).as_deref(), Some("item-not-found"));
    }
}
