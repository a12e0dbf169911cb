//! A file as a response body: read as fast as the client takes it, one piece in memory at a time.

use std::{
    io::{self, SeekFrom},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE},
};
use http_body::{Frame, SizeHint};
use koine_media::Content;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncSeekExt as _, ReadBuf},
};

use super::range::Wanted;

/// How much is read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A response with these headers and the whole file.
pub(super) fn file(headers: HeaderMap, content: Content) -> Response {
    let Content { file, size } = content;
    with_body(headers, size, Body::new(FileBody { file, left: size }))
}

/// A response with these headers and what the request wants of the file.
pub(super) async fn part(mut headers: HeaderMap, mut content: Content, wanted: Wanted) -> Result<Response, io::Error> {
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let size = content.size;
    let range = |text: String| HeaderValue::try_from(text).expect("numbers make a header");
    match wanted {
        Wanted::Whole => Ok(file(headers, content)),
        Wanted::Part { first, last } => {
            content.file.seek(SeekFrom::Start(first)).await?;
            content.size = last - first + 1;
            headers.insert(CONTENT_RANGE, range(format!("bytes {first}-{last}/{size}")));
            let mut response = file(headers, content);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            Ok(response)
        }
        Wanted::Nothing => {
            headers.insert(CONTENT_RANGE, range(format!("bytes */{size}")));
            let mut response = memory(headers, Vec::new());
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            Ok(response)
        }
    }
}

/// A response with these headers and bytes that are in memory already.
pub(super) fn memory(headers: HeaderMap, bytes: Vec<u8>) -> Response {
    with_body(headers, bytes.len() as u64, bytes.into())
}

fn with_body(headers: HeaderMap, length: u64, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

struct FileBody {
    file: File,
    left: u64,
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut piece = BytesMut::zeroed(wanted);
        let mut room = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.file).poll_read(context, &mut room))?;
        let filled = room.filled().len();
        if filled == 0 {
            // Cut short under us: the connection breaks, so that nobody takes the part for the whole.
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        piece.truncate(filled);
        self.left -= filled as u64;
        Poll::Ready(Some(Ok(Frame::data(piece.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn content(bytes: &[u8], size: u64) -> (tempfile::NamedTempFile, Content) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("written");
        let content = Content { file: File::open(file.path()).await.expect("opens"), size };
        (file, content)
    }

    #[tokio::test]
    async fn a_file_arrives_whole_and_says_its_length() {
        let bytes: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        let (_file, content) = content(&bytes, 200_000).await;
        let response = file(HeaderMap::new(), content);
        assert_eq!(response.headers()[CONTENT_LENGTH], "200000");
        let body = response.into_body().collect().await.expect("whole");
        assert_eq!(body.to_bytes(), bytes);
    }

    #[tokio::test]
    async fn a_file_that_got_shorter_breaks_the_connection() {
        let (_file, content) = content(b"short", 10).await;
        assert!(file(HeaderMap::new(), content).into_body().collect().await.is_err());
    }
}
