//! Streams as clients see them: a server in this process, sockets on loopback, and a small client.

mod bytestreams;
mod certificates;
mod component;
mod hostile;
mod login;
mod resumption;
mod server;
mod web;
