//! `PUT /pushrules/global/{kind}/{ruleId}/enabled`: a rule is switched on or off.
//!
//! [CS-API §put_matrixclientv3pushrulesglobalkindruleidenabled]

use axum::extract::State;
use ruma_client_api::push::set_pushrule_enabled::v3;
use serde::Deserialize;

use super::named;
use crate::{Api, Empty, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    enabled: bool,
}

pub async fn put_enabled(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let (kind, rule_id) = named(&call.path)?;
    let enabled = call.body.enabled;
    api.push.change(&call.who.user_id, |rules| rules.set_enabled(kind, rule_id, enabled)).await?;
    Ok(Empty)
}
