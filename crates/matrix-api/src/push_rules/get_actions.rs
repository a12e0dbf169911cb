//! `GET /pushrules/global/{kind}/{ruleId}/actions`: what a rule does.
//!
//! [CS-API §get_matrixclientv3pushrulesglobalkindruleidactions]

use axum::extract::State;
use ruma_client_api::push::get_pushrule_actions::v3;
use serde::Serialize;
use serde_json::Value;

use super::{named, unknown_rule};
use crate::{Api, Checked, Json, Loose, Result};

#[derive(Serialize)]
pub struct Answer {
    actions: Vec<Value>,
}

pub async fn get_actions(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Json<Answer>> {
    let (kind, rule_id) = named(&call.path)?;
    let rules = api.push.ruleset(&call.who.user_id)?;
    let rule = rules.get(kind, rule_id).ok_or_else(unknown_rule)?;
    Ok(Json(Answer { actions: rule.actions.clone() }))
}
