//! `GET /media/preview_url`: what a page says of itself.
//!
//! [CS-API §get_matrixclientv1mediapreview_url] [CS-API §get_matrixmediav3preview_url] `ts` may ask for an older version;
//! there is only the present one.

use axum::extract::State;
use koine_account::{Class, LimitKey};
use ruma_client_api::{authenticated_media::get_media_preview::v1, media::get_media_preview::v3};
use ruma_common::MilliSecondsSinceUnixEpoch;

use crate::{Api, Call, Error, Raw, Result, User};

pub async fn preview_url(State(api): State<Api>, call: Call<v1::Request>) -> Result<Raw> {
    answer(&api, &call.who, &call.request.url).await
}

#[expect(deprecated, reason = "the old address is served for old clients")]
pub async fn preview_url_old(State(api): State<Api>, call: Call<v3::Request>) -> Result<Raw> {
    answer(&api, &call.who, &call.request.url).await
}

async fn answer(api: &Api, user: &User, url: &str) -> Result<Raw> {
    api.permit(Class::Message, LimitKey::User(&user.user_id))?;
    let previews = api.previews.as_ref().ok_or_else(Error::unrecognized)?;
    let json = previews.preview(url, MilliSecondsSinceUnixEpoch::now()).await?;
    Ok(Raw(json.into()))
}
