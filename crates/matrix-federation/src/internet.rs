//! Other servers as they are reached through the internet.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use koine_net::{Body, Client, Error, Limits, Request, Response, url::Url};
use ruma_common::ServerName;

use crate::peers::{Bounds, Future, Incoming, PeerError, Peers};

impl Peers for Client {
    fn request<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Future<'a, Result<http::Response<Bytes>, PeerError>> {
        Box::pin(async move {
            let (status, body) = match self.send(server, wanted(request, bounds)).await {
                Ok(answer) => (answer.status, answer.bytes().await.map_err(|error| failure(self, error))?),
                Err(Error::Status { status, body, .. }) => (status, body),
                Err(error) => return Err(failure(self, error)),
            };
            Ok(with_status(status, body))
        })
    }

    fn open<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Future<'a, Result<http::Response<Box<dyn Incoming>>, PeerError>> {
        Box::pin(async move {
            match self.send(server, wanted(request, bounds)).await {
                Ok(answer) => Ok(arriving(answer)),
                Err(Error::Status { status, body, .. }) => Ok(with_status(status, Box::new(Some(body)) as _)),
                Err(error) => Err(failure(self, error)),
            }
        })
    }

    fn open_address<'a>(
        &'a self,
        address: &'a str,
        bounds: Bounds,
    ) -> Future<'a, Result<http::Response<Box<dyn Incoming>>, PeerError>> {
        Box::pin(async move {
            let url = Url::parse(address).map_err(|error| PeerError::Unusable(error.to_string()))?;
            let answer = self.fetch(&url, HeaderMap::new(), limits(bounds)).await;
            answer.map(arriving).map_err(|error| failure(self, error))
        })
    }

    fn heard_from(&self, server: &ServerName) {
        // Whether that is news does not matter here.
        let _ = Client::heard_from(self, server);
    }
}

impl Incoming for Body {
    fn next(&mut self) -> Future<'_, Result<Option<Bytes>, PeerError>> {
        Box::pin(async move { self.chunk().await.map_err(|error| PeerError::Unreachable(error.to_string())) })
    }
}

fn wanted(request: http::Request<Bytes>, bounds: Bounds) -> Request {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut wanted = Request::new(parts.method.clone(), path).limits(limits(bounds));
    wanted.urgent = bounds.urgent;
    wanted.headers = parts.headers;
    wanted.body = (!body.is_empty()).then_some(body);
    wanted
}

fn arriving(answer: Response) -> http::Response<Box<dyn Incoming>> {
    let mut arriving = with_status(answer.status, Box::new(answer.body) as Box<dyn Incoming>);
    *arriving.headers_mut() = answer.headers;
    arriving
}

fn with_status<B>(status: StatusCode, body: B) -> http::Response<B> {
    let mut answer = http::Response::new(body);
    *answer.status_mut() = status;
    answer
}

fn failure(client: &Client, error: Error) -> PeerError {
    match error {
        Error::Backoff { until } => PeerError::Resting(until.saturating_duration_since(client.now())),
        other => PeerError::Unreachable(other.to_string()),
    }
}

fn limits(bounds: Bounds) -> Limits {
    let standard = Limits::default();
    Limits {
        headers: bounds.time.max(Duration::from_secs(1)),
        total: bounds.time,
        body_bytes_max: u64::try_from(bounds.bytes).unwrap_or(u64::MAX),
        ..standard
    }
}
