//! `POST …/delayed_events/{delayId}/{action}`: putting an event off, sending it now, taking it back. [MSC4140]

use axum::extract::State;
use serde::{Deserialize, de::IgnoredAny};

use super::{Update, UpdateByBody, permit};
use crate::{Api, Empty, Error, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    action: Option<String>,
}

pub async fn update(State(api): State<Api>, call: Loose<Update, IgnoredAny>) -> Result<Empty> {
    permit(&api, call.peer)?;
    act(&api, &call.path[0], &call.path[1]).await
}

/// COMPAT(clients of 2025): the action in the body.
pub async fn update_by_body(State(api): State<Api>, call: Loose<UpdateByBody, Body>) -> Result<Empty> {
    permit(&api, call.peer)?;
    let action = call.body.action.ok_or_else(|| Error::missing_param("`action` is missing"))?;
    act(&api, &call.path[0], &action).await
}

async fn act(api: &Api, delay_id: &str, action: &str) -> Result<Empty> {
    match action {
        "restart" => api.rooms.restart_delayed(delay_id).await?,
        "send" => api.rooms.send_delayed(delay_id).await?,
        "cancel" => api.rooms.cancel_delayed(delay_id).await?,
        _ => return Err(Error::unrecognized()),
    }
    Ok(Empty)
}
