//! `POST …/org.matrix.simplified_msc3575/sync` and `POST /v4/sync`: what a connection does not know yet, now or when there
//! is something.
//!
//! [MSC4186]

use std::time::{Duration, Instant};

use axum::extract::State;
use ruma_common::{api::auth_scheme::AccessToken, metadata};

use super::{look::Look, merged::Merged, request::Body};
use crate::{Api, Error, Loose, Raw, Result, User, event::Ignored, presence};

/// Longest time a request is kept waiting; a client that asks for more asks again.
const TIMEOUT_MAX: Duration = Duration::from_secs(5 * 60);

/// The endpoint that clients know today.
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

/// The endpoint of the merged proposal, which no version of the specification has yet.
pub struct MergedSlidingSync;

metadata! {
    @for MergedSlidingSync,

    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable => "/_matrix/client/v4/sync",
    }
}

/// What is asked beside the rooms.
struct Asked<'a> {
    pos: Option<&'a str>,
    timeout: Duration,
    set_presence: Option<&'a str>,
}

pub async fn sync(State(api): State<Api>, call: Loose<SlidingSync, Body>) -> Result<Raw> {
    let timeout = parameter(&call.query, "timeout").map(str::parse::<u64>);
    let timeout = timeout.transpose().map_err(|_| Error::invalid_param("`timeout` is no number of milliseconds"))?;
    let asked = Asked {
        pos: parameter(&call.query, "pos").filter(|pos| !pos.is_empty()),
        timeout: Duration::from_millis(timeout.unwrap_or_default()),
        set_presence: parameter(&call.query, "set_presence"),
    };
    answer(&api, &call.who, &call.body, asked).await
}

pub async fn sync_merged(State(api): State<Api>, call: Loose<MergedSlidingSync, Merged>) -> Result<Raw> {
    let (mut merged, who) = (call.body, call.who);
    let (pos, set_presence) = (merged.pos.take(), merged.set_presence.take());
    let timeout = Duration::from_millis(merged.timeout.unwrap_or_default());
    let asked = Asked { pos: pos.as_deref(), timeout, set_presence: set_presence.as_deref() };
    answer(&api, &who, &merged.into_body()?, asked).await
}

async fn answer(api: &Api, who: &User, body: &Body, asked: Asked<'_>) -> Result<Raw> {
    body.check()?;
    let conn_id = body.conn_id.as_deref().unwrap_or_default();
    let timeout = asked.timeout.min(TIMEOUT_MAX);
    let wish = presence::parse_state(asked.set_presence.unwrap_or("online"))?;
    // [CS-API §presence] The device is there as long as it waits.
    let _polling = api.accounts.presences().poll(&who.user_id, &who.device_id, wish);
    let start = Instant::now();
    let deadline = tokio::time::Instant::now() + timeout;

    let inbox = api.rooms.hub().inbox(&who.user_id);
    let mut bell = inbox.bell();
    let (connection, no) = match asked.pos {
        Some(pos) => api.connections().find(who, conn_id, pos)?,
        None => (api.connections().open(who, conn_id, rand::random(), start), 0),
    };
    let request = connection.lock().begin(no, start)?;
    loop {
        // Before looking, so that what comes while we look wakes us up.
        bell.borrow_and_update();
        let position = api.rooms.shard().position();
        api.rooms.hub().reached(position).await;
        let now = api.tokens().now(position, api.rooms.hub().fleeting());
        let ignored = Ignored::of(api, who)?;
        let must = asked.pos.is_none() || tokio::time::Instant::now() >= deadline || *api.closing.borrow();
        let answer = {
            let mut state = connection.lock();
            if state.request != request {
                // A newer request took over; nobody reads what this one says.
                return Err(super::connection::unknown_pos());
            }
            let look = Look { api, who, body, ignored: &ignored, base: state.base, now };
            look.answer(&connection, &mut state, &inbox, must)?
        };
        if let Some(answer) = answer {
            if asked.pos.is_some() {
                api.own_requests().answered(who).await;
            }
            return Ok(Raw(answer));
        }
        tokio::select! {
            _ = bell.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = api.closing() => {}
        }
        // Whoever was logged out meanwhile is told so, and nothing else.
        api.accounts.recheck(who)?;
    }
}

/// A parameter of the query. What we give out, and numbers, need no escaping.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
}
