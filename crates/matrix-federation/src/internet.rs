//! Other servers as they are reached through the internet.

use std::time::Duration;

use bytes::Bytes;
use koine_net::{Client, Error, Limits, Request};
use ruma_common::ServerName;

use crate::peers::{Bounds, Future, PeerError, Peers};

impl Peers for Client {
    fn request<'a>(
        &'a self,
        server: &'a ServerName,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Future<'a, Result<http::Response<Bytes>, PeerError>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let mut wanted = Request::new(parts.method.clone(), path).limits(limits(bounds));
            wanted.urgent = bounds.urgent;
            wanted.headers = parts.headers;
            wanted.body = (!body.is_empty()).then_some(body);
            let answer = match self.send(server, wanted).await {
                Ok(answer) => {
                    let status = answer.status;
                    answer.bytes().await.map(|body| (status, body))
                }
                Err(Error::Status { status, body, .. }) => Ok((status, body)),
                Err(error) => Err(error),
            };
            let (status, body) = answer.map_err(|error| match error {
                Error::Backoff { until } => PeerError::Resting(until.saturating_duration_since(self.now())),
                other => PeerError::Unreachable(other.to_string()),
            })?;
            let mut answer = http::Response::new(body);
            *answer.status_mut() = status;
            Ok(answer)
        })
    }

    fn heard_from(&self, server: &ServerName) {
        // Whether that is news does not matter here.
        let _ = Client::heard_from(self, server);
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
