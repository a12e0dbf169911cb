//! What XMPP has at the web server: streams over WebSocket and over requests, and where to find them. [RFC7395] [XEP-0124]
//! [XEP-0156]

mod bosh;
mod host_meta;
mod websocket;

use std::{any::Any, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::watch;

use crate::core::{Core, Xmpp};

/// Where WebSocket is.
const WEBSOCKET: &str = "/xmpp-websocket";
/// Where BOSH is.
const BOSH: &str = "/http-bind";

/// Whether a request came over TLS, or by a proxy that is trusted to have had it. Listeners add it to their requests.
#[derive(Clone, Copy, Debug)]
pub struct OverTls(pub bool);

/// What a listener counts a connection by. It adds this to its requests, because a stream over WebSocket outlives its request,
/// and its connection is to count for as long as it lasts.
#[derive(Clone)]
pub struct Held {
    _held: Arc<dyn Any + Send + Sync>,
}

impl Held {
    /// Holds something until the last clone is dropped.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Arc::new(held) }
    }
}

/// What the handlers work with.
#[derive(Clone)]
struct Web {
    core: Arc<Core>,
    bosh: Arc<bosh::Sessions>,
    closing: watch::Receiver<bool>,
}

impl Xmpp {
    /// Routes of the web server. `closing` holds `true` once the server ends.
    pub fn router(&self, closing: watch::Receiver<bool>) -> Router {
        let web = Web { core: self.0.clone(), bosh: Arc::default(), closing };
        Router::new()
            .route(WEBSOCKET, get(websocket::open))
            .route(BOSH, post(bosh::request).options(bosh::preflight).layer(DefaultBodyLimit::disable()))
            .route("/.well-known/host-meta", get(host_meta::xml))
            .route("/.well-known/host-meta.json", get(host_meta::json))
            .with_state(web)
    }
}

/// Somebody whose stream may come over the web: nobody on the way reads along.
struct Caller(SocketAddr);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let Some(ConnectInfo(address)) = parts.extensions.get::<ConnectInfo<SocketAddr>>().copied() else {
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        };
        let over_tls = parts.extensions.get::<OverTls>().is_some_and(|over_tls| over_tls.0);
        // What stays on this machine is a proxy's, or somebody's who tries things.
        match over_tls || address.ip().to_canonical().is_loopback() {
            true => Ok(Self(address)),
            false => Err((StatusCode::FORBIDDEN, "XMPP is spoken here over TLS only").into_response()),
        }
    }
}

/// Scripts of every page may ask. [XEP-0156 §4] [XEP-0124 §13]
fn open_to_all(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
