//! `GET /media/download/{serverName}/{mediaId}[/{fileName}]`: a file as it was uploaded, under its own or another name.
//!
//! [CS-API §get_matrixclientv1mediadownloadservernamemediaid]
//! [CS-API §get_matrixclientv1mediadownloadservernamemediaidfilename]
//! [CS-API §get_matrixmediav3downloadservernamemediaid]
//! [CS-API §get_matrixmediav3downloadservernamemediaidfilename]
//!
//! Media of other servers are not fetched yet, so `allow_remote` changes nothing; nothing is pending, so `timeout_ms`
//! is never waited for; and content is always answered with itself, so `allow_redirect` is not needed.

use axum::{extract::State, response::Response};
use http::HeaderMap;
use koine_media::Item;
use ruma_client_api::{authenticated_media as ruma, media as old};
use ruma_common::ServerName;

use super::{headers::headers, range, stream};
use crate::{Api, Call, Error, Result};

pub async fn download(
    State(api): State<Api>,
    asked: HeaderMap,
    call: Call<ruma::get_content::v1::Request>,
) -> Result<Response> {
    let request = call.request;
    answer(&api, &asked, &request.server_name, &request.media_id, None).await
}

pub async fn download_as(
    State(api): State<Api>,
    asked: HeaderMap,
    call: Call<ruma::get_content_as_filename::v1::Request>,
) -> Result<Response> {
    let request = call.request;
    answer(&api, &asked, &request.server_name, &request.media_id, Some(request.filename)).await
}

#[expect(deprecated, reason = "the old address is served for old clients")]
pub async fn download_old(
    State(api): State<Api>,
    asked: HeaderMap,
    call: Call<old::get_content::v3::Request>,
) -> Result<Response> {
    let request = call.request;
    check_old(&api)?;
    answer(&api, &asked, &request.server_name, &request.media_id, None).await
}

#[expect(deprecated, reason = "the old address is served for old clients")]
pub async fn download_as_old(
    State(api): State<Api>,
    asked: HeaderMap,
    call: Call<old::get_content_as_filename::v3::Request>,
) -> Result<Response> {
    let request = call.request;
    check_old(&api)?;
    answer(&api, &asked, &request.server_name, &request.media_id, Some(request.filename)).await
}

async fn answer(
    api: &Api,
    asked: &HeaderMap,
    server_name: &ServerName,
    media_id: &str,
    name: Option<String>,
) -> Result<Response> {
    let item = find(api, server_name, media_id)?;
    let content = api.media.content(&item).await?;
    let name = name.or(item.file_name);
    let headers = headers(item.content_type.as_deref(), name.as_deref());
    let wanted = range::wanted(asked, content.size);
    stream::part(headers, content, wanted).await.map_err(Error::internal)
}

/// The item with this address, or `M_NOT_FOUND`.
pub(super) fn find(api: &Api, server_name: &ServerName, media_id: &str) -> Result<Item> {
    let found = api.media.find(server_name, media_id)?;
    found.ok_or_else(|| Error::not_found("There is no such media on this server"))
}

/// [CS-API §content-repo-client-behaviour] Once the operator has frozen them, the addresses that ask for no token answer as
/// if the media were not there.
pub(super) fn check_old(api: &Api) -> Result<()> {
    match api.media.config().unauthenticated_download {
        true => Ok(()),
        false => Err(Error::not_found("Media are served at /_matrix/client/v1/media/ with an access token only")),
    }
}
