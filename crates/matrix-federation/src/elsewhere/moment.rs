//! The event nearest to a moment, where our own history of the room does not reach.
//! [SS-API §get_matrixfederationv1timestamp_to_eventroomid]

use std::{sync::Arc, time::Duration};

use http::Method;
use koine_room::{CommandError, Direction, Room};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName};
use serde::Deserialize;

use crate::{
    Federation, acl,
    peers::{Bounds, parse, segment},
};

/// Servers asked for one moment.
const SERVERS_ASKED_MAX: usize = 3;
/// Bounds of one answer: somebody waits for it.
const MOMENT_BOUNDS: Bounds = Bounds { bytes: 16 * 1024, time: Duration::from_secs(10), urgent: false };

#[derive(Deserialize)]
struct Near {
    event_id: OwnedEventId,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
}

impl Federation {
    /// Asks servers in the room, the one where it was made first, and keeps the event that they name.
    pub(super) async fn find_near(
        &self,
        room: &Arc<Room>,
        moment: MilliSecondsSinceUnixEpoch,
        direction: Direction,
    ) -> Result<Option<(OwnedEventId, MilliSecondsSinceUnixEpoch)>, CommandError> {
        let mut servers: Vec<OwnedServerName> = room.servers()?;
        servers.retain(|server| server != self.server_name() && acl::allows(room, server).unwrap_or(false));
        let create = room.current("m.room.create", "")?;
        let maker = create.map(|create| create.event.sender().server_name().to_owned());
        servers.sort_by_key(|server| Some(server) != maker.as_ref());
        let word = if direction == Direction::Forward { "f" } else { "b" };
        let place = segment(room.id().as_str());
        let path = format!("/_matrix/federation/v1/timestamp_to_event/{place}?ts={}&dir={word}", moment.get());
        for server in servers.iter().take(SERVERS_ASKED_MAX) {
            let answer = self.ask_bytes(server, (Method::GET, &path), None, MOMENT_BOUNDS).await;
            let near: Near = match answer.and_then(|answer| parse(&answer)) {
                Ok(near) => near,
                Err(error) => {
                    tracing::debug!(peer = %server, room_id = %room.id(), reason = %error, "no event near a moment");
                    continue;
                }
            };
            let fits = match direction {
                Direction::Forward => near.origin_server_ts >= moment,
                Direction::Backward => near.origin_server_ts <= moment,
            };
            if fits && self.keep_old_event(server, room, &near.event_id).await? {
                return Ok(Some((near.event_id, near.origin_server_ts)));
            }
        }
        Ok(None)
    }
}
