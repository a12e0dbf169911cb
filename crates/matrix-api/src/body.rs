//! Request bodies of strangers: bounded before they are read, checked before they are parsed.
//!
//! [CS-API §standard-error-response] tells what is not JSON (`M_NOT_JSON`) from what is JSON but not what was asked for
//! (`M_BAD_JSON`).

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH};
use http_body_util::BodyExt as _;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::{Error, Result};

/// How large a JSON body may be unless the endpoint says otherwise.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;
/// How deeply arrays and objects may be nested.
pub const JSON_DEPTH_MAX: usize = 100;
/// How long a body may take to arrive.
const READ_TIME_MAX: Duration = Duration::from_secs(60);
/// How much of a refused body is read and dropped, so that the sender gets to read the refusal instead of a reset.
const DRAIN_BYTES_MAX: usize = 128 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(20);

/// The whole body, if it is at most `bytes_max` long.
pub async fn read(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        drain(body).await;
        return Err(too_large(bytes_max));
    }
    let collected = tokio::time::timeout(READ_TIME_MAX, collect(&mut body, bytes_max)).await;
    match collected {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Interrupted::TooLarge)) => {
            drain(body).await;
            Err(too_large(bytes_max))
        }
        Ok(Err(Interrupted::Broken)) => {
            Err(Error::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "The connection broke before the body was complete"))
        }
        Err(_elapsed) => Err(Error::new(
            StatusCode::REQUEST_TIMEOUT,
            "M_UNKNOWN",
            format!("The body did not arrive within {} s", READ_TIME_MAX.as_secs()),
        )),
    }
}

enum Interrupted {
    TooLarge,
    Broken,
}

async fn collect(body: &mut Body, bytes_max: usize) -> std::result::Result<Bytes, Interrupted> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_broken| Interrupted::Broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > bytes_max {
            return Err(Interrupted::TooLarge);
        }
        // Nearly every body comes in one piece, which then needs no copy.
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

/// Reads and drops, within bounds, what is left of a body that was refused.
pub async fn drain(mut body: Body) {
    let mut left = DRAIN_BYTES_MAX;
    let dropping = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, dropping).await;
}

fn too_large(bytes_max: usize) -> Error {
    Error::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "M_TOO_LARGE",
        format!("The body is larger than the {bytes_max} bytes allowed here"),
    )
}

/// Refuses what no parser should see: bytes that are not UTF-8, nesting past [`JSON_DEPTH_MAX`], and lists.
pub fn check(bytes: &[u8]) -> Result<()> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(Error::not_json("The body is not UTF-8"));
    }
    if depth_exceeds(bytes, JSON_DEPTH_MAX) {
        return Err(Error::bad_json(format!("The body is nested deeper than {JSON_DEPTH_MAX} levels")));
    }
    // Every body of this API is an object, but serde would read its keys out of a list just as well.
    if bytes.trim_ascii_start().first() == Some(&b'[') && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
        return Err(Error::bad_json("The body is a list, not an object"));
    }
    Ok(())
}

fn depth_exceeds(bytes: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Parses a checked body; an empty one counts as `{}`, since many clients send none where all keys are optional.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| refuse_json(bytes, &error))
}

/// Whether the bytes are not JSON at all, or JSON with something amiss. Only errors pay for this second look.
pub fn refuse_json(bytes: &[u8], error: &serde_json::Error) -> Error {
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => Error::bad_json(format!("The body is not as expected: {error}")),
        Err(error) => Error::not_json(format!("The body is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings_only() {
        assert!(!depth_exceeds(br#"{"a":"[[[[","b":[1]}"#, 2));
        assert!(!depth_exceeds(br#"{"a":"\"[[[["}"#, 1));
        assert!(depth_exceeds(b"[[[]]]", 2));
        assert!(depth_exceeds("[".repeat(100_000).as_bytes(), JSON_DEPTH_MAX));
    }

    #[test]
    fn what_is_not_json_is_told_from_what_is_not_as_expected() {
        #[derive(Debug, serde::Deserialize)]
        struct Wanted {
            #[expect(dead_code, reason = "only parsed")]
            name: String,
        }
        let errcode = |bytes: &[u8]| parse::<Wanted>(bytes).expect_err("refused").errcode().to_owned();
        assert_eq!(errcode(br#"{"name":1}"#), "M_BAD_JSON");
        assert_eq!(errcode(b"{}"), "M_BAD_JSON");
        assert_eq!(errcode(b""), "M_BAD_JSON");
        assert_eq!(errcode(br#"{"name":1"#), "M_NOT_JSON");
        assert_eq!(errcode(br#"{"name":"x"} trailing"#), "M_NOT_JSON");
        assert_eq!(check(b"{\"name\":\"\xff\"}").expect_err("refused").errcode(), "M_NOT_JSON");
    }

    #[tokio::test]
    async fn a_body_past_its_bound_is_refused_whether_announced_or_not() {
        let body = || Body::from(vec![b' '; 11]);
        let error = read(&HeaderMap::new(), body(), 10).await.expect_err("refused");
        assert_eq!((error.status(), error.errcode()), (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, "11".parse().expect("header"));
        assert_eq!(read(&headers, body(), 10).await.expect_err("refused").errcode(), "M_TOO_LARGE");
        assert_eq!(read(&headers, body(), 11).await.expect("allowed").len(), 11);
    }
}
