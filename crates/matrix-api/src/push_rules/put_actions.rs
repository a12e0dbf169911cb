//! `PUT /pushrules/global/{kind}/{ruleId}/actions`: what a rule does, changed.
//!
//! [CS-API §put_matrixclientv3pushrulesglobalkindruleidactions] Server-default rules can be changed in this way too.

use axum::extract::State;
use ruma_client_api::push::set_pushrule_actions::v3;
use serde::Deserialize;
use serde_json::Value;

use super::named;
use crate::{Api, Empty, Loose, Result};

#[derive(Debug, Deserialize)]
pub struct Body {
    actions: Vec<Value>,
}

pub async fn put_actions(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Empty> {
    let (kind, rule_id) = named(&call.path)?;
    let actions = call.body.actions;
    api.push.change(&call.who.user_id, |rules| rules.set_actions(kind, rule_id, actions.clone())).await?;
    Ok(Empty)
}
