//! HTML of strangers, as mail brings it and as Matrix does: what is shown has no script, whatever it was.
#![no_main]

use koine_projection::{
    mail::{html, inward, outward, quote},
    styling,
};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// How long a text is made by saying it again and again: what costs the square of its length does not end then.
const LENGTH: usize = 64 * 1024;

/// What can be said of a text of that length is not looked at: only that there is an end to it.
fn read_again_and_again(text: &str) {
    let long = text.repeat(LENGTH / text.len().max(1));
    let _ = (styling::to_html(&long), styling::to_text(&long));
    let _ = (outward::tame(&long), html::shown(&long, &|_| None));
    let _ = (quote::parts(&long), quote::unflowed(&long, true), inward::bare_subject(&long));
    let said = json!({ "msgtype": "m.text", "body": long, "format": "org.matrix.custom.html", "formatted_body": long });
    let _ = outward::line("m.room.message", &said);
}

fuzz_target!(|text: &str| {
    read_again_and_again(text);
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
