//! Two accounts and a room, made at the first start of `koine local`, so that there is somebody to talk to.

use koine_account::{CreateError, NewAccount};
use koine_room::{CommandError, CreateRoom, Preset, Profile};
use ruma_common::{OwnedRoomAliasId, OwnedUserId, RoomVersionId};
use serde_json::Map;

use crate::program::Server;

/// Names and passwords. The server listens on loopback only, so the passwords are for remembering.
const PEOPLE: [(&str, &str, &str); 2] = [("alice", "Alice", "wonderland"), ("bob", "Bob", "builder")];
const ROOM: &str = "welcome";

/// What there is to begin with.
pub struct Demo {
    /// The accounts.
    pub people: Vec<Person>,
    /// The alias of the room.
    pub room: OwnedRoomAliasId,
    /// Whether all of it was made just now.
    pub is_new: bool,
}

/// One account.
pub struct Person {
    /// Who.
    pub user_id: OwnedUserId,
    /// The password it was made with.
    pub password: &'static str,
}

/// Why there is nothing to begin with.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An account.
    #[error("an account could not be made: {0}")]
    Account(#[from] CreateError),
    /// A name to show.
    #[error("a profile could not be written: {0}")]
    Profile(#[from] koine_account::ProfileError),
    /// The room.
    #[error("the room could not be made: {0}")]
    Room(#[from] CommandError),
    /// The store.
    #[error(transparent)]
    Store(#[from] koine_account::StoreUnavailable),
    /// `localhost` makes good ids; a name of the operator's choice might not.
    #[error("no id can be made with this server name")]
    Name,
}

/// Makes accounts and room in a new data folder. Nothing if the folder was begun without them.
pub async fn prepare(server: &Server) -> Result<Option<Demo>, DemoError> {
    let name = &server.config.server_name;
    let user_id = |localpart| OwnedUserId::try_from(format!("@{localpart}:{name}")).map_err(|_| DemoError::Name);
    let room = OwnedRoomAliasId::try_from(format!("#{ROOM}:{name}")).map_err(|_| DemoError::Name)?;
    let mut people = Vec::new();
    for (localpart, _, password) in PEOPLE {
        people.push(Person { user_id: user_id(localpart)?, password });
    }
    let is_new = server.accounts.users(None, 1)?.is_empty();
    if !is_new {
        let still_there = server.accounts.user(&people[0].user_id)?.is_some();
        return Ok(still_there.then_some(Demo { people, room, is_new }));
    }
    // Hashing passwords is most of the work of a first start.
    tokio::try_join!(make_person(server, PEOPLE[0]), make_person(server, PEOPLE[1]))?;
    make_room(server, &people, &room).await?;
    Ok(Some(Demo { people, room, is_new }))
}

async fn make_person(server: &Server, (localpart, name, password): (&str, &str, &str)) -> Result<(), DemoError> {
    let account = NewAccount { name: Some(localpart.into()), password: Some(password.into()), ..NewAccount::default() };
    let (user_id, _) = server.accounts.create(account).await?;
    server.accounts.set_profile_field(&user_id, "displayname", name.into()).await?;
    Ok(())
}

async fn make_room(server: &Server, people: &[Person], alias: &OwnedRoomAliasId) -> Result<(), DemoError> {
    let new = CreateRoom {
        creator: people[0].user_id.clone(),
        profile: profile(PEOPLE[0].1),
        version: RoomVersionId::V12,
        preset: Preset::PublicChat,
        creation_content: Map::new(),
        power_levels: Map::new(),
        initial_state: Vec::new(),
        name: Some("Welcome".into()),
        topic: Some("A first room, to try things in".into()),
        alias: Some(alias.clone()),
        invite: Vec::new(),
        is_direct: false,
        listed: true,
    };
    let room = server.rooms.create(new).await?;
    server.rooms.join(&people[1].user_id, &room, &profile(PEOPLE[1].1), None, Map::new()).await?;
    Ok(())
}

fn profile(name: &str) -> Profile {
    Profile { displayname: Some(name.to_owned()), avatar_url: None }
}
