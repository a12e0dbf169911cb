//! XEP-0054: vcard-temp, and XEP-0292 on request: what somebody says of themselves, with the name and the avatar of the one
//! profile.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_account::Drawer;
use koine_stanza::{Condition, Element, StanzaError};

use super::{
    avatar,
    pep::{parse, set_profile},
};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The protocol.
const VCARD: &str = "vcard-temp";
/// The newer one. [XEP-0292]
const VCARD4: &str = "urn:ietf:params:xml:ns:vcard-4.0";
/// Its node.
const VCARD4_NODE: &str = "urn:xmpp:vcard4";
/// Under which name the card is kept.
const NAME: &str = "vCard vcard-temp";

/// Asked of accounts.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Host, VCARD), (At::Host, VCARD4), (At::Account, VCARD), (At::Account, VCARD4)],
    handlers: &[
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "vCard",
            ns: VCARD,
            run: |core, request| Box::pin(async move { get(&core, &request) }),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Set],
            name: "vCard",
            ns: VCARD,
            run: |core, request| Box::pin(set(core, request)),
        },
        Handler {
            at: &[At::Account],
            verbs: &[Verb::Get],
            name: "vcard",
            ns: VCARD4,
            run: |core, request| Box::pin(async move { get4(&core, &request) }),
        },
    ],
};

fn get(core: &Core, request: &Request) -> Answer {
    let nobody = || StanzaError::new(Condition::ServiceUnavailable, "there is nobody of that name");
    let user = request.account.as_ref().filter(|user| core.is_account(user)).ok_or_else(nobody)?;
    let kept = core.accounts().kept(user, Drawer::Private, NAME).ok().flatten();
    let card = kept.and_then(|card| parse(&card));
    let (name, _) = core.accounts().display_profile(user).unwrap_or_default();
    let picture = avatar::current(core, user);
    if card.is_none() && name.is_none() && picture.is_none() {
        // [XEP-0054 §retrieve] An empty card for oneself; for others there is none.
        return match request.is_own() {
            true => Ok(Some(Element::new("vCard", VCARD))),
            false => Err(StanzaError::new(Condition::ServiceUnavailable, "they say nothing of themselves")),
        };
    }
    let mut card = card.unwrap_or_else(|| Element::new("vCard", VCARD));
    card.retain_children(|child| child.name() != "PHOTO");
    if let Some(name) = name {
        for field in ["FN", "NICKNAME"] {
            if !card.has_child(field, VCARD) {
                card.push(Element::text_of(field, VCARD, name.as_str()));
            }
        }
    }
    if let Some((hash, info)) = picture
        && let Some(bytes) = avatar::picture(core, user, &hash)
    {
        let photo = Element::new("PHOTO", VCARD)
            .with_child(Element::text_of("TYPE", VCARD, info.kind().unwrap_or("image/png")))
            .with_child(Element::text_of("BINVAL", VCARD, BASE64_STANDARD.encode(bytes)));
        card.push(photo);
    }
    Ok(Some(card))
}

async fn set(core: Arc<Core>, request: Request) -> Answer {
    let user = request.own_session()?.user().clone();
    let mut card = request.payload.clone();
    let photo = card.child("PHOTO", VCARD).cloned();
    card.retain_children(|child| child.name() != "PHOTO");
    let photo = photo.and_then(|photo| {
        let bytes = avatar::decoded(photo.child("BINVAL", VCARD)?)?;
        Some((bytes, photo.child_text("TYPE", VCARD).unwrap_or_else(|| "image/png".to_owned())))
    });
    core.accounts().keep(&user, Drawer::Private, NAME, Some(card.to_xml())).await.map_err(|error| {
        let condition = match error {
            koine_account::KeepError::TooLarge(_) | koine_account::KeepError::TooMany => Condition::ResourceConstraint,
            _ => Condition::InternalServerError,
        };
        StanzaError::new(condition, error.to_string())
    })?;
    let name = card.child_text("NICKNAME", VCARD).or_else(|| card.child_text("FN", VCARD));
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        set_profile(&core, &user, "displayname", &name).await;
    }
    if let Some((bytes, kind)) = photo {
        avatar::set(&core, &user, &bytes, &kind).await;
    }
    Ok(None)
}

fn get4(core: &Core, request: &Request) -> Answer {
    let nothing = || StanzaError::new(Condition::ItemNotFound, "they say nothing of themselves");
    let user = request.account.as_ref().ok_or_else(nothing)?;
    let kept = core.accounts().node_items(user, VCARD4_NODE, 1).ok().and_then(|mut items| items.pop());
    let card = kept.and_then(|(_, item)| parse(&item.payload));
    if let Some(card) = card {
        let config = core.accounts().node(user, VCARD4_NODE).ok().flatten().ok_or_else(nothing)?;
        super::pep::readable(core, user, (VCARD4_NODE, &config), &request.from.to_bare())?;
        return Ok(Some(card));
    }
    let (name, _) = core.accounts().display_profile(user).unwrap_or_default();
    let name = name.ok_or_else(nothing)?;
    let text =
        |field: &'static str| Element::new(field, VCARD4).with_child(Element::text_of("text", VCARD4, name.as_str()));
    Ok(Some(Element::new("vcard", VCARD4).with_child(text("fn")).with_child(text("nickname"))))
}
