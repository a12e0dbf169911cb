//! The shapes a successful answer can have.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::Frame;
use koine_graph::Event;
use koine_media::Content;
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, sync::mpsc};

/// What a handler returns.
pub type Result<T> = std::result::Result<T, crate::Error>;

/// JSON that was made here.
#[derive(Debug)]
pub struct Raw(pub Bytes);

impl Raw {
    /// Of a value.
    pub fn of(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl IntoResponse for Raw {
    fn into_response(self) -> Response {
        json_response(StatusCode::OK, self.0)
    }
}

pub(crate) fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// How much of an answer that is written while it is sent waits for the network.
const PARTS_WAITING_MAX: usize = 4;
/// How long a peer may take to read one part of it.
const PART_TIME_MAX: Duration = Duration::from_secs(60);

/// An answer written while it is sent, so that a large one is never held as a whole. Each call of `part` makes the next
/// part, on a thread where that holds nobody up; `None` ends it. An error breaks the connection off: the answer began
/// as a success.
pub(crate) fn in_parts(mut part: impl FnMut() -> Result<Option<Bytes>> + Send + 'static) -> Response {
    let (sender, receiver) = mpsc::channel(PARTS_WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let making = tokio::task::spawn_blocking(move || {
                let made = part();
                (part, made)
            });
            let Ok((rest, made)) = making.await else { return };
            part = rest;
            let goes_on = matches!(made, Ok(Some(_)));
            if sender.send_timeout(made, PART_TIME_MAX).await.is_err() || !goes_on {
                return;
            }
        }
    });
    let mut response = Response::new(Body::new(Parts(receiver)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Bytes of a file that are read at once.
const FILE_PART_BYTES: u64 = 64 * 1024;

/// A file between two pieces of text, read while it is sent.
pub(crate) fn around_file(kind: HeaderValue, head: Vec<u8>, content: Content, tail: &'static [u8]) -> Response {
    let (sender, receiver) = mpsc::channel(PARTS_WAITING_MAX);
    let length = head.len() as u64 + content.size + tail.len() as u64;
    tokio::spawn(async move {
        let Content { mut file, size } = content;
        let mut part = head;
        let mut left = size;
        loop {
            let wanted = left.min(FILE_PART_BYTES);
            let read = (&mut file).take(wanted).read_to_end(&mut part).await;
            let made = match read {
                Ok(read) if read as u64 == wanted => {
                    left -= wanted;
                    if left == 0 {
                        part.extend_from_slice(tail);
                    }
                    Ok(Some(Bytes::from(std::mem::take(&mut part))))
                }
                Ok(_) => Err(crate::Error::internal("a file is shorter than it was")),
                Err(error) => Err(crate::Error::internal(error)),
            };
            let goes_on = made.is_ok() && left > 0;
            if sender.send_timeout(made, PART_TIME_MAX).await.is_err() {
                return;
            }
            if !goes_on {
                break;
            }
        }
        // That it is over; nobody waits if nobody listens any more.
        let _ = sender.send_timeout(Ok(None), PART_TIME_MAX).await;
    });
    let mut response = Response::new(Body::new(Parts(receiver)));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// The receiving end of an answer in parts, of which `None` is the last.
struct Parts(mpsc::Receiver<Result<Option<Bytes>>>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = crate::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|part| match part {
            Some(part) => part.map(|part| part.map(Frame::data)).transpose(),
            None => Some(Err(crate::Error::internal("an answer was not finished"))),
        })
    }
}

/// Writes JSON in which events stand as the bytes that they are.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An object.
    pub fn new() -> Self {
        Self(vec![b'{'])
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        koine_graph::json::write_string(key, &mut self.0);
        self.0.push(b':');
    }

    /// A field of whatever kind.
    pub fn value(mut self, key: &str, value: &Value) -> Self {
        self.key(key);
        self.0.extend_from_slice(value.to_string().as_bytes());
        self
    }

    /// A field that is one event.
    pub fn event(mut self, key: &str, event: &Event) -> Self {
        self.key(key);
        self.0.extend_from_slice(event.json());
        self
    }

    /// A field that is a list of events.
    pub fn events<'a>(self, key: &str, events: impl IntoIterator<Item = &'a Event>) -> Self {
        self.list(key, events.into_iter().map(|event| event.json().as_ref()))
    }

    /// A field that is a list of JSON values.
    pub fn list<'a>(mut self, key: &str, items: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.key(key);
        self.0.push(b'[');
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.0.push(b',');
            }
            self.0.extend_from_slice(item);
        }
        self.0.push(b']');
        self
    }

    /// A field that is a list, whose items somebody else writes.
    pub fn open_list(mut self, key: &str) -> Vec<u8> {
        self.key(key);
        self.0.push(b'[');
        self.0
    }

    /// The object, closed.
    pub fn bytes(mut self) -> Bytes {
        self.0.push(b'}');
        self.0.into()
    }

    /// The same as an answer.
    pub fn answer(self) -> Raw {
        Raw(self.bytes())
    }
}
