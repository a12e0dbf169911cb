//! `POST /register`: makes an account, and logs in to it.
//!
//! [CS-API §post_matrixclientv3register]

use axum::extract::State;
use koine_account::{Class, LimitKey, NewAccount, NewSession, Purpose, Registration, Secret};
use ruma_client_api::account::register::v3;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Api, Error, Json, Loose, Result,
    interactive::{self, Auth},
    session::add_credentials,
};

#[derive(Debug, Deserialize)]
pub struct Body {
    username: Option<String>,
    password: Option<Secret>,
    device_id: Option<String>,
    initial_device_display_name: Option<String>,
    inhibit_login: Option<bool>,
    refresh_token: Option<bool>,
    auth: Option<Auth>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

pub async fn register(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    let body = call.body;
    match kind(&call.query) {
        None | Some("user") => {}
        Some("guest") => {
            let message = "Guests are not let in here: make an account";
            return Err(Error::new(http::StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", message));
        }
        Some(_) => return Err(Error::invalid_param("There are accounts of kind `user` and of kind `guest`")),
    }
    if body.kind.as_deref() == Some("m.login.application_service") {
        return Err(Error::forbidden("No application service is known here"));
    }
    if api.accounts.config().registration == Registration::Closed {
        return Err(Error::forbidden("Registration is closed: an admin can make an account"));
    }
    api.permit(Class::Registration, LimitKey::Address(call.peer.0))?;
    // Before anything has to be proven: nobody should solve a riddle for a name that cannot be had.
    if let Some(name) = &body.username {
        api.accounts.check_name(name)?;
    }
    let passed = interactive::prove(&api, &Purpose::Register, body.auth).await?;
    let Some(password) = body.password else { return Err(Error::missing_param("An account needs a `password`")) };

    let session = (!body.inhibit_login.unwrap_or(false)).then(|| NewSession {
        device_id: body.device_id,
        device_name: body.initial_device_display_name,
        refreshable: body.refresh_token.unwrap_or(false),
        address: Some(call.peer.0),
    });
    let wanted = NewAccount {
        name: body.username,
        password: Some(password),
        is_admin: false,
        registration_token: passed.registration_token.clone(),
        session,
        ..NewAccount::default()
    };
    let (user_id, credentials) = api.accounts.create(wanted).await?;
    api.accounts.interaction_done(&passed);
    let mut answer = json!({ "user_id": user_id, "home_server": api.accounts.server_name() });
    if let Some(credentials) = credentials {
        add_credentials(&mut answer, &credentials);
    }
    Ok(Json(answer))
}

fn kind(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("kind="))
}
