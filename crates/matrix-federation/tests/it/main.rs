//! Servers that share rooms, in one process and without a network.

mod agreement;
mod behind;
mod devices;
mod hostile;
mod houses;
mod joining;
mod looking;
mod restricted;
mod rooms;
