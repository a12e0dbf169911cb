//! Rooms: making them, coming and going, speaking, reading. [CS-API §rooms] [CS-API §room-membership]

mod ban_user;
mod create_room;
mod delete_alias;
mod forget_room;
mod get_alias;
mod get_context;
mod get_event;
mod get_event_by_timestamp;
mod get_hierarchy;
mod get_members;
mod get_messages;
mod get_mutual_rooms;
mod get_public_rooms;
mod get_relations;
mod get_state;
mod get_state_event;
mod get_summary;
mod get_threads;
mod get_visibility;
mod invite_user;
mod join_room;
mod joined_members;
mod joined_rooms;
mod kick_user;
mod knock_room;
mod leave_room;
mod list_aliases;
mod redact_event;
mod report;
mod search_public_rooms;
mod send_event;
mod set_alias;
mod set_read_markers;
mod set_receipt;
mod set_state_event;
mod set_typing;
mod set_visibility;
mod thread_subscription;
mod unban_user;
mod upgrade_room;

pub(crate) use thread_subscription::{before, listed};

use std::{sync::Arc, time::Duration};

use http::Uri;
use koine_account::{Class, LimitKey};
use koine_room::{CommandError, Profile, ReadError, Room, Sender};
use ruma_client_api::{
    alias, context, directory, knock, membership, message, read_marker, receipt, redact, relations, reporting, room,
    space, state, threads, typing,
};
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId, UserId,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Api, Endpoints, Error, Result, User, appservice};

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    type ByRelType = relations::get_relating_events_with_rel_type::v1::Request;
    type ByEventType = relations::get_relating_events_with_rel_type_and_event_type::v1::Request;

    endpoints.add::<room::create_room::v3::Request, _, _>("matrix.rooms.create_room", create_room::create_room);
    endpoints.add::<membership::join_room_by_id::v3::Request, _, _>("matrix.rooms.join_room", join_room::join_room);
    endpoints.add::<membership::join_room_by_id_or_alias::v3::Request, _, _>("matrix.rooms.join", join_room::join);
    endpoints.add::<membership::leave_room::v3::Request, _, _>("matrix.rooms.leave_room", leave_room::leave_room);
    endpoints.add::<membership::invite_user::v3::Request, _, _>("matrix.rooms.invite_user", invite_user::invite_user);
    endpoints.add::<membership::kick_user::v3::Request, _, _>("matrix.rooms.kick_user", kick_user::kick_user);
    endpoints.add::<membership::ban_user::v3::Request, _, _>("matrix.rooms.ban_user", ban_user::ban_user);
    endpoints.add::<membership::unban_user::v3::Request, _, _>("matrix.rooms.unban_user", unban_user::unban_user);
    endpoints.add::<knock::knock_room::v3::Request, _, _>("matrix.rooms.knock_room", knock_room::knock_room);
    endpoints.add::<membership::forget_room::v3::Request, _, _>("matrix.rooms.forget_room", forget_room::forget_room);
    endpoints
        .add::<membership::joined_rooms::v3::Request, _, _>("matrix.rooms.joined_rooms", joined_rooms::joined_rooms);

    endpoints.add::<message::send_message_event::v3::Request, _, _>("matrix.rooms.send_event", send_event::send_event);
    endpoints.add::<redact::redact_event::v3::Request, _, _>("matrix.rooms.redact_event", redact_event::redact_event);
    endpoints.add::<state::send_state_event::v3::Request, _, _>(
        "matrix.rooms.set_state_event",
        set_state_event::set_state_event,
    );
    endpoints.add::<state::get_state_event_for_key::v3::Request, _, _>(
        "matrix.rooms.get_state_event",
        get_state_event::get_state_event,
    );
    endpoints.add::<state::get_state_events::v3::Request, _, _>("matrix.rooms.get_state", get_state::get_state);
    endpoints
        .add::<membership::get_member_events::v3::Request, _, _>("matrix.rooms.get_members", get_members::get_members);
    endpoints.add::<membership::joined_members::v3::Request, _, _>(
        "matrix.rooms.joined_members",
        joined_members::joined_members,
    );

    endpoints.add::<room::get_room_event::v3::Request, _, _>("matrix.rooms.get_event", get_event::get_event);
    endpoints
        .add::<message::get_message_events::v3::Request, _, _>("matrix.rooms.get_messages", get_messages::get_messages);
    endpoints.add::<context::get_context::v3::Request, _, _>("matrix.rooms.get_context", get_context::get_context);
    endpoints.add::<relations::get_relating_events::v1::Request, _, _>(
        "matrix.rooms.get_relations",
        get_relations::get_relations::<relations::get_relating_events::v1::Request>,
    );
    endpoints.add::<ByRelType, _, _>("matrix.rooms.get_relations", get_relations::get_relations::<ByRelType>);
    endpoints.add::<ByEventType, _, _>("matrix.rooms.get_relations", get_relations::get_relations::<ByEventType>);
    endpoints.add::<threads::get_threads::v1::Request, _, _>("matrix.rooms.get_threads", get_threads::get_threads);
    thread_subscription::endpoints(endpoints);
    endpoints.add::<room::get_event_by_timestamp::v1::Request, _, _>(
        "matrix.rooms.get_event_by_timestamp",
        get_event_by_timestamp::get_event_by_timestamp,
    );

    endpoints.add::<room::get_summary::v1::Request, _, _>("matrix.rooms.get_summary", get_summary::get_summary);
    endpoints
        .add::<space::get_hierarchy::v1::Request, _, _>("matrix.rooms.get_hierarchy", get_hierarchy::get_hierarchy);
    endpoints.add::<membership::get_mutual_rooms::v1::Request, _, _>(
        "matrix.rooms.get_mutual_rooms",
        get_mutual_rooms::get_mutual_rooms,
    );
    endpoints.add::<room::upgrade_room::v3::Request, _, _>("matrix.rooms.upgrade_room", upgrade_room::upgrade_room);
    endpoints.add::<room::report_content::v3::Request, _, _>("matrix.rooms.report_event", report::report_event);
    endpoints.add::<room::report_room::v3::Request, _, _>("matrix.rooms.report_room", report::report_room);
    endpoints.add::<reporting::report_user::v3::Request, _, _>("matrix.rooms.report_user", report::report_user);

    endpoints.add::<alias::get_alias::v3::Request, _, _>("matrix.rooms.get_alias", get_alias::get_alias);
    endpoints.add::<alias::create_alias::v3::Request, _, _>("matrix.rooms.set_alias", set_alias::set_alias);
    endpoints.add::<alias::delete_alias::v3::Request, _, _>("matrix.rooms.delete_alias", delete_alias::delete_alias);
    endpoints.add::<room::aliases::v3::Request, _, _>("matrix.rooms.list_aliases", list_aliases::list_aliases);
    endpoints.add::<directory::get_public_rooms::v3::Request, _, _>(
        "matrix.rooms.get_public_rooms",
        get_public_rooms::get_public_rooms,
    );
    endpoints.add::<directory::get_public_rooms_filtered::v3::Request, _, _>(
        "matrix.rooms.search_public_rooms",
        search_public_rooms::search_public_rooms,
    );
    endpoints.add::<directory::get_room_visibility::v3::Request, _, _>(
        "matrix.rooms.get_visibility",
        get_visibility::get_visibility,
    );
    endpoints.add::<directory::set_room_visibility::v3::Request, _, _>(
        "matrix.rooms.set_visibility",
        set_visibility::set_visibility,
    );

    endpoints.add::<typing::create_typing_event::v3::Request, _, _>("matrix.rooms.set_typing", set_typing::set_typing);
    endpoints.add::<receipt::create_receipt::v3::Request, _, _>("matrix.rooms.set_receipt", set_receipt::set_receipt);
    endpoints.add::<read_marker::set_read_marker::v3::Request, _, _>(
        "matrix.rooms.set_read_markers",
        set_read_markers::set_read_markers,
    );
}

