//! The storage contract, typed tables, the shard log, an in-memory engine and the suite every engine runs.
