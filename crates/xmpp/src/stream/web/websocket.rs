//! Streams over WebSocket: one message is one element. RFC 7395.

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::{Sink as _, Stream as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use koine_stanza::{
    Element, StreamCondition, StreamError, ns,
    reader::{Header, Limits, XmlError, document},
    stream_element,
};
use sha1::{Digest as _, Sha1};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Caller, Held, Web};
use crate::{
    outbox::Outgoing,
    stream::{
        Peer, UNPROVEN_BYTES_MAX, serve,
        transport::{Broken, Incoming, OurHeader, Security, Transport},
    },
};

/// Bytes that are read at once.
const READ_BYTES: usize = 4 * 1024;
/// What the answer to a key is made with. [RFC6455 §1.3]
const KEY_SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `GET /xmpp-websocket`
pub(super) async fn open(State(web): State<Web>, Caller(address): Caller, mut request: Request) -> Response {
    let Some(accept) = accept(request.headers()) else {
        return (StatusCode::BAD_REQUEST, "this is for WebSocket with the protocol `xmpp`").into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let held = request.extensions().get::<Held>().cloned();
    let peer = Peer { address: address.ip(), closing: web.closing.clone() };
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let bytes_max = web.core.config().stanza_bytes_max;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(bytes_max))
            .max_frame_size(Some(bytes_max));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let security = Security { is_encrypted: true, ..Security::default() };
        let limits = Limits::bytes(UNPROVEN_BYTES_MAX);
        let transport = WebSocket { socket, waiting: VecDeque::new(), bytes: 0, limits, security, is_flushed: true };
        serve(web.core, Box::new(transport), peer).await;
        drop(held);
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("xmpp")),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// The answer to the handshake of a client that wants XMPP. [RFC6455 §4.2.1] [RFC7395 §3.1]
fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name: header::HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    let is_upgrade = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13")
        && has(header::SEC_WEBSOCKET_PROTOCOL, "xmpp");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade)?;
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(KEY_SALT).finalize();
    HeaderValue::from_str(&BASE64_STANDARD.encode(digest)).ok()
}

/// A stream over WebSocket.
struct WebSocket {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    waiting: VecDeque<Message>,
    bytes: usize,
    limits: Limits,
    security: Security,
    is_flushed: bool,
}

impl WebSocket {
    fn put(&mut self, text: String) {
        self.bytes += text.len();
        self.waiting.push_back(Message::text(text));
    }

    /// What a message says.
    fn parse(&self, text: &str) -> Result<Incoming, Broken> {
        // [RFC7395 §3.3.3] A message is one element, and nothing but it.
        if !text.starts_with('<') || text.starts_with("<?") {
            return Err(XmlError::NotWellFormed("a message that is not an element").into());
        }
        let element = document(text.as_bytes(), self.limits).map_err(|error| match text.len() > self.limits.bytes {
            true => XmlError::TooLong(self.limits.bytes),
            false => error,
        })?;
        match (element.name(), element.ns()) {
            ("open", ns::FRAMING) => {
                let mut header = Element::new("stream", ns::STREAM);
                element.attributes().iter().cloned().for_each(|attribute| header.push_attribute(attribute));
                Ok(Incoming::Open(Header { element: header, content_ns: Some(ns::CLIENT.into()) }))
            }
            ("close", ns::FRAMING) => Ok(Incoming::Close),
            ("stream", ns::STREAM) => {
                Err(StreamError::new(StreamCondition::InvalidNamespace, "over WebSocket a stream begins with <open/>")
                    .into())
            }
            _ => Ok(Incoming::Element(element)),
        }
    }
}

fn lost(_: tungstenite::Error) -> Broken {
    Broken::Lost
}

impl Transport for WebSocket {
    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<Incoming, Broken>> {
        if let Poll::Ready(Err(broken)) = self.poll_flush(cx) {
            return Poll::Ready(Err(broken));
        }
        if !read {
            return Poll::Pending;
        }
        loop {
            let message = ready!(std::pin::Pin::new(&mut self.socket).poll_next(cx));
            return Poll::Ready(match message {
                Some(Ok(Message::Text(text))) => self.parse(&text),
                Some(Ok(Message::Binary(_))) => {
                    Err(StreamError::new(StreamCondition::BadFormat, "messages of XMPP are text").into())
                }
                // Answers to pings are made below; they go out with the next flush.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    self.is_flushed = false;
                    if let Poll::Ready(Err(broken)) = self.poll_flush(cx) {
                        return Poll::Ready(Err(broken));
                    }
                    continue;
                }
                Some(Err(tungstenite::Error::Capacity(_))) => {
                    Err(StreamError::new(StreamCondition::PolicyViolation, "the message is too long").into())
                }
                Some(Err(tungstenite::Error::Utf8(_))) => Err(StreamCondition::UnsupportedEncoding.into()),
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => Err(Broken::Lost),
            });
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.waiting.is_empty() {
            let mut socket = std::pin::Pin::new(&mut self.socket);
            ready!(socket.as_mut().poll_ready(cx)).map_err(lost)?;
            let Some(message) = self.waiting.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(message.len());
            self.is_flushed = false;
            socket.start_send(message).map_err(lost)?;
        }
        if !self.is_flushed {
            ready!(std::pin::Pin::new(&mut self.socket).poll_flush(cx)).map_err(lost)?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        std::pin::Pin::new(&mut self.socket).poll_close(cx).map(|_| ())
    }

    fn backlog(&self) -> usize {
        self.bytes
    }

    fn send_open(&mut self, header: &OurHeader) {
        let open = Element::new("open", ns::FRAMING)
            .with_attr("id", header.id.clone())
            .with_attr("from", header.from.clone())
            .with_attr_opt("to", header.to.clone())
            .with_attr("version", "1.0")
            .with_attr("xml:lang", "en");
        self.put(open.to_xml());
    }

    fn send_of_stream(&mut self, name: &str, children: &[Element]) {
        self.put(stream_element(name, children, true));
    }

    fn send(&mut self, element: &Element) {
        self.put(element.to_xml());
    }

    fn send_stanza(&mut self, stanza: &Outgoing, to: &str) {
        self.put(stanza.document(to));
    }

    fn send_keepalive(&mut self) {
        self.waiting.push_back(Message::Ping(Default::default()));
    }

    fn send_close(&mut self) {
        self.put(Element::new("close", ns::FRAMING).to_xml());
    }

    fn restart(&mut self) {}

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    fn security(&self) -> &Security {
        &self.security
    }
}
