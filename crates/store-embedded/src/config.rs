//! Settings of the engine.

use std::path::PathBuf;

/// Default for [`EmbeddedConfig::cache_bytes`].
pub const CACHE_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;

/// Default for [`EmbeddedConfig::reserve_bytes`].
pub const RESERVE_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;

/// Where the engine keeps its files, and how much it may take.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The folder, of its own. Made if it is missing; its parent too.
    pub path: PathBuf,
    /// Memory for blocks read from disk. Comes on top of what is being written (about 10 MiB at rest, up to 100 MiB
    /// under heavy writing).
    pub cache_bytes: u64,
    /// Commits are refused while less than this is free on the disk, or less than a quarter of a small disk. fjall
    /// needs the room to rewrite files in the background.
    pub reserve_bytes: u64,
}

impl EmbeddedConfig {
    /// Defaults for a folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), cache_bytes: CACHE_BYTES_DEFAULT, reserve_bytes: RESERVE_BYTES_DEFAULT }
    }
}