/// Who acts, as the core wants to know it.
fn sender(who: &User) -> Sender<'_> {
    Sender { user: &who.user_id, device: Some(who.device_id.as_str()) }
}

/// The time that an application service gives an event of its; nobody else may. [AS-API §timestamp-massaging]
fn sent_at(who: &User, query_string: &str) -> Result<Option<MilliSecondsSinceUnixEpoch>> {
    #[derive(Deserialize)]
    struct Query {
        ts: Option<u64>,
    }
    if !who.is_service {
        return Ok(None);
    }
    let Query { ts } = query(query_string)?;
    let moment = |ts: u64| ts.try_into().map(MilliSecondsSinceUnixEpoch);
    ts.map(moment).transpose().map_err(|_| Error::invalid_param("`ts` is too large"))
}

/// One more event of this user: refused when there were too many lately.
pub(crate) fn permit(api: &Api, who: &User) -> Result<()> {
    api.permit(Class::Message, LimitKey::User(&who.user_id))
}

/// How a user is called, as far as we know: people of other servers tell it themselves.
pub(crate) fn profile(api: &Api, user: &UserId) -> Result<Profile> {
    if !api.accounts.is_local(user) {
        return Ok(Profile::default());
    }
    let (displayname, avatar_url) = api.accounts.display_profile(user)?;
    Ok(Profile { displayname, avatar_url })
}

