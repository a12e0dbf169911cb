//! What owners do: the settings, and the end of a room. [XEP-0045 §owner]

use std::sync::Arc;

use koine_projection::muc::Affiliation;
use koine_room::{CommandError, Room};
use koine_stanza::{Condition, Element, Jid, StanzaError, form::Form, ns};
use ruma_common::{OwnedUserId, UserId};
use serde_json::json;

use super::{
    happened::{Ending, destroyed},
    name, refused,
    settings::{ROOM_CONFIG, Settings},
    standing, unreadable,
};
use crate::{
    core::Core,
    iq::{Answer, At, Extension, Handler, Request, Verb},
};

/// The form of the settings, and destroying.
pub(crate) const EXTENSION: Extension = Extension {
    features: &[(At::Room, ns::MUC_OWNER)],
    handlers: &[Handler {
        at: &[At::Room],
        verbs: &[Verb::Get, Verb::Set],
        name: "query",
        ns: ns::MUC_OWNER,
        run: |core, request| Box::pin(answer(core, request)),
    }],
};

async fn answer(core: Arc<Core>, request: Request) -> Answer {
    let Some(room) = name::room(&core, &request.to.to_bare())? else {
        return Err(StanzaError::new(Condition::ItemNotFound, "there is no such room"));
    };
    let read = |error| unreadable(&error);
    let settings = Settings::of(core.rooms(), &room).map_err(read)?;
    let owner = core.person_of(&request.from.to_bare());
    let owner = match owner {
        Some(user) if standing::of(&room, &user, settings.members_only).map_err(read)?.0 == Affiliation::Owner => user,
        _ => return Err(StanzaError::new(Condition::Forbidden, "only owners may do this")),
    };
    if request.verb == Verb::Get {
        return Ok(Some(Element::new("query", ns::MUC_OWNER).with_child(settings.form("form").element())));
    }
    if let Some(destroy) = request.payload.child("destroy", ns::MUC_OWNER) {
        return destroy_room(&core, &room, &owner, destroy).await;
    }
    let Some(form) = Form::within(&request.payload) else {
        return Err(StanzaError::new(Condition::BadRequest, "a form or a wish to destroy the room was expected"));
    };
    match form.kind.as_str() {
        "cancel" => {
            // [XEP-0045 §createroom-general] A room whose set-up is cancelled never came to be.
            if let Some(hall) = core.muc.hall(room.no())
                && hall.inside.lock().await.locked.is_some()
            {
                end(&core, &room, &owner, None, Ending::default()).await?;
            }
            Ok(None)
        }
        "submit" => {
            if form.form_type.as_deref().is_some_and(|kind| kind != ROOM_CONFIG) {
                return Err(StanzaError::new(
                    Condition::BadRequest,
                    "this is another form than the one of the settings",
                ));
            }
            configure(&core, &room, &owner, &settings, &form).await?;
            if let Some(hall) = core.muc.hall(room.no()) {
                hall.inside.lock().await.locked = None;
            }
            Ok(None)
        }
        _ => Err(StanzaError::new(Condition::BadRequest, "the form is neither submitted nor cancelled")),
    }
}

async fn configure(
    core: &Arc<Core>,
    room: &Arc<Room>,
    owner: &OwnedUserId,
    settings: &Settings,
    form: &Form,
) -> Result<(), StanzaError> {
    let new = settings.with(form).map_err(|text| StanzaError::new(Condition::NotAcceptable, text))?;
    let levels = standing::levels_content(room).map_err(|error| unreadable(&error))?;
    for (kind, content) in settings.changes(&new, &levels) {
        standing::set_state(core, owner, room, kind, "", &content).await.map_err(|error| refused(&error))?;
    }
    if settings.listed != new.listed {
        core.rooms().set_listed(owner, room.id(), new.listed).await.map_err(|error| refused(&error))?;
    }
    for (role, least) in [("roomowners", Affiliation::Owner), ("roomadmins", Affiliation::Admin)] {
        let Some(field) = form.field(&format!("muc#roomconfig_{role}")) else { continue };
        for jid in &field.values {
            let jid = Jid::new(jid)
                .map_err(|_| StanzaError::new(Condition::JidMalformed, format!("{role} holds what is no address")))?;
            let Some(target) = core.person_of(&jid.to_bare()) else { continue };
            let has = standing::of(room, &target, new.members_only).map_err(|error| unreadable(&error))?.0;
            if has < least {
                let change = standing::Promotion {
                    actor: owner,
                    target: &target,
                    to: least,
                    reason: None,
                    members_only: new.members_only,
                };
                standing::set_affiliation(core, room, change).await?;
            }
        }
    }
    Ok(())
}

/// [XEP-0045 §destroyroom]
async fn destroy_room(core: &Arc<Core>, room: &Arc<Room>, owner: &UserId, destroy: &Element) -> Answer {
    let (reason, password) =
        (destroy.child_text("reason", ns::MUC_OWNER), destroy.child_text("password", ns::MUC_OWNER));
    let to = match destroy.attr("jid") {
        Some(jid) => Some(
            Jid::new(jid).map_err(|_| StanzaError::new(Condition::JidMalformed, "the other venue is no address"))?,
        ),
        None => None,
    };
    let words = Ending { to: None, reason: reason.as_deref(), password: password.as_deref() };
    end(core, room, owner, to.as_ref(), words).await?;
    Ok(None)
}

/// Sends everybody out, and dissolves the room.
async fn end(
    core: &Arc<Core>,
    room: &Arc<Room>,
    owner: &UserId,
    to: Option<&Jid>,
    words: Ending<'_>,
) -> Result<(), StanzaError> {
    if let Some(hall) = core.muc.hall(room.no()) {
        let mut inside = hall.inside.lock().await;
        let to = to.map(ToString::to_string);
        destroyed(core, &hall, &mut inside, Ending { to: to.as_deref(), ..words }).await;
    }
    dissolve(core, room, owner, to.map(Jid::to_bare)).await.map_err(|error| refused(&error))
}

/// Takes away the room's names, points to where it goes on, and sends its people home, the owner last.
pub(super) async fn dissolve(
    core: &Core,
    room: &Arc<Room>,
    owner: &UserId,
    to: Option<koine_stanza::BareJid>,
) -> Result<(), CommandError> {
    let rooms = core.rooms();
    if let Some(to) = to
        && let Ok(Some(other)) = name::room(core, &to)
    {
        let content = json!({ "body": "This room has been replaced", "replacement_room": other.id() });
        // A level may be missing for it: the room ends without a word then.
        let _ = standing::set_state(core, owner, room, "m.room.tombstone", "", &content).await;
    }
    if rooms.is_listed(room.id())? {
        rooms.set_listed(owner, room.id(), false).await?;
    }
    let closed = json!({ "join_rule": "invite" });
    standing::set_state(core, owner, room, "m.room.join_rules", "", &closed).await?;
    for alias in rooms.aliases(room.id())? {
        rooms.delete_alias(owner, &alias).await?;
    }
    for (member, _) in room.joined_members()? {
        if *member != *owner {
            // Somebody of the same level stays, in a room without a name.
            let _ = rooms.kick(owner, room.id(), &member, Some("The room was dissolved")).await;
        }
    }
    rooms.leave(owner, room.id(), None).await
}
