//! Servers that share rooms, in one process and without a network.

mod agreement;
mod behind;
mod bounds;
mod devices;
mod hostile;
mod houses;
mod joining;
mod looking;
mod policy;
mod restricted;
mod rooms;
mod third_party;