/// The variable part of a path at `index`, as an identifier.
pub(crate) fn path<'p, T>(path: &'p [String], index: usize) -> Result<T>
where
    T: TryFrom<&'p str, Error: std::fmt::Display>,
{
    let text = path.get(index).map(String::as_str).unwrap_or_default();
    T::try_from(text).map_err(|error| Error::invalid_param(format!("{text:?} is not a valid identifier: {error}")))
}

/// A room to look into.
pub(crate) fn room(api: &Api, id: &RoomId) -> Result<Arc<Room>> {
    Ok(api.rooms.room(id)?)
}

/// How long an answer waits for the members of a room that was joined a moment ago.
const MEMBERS_WAIT_MAX: Duration = Duration::from_secs(120);

/// Waits until all members of a room are known.
async fn until_whole(room: &Room) -> Result<()> {
    let waiting = tokio::time::timeout(MEMBERS_WAIT_MAX, room.until_whole());
    waiting.await.map_err(|_elapsed| CommandError::Partial.into())
}

/// A room of which it is no secret whether it exists.
fn known_room(api: &Api, id: &RoomId) -> Result<Arc<Room>> {
    api.rooms.room(id).map_err(|error| match error {
        ReadError::NoSuchRoom => Error::not_found("There is no such room"),
        other => other.into(),
    })
}

/// The room that an id or an alias leads to.
fn resolve(api: &Api, text: &str) -> Result<OwnedRoomId> {
    let id: &RoomOrAliasId = text
        .try_into()
        .map_err(|error| Error::invalid_param(format!("{text:?} is neither a room's id nor an alias: {error}")))?;
    match <&RoomAliasId>::try_from(id) {
        Ok(alias) => Ok(api.rooms.resolve_alias(alias)?),
        Err(id) => Ok(id.to_owned()),
    }
}

/// Where an alias leads. One of ours that leads nowhere may be a service's, which makes the room then.
/// [AS-API §querying]
async fn find_alias(api: &Api, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
    match api.rooms.find_alias(alias).await {
        Err(CommandError::NoSuchAlias(_))
            if alias.server_name() == api.rooms.server_name() && appservice::ask::makes_room(api, alias).await =>
        {
            Ok(api.rooms.find_alias(alias).await?)
        }
        other => Ok(other?),
    }
}

/// Most servers that a client may name as ways into a room.
const VIA_MAX: usize = 20;

/// The room that an id or an alias leads to, and servers that may know it: those that `via` (or `server_name`, as it was
/// called) in the query names, and those that the alias's server names.
async fn find(api: &Api, text: &str, query_string: &str) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
    let pairs: Vec<(String, String)> = query(query_string)?;
    let named = pairs.into_iter().filter(|(key, _)| key == "via" || key == "server_name").take(VIA_MAX);
    let mut via: Vec<OwnedServerName> = named.filter_map(|(_, name)| OwnedServerName::try_from(name).ok()).collect();
    let Ok(alias) = <&RoomAliasId>::try_from(text) else { return Ok((resolve(api, text)?, via)) };
    let (room, servers) = find_alias(api, alias).await?;
    via.extend(servers);
    Ok((room, via))
}

/// The query string of a request.
pub(crate) fn query<T: DeserializeOwned>(query: &str) -> Result<T> {
    let uri: Uri = format!("/?{query}").parse().map_err(|_| Error::invalid_param("The query cannot be read"))?;
    axum::extract::Query::try_from_uri(&uri)
        .map(|axum::extract::Query(parsed)| parsed)
        .map_err(|error| Error::invalid_param(format!("In the query: {error}")))
}

/// A checked body that is to become the content of an event: a JSON object, taken as it is.
pub(crate) fn content(body: &[u8]) -> Result<&RawValue> {
    let content: &RawValue = serde_json::from_slice(body).map_err(|error| crate::body::refuse_json(body, &error))?;
    match content.get().starts_with('{') {
        true => Ok(content),
        false => Err(Error::bad_json("The content of an event is a JSON object")),
    }
}
