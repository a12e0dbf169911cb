//! How the graph behaves, seen from outside.

mod agreement;
mod auth;
mod client;
mod format;
mod resolve;
mod vectors;
mod world;
