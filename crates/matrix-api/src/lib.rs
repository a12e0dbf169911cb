//! What Matrix clients call: the client-server API of Matrix v1.19.
//!
//! Specified in <https://spec.matrix.org/v1.19/client-server-api/>. This crate turns http requests into calls of the
//! core crates and their answers into http answers; it keeps nothing and decides nothing that a core could decide.
//! Listeners, TLS and the metrics registry are the server's.
//!
//! # How to add an endpoint
//!
//! 1. Write `src/<area>/<verb_noun>.rs`, with `account/whoami.rs` as the model: first what it is and where it is
//!    specified, then the handler, then its tests.
//! 2. The handler is a plain axum handler over [`State<Api>`](axum::extract::State) and one of the request extractors:
//!    * [`Call<M>`](Call): ruma's request type `M`, parsed, with the proof of authentication that `M` asks for in
//!      `call.who`: a [`User`], an `Option<User>`, or `()`.
//!    * [`Loose<M, B>`](Loose): the same, but the body is a serde type `B` of your own, where ruma's is stricter than
//!      the clients are, or slower than a hot path can bear ([`Checked`] is a `B` too: bounded bytes, parsed by you).
//!    * [`User`] and [`Peer`] alone, with any axum extractor beside them, where the body is not JSON (media).
//!
//!    Every one takes a bound for its body as the last parameter, if 1 MiB is not right: `Call<M, { 64 * 1024 }>`.
//! 3. It answers `Result<A>` with `A` one of [`Ruma`] (a ruma response), [`Json`] (anything serialisable), [`Raw`] (JSON
//!    made earlier), [`Empty`] (`{}`), or any axum response. Errors are [`Error`]; a core's error becomes one in
//!    `error/<core>.rs`, and nowhere else, so that handlers use `?`.
//! 4. One line in the area's `mod.rs`: `endpoints.add::<M, _, _>("matrix.account.whoami", whoami::whoami);`. Paths and
//!    method come from ruma's metadata, the old and unstable paths included; the name is that of the operation in
//!    metrics and traces.
//! 5. Its row in `spec/`.
//!
//! Limits by user or address: `api.permit(Class::Message, &key)?`.

mod answer;
mod api;
mod body;
mod endpoints;
mod error;
mod event;
mod filter;
mod follow;
mod front;
mod interactive;
mod request;
mod token;

mod account;
mod account_data;
mod admin;
mod appservice;
mod dehydrated_device;
mod delayed_events;
mod device;
mod discovery;
mod key_backup;
mod keys;
mod media;
mod old_sync;
mod own_requests;
mod presence;
mod profile;
mod push_rules;
mod pusher;
mod rooms;
mod search;
mod session;
mod sliding_sync;
mod synapse_admin;
mod sync;
mod thirdparty;
mod to_device;
mod user_directory;
mod voip;

pub use answer::{Empty, Json, Raw, Result, Ruma};
pub use api::{Api, ApiConfig, Cores, Observer};
pub use appservice::{NotApart, Registration, RegistrationError, Service, Services, TABLES};
pub use discovery::SupportConfig;
pub use endpoints::Endpoints;
pub use error::Error;
pub use request::{Call, Checked, Loose, LooseBody, Peer, Proof, User, UserEvenLocked};
pub use voip::TurnConfig;

/// Puts around an endpoint of another protocol what those of this one have: a span, a stopwatch, and a net that catches
/// panics. `name` is that of the operation in metrics and traces.
pub fn watched<S: Clone + Send + Sync + 'static>(
    name: &'static str,
    observer: std::sync::Arc<dyn Observer>,
    endpoint: axum::routing::MethodRouter<S>,
) -> axum::routing::MethodRouter<S> {
    let watched = std::sync::Arc::new(front::Watched { name, observer });
    endpoint.layer(axum::middleware::from_fn_with_state(watched, front::watch))
}

/// Every endpoint, behind the checks and headers that all of them share. Serve it with
/// `into_make_service_with_connect_info::<SocketAddr>()`, so that addresses of callers are known. Needs a tokio runtime.
pub fn router(api: Api) -> axum::Router {
    presence::start(&api);
    appservice::start(&api);
    all(api).into_router()
}

/// The methods and paths that [`router`] serves, for checks of documents and ledgers.
pub fn served(api: Api) -> Vec<(http::Method, String)> {
    all(api).into_served()
}

fn all(api: Api) -> Endpoints {
    let mut endpoints = Endpoints::new(api);
    discovery::endpoints(&mut endpoints);
    session::endpoints(&mut endpoints);
    account::endpoints(&mut endpoints);
    device::endpoints(&mut endpoints);
    profile::endpoints(&mut endpoints);
    account_data::endpoints(&mut endpoints);
    rooms::endpoints(&mut endpoints);
    delayed_events::endpoints(&mut endpoints);
    media::endpoints(&mut endpoints);
    push_rules::endpoints(&mut endpoints);
    sync::endpoints(&mut endpoints);
    old_sync::endpoints(&mut endpoints);
    sliding_sync::endpoints(&mut endpoints);
    keys::endpoints(&mut endpoints);
    dehydrated_device::endpoints(&mut endpoints);
    key_backup::endpoints(&mut endpoints);
    to_device::endpoints(&mut endpoints);
    admin::endpoints(&mut endpoints);
    appservice::endpoints(&mut endpoints);
    synapse_admin::endpoints(&mut endpoints);
    presence::endpoints(&mut endpoints);
    pusher::endpoints(&mut endpoints);
    search::endpoints(&mut endpoints);
    thirdparty::endpoints(&mut endpoints);
    user_directory::endpoints(&mut endpoints);
    voip::endpoints(&mut endpoints);
    endpoints
}
