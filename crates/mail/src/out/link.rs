//! Files too large for a mail, by links that run out: `/_koine/mailed/<id>/<until>/<proof>/<name>`.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use koine_media::Content;
use ruma_common::http_headers::{ContentDisposition, ContentDispositionType};
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::Out;

/// Where the files are.
const PATH: &str = "/_koine/mailed";
/// How much of a file is read at once.
const PIECE_BYTES: usize = 64 * 1024;

impl Out {
    /// A link to a file of ours.
    pub(crate) fn link(&self, id: &str, name: &str) -> String {
        let until_s = self.now_ms() / 1_000 + self.config().link_days * 24 * 60 * 60;
        let base = self.0.cores.base_url.clone().unwrap_or_else(|| format!("https://{}", self.host()));
        let proof = self.proof("file", &[id, &until_s.to_string()]);
        let Ok(mut url) = url::Url::parse(base.trim_end_matches('/')) else { return String::new() };
        if let Ok(mut path) = url.path_segments_mut() {
            let until = until_s.to_string();
            path.pop_if_empty().extend(PATH.trim_start_matches('/').split('/')).extend([id, &until, &proof, name]);
        }
        url.to_string()
    }

    /// What the web server has to serve.
    pub fn router(&self) -> Router {
        Router::new()
            .route(&format!("{PATH}/{{id}}/{{until}}/{{proof}}/{{name}}"), get(download))
            .with_state(self.clone())
    }
}

async fn download(
    State(out): State<Out>,
    Path((id, until, proof, _)): Path<(String, String, String, String)>,
) -> Response {
    let gone = || (StatusCode::NOT_FOUND, "there is no such file, or the link has run out").into_response();
    let expected = out.proof("file", &[&id, &until]);
    let is_proven: bool = proof.as_bytes().ct_eq(expected.as_bytes()).into();
    let is_in_time = until.parse::<u64>().is_ok_and(|until_s| out.now_ms() / 1_000 <= until_s);
    if !is_proven || !is_in_time {
        return gone();
    }
    let media = &out.0.cores.media;
    let item = match media.find(media.server_name(), &id) {
        Ok(Some(item)) => item,
        Ok(None) => return gone(),
        Err(error) => {
            tracing::error!(reason = %error, "a mailed file could not be looked up");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    match media.content(&item).await {
        Ok(Content { file, size }) => {
            let mut headers = described(item.file_name);
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
            (headers, Body::new(FileBody { file, left: size })).into_response()
        }
        Err(error) => {
            tracing::error!(reason = %error, "a mailed file could not be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Nothing that somebody uploaded runs in a browser.
fn described(name: Option<String>) -> HeaderMap {
    let disposition = ContentDisposition::new(ContentDispositionType::Attachment).with_filename(name).to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (header::CACHE_CONTROL, "private, max-age=3600"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// A file, read as fast as it is taken.
struct FileBody {
    file: tokio::fs::File,
    left: u64,
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut piece = BytesMut::zeroed(wanted);
        let mut room = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.file).poll_read(context, &mut room))?;
        let filled = room.filled().len();
        if filled == 0 {
            return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())));
        }
        piece.truncate(filled);
        self.left -= filled as u64;
        Poll::Ready(Some(Ok(http_body::Frame::data(piece.freeze()))))
    }
}
