//! The on-disk engine, the default: an LSM tree in one folder.
