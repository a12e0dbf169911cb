//! Pictures of strangers: what is decoded to become a thumbnail, as whatever it says to be.
#![no_main]

use std::path::PathBuf;

use koine_media::{Method, Spec, thumbnail_of_file};
use libfuzzer_sys::fuzz_target;

/// Fewer than a server allows: it is the decoders that are looked at, not how long they take.
const PIXELS_MAX: u64 = 1_000_000;

fuzz_target!(|bytes: &[u8]| {
    let Some((how, picture)) = bytes.split_first() else { return };
    let name = format!("koine-fuzz-picture-{}", std::process::id());
    let path: PathBuf = std::env::temp_dir().join(name);
    std::fs::write(&path, picture).expect("a temporary file");
    let method = if how & 1 == 0 { Method::Scale } else { Method::Crop };
    let side = [16, 96, 320, 640][usize::from(how >> 2 & 3)];
    let spec = Spec::new(side, side, method).expect("a size that is made").animated(how & 2 != 0);
    if let Ok(Some(made)) = thumbnail_of_file(&path, spec, PIXELS_MAX) {
        assert!(image::guess_format(&made).is_ok(), "what was made is a picture");
    }
    std::fs::remove_file(&path).expect("it was just written");
});
