//! What rooms want of other servers: coming in, leaving, inviting, finding, history.

pub(crate) mod arrive;
mod beside;
mod history;
mod invite;
mod join;
mod keys;
mod leave;
mod media;
mod moment;
mod policy;
pub(crate) mod space;
pub(crate) mod whole;

use std::{sync::Arc, time::Duration};

use http::Method;
use koine_graph::Event;
use koine_room::{Answer, CommandError, Direction, Elsewhere, Order, Room, ToldSpace, Wish};
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId,
    ServerName, UserId,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Federation, PeerError,
    peers::{Bounds, segment},
};

/// Servers tried for one wish.
const SERVERS_TRIED_MAX: usize = 8;
/// How long a server may take to hand out a template.
const TEMPLATE_BOUNDS: Bounds = Bounds { bytes: 256 * 1024, time: Duration::from_secs(30), urgent: true };

impl Elsewhere for Federation {
    fn join<'a>(&'a self, wish: Wish<'a>) -> Answer<'a, ()> {
        Box::pin(self.join_through(wish))
    }

    fn knock<'a>(&'a self, wish: Wish<'a>) -> Answer<'a, ()> {
        Box::pin(self.knock_through(wish))
    }

    fn leave<'a>(&'a self, wish: Wish<'a>) -> Answer<'a, ()> {
        Box::pin(self.leave_through(wish))
    }

    fn invite<'a>(
        &'a self,
        sender: &'a UserId,
        room: &'a Arc<Room>,
        target: &'a UserId,
        content: &'a Value,
    ) -> Answer<'a, ()> {
        Box::pin(self.invite_there(sender, room, target, content))
    }

    fn resolve_alias<'a>(&'a self, alias: &'a RoomAliasId) -> Answer<'a, (OwnedRoomId, Vec<OwnedServerName>)> {
        Box::pin(self.find_alias(alias))
    }

    fn profile<'a>(&'a self, user: &'a UserId) -> Answer<'a, Option<Map<String, Value>>> {
        Box::pin(async move { self.profile(user, None).await.map_err(|error| refused(&error)) })
    }

    fn directory<'a>(&'a self, server: &'a ServerName, question: &'a Value) -> Answer<'a, Value> {
        Box::pin(async move { self.public_rooms(server, question).await.map_err(|error| refused(&error)) })
    }

    fn space<'a>(
        &'a self,
        room: &'a RoomId,
        via: &'a [OwnedServerName],
        suggested_only: bool,
    ) -> Answer<'a, Arc<ToldSpace>> {
        Box::pin(self.ask_for_space(room, via, suggested_only))
    }

    fn event_near<'a>(
        &'a self,
        room: &'a Arc<Room>,
        moment: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> Answer<'a, Option<(OwnedEventId, MilliSecondsSinceUnixEpoch)>> {
        Box::pin(self.find_near(room, moment, direction))
    }

    fn policy_signature<'a>(&'a self, server: &'a ServerName, event: &'a Event, urgent: bool) -> Answer<'a, String> {
        Box::pin(self.ask_policy_server(server, event, urgent))
    }

    fn typing(&self, user: &UserId, room: &Arc<Room>, typing: bool) {
        self.tell_typing(user, room, typing);
    }

    fn presence(&self, user: &UserId, content: &Value) {
        self.tell_presence(user, content);
    }

    fn backfill<'a>(&'a self, room: &'a Arc<Room>, _before: Order, limit: usize) -> Answer<'a, bool> {
        Box::pin(self.fetch_history(room, limit))
    }
}

/// What a server hands out to make a membership event of.
#[derive(Deserialize)]
struct Template {
    #[serde(default = "first_version")]
    room_version: RoomVersionId,
    event: Map<String, Value>,
}

fn first_version() -> RoomVersionId {
    RoomVersionId::V1
}

impl Federation {
    /// [SS-API §get_matrixfederationv1querydirectory]
    async fn find_alias(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>), CommandError> {
        #[derive(Deserialize)]
        struct Found {
            room_id: OwnedRoomId,
            servers: Vec<OwnedServerName>,
        }
        let path = format!("/_matrix/federation/v1/query/directory?room_alias={}", segment(alias.as_str()));
        match self.ask::<Found>(alias.server_name(), (Method::GET, &path), None).await {
            Ok(found) => Ok((found.room_id, found.servers.into_iter().take(SERVERS_TRIED_MAX * 4).collect())),
            Err(PeerError::Refused { status, .. }) if status.as_u16() == 404 => {
                Err(CommandError::NoSuchAlias(alias.to_string()))
            }
            Err(error) => Err(refused(&error)),
        }
    }

