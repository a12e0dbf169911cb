//! What application services are asked: whether a user or a room is theirs, and what they know of other networks.
//!
//! [AS-API §querying] [AS-API §third-party-networks]

use koine_net::{Error as NetError, WebRequest};
use ruma_common::{RoomAliasId, UserId};
use serde_json::{Map, Value};

use super::services::{LIMITS, Service};
use crate::{Api, Result};

/// Entries that are taken of what one service answers.
const ENTRIES_MAX: usize = 1_000;

/// Asks the services that have `user` in a namespace whether there is such a user; one that says yes has made it.
/// [AS-API §get_matrixappv1usersuserid]
pub(crate) async fn makes_user(api: &Api, user: &UserId) -> bool {
    for service in api.services.all().iter().filter(|service| service.sender != user && service.has_user(user)) {
        if says_yes(api, service, &["users", user.as_str()]).await {
            return true;
        }
    }
    false
}

/// Has a user made who is wanted in a room, belongs to a service and is not there yet. [AS-API §querying]
pub(crate) async fn make_wanted(api: &Api, user: &UserId) -> Result<()> {
    if api.accounts.is_local(user) && api.accounts.user(user)?.is_none() {
        // Whether there is one then is seen by whoever goes on.
        makes_user(api, user).await;
    }
    Ok(())
}

/// Asks the services that have `alias` in a namespace whether there is such a room. [AS-API §get_matrixappv1roomsroomalias]
pub(crate) async fn makes_room(api: &Api, alias: &RoomAliasId) -> bool {
    for service in api.services.all().iter().filter(|service| service.has_alias(alias.as_str())) {
        if says_yes(api, service, &["rooms", alias.as_str()]).await {
            return true;
        }
    }
    false
}

async fn says_yes(api: &Api, service: &Service, path: &[&str]) -> bool {
    let Some(url) = service.address(path, "") else { return false };
    match api.services.call(service, WebRequest::get(url, LIMITS)).await {
        Ok(_) => true,
        Err(NetError::Status { .. }) => false,
        Err(error) => {
            tracing::debug!(service = service.id, reason = %error, "an application service cannot be asked");
            false
        }
    }
}

/// What services know of other networks, all together.
/// [AS-API §get_matrixappv1thirdpartyuserprotocol] [AS-API §get_matrixappv1thirdpartyuser]
/// [AS-API §get_matrixappv1thirdpartylocationprotocol] [AS-API §get_matrixappv1thirdpartylocation]
pub(crate) async fn third_party(api: &Api, protocol: Option<&str>, path: &[&str], query: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let asked = api.services.all().iter();
    for service in asked.filter(|service| protocol.is_none_or(|name| service.protocols.iter().any(|own| own == name))) {
        if let Some(Value::Array(some)) = json(api, service, path, query).await {
            all.extend(some.into_iter().filter(Value::is_object).take(ENTRIES_MAX));
        }
    }
    all
}

/// What a network is like. Of several services that lead to it, the instances are put together.
/// [AS-API §get_matrixappv1thirdpartyprotocolprotocol]
pub(crate) async fn protocol(api: &Api, name: &str) -> Option<Value> {
    let mut told: Option<Value> = None;
    for service in api.services.all().iter().filter(|service| service.protocols.iter().any(|own| own == name)) {
        let Some(Value::Object(mut one)) = json(api, service, &["thirdparty", "protocol", name], "").await else {
            continue;
        };
        name_instances(service, &mut one);
        match &mut told {
            None => told = Some(Value::Object(one)),
            Some(told) => {
                let more = one.get("instances").and_then(Value::as_array).cloned().unwrap_or_default();
                if let Some(instances) = told.get_mut("instances").and_then(Value::as_array_mut) {
                    instances.extend(more.into_iter().take(ENTRIES_MAX));
                }
            }
        }
    }
    told
}

/// The name by which a network of a service is asked for in the list of rooms. [CS-API §definition-protocol]
pub(crate) fn instance_id(service: &Service, network: &str) -> String {
    format!("{}|{network}", service.id)
}

/// Each instance of a protocol is told with a name that no other has.
fn name_instances(service: &Service, protocol: &mut Map<String, Value>) {
    let instances = protocol.get_mut("instances").and_then(Value::as_array_mut);
    for instance in instances.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(Value::String(network)) = instance.get("network_id") {
            let id = instance_id(service, network);
            instance.insert("instance_id".to_owned(), id.into());
        }
    }
}

async fn json(api: &Api, service: &Service, path: &[&str], query: &str) -> Option<Value> {
    let answer = api.services.call(service, WebRequest::get(service.address(path, query)?, LIMITS)).await.ok()?;
    serde_json::from_slice(&answer).ok()
}
