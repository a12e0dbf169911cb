//! JSON as the graph reads it: what is read and written again reads the same, and sorted form is stable.
#![no_main]

use koine_graph::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes) else { return };
    let mut once = Vec::new();
    value.write(&mut once);
    let again = json::parse(&once).expect("what was written is JSON");
    let mut twice = Vec::new();
    again.write(&mut twice);
    assert_eq!(once, twice, "writing is stable");
    assert_eq!(value.is_canonical(), again.is_canonical());
    // Numbers beyond all bounds are kept as they came, for the old versions that allow them; other readers refuse them.
    if value.is_canonical() {
        assert!(serde_json::from_slice::<serde_json::Value>(&once).is_ok(), "another reader takes it");
    }
});