    /// Somebody else's profile, as their server tells it. `None`: there is no such user.
    /// [SS-API §get_matrixfederationv1queryprofile]
    pub async fn profile(&self, user: &UserId, field: Option<&str>) -> Result<Option<Map<String, Value>>, PeerError> {
        let mut path = format!("/_matrix/federation/v1/query/profile?user_id={}", segment(user.as_str()));
        if let Some(field) = field {
            path.push_str("&field=");
            path.push_str(&segment(field));
        }
        match self.ask(user.server_name(), (Method::GET, &path), None).await {
            Err(PeerError::Refused { status, .. }) if status.as_u16() == 404 => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// A page of another server's directory, as it tells it. `search` is the body of the client's own question.
    /// [SS-API §post_matrixfederationv1publicrooms]
    pub async fn public_rooms(&self, server: &ServerName, search: &Value) -> Result<Value, PeerError> {
        let body = search.to_string();
        self.ask(server, (Method::POST, "/_matrix/federation/v1/publicRooms"), Some(body.as_bytes())).await
    }

    /// Asks for a template of a membership event of ours.
    async fn ask_for_template(
        &self,
        server: &OwnedServerName,
        (make, wish): (&str, &Wish<'_>),
    ) -> Result<Template, PeerError> {
        let (room, user) = (segment(wish.room.as_str()), segment(wish.user.as_str()));
        let mut path = format!("/_matrix/federation/v1/{make}/{room}/{user}");
        if make != "make_leave" {
            let versions =
                koine_graph::ROOM_VERSIONS.iter().map(|version| format!("ver={}", segment(version.as_str())));
            path.push('?');
            path.push_str(&versions.collect::<Vec<_>>().join("&"));
        }
        crate::peers::parse(&self.ask_bytes(server, (Method::GET, &path), None, TEMPLATE_BOUNDS).await?)
    }
}

/// The content of a membership event: what the template says, and what its owner wants to say.
fn content(template: &Template, wish: &Wish<'_>, membership: &str) -> Value {
    let mut content: Map<String, Value> = Map::new();
    let given = template.event.get("content").and_then(Value::as_object);
    if let Some(voucher) = given.and_then(|given| given.get("join_authorised_via_users_server"))
        && membership == "join"
    {
        content.insert("join_authorised_via_users_server".into(), voucher.clone());
    }
    content.extend(wish.extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    for (name, text) in [
        ("displayname", wish.profile.displayname.as_deref()),
        ("avatar_url", wish.profile.avatar_url.as_deref()),
        ("reason", wish.reason),
    ] {
        if let Some(text) = text {
            content.insert(name.into(), json!(text));
        }
    }
    content.insert("membership".into(), json!(membership));
    Value::Object(content)
}

/// What a server's failure means to who asked for something.
fn refused(error: &PeerError) -> CommandError {
    match error {
        PeerError::Refused { status, message, .. } if status.as_u16() == 403 => {
            CommandError::Forbidden(message.clone())
        }
        PeerError::Refused { errcode, .. } if errcode == "M_UNABLE_TO_AUTHORISE_JOIN" => {
            CommandError::UnableToAuthorise
        }
        PeerError::Refused { errcode, .. } if errcode == "M_UNABLE_TO_GRANT_JOIN" => CommandError::UnableToGrant,
        PeerError::Refused { status, .. } if status.as_u16() == 404 => CommandError::NoSuchRoom,
        PeerError::Refused { errcode, message, .. } if errcode == "M_INCOMPATIBLE_ROOM_VERSION" => {
            CommandError::UnsupportedVersion(message.clone())
        }
        other => {
            tracing::debug!(reason = %other, "another server did not help");
            CommandError::NotReachable
        }
    }
}

/// The failure worth telling: one that says something of the wish rather than of the way.
fn worse(one: Option<CommandError>, other: CommandError) -> Option<CommandError> {
    match one {
        Some(said @ (CommandError::Forbidden(_) | CommandError::UnsupportedVersion(_))) => Some(said),
        Some(said @ (CommandError::UnableToAuthorise | CommandError::UnableToGrant))
            if matches!(other, CommandError::NotReachable | CommandError::NoSuchRoom) =>
        {
            Some(said)
        }
        _ => Some(other),
    }
}
