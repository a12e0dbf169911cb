//! XEP-0486: MUC Avatars: the picture of a room, as its card. It is `m.room.avatar`.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_projection::muc::Affiliation;
use koine_room::{ReadError, Room};
use koine_stanza::{Condition, Element, StanzaError, form::Field};
use serde_json::json;

use super::{info::find_known, refused, settings::Settings, standing, unreadable};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    xep::avatar,
};

/// The protocol.
const VCARD: &str = "vcard-temp";

/// Asked of rooms.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::RoomService, VCARD), (At::Room, VCARD)],
    handlers: &[
        Handler {
            at: &[At::Room],
            verbs: &[Verb::Get],
            name: "vCard",
            ns: VCARD,
            run: |core, request| Box::pin(get(core, request)),
        },
        Handler {
            at: &[At::Room],
            verbs: &[Verb::Set],
            name: "vCard",
            ns: VCARD,
            run: |core, request| Box::pin(set(core, request)),
        },
    ],
};

/// The address of the room's picture.
fn url(room: &Room) -> Result<Option<String>, ReadError> {
    let avatar = room.current("m.room.avatar", "")?;
    Ok(avatar.and_then(|placed| placed.event.content_field::<String>("url")).filter(|url| !url.is_empty()))
}

/// The field by which clients learn of the picture. [XEP-0486 §disco-avatar-hash]
pub(super) async fn hash(core: &Core, room: &Room) -> Result<Option<Field>, ReadError> {
    let Some(url) = url(room)? else { return Ok(None) };
    let known = core.muc.pictures.get(&url);
    let hash = match known {
        Some(hash) => hash,
        None => {
            let Some((bytes, _)) = avatar::fetch(core, &url).await else { return Ok(None) };
            let hash = avatar::hash_of(&bytes);
            core.muc.pictures.insert(url, hash.clone());
            hash
        }
    };
    Ok(Some(Field::new("muc#roominfo_avatarhash", "text-multi", "Avatar hash").with(hash)))
}

/// [XEP-0486 §retrieve-vcard]
async fn get(core: Arc<Core>, request: Request) -> Answer {
    let room = find_known(&core, &request)?;
    let mut card = Element::new("vCard", VCARD);
    if let Some(url) = url(&room).map_err(|error| unreadable(&error))?
        && let Some((bytes, kind)) = avatar::fetch(&core, &url).await
    {
        let photo = Element::new("PHOTO", VCARD)
            .with_child(Element::text_of("TYPE", VCARD, kind))
            .with_child(Element::text_of("BINVAL", VCARD, BASE64_STANDARD.encode(bytes)));
        card.push(photo);
    }
    Ok(Some(card))
}

/// [XEP-0486 §owner-publish]
async fn set(core: Arc<Core>, request: Request) -> Answer {
    let room = find_known(&core, &request)?;
    let forbidden = || StanzaError::new(Condition::Forbidden, "only owners give a room its picture");
    let user = core.person_of(&request.from.to_bare()).ok_or_else(forbidden)?;
    let settings = Settings::of(core.rooms(), &room).map_err(|error| unreadable(&error))?;
    let (affiliation, _) = standing::of(&room, &user, settings.members_only).map_err(|error| unreadable(&error))?;
    if affiliation < Affiliation::Owner {
        return Err(forbidden());
    }
    let content = match request.payload.child("PHOTO", VCARD) {
        None => json!({}),
        Some(photo) => {
            let bytes = photo.child("BINVAL", VCARD).and_then(avatar::decoded);
            let bytes = bytes.ok_or_else(|| {
                StanzaError::new(Condition::NotAcceptable, "this is no picture in base64, or too large")
            })?;
            // Files belong to people of ours.
            if !core.is_account(&user) {
                return Err(StanzaError::new(
                    Condition::NotAllowed,
                    "files are taken from people of this server alone",
                ));
            }
            let kind = photo.child_text("TYPE", VCARD).unwrap_or_else(|| "image/png".to_owned());
            let info = json!({ "mimetype": kind, "size": bytes.len() });
            let url = avatar::upload(&core, &user, &bytes, kind).await;
            let url = url.map_err(|error| StanzaError::new(Condition::ResourceConstraint, error.to_string()))?;
            json!({ "url": url, "info": info })
        }
    };
    standing::set_state(&core, &user, &room, "m.room.avatar", "", &content).await.map_err(|error| refused(&error))?;
    Ok(None)
}
