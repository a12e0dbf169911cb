//! Servers that share rooms, in one process and without a network.

mod houses;
mod hostile;
mod rooms;
