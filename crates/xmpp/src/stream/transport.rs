//! What carries a stream: TCP, WebSocket, BOSH. Everything above it sees headers, elements and an end, and needs not know.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use koine_stanza::{
    Element, StreamCondition, StreamError,
    reader::{Header, Limits, XmlError},
};

use super::tls::Presented;
use crate::outbox::Outgoing;

/// What came.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// The header of a stream.
    Open(Header),
    /// An element of the first level.
    Element(Element),
    /// The end of the stream.
    Close,
}

/// Why nothing comes any more.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection is gone.
    Lost,
    /// The other side has ended its stream.
    Closed,
    /// What came cannot be part of a stream.
    Error(StreamError),
}

impl From<XmlError> for Broken {
    fn from(error: XmlError) -> Self {
        Self::Error(error.into())
    }
}

impl From<StreamError> for Broken {
    fn from(error: StreamError) -> Self {
        Self::Error(error)
    }
}

impl From<StreamCondition> for Broken {
    fn from(condition: StreamCondition) -> Self {
        Self::Error(condition.into())
    }
}

/// Our header.
#[derive(Clone, Debug, Default)]
pub(crate) struct OurHeader {
    /// Whose stream it is.
    pub(crate) from: String,
    /// The other side, if it said who it is.
    pub(crate) to: Option<String>,
    /// The id of the stream.
    pub(crate) id: String,
}

/// How well a connection is protected, and what ties authentication to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Security {
    /// Nobody on the way reads along.
    pub(crate) is_encrypted: bool,
    /// [RFC9266]
    pub(crate) exporter: Option<Vec<u8>>,
    /// [RFC5929 §4]
    pub(crate) end_point: Option<Vec<u8>>,
    /// What the client has shown itself. [XEP-0178]
    pub(crate) certificate: Option<Arc<Presented>>,
}

/// A connection that carries a stream. What is sent waits in a buffer until [`poll`](Self::poll) writes it.
pub(crate) trait Transport: Send {
    /// Writes what waits, and reads the next when `read`. Ready with what came, or, when all was written and nothing more
    /// is wanted, pending.
    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<Incoming, Broken>>;

    /// Writes what waits; ready when all of it is on its way.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>>;

    /// Ends the connection in a way that lets the other side read what was said last: nothing more is written, and a little
    /// of what it still sends is read and dropped.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Bytes that wait to be written.
    fn backlog(&self) -> usize;

    /// Sends our header.
    fn send_open(&mut self, header: &OurHeader);

    /// Sends `<stream:name>`: features, an error.
    fn send_of_stream(&mut self, name: &str, children: &[Element]);

    /// Sends an element.
    fn send(&mut self, element: &Element);

    /// Sends a stanza to the session at `to`.
    fn send_stanza(&mut self, stanza: &Outgoing, to: &str);

    /// Sends something that keeps the connection open, and shows whether it is.
    fn send_keepalive(&mut self);

    /// Sends the end of our stream.
    fn send_close(&mut self);

    /// Expects a new header, in the same connection.
    fn restart(&mut self);

    /// Bounds of what comes from now on.
    fn set_limits(&mut self, limits: Limits);

    /// How well it is protected.
    fn security(&self) -> &Security;
}

/// The next that comes.
pub(crate) async fn next(transport: &mut dyn Transport) -> Result<Incoming, Broken> {
    poll_fn(|cx| transport.poll(cx, true)).await
}

/// All that waits is on its way.
pub(crate) async fn flush(transport: &mut dyn Transport) -> Result<(), Broken> {
    poll_fn(|cx| transport.poll_flush(cx)).await
}
