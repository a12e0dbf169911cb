//! What Matrix servers call, and calling them: the server-server API of Matrix v1.19.
//!
//! Specified in <https://spec.matrix.org/v1.19/server-server-api/>. Requests of other servers become questions to the
//! rooms, and what rooms want of other servers becomes requests. Who is who is settled here: [`keys`] knows whose key
//! is whose and since when, [`Signed`] is a request whose sender is proven, [`pdu`] turns bytes into events whose
//! signatures and hashes were checked. What an event may do is the room's to say.
//!
//! How servers are found and reached is behind [`Peers`].
//!
//! # How to add an endpoint
//!
//! 1. `src/serve/<verb_noun>.rs`: an axum handler over [`State<Federation>`](axum::extract::State) and [`Signed`], which
//!    takes a bound for its body as its parameter and yields the proven origin.
//! 2. One line in `serve/mod.rs`. 3. Its row in `spec/`.

mod acl;
mod answer;
mod error;
mod federation;
mod internet;
pub mod keys;
mod multipart;
pub mod pdu;
mod peers;
mod pieces;
mod receive;
mod request;
mod send;
mod serve;
mod x_matrix;

mod elsewhere;

pub use error::Error;
pub use federation::{Cores, Federation, FederationConfig};
pub use peers::{Bounds, Future, Incoming, PeerError, Peers, RESPONSE_BYTES_MAX, RESPONSE_TIME_MAX};
pub use request::Signed;
pub use serve::Endpoint;

/// Every endpoint. It has no fallback, so that it can be merged into another router.
pub fn router(federation: Federation) -> axum::Router {
    watched_router(federation, |_, endpoint| endpoint)
}

/// The same; `watch` puts around each endpoint, told the name of its operation, what all requests of the program pass.
pub fn watched_router(federation: Federation, watch: impl Fn(&'static str, Endpoint) -> Endpoint) -> axum::Router {
    serve::router(federation, watch)
}
