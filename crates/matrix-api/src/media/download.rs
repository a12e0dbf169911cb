//! `GET /media/download/{serverName}/{mediaId}[/{fileName}]`: a file as it was uploaded, under its own or another name.
//!
//! [CS-API §get_matrixclientv1mediadownloadservernamemediaid]
//! [CS-API §get_matrixclientv1mediadownloadservernamemediaidfilename]
//! [CS-API §get_matrixmediav3downloadservernamemediaid]
//! [CS-API §get_matrixmediav3downloadservernamemediaidfilename]
//!
//! Media of other servers are fetched for whoever asks and kept for a while. Content is always answered with itself, so
//! `allow_redirect` is not needed.

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use koine_media::{Found, Item};
use ruma_client_api::{authenticated_media as ruma, media as old};
use ruma_common::{MilliSecondsSinceUnixEpoch, ServerName};

use super::{headers::headers, range, stream};
use crate::{Api, Call, Error, Result};

/// How long a client may have us wait for content that is not there yet.
pub(super) const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// Which file, and how much trouble may be taken to get it.
pub(super) struct Asked<'a> {
    pub(super) server_name: &'a ServerName,
    pub(super) media_id: &'a str,
    /// `timeout_ms`
    pub(super) patience: Duration,
    /// `allow_remote`
    pub(super) allow_remote: bool,
}

pub async fn download(
    State(api): State<Api>,
    asked: HeaderMap,
    call: Call<ruma::get_content::v1::Request>,
) -> Result<Response> {
    let request = call.request;
    let wanted = Asked {
        server_name: &request.server_name,
        media_id: &request.media_id,
        patience: request.timeout_ms,
        allow_remote: true,
    };
    answer(&api, &asked, wanted, None).await
}

pub async fn download_as(
    State(api): State<Api>,
    asked: HeaderMap,
    call: Call<ruma::get_content_as_filename::v1::Request>,
) -> Result<Response> {
    let request = call.request;
    let wanted = Asked {
        server_name: &request.server_name,
        media_id: &request.media_id,
        patience: request.timeout_ms,
        allow_remote: true,
    };
    answer(&api, &asked, wanted, Some(request.filename)).await
}

#[expect(deprecated, reason = "the old address is served for old clients")]
pub async fn download_old(
    State(api): State<Api>,
    asked: HeaderMap,
    call: Call<old::get_content::v3::Request>,
) -> Result<Response> {
    let request = call.request;
    check_old(&api)?;
    let wanted = Asked {
        server_name: &request.server_name,
        media_id: &request.media_id,
        patience: request.timeout_ms,
        allow_remote: request.allow_remote,
    };
    answer(&api, &asked, wanted, None).await
}

#[expect(deprecated, reason = "the old address is served for old clients")]
pub async fn download_as_old(
    State(api): State<Api>,
    asked: HeaderMap,
    call: Call<old::get_content_as_filename::v3::Request>,
) -> Result<Response> {
    let request = call.request;
    check_old(&api)?;
    let wanted = Asked {
        server_name: &request.server_name,
        media_id: &request.media_id,
        patience: request.timeout_ms,
        allow_remote: request.allow_remote,
    };
    answer(&api, &asked, wanted, Some(request.filename)).await
}

async fn answer(api: &Api, asked: &HeaderMap, wanted: Asked<'_>, name: Option<String>) -> Result<Response> {
    let item = find(api, wanted).await?;
    let content = api.media.content(&item).await?;
    let name = name.or(item.file_name);
    let headers = headers(item.content_type.as_deref(), name.as_deref());
    let wanted = range::wanted(asked, content.size);
    stream::part(headers, content, wanted).await.map_err(Error::internal)
}

/// The item with this address: `M_NOT_FOUND` if there is none, `M_NOT_YET_UPLOADED` if its content did not come in time.
pub(super) async fn find(api: &Api, wanted: Asked<'_>) -> Result<Item> {
    let Asked { server_name, media_id, patience, allow_remote } = wanted;
    let (now, patience) = (MilliSecondsSinceUnixEpoch::now(), patience.min(PATIENCE_MAX));
    if server_name == api.media.server_name() {
        return match api.media.await_content(media_id, now, patience).await? {
            Found::Item(item) => Ok(item),
            Found::Promised => Err(not_yet_uploaded()),
            Found::Nothing => Err(Error::not_found("There is no such media on this server")),
        };
    }
    if let Some(item) = api.media.cached(server_name, media_id, now).map_err(Error::internal)? {
        return Ok(item);
    }
    if !allow_remote {
        return Err(Error::not_found("The media are of another server and not here"));
    }
    Ok(api.media.fetch(server_name, media_id, now, patience).await?)
}

/// [CS-API §content-repository]
pub(crate) fn not_yet_uploaded() -> Error {
    Error::new(StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED", "The content has not been uploaded yet")
}

/// [CS-API §content-repo-client-behaviour] Once the operator has frozen them, the addresses that ask for no token answer as
/// if the media were not there.
pub(super) fn check_old(api: &Api) -> Result<()> {
    match api.media.config().unauthenticated_download {
        true => Ok(()),
        false => Err(Error::not_found("Media are served at /_matrix/client/v1/media/ with an access token only")),
    }
}
