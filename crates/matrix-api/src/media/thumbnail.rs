//! `GET /media/thumbnail/{serverName}/{mediaId}`: a picture made smaller.
//!
//! [CS-API §get_matrixclientv1mediathumbnailservernamemediaid] [CS-API §get_matrixmediav3thumbnailservernamemediaid]
//! What cannot be scaled is `M_UNKNOWN`, what is too large to be `M_TOO_LARGE`. A still picture, unless `animated` says
//! `true` and the original moves. Of another server's picture the whole is fetched and scaled here, so that further sizes need not be
//! asked for.

use std::time::Duration;

use axum::{
    extract::{Query, State},
    response::Response,
};
use http::{StatusCode, Uri};
use koine_media::{Method, Spec, Thumbnail, ThumbnailBody};
use ruma_client_api::{authenticated_media as ruma, media as old};
use ruma_common::ServerName;
use serde::Deserialize;

use super::{
    download::{Asked, check_old, find},
    headers::headers,
    stream,
};
use crate::{Api, Checked, Error, Loose, Result};

/// As texts, because the specification has its own error for numbers that are none.
#[derive(Deserialize)]
struct Wanted {
    width: Option<String>,
    height: Option<String>,
    method: Option<String>,
    timeout_ms: Option<String>,
    allow_remote: Option<String>,
    animated: Option<String>,
}

/// How long content that is not there yet is waited for when nobody says.
const PATIENCE_DEFAULT_MS: u64 = 20_000;

pub async fn thumbnail(
    State(api): State<Api>,
    call: Loose<ruma::get_content_thumbnail::v1::Request, Checked>,
) -> Result<Response> {
    answer(&api, &call.path, &call.query).await
}

#[expect(deprecated, reason = "the old address is served for old clients")]
pub async fn thumbnail_old(
    State(api): State<Api>,
    call: Loose<old::get_content_thumbnail::v3::Request, Checked>,
) -> Result<Response> {
    check_old(&api)?;
    answer(&api, &call.path, &call.query).await
}

async fn answer(api: &Api, path: &[String], query: &str) -> Result<Response> {
    let [server_name, media_id] = path else { return Err(Error::unrecognized()) };
    let server_name = ServerName::parse(server_name).map_err(|_| Error::invalid_param("Not a valid server name"))?;
    let Wish { spec, patience, allow_remote } = wanted(query)?;
    let item = find(api, Asked { server_name: &server_name, media_id, patience, allow_remote }).await?;
    let Thumbnail { content_type, file_name, body } = api.media.thumbnail(&item, spec).await?;
    let headers = headers(Some(content_type), Some(file_name));
    Ok(match body {
        ThumbnailBody::File(content) => stream::file(headers, content),
        ThumbnailBody::Memory(bytes) => stream::memory(headers, bytes),
    })
}

struct Wish {
    spec: Spec,
    patience: Duration,
    allow_remote: bool,
}

fn wanted(query: &str) -> Result<Wish> {
    let nonsense = |message: &'static str| Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message);
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build();
    let wanted = uri.ok().and_then(|uri| Query::<Wanted>::try_from_uri(&uri).ok());
    let Wanted { width, height, method, timeout_ms, allow_remote, animated } =
        wanted.ok_or_else(|| nonsense("The query cannot be read"))?.0;
    let side = |text: Option<String>, name: &'static str| {
        let text = text.ok_or_else(|| Error::missing_param(format!("The thumbnail's {name} is missing")))?;
        text.parse::<u32>().map_err(|_| nonsense("Width and height are positive whole numbers of pixels"))
    };
    let method = match method.as_deref() {
        None | Some("scale") => Method::Scale,
        Some("crop") => Method::Crop,
        Some(_) => return Err(nonsense("The method is scale or crop")),
    };
    let spec = Spec::new(side(width, "width")?, side(height, "height")?, method)
        .ok_or_else(|| nonsense("Width and height are positive whole numbers of pixels"))?;
    let spec = spec.animated(animated.as_deref() == Some("true"));
    let patience = timeout_ms.and_then(|text| text.parse().ok()).unwrap_or(PATIENCE_DEFAULT_MS);
    let allow_remote = allow_remote.as_deref() != Some("false");
    Ok(Wish { spec, patience: Duration::from_millis(patience), allow_remote })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_from_the_query() {
        let spec = |width, height, method| Spec::new(width, height, method).expect("a size");
        for (query, expected) in [
            ("width=32&height=32&method=crop", Ok(spec(32, 32, Method::Crop))),
            ("width=320&height=240", Ok(spec(320, 240, Method::Scale))),
            (
                "height=240&width=320&method=scale&animated=true&timeout_ms=1",
                Ok(spec(320, 240, Method::Scale).animated(true)),
            ),
            ("width=320&height=240&animated=false", Ok(spec(320, 240, Method::Scale))),
            ("width=320", Err("M_MISSING_PARAM")),
            ("", Err("M_MISSING_PARAM")),
            ("width=-1&height=1", Err("M_UNKNOWN")),
            ("width=1.5&height=1", Err("M_UNKNOWN")),
            ("width=0&height=1", Err("M_UNKNOWN")),
            ("width=a&height=1", Err("M_UNKNOWN")),
            ("width=99999999999&height=1", Err("M_UNKNOWN")),
            ("width=1&height=1&method=stretch", Err("M_UNKNOWN")),
        ] {
            let read = wanted(query).map(|wish| wish.spec);
            assert_eq!(read.as_ref().map_err(Error::errcode).copied(), expected, "{query}");
        }
    }
}
