//! Sessions: logging in, staying in, logging out.

mod get_login_token;
mod get_login_types;
mod login;
mod logout;
mod logout_all;
mod refresh;

use koine_account::Credentials;
use ruma_client_api::session as ruma;
use serde_json::Value;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::get_login_types::v3::Request, _, _>(
        "matrix.session.get_login_types",
        get_login_types::get_login_types,
    );
    endpoints.add::<ruma::get_login_token::v1::Request, _, _>(
        "matrix.session.get_login_token",
        get_login_token::get_login_token,
    );
    endpoints.add::<ruma::login::v3::Request, _, _>("matrix.session.login", login::login);
    endpoints.add::<ruma::logout::v3::Request, _, _>("matrix.session.logout", logout::logout);
    endpoints.add::<ruma::logout_all::v3::Request, _, _>("matrix.session.logout_all", logout_all::logout_all);
    endpoints.add::<ruma::refresh_token::v3::Request, _, _>("matrix.session.refresh", refresh::refresh);
}

/// What login and registration answer alike.
pub(crate) fn add_credentials(answer: &mut Value, credentials: &Credentials) {
    answer["device_id"] = credentials.device_id.as_str().into();
    add_tokens(answer, credentials);
}

fn add_tokens(answer: &mut Value, credentials: &Credentials) {
    answer["access_token"] = credentials.access_token.expose().into();
    if let Some(token) = &credentials.refresh_token {
        answer["refresh_token"] = token.expose().into();
    }
    if let Some(lifetime) = credentials.expires_in {
        answer["expires_in_ms"] = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX).into();
    }
}
