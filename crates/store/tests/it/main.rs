//! The suite, run against the engine in memory.

use koine_store::{MemoryEngine, engine_suite, suite::Subject};

fn subject() -> Subject {
    Subject::new(MemoryEngine::new())
}

engine_suite!(subject);
