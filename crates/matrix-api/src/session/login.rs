//! `POST /login`: a session for a password, or for a token that another session was given.
//!
//! [CS-API §post_matrixclientv3login]

use axum::extract::State;
use http::StatusCode;
use koine_account::{AuthenticateError, Class, LimitKey, NewSession, Secret};
use ruma_client_api::session::login::v3;
use ruma_common::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::add_credentials;
use crate::{Api, Error, Json, Loose, Peer, Result, Service, interactive::Identifier};

#[derive(Debug, Deserialize)]
pub struct Body {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<Identifier>,
    /// COMPAT(clients from before r0.4): `user` instead of an identifier; still in the specification.
    user: Option<String>,
    medium: Option<String>,
    address: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    device_id: Option<String>,
    initial_device_display_name: Option<String>,
    refresh_token: Option<bool>,
}

pub async fn login(State(api): State<Api>, call: Loose<v3::Request, Body>) -> Result<Json<Value>> {
    let mut body = call.body;
    let user_id = match body.kind.as_str() {
        "m.login.password" => by_password(&api, &mut body, call.peer).await?,
        "m.login.token" => by_token(&api, &body, call.peer)?,
        "m.login.application_service" => by_service(&api, call.who.as_ref(), &body)?,
        _ => {
            let message = "This way of logging in is not known here: GET /login tells those that are";
            return Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message));
        }
    };
    // [CS-API §account-locking] Only told to who proved to be the owner.
    if api.accounts.user(&user_id)?.is_some_and(|user| user.is_locked) {
        return Err(AuthenticateError::UserLocked.into());
    }
    let wanted = NewSession {
        device_id: body.device_id,
        device_name: body.initial_device_display_name,
        refreshable: body.refresh_token.unwrap_or(false),
        address: Some(call.peer.0),
    };
    let credentials = api.accounts.start_session(&user_id, wanted).await?;
    let mut answer = json!({ "user_id": user_id, "home_server": api.accounts.server_name() });
    add_credentials(&mut answer, &credentials);
    if let Some(base_url) = &api.config.public_base_url {
        answer["well_known"] = json!({ "m.homeserver": { "base_url": base_url } });
    }
    Ok(Json(answer))
}

async fn by_password(api: &Api, body: &mut Body, peer: Peer) -> Result<OwnedUserId> {
    let name = name(body)?.to_owned();
    let Some(password) = body.password.take() else { return Err(Error::missing_param("`password` is missing")) };
    api.permit(Class::Login, LimitKey::Address(peer.0))?;
    // The account is protected too: guesses may come from many addresses.
    if let Some(aim) = api.accounts.login_aim(&name)? {
        api.permit(Class::Login, LimitKey::User(&aim))?;
    }
    Ok(api.accounts.log_in(&name, password).await?)
}

/// [CS-API §appservice-login] A service logs in as one of its users.
fn by_service(api: &Api, service: Option<&Service>, body: &Body) -> Result<OwnedUserId> {
    let no_token = || Error::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "No application service has this token");
    let service = service.ok_or_else(no_token)?;
    let name = name(body)?;
    let user_id = UserId::parse_with_server_name(name, api.accounts.server_name())
        .map_err(|_| Error::invalid_param("The identifier is no user of this server"))?;
    if !service.has_user(&user_id) {
        let message = "The user is not in the namespace of the application service";
        return Err(Error::new(StatusCode::BAD_REQUEST, "M_EXCLUSIVE", message));
    }
    match api.accounts.is_active(&user_id)? {
        true => Ok(user_id),
        false => Err(Error::forbidden("The application service has not registered this user")),
    }
}

/// [CS-API §post_matrixclientv1loginget_token]
fn by_token(api: &Api, body: &Body, peer: Peer) -> Result<OwnedUserId> {
    let token = body.token.as_ref().ok_or_else(|| Error::missing_param("`token` is missing"))?;
    api.permit(Class::Login, LimitKey::Address(peer.0))?;
    api.accounts.take_login_token(token).ok_or_else(|| Error::forbidden("The token is unknown, used or too old"))
}

/// [CS-API §identifier-types] Who wants to log in. Accounts here have no addresses besides their ids.
fn name(body: &Body) -> Result<&str> {
    let unknown_address = || Error::forbidden("No account has this address: log in with a user id");
    if let Some(identifier) = &body.identifier {
        return match (identifier.kind.as_deref(), &identifier.user) {
            (Some("m.id.user") | None, Some(user)) => Ok(user),
            (Some("m.id.user") | None, None) => Err(Error::missing_param("The identifier lacks its `user`")),
            (Some("m.id.thirdparty" | "m.id.phone"), _) => Err(unknown_address()),
            _ => Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "This type of identifier is not known here")),
        };
    }
    match &body.user {
        Some(user) => Ok(user),
        None if body.medium.is_some() && body.address.is_some() => Err(unknown_address()),
        None => Err(Error::missing_param("`identifier` is missing")),
    }
}
