//! Rooms as their callers see them, on the engine in memory.

mod house;

mod commands;
mod delayed;
mod directory;
mod federation;
mod membership;
mod purge;
mod readers;
mod relations;
mod unread;
mod visibility;
