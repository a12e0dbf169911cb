//! HTML of strangers, as mail brings it and as Matrix does: what is shown has no script, whatever it was.
#![no_main]

use koine_projection::{mail::html, styling};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shown = html::shown(text, &|_| None);
    let again = html::shown(&shown.html, &|_| None);
    for made in [&shown.html, &again.html] {
        let made = made.to_ascii_lowercase();
        for forbidden in ["<script", "<iframe", "<object", "<style", "<svg", "<form"] {
            assert!(!made.contains(forbidden), "{made}");
        }
    }
    let _ = styling::to_text(text);
    let _ = styling::to_html(text);
});
