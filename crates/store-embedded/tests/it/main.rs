//! The engine on disk: the suite, what it refuses to open, full disks, and what a kill leaves.

mod crash;
mod folder;
mod full_disk;

use koine_store::{engine_suite, suite::Subject};
use koine_store_embedded::{EmbeddedConfig, EmbeddedEngine};

fn subject() -> Subject {
    let home = tempfile::tempdir().expect("a temporary folder");
    // The disk of whoever runs the tests may be small; the reserve has tests of its own.
    let config = EmbeddedConfig { reserve_bytes: 0, ..EmbeddedConfig::new(home.path().join("store")) };
    let engine = EmbeddedEngine::open(&config).expect("an empty folder");
    Subject { engine: std::sync::Arc::new(engine), keep: Box::new(home) }
}

engine_suite!(subject);
