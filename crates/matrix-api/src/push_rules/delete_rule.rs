//! `DELETE /pushrules/global/{kind}/{ruleId}`: a rule of the user's own goes.
//!
//! [CS-API §delete_matrixclientv3pushrulesglobalkindruleid]

use axum::extract::State;
use ruma_client_api::push::delete_pushrule::v3;

use super::named;
use crate::{Api, Checked, Empty, Loose, Result};

pub async fn delete_rule(State(api): State<Api>, call: Loose<v3::Request, Checked>) -> Result<Empty> {
    let (kind, rule_id) = named(&call.path)?;
    api.push.change(&call.who.user_id, |rules| rules.remove(kind, rule_id)).await?;
    Ok(Empty)
}
