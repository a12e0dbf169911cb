//! `GET /media/config`: how large an upload may be.
//!
//! [CS-API §get_matrixclientv1mediaconfig] [CS-API §get_matrixmediav3config]

use axum::extract::State;
use ruma_client_api::{authenticated_media::get_media_config::v1, media::get_media_config::v3};
use serde::Serialize;

use crate::{Api, Call, Json};

#[derive(Serialize)]
pub struct Config {
    #[serde(rename = "m.upload.size")]
    upload_bytes_max: u64,
}

pub async fn get_config(State(api): State<Api>, _call: Call<v1::Request>) -> Json<Config> {
    answer(&api)
}

#[expect(deprecated, reason = "the old address is served for old clients")]
pub async fn get_config_old(State(api): State<Api>, _call: Call<v3::Request>) -> Json<Config> {
    answer(&api)
}

fn answer(api: &Api) -> Json<Config> {
    Json(Config { upload_bytes_max: api.media.config().upload_bytes_max })
}
