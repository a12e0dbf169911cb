//! Rooms as their callers see them, on the engine in memory.

mod house;

mod commands;
mod membership;
mod readers;
