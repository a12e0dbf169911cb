//! Affiliations and roles of people, read from the room and written to it. [XEP-0045 §associations]

use std::{collections::HashMap, sync::Arc};

use koine_graph::{Membership, PowerLevels};
use koine_projection::muc::{self, Affiliation, Known, MEMBER, Role};
use koine_room::{CommandError, Profile, ReadError, Room, Sender};
use koine_stanza::{Condition, StanzaError};
use ruma_common::{OwnedUserId, UserId};
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{refused, unreadable};
use crate::core::Core;

/// Type of the state event by which somebody reserves a nickname for themselves; the state key is their own id, so nobody
/// else can.
pub(super) const NICK: &str = "koine.muc.nick";
/// Most people whom a list of affiliations tells of.
pub(super) const LISTED_MAX: usize = 10_000;

/// The power levels of the room now.
pub(super) fn levels(room: &Room) -> Result<PowerLevels, ReadError> {
    let (create, levels) = (room.current("m.room.create", "")?, room.current("m.room.power_levels", "")?);
    let event = |placed: &Option<Arc<koine_room::Placed>>| placed.as_ref().map(|placed| placed.event.clone());
    Ok(PowerLevels::new(&room.rules().authorization, event(&create).as_ref(), event(&levels).as_ref()))
}

/// The membership of somebody now.
pub(super) fn membership(room: &Room, user: &UserId) -> Result<Option<Membership>, ReadError> {
    Ok(room.current("m.room.member", user.as_str())?.and_then(|placed| placed.event.membership()))
}

/// What the room knows of somebody.
pub(super) fn known(room: &Room, user: &UserId, members_only: bool) -> Result<Known, ReadError> {
    let membership = membership(room, user)?;
    Ok(Known {
        banned: membership == Some(Membership::Ban),
        inside: matches!(membership, Some(Membership::Join | Membership::Invite)),
        members_only,
        listed: is_listed(room, user)?,
    })
}

/// Affiliation and role of somebody.
pub(super) fn of(room: &Room, user: &UserId, members_only: bool) -> Result<(Affiliation, Role), ReadError> {
    let levels = levels(room)?;
    Ok((muc::affiliation(&levels, user, known(room, user, members_only)?), muc::role(&levels, user)))
}

/// State keys that begin with `@` belong to that user alone; a list that admins keep does without.
fn member_key(user: &UserId) -> &str {
    user.as_str().trim_start_matches('@')
}

fn is_listed(room: &Room, user: &UserId) -> Result<bool, ReadError> {
    let by_admin = room.current(MEMBER, member_key(user))?;
    if by_admin.is_some_and(|placed| placed.event.content_field::<bool>("member") == Some(true)) {
        return Ok(true);
    }
    Ok(reserved_nick(room, user)?.is_some())
}

/// The nickname that somebody has reserved.
pub(super) fn reserved_nick(room: &Room, user: &UserId) -> Result<Option<String>, ReadError> {
    let event = room.current(NICK, user.as_str())?;
    Ok(event.and_then(|placed| placed.event.content_field::<String>("nick")).filter(|nick| !nick.is_empty()))
}

/// Nicknames that are reserved, and for whom.
pub(super) fn reserved_nicks(room: &Room) -> Result<HashMap<String, OwnedUserId>, ReadError> {
    let reserved = room.state_events(room.published().state, Some(NICK))?.into_iter().take(LISTED_MAX);
    let entry = |placed: Arc<koine_room::Placed>| {
        let nick = placed.event.content_field::<String>("nick").filter(|nick| !nick.is_empty())?;
        Some((nick, OwnedUserId::try_from(placed.event.state_key()?).ok()?))
    };
    Ok(reserved.filter_map(entry).collect())
}

/// Everybody with an affiliation of that kind.
pub(super) fn list(room: &Room, wanted: Affiliation, members_only: bool) -> Result<Vec<OwnedUserId>, ReadError> {
    let levels = levels(room)?;
    let state = room.published().state;
    let mut people: Vec<OwnedUserId> = levels.creators().to_vec();
    people.extend(levels.users().filter_map(|(user, _)| OwnedUserId::try_from(user).ok()));
    if matches!(wanted, Affiliation::Outcast) || (wanted == Affiliation::Member && members_only) {
        let members = room.state_events(state, Some("m.room.member"))?;
        people.extend(members.iter().filter_map(|placed| OwnedUserId::try_from(placed.event.state_key()?).ok()));
    }
    if wanted == Affiliation::Member {
        let listed = room.state_events(state, Some(MEMBER))?;
        people.extend(
            listed.iter().filter_map(|placed| OwnedUserId::try_from(format!("@{}", placed.event.state_key()?)).ok()),
        );
        let reserved = room.state_events(state, Some(NICK))?;
        people.extend(reserved.iter().filter_map(|placed| OwnedUserId::try_from(placed.event.state_key()?).ok()));
    }
    people.sort();
    people.dedup();
    let mut found = Vec::new();
    for user in people {
        if found.len() < LISTED_MAX && muc::affiliation(&levels, &user, known(room, &user, members_only)?) == wanted {
            found.push(user);
        }
    }
    Ok(found)
}

