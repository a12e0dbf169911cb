//! What other servers tell of rooms that are known only there, and of those rooms' children.
//! [SS-API §get_matrixfederationv1hierarchyroomid]

use std::{sync::Arc, time::Duration};

use http::Method;
use koine_room::{CommandError, Preview, SPACE_CHILDREN_MAX, SpaceChild, SpaceRoom, Summary, ToldSpace};
use quick_cache::{Weighter, sync::Cache};
use ruma_common::{OwnedRoomId, OwnedServerName, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::refused;
use crate::{
    Federation, PeerError,
    peers::{Bounds, parse, segment},
};

/// Bytes of answers that are remembered.
const REMEMBERED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Answers that are expected among them.
const REMEMBERED_EXPECTED: usize = 1_000;
/// How long an answer is good. [SS-API §get_matrixfederationv1hierarchyroomid] "should be cached for a period of time"
const GOOD_FOR_MS: u64 = 5 * 60 * 1_000;
/// Servers asked about one room.
const SERVERS_ASKED_MAX: usize = 3;
/// Bounds of one answer. Many rooms may have to be asked for, so nobody may be slow, or has failed lately.
const SPACE_BOUNDS: Bounds = Bounds { bytes: 2 * 1024 * 1024, time: Duration::from_secs(10), urgent: false };

/// Answers of late. Each is its server's: of a room that nobody here is in, whoever asks chooses whom to believe, for
/// themselves alone.
pub(crate) struct Spaces(Cache<(OwnedRoomId, bool, OwnedServerName), Remembered, ByBytes>);

#[derive(Clone)]
struct Remembered {
    came_ms: u64,
    bytes: u64,
    told: Arc<ToldSpace>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<(OwnedRoomId, bool, OwnedServerName), Remembered> for ByBytes {
    fn weight(&self, _: &(OwnedRoomId, bool, OwnedServerName), remembered: &Remembered) -> u64 {
        remembered.bytes
    }
}

impl Default for Spaces {
    fn default() -> Self {
        Self(Cache::with_weighter(REMEMBERED_EXPECTED, REMEMBERED_BYTES_MAX, ByBytes))
    }
}

#[derive(Deserialize)]
struct Told {
    room: ToldRoom,
    #[serde(default)]
    children: Vec<ToldRoom>,
    #[serde(default)]
    inaccessible_children: Vec<OwnedRoomId>,
}

#[derive(Deserialize)]
struct ToldRoom {
    room_id: OwnedRoomId,
    name: Option<String>,
    topic: Option<String>,
    canonical_alias: Option<String>,
    avatar_url: Option<String>,
    join_rule: Option<String>,
    room_type: Option<String>,
    #[serde(default)]
    num_joined_members: u64,
    #[serde(default)]
    world_readable: bool,
    #[serde(default)]
    guest_can_join: bool,
    room_version: Option<String>,
    encryption: Option<String>,
    allowed_room_ids: Option<Vec<OwnedRoomId>>,
    #[serde(default)]
    children_state: Vec<ToldChild>,
}

#[derive(Deserialize)]
struct ToldChild {
    state_key: OwnedRoomId,
    sender: String,
    #[serde(default)]
    origin_server_ts: u64,
    content: Box<RawValue>,
}

impl ToldRoom {
    fn into_room(self) -> SpaceRoom {
        let children = self.children_state.into_iter().take(SPACE_CHILDREN_MAX).map(|child| SpaceChild {
            room_id: child.state_key,
            sender: child.sender,
            origin_server_ts: child.origin_server_ts,
            content: child.content,
        });
        SpaceRoom {
            children: children.collect(),
            preview: Preview {
                summary: Summary {
                    room_id: self.room_id,
                    name: self.name,
                    topic: self.topic,
                    canonical_alias: self.canonical_alias,
                    avatar_url: self.avatar_url,
                    join_rule: self.join_rule,
                    room_type: self.room_type,
                    joined: self.num_joined_members,
                    world_readable: self.world_readable,
                    guest_can_join: self.guest_can_join,
                },
                version: self.room_version,
                encryption: self.encryption,
                allowed_rooms: self.allowed_room_ids,
            },
        }
    }
}

impl Federation {
    /// What one of `via` tells of a room and its children, now or lately.
    pub(super) async fn ask_for_space(
        &self,
        room: &RoomId,
        via: &[OwnedServerName],
        suggested_only: bool,
    ) -> Result<Arc<ToldSpace>, CommandError> {
        let path =
            format!("/_matrix/federation/v1/hierarchy/{}?suggested_only={suggested_only}", segment(room.as_str()));
        let mut failure = CommandError::NotReachable;
        for server in via.iter().filter(|server| *server != self.server_name()).take(SERVERS_ASKED_MAX) {
            let key = (room.to_owned(), suggested_only, server.clone());
            if let Some(known) = self.spaces().0.get(&key)
                && self.now_ms().saturating_sub(known.came_ms) < GOOD_FOR_MS
            {
                return Ok(known.told);
            }
            let answer = self.ask_bytes(server, (Method::GET, &path), None, SPACE_BOUNDS).await;
            let bytes = answer.as_ref().map_or(0, |answer| answer.len() as u64);
            let told: Result<Told, PeerError> = answer.and_then(|answer| parse(&answer));
            match told {
                Ok(told) if told.room.room_id == *room => {
                    let told = Arc::new(ToldSpace {
                        room: told.room.into_room(),
                        children: told
                            .children
                            .into_iter()
                            .take(SPACE_CHILDREN_MAX)
                            .map(|child| child.into_room().preview)
                            .collect(),
                        inaccessible: told.inaccessible_children.into_iter().take(SPACE_CHILDREN_MAX).collect(),
                    });
                    let remembered = Remembered { came_ms: self.now_ms(), bytes: bytes.max(1), told: told.clone() };
                    self.spaces().0.insert(key, remembered);
                    return Ok(told);
                }
                Ok(_) => {}
                Err(error) => failure = refused(&error),
            }
        }
        Err(failure)
    }
}
