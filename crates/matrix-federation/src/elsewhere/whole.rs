//! The rest of a room that was joined without its members: fetched in the background, from whoever has it, for as long
//! as it takes. [SS-API §put_matrixfederationv2send_joinroomideventid] `omit_members`

use std::{sync::Arc, time::Duration};

use koine_room::{Room, ToldState};
use ruma_common::OwnedServerName;

use crate::Federation;

/// How many rooms are fetched at the same time.
pub(crate) const AT_ONCE: usize = 4;
/// How long nobody is asked again after all servers failed; doubled with every round.
const REST_MIN: Duration = Duration::from_secs(1);
/// The longest such time.
const REST_MAX: Duration = Duration::from_secs(30 * 60);
/// Servers asked in one round.
const SERVERS_TRIED_MAX: usize = 20;

impl Federation {
    /// Goes on with what was under way when the program ended.
    pub(crate) fn complete_rooms(&self) {
        match self.rooms().partial_rooms() {
            Ok(rooms) => rooms.into_iter().for_each(|room| self.complete_room(room, None)),
            Err(error) => tracing::error!(reason = %error, "rooms that were joined in part cannot be read"),
        }
    }

    /// Fetches what a room lacks, beginning with the server through which it was joined.
    pub(super) fn complete_room(&self, room: Arc<Room>, first: Option<OwnedServerName>) {
        let federation = self.downgrade();
        tokio::spawn(async move {
            let mut rest = REST_MIN;
            while room.is_partial() {
                let Some(federation) = federation.upgrade() else { return };
                let place = federation.completing().clone().acquire_owned().await;
                if federation.try_to_complete(&room, first.as_ref()).await {
                    tracing::debug!(room_id = %room.id(), "all of a room is known");
                    return;
                }
                drop((place, federation));
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(REST_MAX);
            }
        });
    }

    /// Whether it is done, or there is nothing to do any more.
    async fn try_to_complete(&self, room: &Arc<Room>, first: Option<&OwnedServerName>) -> bool {
        let Some((join, servers)) = room.partial_since() else { return true };
        let others = servers.iter().filter(|server| Some(*server) != first && *server != self.server_name());
        for server in first.into_iter().chain(others).take(SERVERS_TRIED_MAX) {
            let mut told = Vec::with_capacity(join.prev_events().len());
            for after in join.prev_events() {
                match self.fetch_state_after(server, room, after).await {
                    Ok(state) => told.push(ToldState { after: after.clone(), state }),
                    Err(error) => {
                        tracing::debug!(peer = %server, room_id = %room.id(), reason = %error, "a room stays in part");
                        break;
                    }
                }
            }
            if told.len() < join.prev_events().len() {
                continue;
            }
            match self.rooms().complete(room, told).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::debug!(peer = %server, room_id = %room.id(), reason = %error, "a room stays in part");
                }
            }
        }
        false
    }
}
