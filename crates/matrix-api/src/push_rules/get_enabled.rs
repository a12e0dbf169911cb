//! `GET /pushrules/global/{kind}/{ruleId}/enabled`: whether a rule is on.
//!
//! [CS-API §get_matrixclientv3pushrulesglobalkindruleidenabled]

use axum::extract::State;
use ruma_client_api::push::get_pushrule_enabled::v3;
use serde::Serialize;

use super::{named, unknown_rule};
use crate::{Api, Checked, Json, Loose, Result};

#[derive(Serialize)]
pub struct Answer {
    enabled: bool,
}

pub async fn get_enabled(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Json<Answer>> {
    let (kind, rule_id) = named(&call.path)?;
    let rules = api.push.ruleset(&call.who.user_id)?;
    let rule = rules.get(kind, rule_id).ok_or_else(unknown_rule)?;
    Ok(Json(Answer { enabled: rule.enabled }))
}
