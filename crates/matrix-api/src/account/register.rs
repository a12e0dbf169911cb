//! `POST /register`: makes an account, and logs in to it.
//!
//! [CS-API §post_matrixclientv3register]

use axum::extract::State;
use http::StatusCode;
use koine_account::{Class, LimitKey, NewAccount, NewSession, Purpose, Registration, Secret};
use ruma_client_api::account::register::v3;
use ruma_common::UserId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Api, Error, Json, Loose, Result, Service,
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
        return by_service(&api, call.who.as_ref(), body).await;
    }
    if api.accounts.config().registration == Registration::Closed {
        return Err(Error::forbidden("Registration is closed: an admin can make an account"));
    }
    api.permit(Class::Registration, LimitKey::Address(call.peer.0))?;
    // Before anything has to be proven: nobody should solve a riddle for a name that cannot be had.
    if let Some(name) = &body.username {
        let user_id = api.accounts.check_name(name)?;
        not_kept(&api, &user_id, None)?;
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

/// [AS-API §server-admin-style-permissions] A service makes the users of its namespace: without password, and without being
/// asked to prove anything but its token.
async fn by_service(api: &Api, service: Option<&Service>, body: Body) -> Result<Json<Value>> {
    let unknown = || Error::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "No application service has this token");
    let service = service.ok_or_else(unknown)?;
    let name = body.username.ok_or_else(|| Error::missing_param("`username` is missing"))?;
    let user_id = UserId::parse_with_server_name(name.as_str(), api.accounts.server_name())
        .map_err(|_| Error::new(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", "This cannot be a name"))?;
    if !service.has_user(&user_id) {
        return Err(exclusive("The name is not in the namespace of the application service"));
    }
    not_kept(api, &user_id, Some(service))?;
    let session = (!body.inhibit_login.unwrap_or(false)).then(|| NewSession {
        device_id: body.device_id,
        device_name: body.initial_device_display_name,
        refreshable: body.refresh_token.unwrap_or(false),
        address: None,
    });
    let wanted =
        NewAccount { name: Some(user_id.localpart().to_owned()), session, is_own: true, ..NewAccount::default() };
    let (user_id, credentials) = api.accounts.create(wanted).await?;
    let mut answer = json!({ "user_id": user_id, "home_server": api.accounts.server_name() });
    if let Some(credentials) = credentials {
        add_credentials(&mut answer, &credentials);
    }
    Ok(Json(answer))
}

/// Refuses a name that is kept for an application service.
pub(super) fn not_kept(api: &Api, user_id: &UserId, own: Option<&Service>) -> Result<()> {
    match api.services.keeps_user(user_id, own) {
        true => Err(exclusive("The name is kept for an application service")),
        false => Ok(()),
    }
}

fn exclusive(message: &'static str) -> Error {
    Error::new(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", message)
}

fn kind(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("kind="))
}
