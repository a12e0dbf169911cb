//! `GET /thirdparty/protocols` and `/thirdparty/protocol/{protocol}`: which networks are reachable.
//!
//! [CS-API §get_matrixclientv3thirdpartyprotocols] [CS-API §get_matrixclientv3thirdpartyprotocolprotocol]

use std::collections::BTreeSet;

use axum::extract::State;
use ruma_client_api::thirdparty::{get_protocol, get_protocols};
use serde_json::{Map, Value};

use crate::{Api, Call, Error, Json, Result, appservice::ask};

pub async fn get_protocols(State(api): State<Api>, _call: Call<get_protocols::v3::Request>) -> Json<Value> {
    let names: BTreeSet<&String> = api.services.all().iter().flat_map(|service| &service.protocols).collect();
    let mut told = Map::new();
    for name in names {
        if let Some(protocol) = ask::protocol(&api, name).await {
            told.insert(name.clone(), protocol);
        }
    }
    Json(Value::Object(told))
}

pub async fn get_protocol(State(api): State<Api>, call: Call<get_protocol::v3::Request>) -> Result<Json<Value>> {
    let told = ask::protocol(&api, &call.request.protocol).await;
    Ok(Json(told.ok_or_else(|| Error::not_found("This network is not known here"))?))
}
