//! The content repository: files that people upload, and pictures made smaller.
//!
//! [CS-API §content-repository] Everything is there twice: under `/_matrix/client/v1/media/` with an access token, and
//! at the old addresses without one, which an operator may close.

mod create_media;
pub(crate) mod download;
mod get_config;
mod headers;
mod preview_url;
mod range;
mod stream;
mod thumbnail;
mod upload;

use http::Method;
use ruma_client_api::{authenticated_media as ruma, media as old};

use crate::Endpoints;

pub(crate) fn endpoints(endpoints: &mut Endpoints) {
    endpoints.add::<old::create_content::v3::Request, _, _>("matrix.media.upload", upload::upload);
    endpoints.add::<ruma::get_media_config::v1::Request, _, _>("matrix.media.get_config", get_config::get_config);
    endpoints.add::<ruma::get_content::v1::Request, _, _>("matrix.media.download", download::download);
    endpoints
        .add::<ruma::get_content_as_filename::v1::Request, _, _>("matrix.media.download_as", download::download_as);
    endpoints.add::<ruma::get_content_thumbnail::v1::Request, _, _>("matrix.media.thumbnail", thumbnail::thumbnail);
    endpoints.add::<ruma::get_media_preview::v1::Request, _, _>("matrix.media.preview_url", preview_url::preview_url);
    endpoints.add::<old::create_mxc_uri::v1::Request, _, _>("matrix.media.create_media", create_media::create_media);
    endpoints
        .add::<old::create_content_async::v3::Request, _, _>("matrix.media.upload_promised", upload::upload_promised);

    // COMPAT(clients from before Matrix 1.11): `v1` was never specified for all of these, and is asked for all the same.
    for version in ["r0", "v1", "v3"] {
        let path = |rest: &str| format!("/_matrix/media/{version}/{rest}");
        let get = || Method::GET;
        if version == "v1" {
            endpoints.add_at("matrix.media.upload", Method::POST, &path("upload"), upload::upload);
        }
        endpoints.add_at("matrix.media.get_config_old", get(), &path("config"), get_config::get_config_old);
        endpoints.add_at("matrix.media.preview_url_old", get(), &path("preview_url"), preview_url::preview_url_old);
        endpoints.add_at(
            "matrix.media.download_old",
            get(),
            &path("download/{server_name}/{media_id}"),
            download::download_old,
        );
        endpoints.add_at(
            "matrix.media.download_as_old",
            get(),
            &path("download/{server_name}/{media_id}/{filename}"),
            download::download_as_old,
        );
        endpoints.add_at(
            "matrix.media.thumbnail_old",
            get(),
            &path("thumbnail/{server_name}/{media_id}"),
            thumbnail::thumbnail_old,
        );
    }
}
