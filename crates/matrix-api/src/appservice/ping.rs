//! `POST /appservice/{appserviceId}/ping`: a service has us try whether we reach it.
//!
//! [CS-API §post_matrixclientv1appserviceappserviceidping] [AS-API §post_matrixappv1ping]

use std::time::Instant;

use axum::extract::State;
use http::{Method, StatusCode};
use koine_net::{Error as NetError, WebRequest};
use ruma_client_api::appservice::request_ping::v1;
use serde_json::{Value, json};

use super::services::LIMITS;
use crate::{Api, Call, Error, Json, Result};

pub async fn ping(State(api): State<Api>, call: Call<v1::Request>) -> Result<Json<Value>> {
    let service = &call.who;
    if service.id != call.request.appservice_id {
        return Err(Error::forbidden("The token is of another application service"));
    }
    let no_url = || Error::new(StatusCode::BAD_REQUEST, "M_URL_NOT_SET", "The registration of the service has no url");
    let url = service.address(&["ping"], "").ok_or_else(no_url)?;
    let body = match &call.request.transaction_id {
        Some(id) => json!({ "transaction_id": id }),
        None => json!({}),
    };
    let began = Instant::now();
    let answer = api.services.call(service, WebRequest::json(Method::POST, url, body.to_string(), LIMITS)).await;
    match answer {
        Ok(_) => Ok(Json(json!({ "duration_ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX) }))),
        Err(NetError::Status { status, body, .. }) => {
            let message = format!("The service answered {status}");
            Err(Error::new(StatusCode::BAD_GATEWAY, "M_BAD_STATUS", message)
                .with("status", status.as_u16())
                .with("body", String::from_utf8_lossy(&body).into_owned()))
        }
        Err(NetError::Timeout { .. }) => {
            Err(Error::new(StatusCode::GATEWAY_TIMEOUT, "M_CONNECTION_TIMEOUT", "The service took too long"))
        }
        Err(error) => Err(Error::new(StatusCode::BAD_GATEWAY, "M_CONNECTION_FAILED", error.to_string())),
    }
}
