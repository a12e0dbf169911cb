//! `POST …/org.matrix.simplified_msc3575/sync`: what a connection does not know yet, now or when there is something.
//!
//! [MSC4186]

use std::time::{Duration, Instant};

use axum::extract::State;
use ruma_common::{api::auth_scheme::AccessToken, metadata};

use super::{look::Look, request::Body};
use crate::{Api, Error, Loose, Raw, Result, event::Ignored, presence};

/// Longest time a request is kept waiting; a client that asks for more asks again.
const TIMEOUT_MAX: Duration = Duration::from_secs(5 * 60);

/// The endpoint.
pub struct SlidingSync;

metadata! {
    @for SlidingSync,

    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable("org.matrix.simplified_msc3575") => "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
    }
}

pub async fn sync(State(api): State<Api>, call: Loose<SlidingSync, Body>) -> Result<Raw> {
    let (body, who) = (call.body, call.who);
    body.check()?;
    let conn_id = body.conn_id.as_deref().unwrap_or_default();
    let timeout = parameter(&call.query, "timeout").map(str::parse::<u64>);
    let timeout = timeout.transpose().map_err(|_| Error::invalid_param("`timeout` is no number of milliseconds"))?;
    let timeout = Duration::from_millis(timeout.unwrap_or_default()).min(TIMEOUT_MAX);
    let wish = presence::parse_state(parameter(&call.query, "set_presence").unwrap_or("online"))?;
    // [CS-API §presence] The device is there as long as it waits.
    let _polling = api.accounts.presences().poll(&who.user_id, &who.device_id, wish);
    let start = Instant::now();
    let deadline = tokio::time::Instant::now() + timeout;

    let inbox = api.rooms.hub().inbox(&who.user_id);
    let mut bell = inbox.bell();
    let pos = parameter(&call.query, "pos").filter(|pos| !pos.is_empty());
    let (connection, no) = match pos {
        Some(pos) => api.connections().find(&who, conn_id, pos)?,
        None => (api.connections().open(&who, conn_id, rand::random(), start), 0),
    };
    let request = connection.lock().begin(no, start)?;
    loop {
        // Before looking, so that what comes while we look wakes us up.
        bell.borrow_and_update();
        let position = api.rooms.shard().position();
        api.rooms.hub().reached(position).await;
        let now = api.tokens().now(position, api.rooms.hub().fleeting());
        let ignored = Ignored::of(&api, &who)?;
        let must = pos.is_none() || tokio::time::Instant::now() >= deadline || *api.closing.borrow();
        {
            let mut state = connection.lock();
            if state.request != request {
                // A newer request took over; nobody reads what this one says.
                return Err(super::connection::unknown_pos());
            }
            let look = Look { api: &api, who: &who, body: &body, ignored: &ignored, base: state.base, now };
            if let Some(answer) = look.answer(&connection, &mut state, &inbox, must)? {
                return Ok(Raw(answer));
            }
        }
        tokio::select! {
            _ = bell.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = api.closing() => {}
        }
        // Whoever was logged out meanwhile is told so, and nothing else.
        api.accounts.recheck(&who)?;
    }
}

/// A parameter of the query. What we give out, and numbers, need no escaping.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
}
