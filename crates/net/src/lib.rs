//! How we reach other servers: finding them, the address guard, one pooled HTTPS client, back-off.
//!
//! ```text
//! client ── pool ── exchange            requests, kept connections, HTTP/1.1 and HTTP/2 over one connection
//!   ├──── discover ── search            [SS-API §resolving-server-names]; the steps themselves are pure
//!   │        └──── well_known           what it says, how long to believe it; pure
//!   ├──── connect ── guard, tls, dns    addresses, which of them are refused, whose certificates are believed
//!   ├──── health ── backoff             who is left alone, and until when; the book is pure
//!   └──── web                           addresses that are no Matrix server's: push gateways, pages, services
//! ```
//!
//! Invariants: nothing is sent to a server but over TLS with a certificate for whom we meant; every address connected to has passed
//! the guard, unless the operator named the place; every wait, body, queue and cache has a bound; what one task learns of
//! a server that is away, all know.
//!
//! This crate knows nothing of events, keys or signatures; requests are signed by whoever makes them, see
//! [`Request::signed`]. It keeps nothing on disk.
//!
//! ```no_run
//! use koine_net::{Client, Config, Request};
//! use ruma_common::server_name;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(&Config::default())?;
//! let server = server_name!("example.org");
//! let response = client.send(server, Request::get("/_matrix/federation/v1/version")).await?;
//! println!("{}", String::from_utf8_lossy(&response.bytes().await?));
//! # Ok(())
//! # }
//! ```

pub mod backoff;
mod client;
mod config;
mod connect;
mod dial;
mod discover;
pub mod dns;
mod error;
mod exchange;
pub mod guard;
mod health;
mod message;
pub mod name;
mod pool;
pub mod search;
mod tls;
mod web;
pub mod well_known;

pub use self::{
    client::{Client, Counters, Parts, SetupError},
    config::Config,
    dial::{Manner, Place, StreamService},
    discover::StaticError,
    dns::Resolver,
    error::{ERROR_BODY_BYTES_MAX, Error, Fault, Stage},
    health::Clock,
    message::{Body, Limits, Request, Response, ToSign},
    search::Route,
    tls::TlsSetupError,
    web::WebRequest,
};
pub use {bytes, http, url};
