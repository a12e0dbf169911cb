//! The shapes a successful answer can have.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use koine_graph::Event;
use serde_json::Value;

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