/// The content of the power levels event now.
pub(super) fn levels_content(room: &Room) -> Result<Map<String, Value>, ReadError> {
    let event = room.current("m.room.power_levels", "")?;
    Ok(event.and_then(|placed| serde_json::from_str(placed.event.content().get()).ok()).unwrap_or_default())
}

/// Sets a piece of state as somebody.
pub(super) async fn set_state(
    core: &Core,
    actor: &UserId,
    room: &Room,
    kind: &str,
    key: &str,
    content: &Value,
) -> Result<(), CommandError> {
    let content = to_raw_value(content).map_err(|error| CommandError::BadContent(error.to_string()))?;
    let sender = Sender { user: actor, device: None };
    core.rooms().set_state(sender, room.id(), kind, key, &content).await.map(drop)
}

/// Gives somebody a level, or with `None` that of everybody.
pub(super) async fn set_level(
    core: &Core,
    actor: &UserId,
    room: &Room,
    user: &UserId,
    level: Option<i64>,
) -> Result<(), StanzaError> {
    let mut content = levels_content(room).map_err(|error| unreadable(&error))?;
    let before = content.clone();
    let users = content.entry("users").or_insert_with(|| json!({}));
    if let Some(users) = users.as_object_mut() {
        match level {
            Some(level) => users.insert(user.to_string(), json!(level)),
            None => users.remove(user.as_str()),
        };
    }
    if content == before {
        return Ok(());
    }
    match set_state(core, actor, room, "m.room.power_levels", "", &Value::Object(content)).await {
        // Whoever stands as high as oneself keeps their level: nobody may do this.
        Err(CommandError::Refused(refusal)) => Err(StanzaError::new(Condition::NotAllowed, refusal.to_string())),
        other => other.map_err(|error| refused(&error)),
    }
}

/// Somebody's affiliation is to change.
pub(super) struct Promotion<'a> {
    pub(super) actor: &'a UserId,
    pub(super) target: &'a UserId,
    pub(super) to: Affiliation,
    pub(super) reason: Option<&'a str>,
    pub(super) members_only: bool,
}

/// Changes an affiliation in the room. Whether the actor may is known before; the room's own rules have the last word.
pub(super) async fn set_affiliation(core: &Core, room: &Arc<Room>, change: Promotion<'_>) -> Result<(), StanzaError> {
    let Promotion { actor, target, to, reason, members_only } = change;
    let read = |error: ReadError| unreadable(&error);
    let levels = levels(room).map_err(read)?;
    let known = known(room, target, members_only).map_err(read)?;
    let from = muc::affiliation(&levels, target, known);
    if from == to {
        return Ok(());
    }
    // The creators of rooms from version 12 on stand above all levels for ever.
    if levels.user_level(target) == koine_graph::Level::Creator && to < Affiliation::Owner {
        return Err(StanzaError::new(Condition::NotAllowed, "who made this room stays its owner"));
    }
    let rooms = core.rooms();
    if from == Affiliation::Outcast {
        rooms.unban(actor, room.id(), target, reason).await.map_err(|error| refused(&error))?;
    }
    let owner = levels
        .level_for_event("m.room.power_levels", true)
        .max(levels.level_for_event("m.room.history_visibility", true));
    let wanted = match to {
        Affiliation::Owner => Some(owner),
        Affiliation::Admin => Some(levels.ban()),
        // In a moderated room members have voice. [XEP-0045 §roles-default]
        Affiliation::Member if levels.level_for_event("m.room.message", false) > levels.users_default() => {
            Some(levels.level_for_event("m.room.message", false))
        }
        Affiliation::Member | Affiliation::None | Affiliation::Outcast => None,
    };
    let had = levels.users().find(|(user, _)| *user == target.as_str()).map(|(_, level)| level);
    if had != wanted && (wanted.is_some() || from >= Affiliation::Admin || from == Affiliation::Member) {
        set_level(core, actor, room, target, wanted).await?;
    }
    let listed = is_listed(room, target).map_err(read)?;
    if to == Affiliation::Member && !listed {
        let member = json!({ "member": true });
        set_state(core, actor, room, MEMBER, member_key(target), &member).await.map_err(|error| refused(&error))?;
    } else if to < Affiliation::Member && room.current(MEMBER, member_key(target)).map_err(read)?.is_some() {
        set_state(core, actor, room, MEMBER, member_key(target), &json!({})).await.map_err(|error| refused(&error))?;
    }
    match to {
        Affiliation::Outcast => rooms.ban(actor, room.id(), target, reason).await.map_err(|error| refused(&error))?,
        Affiliation::None if members_only && known.inside => {
            rooms.kick(actor, room.id(), target, reason).await.map_err(|error| refused(&error))?;
        }
        // Whoever is to enter must have been asked.
        Affiliation::Member | Affiliation::Admin | Affiliation::Owner if members_only && !known.inside => {
            let profile = Profile::default();
            rooms
                .invite(actor, room.id(), (target, &profile), reason, Map::new())
                .await
                .map_err(|error| refused(&error))?;
        }
        _ => {}
    }
    Ok(())
}

/// Somebody of ours in the room who may invite: lets in who is on the list of members.
pub(super) fn inviter(room: &Room) -> Result<Option<OwnedUserId>, ReadError> {
    let levels = levels(room)?;
    Ok(room.local_joined().into_iter().find(|user| levels.user_level(user).reaches(levels.invite())))
}
