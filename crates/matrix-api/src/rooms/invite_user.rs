//! `POST /rooms/{roomId}/invite`: asking somebody into a room.
//!
//! [CS-API §post_matrixclientv3roomsroomidinvite]

use axum::extract::State;
use http::StatusCode;
use koine_account::InviteRule;
use ruma_client_api::membership::invite_user::v3;
use ruma_common::{OwnedRoomId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{path, permit, profile};
use crate::{Api, Empty, Error, Loose, Result, appservice};

#[derive(Debug, Deserialize)]
pub struct Body {
    user_id: Option<OwnedUserId>,
    #[serde(default)]
    reason: Option<String>,
    /// Present in the form of the request that invites by e-mail address or telephone number.
    #[serde(default)]
    id_server: Option<Value>,
}

pub async fn invite_user(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let room: OwnedRoomId = path(&call.path, 0)?;
    let Some(target) = call.body.user_id else {
        return Err(match call.body.id_server {
            Some(_) => Error::new(
                StatusCode::FORBIDDEN,
                "M_THREEPID_DENIED",
                "This server invites by user id only: it asks no identity server",
            ),
            None => Error::missing_param("`user_id` is missing"),
        });
    };
    call.who.not_suspended()?;
    permit(&api, &call.who)?;
    check_invite_rules(&api, &call.who.user_id, &target)?;
    appservice::ask::make_wanted(&api, &target).await?;
    let profile = profile(&api, &target)?;
    let reason = call.body.reason.as_deref();
    api.rooms.invite(&call.who.user_id, &room, (&target, &profile), reason, Map::new()).await?;
    Ok(Empty)
}

/// Refuses to ask somebody of ours who does not want to be asked. Others' servers say so themselves.
/// [CS-API §invite-permission]
pub(super) fn check_invite_rules(api: &Api, sender: &UserId, target: &UserId) -> Result<()> {
    match api.accounts.invite_rules(target)?.rule_for(sender) {
        // What is ignored arrives, and is not shown.
        InviteRule::Allow | InviteRule::Ignore => Ok(()),
        InviteRule::Block => {
            Err(Error::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", format!("{target} does not want to be invited")))
        }
    }
}
