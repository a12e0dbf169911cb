//! HTTP over one connection: the handshake, the bounds, one request and its answer's headers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::client::TlsStream;
use tracing::debug;

use crate::error::Error;

/// Bytes of an answer's headers, all together.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of an answer.
const HEADERS_COUNT_MAX: usize = 100;
/// How much of one answer may be under way before we have read it: a large `send_join` should not crawl.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same for all answers of one connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Streams that the peer reset and that we have not noticed yet.
const PENDING_RESETS_MAX: usize = 20;

/// What is sent.
pub type Message = Full<Bytes>;

/// One connection, ready for requests.
pub enum Sender {
    /// HTTP/1.1: one request after the other.
    One(http1::SendRequest<Message>),
    /// HTTP/2: many at once.
    Two(http2::SendRequest<Message>),
}

/// A request that can be written down for any connection.
pub struct Outgoing {
    pub method: Method,
    pub path_and_query: String,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
}

/// Why there is no answer, and whether the server can have seen the request.
pub struct Unanswered {
    pub error: Error,
    pub unsent: bool,
}

impl Sender {
    /// Makes HTTP out of a fresh connection. `place` is held for as long as the connection lives.
    pub async fn new(stream: TlsStream<TcpStream>, place: Option<OwnedSemaphorePermit>) -> Result<Self, Error> {
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Self::one(stream, place).await;
        }
        let broken = |error: hyper::Error| Error::Broken(error.to_string());
        let (sender, connection) = two_builder().handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(run(connection, place));
        Ok(Self::Two(sender))
    }

    /// The same for a connection without TLS.
    pub async fn plain(stream: TcpStream) -> Result<Self, Error> {
        Self::one(stream, None).await
    }

    async fn one<S>(stream: S, place: Option<OwnedSemaphorePermit>) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_headers(HEADERS_COUNT_MAX).max_buf_size(HEAD_BYTES_MAX);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| Error::Broken(error.to_string()))?;
        tokio::spawn(run(connection, place));
        Ok(Self::One(sender))
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Two(sender) => sender.is_closed(),
        }
    }

    /// Sends and waits for the headers of the answer.
    pub async fn send(&mut self, outgoing: &Outgoing, host: &str) -> Result<Response<Incoming>, Unanswered> {
        let unsent = |error: Error| Unanswered { error, unsent: true };
        let broken = |error: hyper::Error| Error::Broken(chain(&error));
        let request = outgoing.write(host, matches!(self, Self::Two(_))).map_err(unsent)?;
        let answer = match self {
            Self::One(sender) => {
                sender.ready().await.map_err(|error| unsent(broken(error)))?;
                sender.try_send_request(request).await
            }
            Self::Two(sender) => {
                sender.ready().await.map_err(|error| unsent(broken(error)))?;
                sender.try_send_request(request).await
            }
        };
        answer.map_err(|mut failed| {
            let unsent = failed.take_message().is_some();
            Unanswered { error: broken(failed.into_error()), unsent }
        })
    }
}

/// The end of a connection is the end of this.
async fn run(connection: impl Future<Output = hyper::Result<()>>, place: Option<OwnedSemaphorePermit>) {
    if let Err(error) = connection.await {
        debug!(reason = %chain(&error), "a connection to another server broke");
    }
    drop(place);
}

fn two_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .keep_alive_interval(std::time::Duration::from_secs(20))
        .keep_alive_timeout(std::time::Duration::from_secs(20));
    builder
}

impl Outgoing {
    /// HTTP/1.1 names the host in a header, HTTP/2 in the address.
    fn write(&self, host: &str, two: bool) -> Result<Request<Message>, Error> {
        let wrong = |reason: &dyn std::fmt::Display| Error::Request(format!("{}: {reason}", self.path_and_query));
        if !self.path_and_query.starts_with('/') {
            return Err(wrong(&"a path begins with a slash"));
        }
        let uri = if two { format!("https://{host}{}", self.path_and_query) } else { self.path_and_query.clone() };
        let uri: Uri = uri.parse().map_err(|error| wrong(&error))?;
        let mut request = Request::new(Full::new(self.body.clone().unwrap_or_default()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        if two {
            *request.version_mut() = http::Version::HTTP_2;
        } else {
            let host = HeaderValue::from_str(host).map_err(|error| wrong(&error))?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }
}

/// An error and what is beneath it, for its own message often says nothing.
fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
