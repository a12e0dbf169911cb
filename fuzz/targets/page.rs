//! Pages of strangers that are looked at for a preview: the first line is their content type.
#![no_main]

#[path = "../../crates/media/src/preview/page.rs"]
#[allow(dead_code)]
mod page;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let kind = String::from_utf8_lossy(&bytes[..end]);
    let _ = page::properties(bytes.get(end + 1..).unwrap_or_default(), &kind);
});
