//! What owners do: the settings, and the end of a room. [XEP-0045 §owner]

use std::sync::Arc;

use koine_projection::muc::Affiliation;
use koine_room::{CommandError, Room};
use koine_stanza::{
    Condition, Element, Jid, StanzaError,
    form::{Field, Form},
    ns,
};
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

/// People whom the form lists: its field, what that is called, and what they are. [XEP-0045 §registrar-formtype-owner]
const LISTS: [(&str, &str, Affiliation); 2] = [
    ("muc#roomconfig_roomowners", "Owners", Affiliation::Owner),
    ("muc#roomconfig_roomadmins", "Admins", Affiliation::Admin),
];

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
        let mut form = settings.form("form");
        for (var, label, standing) in LISTS {
            let people = listed(&core, &room, standing)?.into_iter().map(|(_, address)| address);
            form = form.with(Field { values: people.collect(), ..Field::new(var, "jid-multi", label) });
        }
        return Ok(Some(Element::new("query", ns::MUC_OWNER).with_child(form.element())));
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
    let promotions = promotions(core, room, owner, form)?;
    let levels = standing::levels_content(room).map_err(|error| unreadable(&error))?;
    for (kind, content) in settings.changes(&new, &levels) {
        standing::set_state(core, owner, room, kind, "", &content).await.map_err(|error| refused(&error))?;
    }
    if settings.listed != new.listed {
        core.rooms().set_listed(owner, room.id(), new.listed).await.map_err(|error| refused(&error))?;
    }
    for (target, to) in promotions {
        let members_only = new.members_only;
        let change = standing::Promotion { actor: owner, target: &target, to, reason: None, members_only };
        standing::set_affiliation(core, room, change).await?;
    }
    Ok(())
}

/// Who has such a standing, and an address.
fn listed(core: &Core, room: &Room, wanted: Affiliation) -> Result<Vec<(OwnedUserId, String)>, StanzaError> {
    let people = standing::list(room, wanted, false).map_err(|error| unreadable(&error))?;
    let addressed = |user: OwnedUserId| core.address_of(&user).map(|address| (user, address.to_string()));
    Ok(people.into_iter().filter_map(addressed).collect())
}

/// Whose affiliation a form changes, in the order in which `owner` may do it. The lists of a form are whole: whoever is not on
/// one stops being what it lists, and stays a member. A list that is left out changes nothing. [XEP-0045 §roomconfig]
fn promotions(
    core: &Core,
    room: &Room,
    owner: &UserId,
    form: &Form,
) -> Result<Vec<(OwnedUserId, Affiliation)>, StanzaError> {
    let named = |var: &str| -> Result<Option<Vec<OwnedUserId>>, StanzaError> {
        let Some(field) = form.field(var) else { return Ok(None) };
        let mut people = Vec::new();
        for text in field.values.iter().filter(|text| !text.trim().is_empty()) {
            let jid = Jid::new(text)
                .map_err(|_| StanzaError::new(Condition::JidMalformed, format!("{var} holds what is no address")))?;
            people.extend(core.person_of(&jid.to_bare()));
        }
        Ok(Some(people))
    };
    let [owners, admins] = [named(LISTS[0].0)?, named(LISTS[1].0)?];
    if owners.as_ref().is_some_and(Vec::is_empty) {
        // [XEP-0045 §revokeowner]
        return Err(StanzaError::new(Condition::Conflict, "a room has an owner: name one"));
    }
    let is_on = |list: &Option<Vec<OwnedUserId>>, user: &OwnedUserId| list.iter().flatten().any(|one| one == user);
    let levels = standing::levels(room).map_err(|error| unreadable(&error))?;
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (list, (_, _, standing)) in [&owners, &admins].into_iter().zip(LISTS) {
        let Some(people) = list else { continue };
        for user in people {
            let has = standing::of(room, user, false).map_err(|error| unreadable(&error))?.0;
            if has < standing && (standing == Affiliation::Owner || !is_on(&owners, user)) {
                up.push((user.clone(), standing));
            }
        }
        for (user, _) in listed(core, room, standing)? {
            if is_on(&owners, &user) || people.contains(&user) {
                continue;
            }
            if levels.user_level(&user) == koine_graph::Level::Creator {
                return Err(StanzaError::new(Condition::NotAllowed, "who made this room stays its owner"));
            }
            let to = if is_on(&admins, &user) { Affiliation::Admin } else { Affiliation::Member };
            down.push((user, to));
        }
    }
    // Whoever steps down may do no more.
    down.sort_by_key(|(user, _)| *user == *owner);
    up.extend(down);
    Ok(up)
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
