//! The header by which servers prove themselves: what it is read to be can be written and reads the same.
#![no_main]

#[path = "../../crates/matrix-federation/src/x_matrix.rs"]
#[allow(dead_code)]
mod x_matrix;

use libfuzzer_sys::fuzz_target;
use ruma_common::ServerName;

fuzz_target!(|text: &str| {
    let Some(read) = x_matrix::XMatrix::parse(text) else { return };
    let plain = |text: &str| !text.contains(['"', '\\']);
    let destination = read.destination.as_deref().and_then(|name| <&ServerName>::try_from(name).ok());
    let Some(destination) = destination.filter(|_| plain(&read.key) && plain(&read.signature)) else { return };
    let written = x_matrix::header(&read.origin, destination, &read.key, &read.signature);
    if let Some(again) = x_matrix::XMatrix::parse(&written) {
        assert_eq!(again, read);
    } else {
        assert!(written.len() > text.len(), "only what became too long is refused");
    }
});
