//! `POST /media/v1/create`: an address, before its content arrives.
//!
//! [CS-API §post_matrixmediav1create]

use axum::extract::State;
use koine_account::{Class, LimitKey};
use koine_media::Promise;
use ruma_client_api::media::create_mxc_uri::v1;
use ruma_common::MilliSecondsSinceUnixEpoch;

use crate::{Api, Call, Result, Ruma};

pub async fn create_media(State(api): State<Api>, call: Call<v1::Request>) -> Result<Ruma<v1::Response>> {
    api.permit(Class::Message, LimitKey::User(&call.who.user_id))?;
    let Promise { uri, until } = api.media.promise(&call.who.user_id, MilliSecondsSinceUnixEpoch::now()).await?;
    let mut response = v1::Response::new(uri);
    response.unused_expires_at = Some(until);
    Ok(Ruma(response))
}
