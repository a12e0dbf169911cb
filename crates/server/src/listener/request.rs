//! One request on its way to the router: with the client's address attached, and its body timed.
//!
//! Bounds on what the request says, and the net under a handler that panics, are the router's.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::ConnectInfo,
    response::Response,
};
use http::Request;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use koine_xmpp::{Held, OverTls};
use tokio::time::{Instant, Sleep};
use tower::ServiceExt;

use super::{
    Shared,
    connection::{Active, Activity},
};

/// A body that brings nothing for this long is given up.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The requests of one connection.
pub struct Requests {
    shared: Arc<Shared>,
    peer: SocketAddr,
    activity: Arc<Activity>,
    held: Held,
}

impl Requests {
    /// For a connection from `peer`.
    pub fn new(shared: Arc<Shared>, peer: SocketAddr, activity: Arc<Activity>, held: Held) -> Self {
        Self { shared, peer, activity, held }
    }
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let active = self.activity.begin();
        let client = if self.shared.config.behind_proxy { client_of_proxy(&request, self.peer) } else { self.peer };
        let mut request = request.map(|body| Body::new(Timed { body, pause: None }));
        request.extensions_mut().insert(ConnectInfo(client));
        let config = &self.shared.config;
        request.extensions_mut().insert(OverTls(config.tls || config.behind_proxy));
        request.extensions_mut().insert(self.held.clone());
        let router = self.shared.services.router.clone();
        Box::pin(async move { Ok(router.oneshot(request).await?.map(|body| Answer { body, _active: active })) })
    }
}

/// For whom the trusted proxy asks: it adds the address that it sees at the end of the header.
fn client_of_proxy<B>(request: &Request<B>, proxy: SocketAddr) -> SocketAddr {
    let last = request.headers().get_all("x-forwarded-for").iter().next_back();
    let address = last.and_then(|value| value.to_str().ok()).and_then(|value| value.rsplit(',').next());
    match address.and_then(|address| address.trim().parse::<IpAddr>().ok()) {
        Some(address) => SocketAddr::new(address, proxy.port()),
        None => proxy,
    }
}

/// The body of an answer; the request counts as running until all of it is sent.
pub struct Answer {
    body: Body,
    _active: Active,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body of a request that must not pause for long.
struct Timed {
    body: Incoming,
    /// Made at the first pause: most bodies are there before anybody asks.
    pause: Option<Pin<Box<Sleep>>>,
}

/// A body paused for too long.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request paused for more than {} seconds", BODY_PAUSE_MAX.as_secs())]
struct Paused;

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let pause =
            self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + BODY_PAUSE_MAX)));
        match pause.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(Paused.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_the_proxy_added_counts() {
        let proxy: SocketAddr = "127.0.0.1:4000".parse().expect("an address");
        let client = |header: &str| {
            let request = Request::builder().header("X-Forwarded-For", header).body(()).expect("a request");
            client_of_proxy(&request, proxy).ip().to_string()
        };
        assert_eq!(client("198.51.100.7, 192.0.2.1"), "192.0.2.1");
        assert_eq!(client("2001:db8::1"), "2001:db8::1");
        assert_eq!(client("no address"), "127.0.0.1");
    }
}
