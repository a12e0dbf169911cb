//! The crate as a whole, against servers on loopback that behave well and badly.

mod finding;
mod hostile;
mod pooling;
mod recovery;
mod world;
