//! The list of endpoints, and the router made of it.
//!
//! Areas add lines to the list; paths and methods come from ruma's metadata. What no line claims is `M_UNRECOGNIZED`.

use std::collections::BTreeMap;

use axum::{
    Router,
    handler::Handler,
    middleware::{self, Next},
    response::IntoResponse,
    routing::{MethodFilter, MethodRouter, on},
};
use http::StatusCode;
use ruma_common::api::{
    Metadata,
    path_builder::{SinglePath, VersionHistory},
};

use crate::{Api, Error, body, front};

/// The endpoints so far.
pub struct Endpoints {
    api: Api,
    routes: BTreeMap<String, MethodRouter<Api>>,
    /// Methods and paths as they were added.
    served: Vec<(http::Method, String)>,
}

/// Marks a request whose last path variable is empty and was left out of the path, as clients do with state keys.
#[derive(Clone, Copy)]
pub(crate) struct EmptyLast;

/// All paths an endpoint ever had.
pub trait Paths {
    /// Old, current and unstable ones.
    fn paths(&self) -> Vec<&'static str>;
}

impl Paths for VersionHistory {
    fn paths(&self) -> Vec<&'static str> {
        self.unstable_paths().map(|(_, path)| path).chain(self.stable_paths().map(|(_, path)| path)).collect()
    }
}

impl Paths for SinglePath {
    fn paths(&self) -> Vec<&'static str> {
        vec![self.path()]
    }
}

impl Endpoints {
    pub(crate) fn new(api: Api) -> Self {
        Self { api, routes: BTreeMap::new(), served: Vec::new() }
    }

    /// Serves the paths and the method of `M`. `name` is that of the operation in metrics and traces.
    #[expect(clippy::needless_pass_by_value, reason = "a handler is a function: taken as axum takes it")]
    pub fn add<M, H, T>(&mut self, name: &'static str, handler: H)
    where
        M: Metadata<PathBuilder: Paths>,
        H: Handler<T, Api> + Sync,
        T: 'static,
    {
        for path in M::PATH_BUILDER.paths() {
            self.add_at(name, M::METHOD, path, handler.clone());
        }
    }

    /// Serves one more path, for what ruma does not know.
    pub fn add_at<H, T>(&mut self, name: &'static str, method: http::Method, path: &str, handler: H)
    where
        H: Handler<T, Api> + Sync,
        T: 'static,
    {
        self.served.push((method.clone(), path.to_owned()));
        let filter = MethodFilter::try_from(method).expect("Matrix uses no methods but the usual ones");
        let method = crate::watched(name, self.api.observer.clone(), on(filter, handler));

        // COMPAT(matrix-js-sdk and most others): an empty state key is left out, with the slash before it or without.
        if let Some(short) = path.strip_suffix("/{state_key}") {
            let method = method.clone().layer(middleware::from_fn(mark_empty_last));
            self.route(short, method.clone());
            self.route(&format!("{short}/"), method);
        }
        // COMPAT(several): `/pushrules` for `/pushrules/`.
        if let Some(short) = path.strip_suffix('/') {
            self.route(short, method.clone());
        }
        self.route(path, method);
    }

    fn route(&mut self, path: &str, method: MethodRouter<Api>) {
        let path = with_numbered_variables(path);
        let known = self.routes.remove(&path).unwrap_or_default();
        self.routes.insert(path, known.merge(method));
    }

    pub(crate) fn into_served(self) -> Vec<(http::Method, String)> {
        self.served
    }

    pub(crate) fn into_router(self) -> Router {
        let mut router = Router::new();
        for (path, method) in self.routes {
            router = router.route(&path, method);
        }
        let api = self.api;
        router
            .method_not_allowed_fallback(wrong_method)
            .fallback(unknown_endpoint)
            .layer(middleware::from_fn(front::front))
            .with_state(api)
    }
}

/// `{user_id}` in one endpoint and `{room_id}` in another at the same place would be two routes to the router.
fn with_numbered_variables(path: &str) -> String {
    let mut number = 0;
    let segments = path.split('/').map(|segment| {
        if !segment.starts_with('{') {
            return segment.to_owned();
        }
        number += 1;
        format!("{{v{number}}}")
    });
    segments.collect::<Vec<_>>().join("/")
}

async fn mark_empty_last(mut request: axum::extract::Request, next: Next) -> axum::response::Response {
    request.extensions_mut().insert(EmptyLast);
    next.run(request).await
}

/// [CS-API §common-error-codes] `M_UNRECOGNIZED`: 404 for what is not there ...
async fn unknown_endpoint(request: axum::extract::Request) -> axum::response::Response {
    body::drain(request.into_body()).await;
    Error::unrecognized().into_response()
}

/// ... and 405 for what is there with another method.
async fn wrong_method(request: axum::extract::Request) -> axum::response::Response {
    body::drain(request.into_body()).await;
    Error::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "Not with this method").into_response()
}
