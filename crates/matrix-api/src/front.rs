//! What every request passes, whatever its endpoint: bounds on its address, headers for browsers, a span, a stopwatch,
//! and a net under the handler.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tracing::Instrument as _;

use crate::{Error, Observer};

/// How long path and query may be together. Inline sync filters are the longest there is.
const URI_BYTES_MAX: usize = 32 * 1024;

/// An endpoint's name and who hears about its answers.
pub struct Watched {
    /// The name it was registered with.
    pub name: &'static str,
    /// Who hears about it.
    pub observer: Arc<dyn Observer>,
}

/// Around the whole router.
pub async fn front(request: Request, next: Next) -> Response {
    let is_matrix = request.uri().path().starts_with("/_matrix/") || request.uri().path().starts_with("/.well-known/");
    let length = request.uri().path_and_query().map_or(0, |whole| whole.as_str().len());
    let mut response = if length > URI_BYTES_MAX {
        let message = format!("The address of {length} bytes is longer than the {URI_BYTES_MAX} allowed");
        Error::new(StatusCode::URI_TOO_LONG, "M_TOO_LARGE", message).into_response()
    } else if is_matrix && request.method() == Method::OPTIONS {
        // [CS-API §web-browser-clients] Answered here, so that no endpoint can be reached by it.
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    if is_matrix {
        allow_browsers(response.headers_mut());
    }
    response
}

/// [CS-API §web-browser-clients] The recommended headers, on every answer.
fn allow_browsers(headers: &mut HeaderMap) {
    let pairs = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "X-Requested-With, Content-Type, Authorization"),
    ];
    for (name, value) in pairs {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Around each endpoint.
pub async fn watch(State(watched): State<Arc<Watched>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let span = tracing::debug_span!("request", operation = watched.name);
    let response = unpanicked(next.run(request)).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    watched.observer.answered(watched.name, status, elapsed);
    span.in_scope(|| {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(status, elapsed_ms, "request answered");
    });
    response
}

/// A handler that panics costs its own request a 500 and nobody else anything. The panic hook has logged where.
async fn unpanicked(handler: impl Future<Output = Response>) -> Response {
    let mut handler = pin!(handler);
    std::future::poll_fn(move |context| {
        // Unwind safety: the future is not polled again, and the locks of this workspace do not poison.
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(_panic) => Poll::Ready(Error::internal("the handler panicked").into_response()),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let response = unpanicked(async { panic!("for the test") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
