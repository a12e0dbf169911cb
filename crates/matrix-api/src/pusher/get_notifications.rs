//! `GET /notifications`: what the account was notified of.
//!
//! [CS-API §get_matrixclientv3notifications]

use axum::extract::State;
use koine_graph::ClientForm;
use koine_room::Viewer;
use ruma_client_api::push::get_notifications::v3;

use crate::{
    Api, Call, Raw, Result,
    event::{Ignored, Shown},
    sync::Out,
};

/// Notifications on a page when nothing is said.
const LIMIT_DEFAULT: usize = 20;
/// Most notifications on a page.
const LIMIT_MAX: usize = 100;

pub async fn get_notifications(State(api): State<Api>, call: Call<v3::Request>) -> Result<Raw> {
    let (user, request) = (&call.who, call.request);
    let from = request.from.as_deref().map(|from| api.tokens().parse_place(from)).transpose()?;
    let limit = request.limit.and_then(|limit| usize::try_from(u64::from(limit)).ok()).unwrap_or(LIMIT_DEFAULT);
    let highlights_only = request.only.as_deref() == Some("highlight");
    let limit = limit.clamp(1, LIMIT_MAX);
    let page = api.push.notifications(&api.rooms, &user.user_id, from, limit, highlights_only)?;
    let ignored = Ignored::of(&api, user)?;
    let mut out = Out::with_capacity(1024 * page.found.len() + 64);
    out.open(b'{');
    out.open_field("notifications", b'[');
    for notification in page.found {
        let (room, placed) = (&notification.room, &notification.placed);
        let mut viewer = Viewer::new(room, &user.user_id)?;
        if !viewer.may_see(placed)? {
            continue;
        }
        let shown = Shown { who: user, room, form: ClientForm::WithoutRoomId, bundles: false, ignored: &ignored };
        out.open(b'{');
        out.field("room_id", room.id());
        out.field("ts", &placed.event.origin_server_ts());
        out.field("read", &notification.is_read);
        out.field("actions", &notification.wanted.actions);
        out.raw_field("event", &shown.to_bytes(placed, &mut viewer)?);
        out.close(b'}');
    }
    out.close(b']');
    if let Some(next) = page.next {
        out.field("next_token", &api.tokens().print_place(next));
    }
    out.close(b'}');
    Ok(Raw(out.into_bytes()))
}
