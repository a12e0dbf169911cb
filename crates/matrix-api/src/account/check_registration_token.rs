//! `GET /register/m.login.registration_token/validity`: could I make an account with this token?
//!
//! [CS-API §get_matrixclientv1registermloginregistration_tokenvalidity]

use axum::extract::State;
use koine_account::{Class, LimitKey, Registration};
use ruma_client_api::account::check_registration_token_validity::v1;

use crate::{Api, Call, Error, Result, Ruma};

pub async fn check_registration_token(State(api): State<Api>, call: Call<v1::Request>) -> Result<Ruma<v1::Response>> {
    if api.accounts.config().registration == Registration::Closed {
        return Err(Error::forbidden("Registration is closed: an admin can make an account"));
    }
    // Guessing must not pay.
    api.permit(Class::Registration, LimitKey::Address(call.peer.0))?;
    let valid = api.accounts.is_registration_token_valid(&call.request.token)?;
    Ok(Ruma(v1::Response::new(valid)))
}
