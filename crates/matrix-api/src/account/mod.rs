//! Accounts: who am I, registration, passwords, closing.

mod change_password;
mod check_registration_token;
mod deactivate;
mod get_username_availability;
mod register;
mod request_openid_token;
mod threepids;
mod whoami;

use ruma_client_api::account as ruma;

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<ruma::whoami::v3::Request, _, _>("matrix.account.whoami", whoami::whoami);
    endpoints.add::<ruma::register::v3::Request, _, _>("matrix.account.register", register::register);
    endpoints.add::<ruma::get_username_availability::v3::Request, _, _>(
        "matrix.account.get_username_availability",
        get_username_availability::get_username_availability,
    );
    endpoints.add::<ruma::check_registration_token_validity::v1::Request, _, _>(
        "matrix.account.check_registration_token",
        check_registration_token::check_registration_token,
    );
    endpoints.add::<ruma::change_password::v3::Request, _, _>(
        "matrix.account.change_password",
        change_password::change_password,
    );
    endpoints.add::<ruma::deactivate::v3::Request, _, _>("matrix.account.deactivate", deactivate::deactivate);
    endpoints.add::<ruma::request_openid_token::v3::Request, _, _>(
        "matrix.account.request_openid_token",
        request_openid_token::request_openid_token,
    );
    threepids::endpoints(endpoints);
}
