//! Parts of a file: a browser that seeks in a video asks for some bytes of it. [RFC 9110 §14]
//!
//! One part at a time. A header with several, or one that cannot be read, is answered with the whole file, as the
//! standard allows.

use http::{
    HeaderMap,
    header::{IF_RANGE, RANGE},
};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything.
    Whole,
    /// From the first to the last of these bytes, both included.
    Part { first: u64, last: u64 },
    /// Bytes behind the end.
    Nothing,
}

/// What these headers ask for of a file with this many bytes.
pub(super) fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    // Content has no validators here, so that a condition on one never holds.
    if headers.contains_key(IF_RANGE) {
        return Wanted::Whole;
    }
    let text = headers.get(RANGE).and_then(|value| value.to_str().ok());
    text.and_then(|text| part(text, size)).unwrap_or(Wanted::Whole)
}

fn part(text: &str, size: u64) -> Option<Wanted> {
    let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    let (first, last) = match (number(first)?, number(last)?) {
        (Some(first), Some(last)) if first > last => return None,
        (Some(first), last) => (first, last.unwrap_or(u64::MAX)),
        (None, Some(0)) => return Some(Wanted::Nothing),
        (None, Some(length)) => (size.saturating_sub(length), u64::MAX),
        (None, None) => return None,
    };
    let Some(end) = size.checked_sub(1).filter(|end| first <= *end) else { return Some(Wanted::Nothing) };
    Some(Wanted::Part { first, last: last.min(end) })
}

/// `None` if it is no number, `Some(None)` if it was left out.
fn number(text: &str) -> Option<Option<u64>> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text {
        "" => Some(None),
        _ if is_digits => Some(Some(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_file() {
        let part = |first, last| Wanted::Part { first, last };
        for (range, size, expected) in [
            ("bytes=0-9", 100, part(0, 9)),
            ("bytes=90-", 100, part(90, 99)),
            ("bytes=90-200", 100, part(90, 99)),
            ("bytes=-10", 100, part(90, 99)),
            ("bytes=-200", 100, part(0, 99)),
            ("bytes=0-99999999999999999999999", 100, part(0, 99)),
            ("bytes=100-", 100, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=-0", 100, Wanted::Nothing),
            ("bytes=9-0", 100, Wanted::Whole),
            ("bytes=0-1,5-6", 100, Wanted::Whole),
            ("bytes=+1-2", 100, Wanted::Whole),
            ("bytes=-", 100, Wanted::Whole),
            ("pages=1-2", 100, Wanted::Whole),
        ] {
            let headers = HeaderMap::from_iter([(RANGE, range.parse().expect("a header"))]);
            assert_eq!(wanted(&headers, size), expected, "{range} of {size}");
        }
        assert_eq!(wanted(&HeaderMap::new(), 100), Wanted::Whole);
        let conditional = [(RANGE, "bytes=0-9"), (IF_RANGE, "\"x\"")];
        let headers = conditional.into_iter().map(|(name, value)| (name, value.parse().expect("a header"))).collect();
        assert_eq!(wanted(&headers, 100), Wanted::Whole);
    }
}
