//! A stream of XML: it is read the same, whatever pieces it comes in, and stays within its bounds.
#![no_main]

use koine_stanza::reader::{Limits, Parsed, Reader, XmlError};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { bytes: 2_000, depth: 16, attributes: 8, elements: 100 };

fn read(pieces: &[&[u8]]) -> (Vec<String>, Option<XmlError>) {
    let mut reader = Reader::stream(LIMITS);
    let mut seen = Vec::new();
    for piece in pieces {
        // As a connection does: not more at once than may be held.
        for bytes in piece.chunks(512) {
            reader.push(bytes);
            loop {
                match reader.read() {
                    Ok(Some(parsed)) => seen.push(told(&parsed)),
                    Ok(None) => break,
                    Err(error) => return (seen, Some(error)),
                }
            }
        }
    }
    (seen, None)
}

fn told(parsed: &Parsed) -> String {
    format!("{parsed:?}")
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let (whole, end) = read(&[bytes]);
    let at = usize::from(*cut) % (bytes.len() + 1);
    let (first, second) = bytes.split_at(at);
    let (in_two, end_in_two) = read(&[first, second]);
    assert_eq!(whole, in_two, "what was read does not depend on the pieces");
    assert_eq!(end.is_some(), end_in_two.is_some(), "{end:?} {end_in_two:?}");
});
