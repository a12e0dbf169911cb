//! `PUT /pushrules/global/{kind}/{ruleId}`: a new rule, or a changed one.
//!
//! [CS-API §put_matrixclientv3pushrulesglobalkindruleid] Only `actions` is required, which ruma's type does not allow; so
//! the body is ours.

use axum::extract::{Query, State};
use http::Uri;
use koine_push::{Kind, NewRule, Position};
use ruma_client_api::push::set_pushrule::v3;
use serde::Deserialize;
use serde_json::Value;

use crate::{Api, Empty, Error, Loose, Result};

/// A rule is at most 8 KiB; the rest is for white space and escapes.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
pub struct Body {
    actions: Vec<Value>,
    conditions: Option<Vec<Value>>,
    pattern: Option<String>,
}

#[derive(Deserialize)]
struct Where {
    before: Option<String>,
    after: Option<String>,
}

pub async fn put_rule(State(api): State<Api>, call: Loose<v3::Request, Body, BODY_BYTES_MAX>) -> Result<Empty> {
    let [kind, rule_id, ..] = call.path.as_slice() else { return Err(Error::unrecognized()) };
    let kind = kind.parse()?;
    let Body { actions, conditions, pattern } = call.body;
    let place = place(&call.query)?;
    let rule = NewRule { kind, rule_id: rule_id.to_owned(), actions, conditions, pattern };
    check_kind(&rule)?;
    let position = Position { before: place.before.as_deref(), after: place.after.as_deref() };
    api.push.change(&call.who.user_id, |rules| rules.put(rule.clone(), position)).await?;
    Ok(Empty)
}

/// What a rule of this kind cannot do without has an errcode of its own.
fn check_kind(rule: &NewRule) -> Result<()> {
    match (rule.kind, &rule.pattern) {
        (Kind::Content, None) => Err(Error::missing_param("A content rule needs a pattern")),
        _ => Ok(()),
    }
}

fn place(query: &str) -> Result<Where> {
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build();
    let place = uri.ok().and_then(|uri| Query::<Where>::try_from_uri(&uri).ok());
    place.map(|place| place.0).ok_or_else(|| Error::invalid_param("The query cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_read_from_the_query() {
        let read = |query: &str| place(query).map(|place| (place.before, place.after)).expect("readable");
        assert_eq!(read(""), (None, None));
        assert_eq!(read("before=a%2Bb"), (Some("a+b".to_owned()), None));
        assert_eq!(read("after=x&before=y&access_token=z"), (Some("y".to_owned()), Some("x".to_owned())));
    }
}
