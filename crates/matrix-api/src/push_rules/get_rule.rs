//! `GET /pushrules/global/{kind}/{ruleId}`: one rule.
//!
//! [CS-API §get_matrixclientv3pushrulesglobalkindruleid]

use axum::extract::State;
use koine_push::Rule;
use ruma_client_api::push::get_pushrule::v3;

use super::{named, unknown_rule};
use crate::{Api, Checked, Json, Loose, Result};

pub async fn get_rule(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Json<Rule>> {
    let (kind, rule_id) = named(&call.path)?;
    let rules = api.push.ruleset(&call.who.user_id)?;
    rules.get(kind, rule_id).cloned().map(Json).ok_or_else(unknown_rule)
}
