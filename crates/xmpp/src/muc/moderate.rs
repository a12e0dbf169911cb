//! XEP-0425: Moderated Message Retraction: taking away what somebody else said.

use std::sync::Arc;

use koine_projection::muc::Role;
use koine_room::Sender;
use koine_stanza::{Condition, StanzaError, ns};
use ruma_common::EventId;

use super::{name, refused, settings::Settings, standing, unreadable};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
    xep::archive::TOMBSTONES,
};

/// Retraction by moderators.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Room, ns::MODERATE), (At::Room, ns::RETRACT), (At::Room, TOMBSTONES)],
    handlers: &[Handler {
        at: &[At::Room],
        verbs: &[Verb::Set],
        name: "moderate",
        ns: ns::MODERATE,
        run: |core, request| Box::pin(answer(core, request)),
    }],
};

async fn answer(core: Arc<Core>, request: Request) -> Answer {
    let Some(room) = name::room(&core, &request.to.to_bare())? else {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room"));
    };
    let Some(user) = core.person_of(&request.from.to_bare()) else { return Err(Condition::Forbidden.into()) };
    let settings = Settings::of(core.rooms(), &room).map_err(|error| unreadable(&error))?;
    let (_, role) = standing::of(&room, &user, settings.members_only).map_err(|error| unreadable(&error))?;
    if role < Role::Moderator {
        return Err(StanzaError::new(Condition::Forbidden, "only moderators take away what others said"));
    }
    if !request.payload.has_child("retract", ns::RETRACT) {
        return Err(StanzaError::new(Condition::FeatureNotImplemented, "the moderation that exists is to retract"));
    }
    let event = request.payload.attr("id").and_then(|id| <&EventId>::try_from(id).ok());
    let known = match event {
        Some(event) => room.event(event).map_err(|error| unreadable(&error))?.is_some(),
        None => false,
    };
    let (Some(event), true) = (event, known) else {
        return Err(StanzaError::new(Condition::ItemNotFound, "the room has no message of that id"));
    };
    let reason = request.payload.child_text("reason", ns::MODERATE);
    let sender = Sender { user: &user, device: None };
    core.rooms().redact(sender, room.id(), event, reason.as_deref(), None).await.map_err(|error| refused(&error))?;
    Ok(None)
}
