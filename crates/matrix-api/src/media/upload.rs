//! `POST /media/v3/upload` and `PUT /media/v3/upload/{serverName}/{mediaId}`: a file, streamed to disk as it arrives,
//! under a new address or one that was promised before.
//!
//! [CS-API §post_matrixmediav3upload] [CS-API §put_matrixmediav3uploadservernamemediaid] The file name comes in the query, the content type in the header, and the body is the
//! file. Larger than allowed: `M_TOO_LARGE`; the account's share used up: `M_FORBIDDEN`.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Query, Request, State},
};
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::BodyExt as _;
use koine_media::{Description, Upload};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedMxcUri};
use serde::{Deserialize, Serialize};

use crate::{Api, Empty, Error, Json, Result, User, body};

/// How long the next piece of a file may take to arrive. The whole may take as long as it takes.
const PIECE_TIME_MAX: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Named {
    filename: Option<String>,
}

#[derive(Serialize)]
pub struct Uploaded {
    content_uri: OwnedMxcUri,
}

pub async fn upload(State(api): State<Api>, request: Request) -> Result<Json<Uploaded>> {
    let content_uri = accept(&api, request, None).await?;
    Ok(Json(Uploaded { content_uri }))
}

pub async fn upload_promised(State(api): State<Api>, request: Request) -> Result<Empty> {
    let (mut parts, body) = request.into_parts();
    let path = Path::<(String, String)>::from_request_parts(&mut parts, &api).await;
    let Path(address) = path.map_err(|_| Error::invalid_param("The path cannot be read"))?;
    accept(&api, Request::from_parts(parts, body), Some(address)).await?;
    Ok(Empty)
}

async fn accept(api: &Api, request: Request, promised: Option<(String, String)>) -> Result<OwnedMxcUri> {
    let (mut parts, mut body) = request.into_parts();
    let uploaded = async {
        // The token first: strangers cannot make us write.
        let user = User::from_request_parts(&mut parts, api).await?;
        let description =
            Description { content_type: header(&parts.headers, &CONTENT_TYPE), file_name: file_name(&parts.uri)? };
        let announced = header(&parts.headers, &CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let now = MilliSecondsSinceUnixEpoch::now();
        let mut upload = match &promised {
            None => api.media.begin_upload(&user.user_id, announced).await?,
            Some((server_name, _)) if *server_name != api.media.server_name().as_str() => {
                return Err(Error::not_found("Content of another server is uploaded there"));
            }
            Some((_, media_id)) => api.media.begin_promised_upload(&user.user_id, media_id, announced, now).await?,
        };
        receive(&mut body, &mut upload).await?;
        Ok(upload.finish(description, MilliSecondsSinceUnixEpoch::now()).await?)
    };
    let uploaded = uploaded.await;
    if uploaded.is_err() {
        body::drain(body).await;
    }
    uploaded
}

async fn receive(body: &mut Body, upload: &mut Upload) -> Result<()> {
    let late = |_elapsed| Error::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "The upload stood still for too long");
    let broken = |_broken| Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The connection broke during the upload");
    while let Some(frame) = tokio::time::timeout(PIECE_TIME_MAX, body.frame()).await.map_err(late)? {
        if let Ok(piece) = frame.map_err(broken)?.into_data() {
            upload.write(&piece).await?;
        }
    }
    Ok(())
}

fn header(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn file_name(uri: &http::Uri) -> Result<Option<String>> {
    let query = Query::<Named>::try_from_uri(uri).map_err(|_| Error::invalid_param("The query cannot be read"))?;
    Ok(query.0.filename)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_is_taken_from_the_query() {
        for (query, expected) in [
            ("", None),
            ("?filename=War%20and%20Peace.pdf", Some("War and Peace.pdf")),
            ("?filename=%F0%9F%90%94&access_token=x", Some("\u{1f414}")),
            ("?filename=a+b", Some("a b")),
        ] {
            let uri = format!("/_matrix/media/v3/upload{query}").parse().expect("an address");
            assert_eq!(file_name(&uri).expect("readable").as_deref(), expected, "{query}");
        }
    }
}
