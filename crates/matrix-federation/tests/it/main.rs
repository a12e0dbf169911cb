//! Servers that share rooms, in one process and without a network.

mod hostile;
mod houses;
mod joining;
mod rooms;
