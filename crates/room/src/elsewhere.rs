//! What only other servers can do for us. The protocol that reaches them implements [`Elsewhere`]; rooms ask it without
//! knowing which protocol that is.

use std::{future::Future, pin::Pin, sync::Arc};

use koine_graph::Event;
use koine_store::Direction;
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId,
};
use serde_json::{Map, Value};

use crate::{error::CommandError, membership::Profile, registry::Rooms, room::Room, space::ToldSpace, tables::Order};

/// The answer of another server, some time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CommandError>> + Send + 'a>>;

/// Somebody of ours who wants something of a room that lives elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The account.
    pub user: &'a UserId,
    /// The room.
    pub room: &'a RoomId,
    /// Servers that may know the room, the best first.
    pub via: &'a [OwnedServerName],
    /// How the account is called.
    pub profile: &'a Profile,
    /// The reason that the account gives.
    pub reason: Option<&'a str>,
    /// More keys for the content of the membership event.
    pub extra: &'a Map<String, Value>,
}

/// Other servers.
pub trait Elsewhere: Send + Sync + 'static {
    /// Brings an account into a room through a server that is in it.
    fn join<'a>(&'a self, wish: Wish<'a>) -> Answer<'a, ()>;

    /// Asks to be let in.
    fn knock<'a>(&'a self, wish: Wish<'a>) -> Answer<'a, ()>;

    /// Refuses an invitation, or takes a knock back, in a room that nobody of ours is in.
    fn leave<'a>(&'a self, wish: Wish<'a>) -> Answer<'a, ()>;

    /// Invites somebody of another server: their server signs the invitation before it is in the room.
    fn invite<'a>(
        &'a self,
        sender: &'a UserId,
        room: &'a Arc<Room>,
        target: &'a UserId,
        content: &'a Value,
    ) -> Answer<'a, ()>;

    /// Where an alias of another server leads, and servers that are in the room.
    fn resolve_alias<'a>(&'a self, alias: &'a RoomAliasId) -> Answer<'a, (OwnedRoomId, Vec<OwnedServerName>)>;

    /// The profile of somebody of another server. `None`: there is no such user.
    fn profile<'a>(&'a self, user: &'a UserId) -> Answer<'a, Option<Map<String, Value>>>;

    /// A page of another server's list of public rooms; question and answer in the words of Matrix.
    fn directory<'a>(&'a self, server: &'a ServerName, question: &'a Value) -> Answer<'a, Value>;

    /// What one of `via` tells of a room and its children, of late. [SS-API §get_matrixfederationv1hierarchyroomid]
    fn space<'a>(
        &'a self,
        room: &'a RoomId,
        via: &'a [OwnedServerName],
        suggested_only: bool,
    ) -> Answer<'a, Arc<ToldSpace>>;

    /// The event nearest to a moment that servers in a room know, and its own moment. `None`: there is none on that side.
    fn event_near<'a>(
        &'a self,
        room: &'a Arc<Room>,
        moment: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> Answer<'a, Option<(OwnedEventId, MilliSecondsSinceUnixEpoch)>>;

    /// Asks a policy server for its signature under an event, in base64. `urgent`: somebody waits for it.
    /// [SS-API §asking-for-a-policy-server-signature-on-an-event]
    fn policy_signature<'a>(&'a self, server: &'a ServerName, event: &'a Event, urgent: bool) -> Answer<'a, String>;

    /// Somebody of ours began to type, or stopped. Told, not waited for.
    fn typing(&self, user: &UserId, room: &Arc<Room>, typing: bool);

    /// The presence of somebody of ours changed; `content` is what is told of it, in the words of Matrix. Told, not waited
    /// for.
    fn presence(&self, user: &UserId, content: &Value);

    /// Fetches history before a place of a room, as much as one request brings. `false`: there is no more to be had.
    fn backfill<'a>(&'a self, room: &'a Arc<Room>, before: Order, limit: usize) -> Answer<'a, bool>;
}

impl Rooms {
    /// Says who reaches other servers. Once; before that, there are none.
    pub fn set_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        // A second one would be a mistake in wiring the program: the first stays.
        let _ = self.elsewhere.set(elsewhere);
    }

    pub(crate) fn elsewhere(&self) -> Result<&Arc<dyn Elsewhere>, CommandError> {
        self.elsewhere.get().ok_or(CommandError::NotReachable)
    }

    /// The profile of somebody of another server. `None`: there is no such user.
    pub async fn profile_elsewhere(&self, user: &UserId) -> Result<Option<Map<String, Value>>, CommandError> {
        self.elsewhere()?.profile(user).await
    }

    /// A page of another server's list of public rooms; question and answer in the words of Matrix.
    pub async fn directory_elsewhere(&self, server: &ServerName, question: &Value) -> Result<Value, CommandError> {
        self.elsewhere()?.directory(server, question).await
    }

    /// Where an alias leads, also one of another server, with servers that are in the room.
    pub async fn find_alias(&self, alias: &RoomAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>), CommandError> {
        if alias.server_name() != self.server_name() {
            return self.elsewhere()?.resolve_alias(alias).await;
        }
        let id = self.resolve_alias(alias)?;
        let servers = self.room(&id)?.servers()?;
        Ok((id, servers))
    }
}
