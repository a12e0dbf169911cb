//! `POST /rooms/{roomId}/report/{eventId}`, `POST /rooms/{roomId}/report`, `POST /users/{userId}/report`: telling the
//! operator of what should not be here.
//!
//! [CS-API §post_matrixclientv3roomsroomidreporteventid] [CS-API §post_matrixclientv3roomsroomidreport]
//! [CS-API §post_matrixclientv3usersuseridreport] The three differ in what they name. The operator reads them with
//! `koine report list`.

use axum::extract::State;
use koine_room::{Membership, Reported};
use ruma_client_api::{
    reporting::report_user,
    room::{report_content, report_room},
};
use ruma_common::{EventId, RoomId, UserId};
use serde::Deserialize;

use super::{path, permit};
use crate::{Api, Empty, Error, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(default)]
    reason: Option<String>,
}

impl Body {
    fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }
}

pub async fn report_event(State(api): State<Api>, call: Loose<report_content::v3::Request, Body>) -> Result<Empty> {
    let id: &RoomId = path(&call.path, 0)?;
    let event: &EventId = path(&call.path, 1)?;
    permit(&api, &call.who)?;
    let nothing = || Error::not_found("There is no such event, or you are not in its room");
    let room = api.rooms.room(id).map_err(|_| nothing())?;
    if room.local_membership(&call.who.user_id) != Some(Membership::Join) {
        return Err(nothing());
    }
    room.visible_event(&call.who.user_id, event).map_err(|_| nothing())?;
    api.rooms.report(&call.who.user_id, Reported::Event(id, event), call.body.reason()).await?;
    Ok(Empty)
}

/// Whether there is such a room is not told.
pub async fn report_room(State(api): State<Api>, call: Loose<report_room::v3::Request, Body>) -> Result<Empty> {
    let id: &RoomId = path(&call.path, 0)?;
    permit(&api, &call.who)?;
    if api.rooms.room(id).is_ok() {
        api.rooms.report(&call.who.user_id, Reported::Room(id), call.body.reason()).await?;
    }
    Ok(Empty)
}

/// Whether there is such an account is not told.
pub async fn report_user(State(api): State<Api>, call: Loose<report_user::v3::Request, Body>) -> Result<Empty> {
    let user: &UserId = path(&call.path, 0)?;
    permit(&api, &call.who)?;
    let is_known = !api.accounts.is_local(user) || api.accounts.user(user)?.is_some();
    if is_known {
        api.rooms.report(&call.who.user_id, Reported::User(user), call.body.reason()).await?;
    }
    Ok(Empty)
}
