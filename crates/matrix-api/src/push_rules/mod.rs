//! Push rules: which events notify whom, and how.
//!
//! [CS-API §push-rules-api] The rules are account data, so that a change wakes the other devices' `/sync`.

mod delete_rule;
mod get_actions;
mod get_enabled;
mod get_rule;
mod get_rules;
mod put_actions;
mod put_enabled;
mod put_rule;

use koine_push::Kind;
use ruma_client_api::push as ruma;

use crate::{Endpoints, Error, Result};

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_pushrules_all::v3::Request, _, _>("matrix.push_rules.get_all", get_rules::get_all);
    endpoints.add::<ruma::get_pushrules_global_scope::v3::Request, _, _>(
        "matrix.push_rules.get_global",
        get_rules::get_global,
    );
    endpoints.add::<ruma::get_pushrule::v3::Request, _, _>("matrix.push_rules.get_rule", get_rule::get_rule);
    endpoints.add::<ruma::set_pushrule::v3::Request, _, _>("matrix.push_rules.put_rule", put_rule::put_rule);
    endpoints
        .add::<ruma::delete_pushrule::v3::Request, _, _>("matrix.push_rules.delete_rule", delete_rule::delete_rule);
    endpoints.add::<ruma::get_pushrule_enabled::v3::Request, _, _>(
        "matrix.push_rules.get_enabled",
        get_enabled::get_enabled,
    );
    endpoints.add::<ruma::set_pushrule_enabled::v3::Request, _, _>(
        "matrix.push_rules.put_enabled",
        put_enabled::put_enabled,
    );
    endpoints.add::<ruma::get_pushrule_actions::v3::Request, _, _>(
        "matrix.push_rules.get_actions",
        get_actions::get_actions,
    );
    endpoints.add::<ruma::set_pushrule_actions::v3::Request, _, _>(
        "matrix.push_rules.put_actions",
        put_actions::put_actions,
    );
}

/// Kind and id of the rule that a path names. No rule is of a kind that does not exist: 404, as for any other rule
/// that is not there; only who wants to make one is told why that cannot be.
fn named(path: &[String]) -> Result<(Kind, &str)> {
    match path {
        [kind, rule_id, ..] => Ok((kind.parse().map_err(|_unknown: koine_push::UnknownKind| unknown_rule())?, rule_id)),
        _ => Err(Error::unrecognized()),
    }
}

fn unknown_rule() -> Error {
    koine_push::EditError::NotFound.into()
}
