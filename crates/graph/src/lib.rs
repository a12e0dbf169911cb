//! The event graph of a room: ids, events, rules, signatures, state resolution, the persistent state map. Pure.
