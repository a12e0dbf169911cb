//! What content is served with, so that a browser shows pictures and never runs what a stranger uploaded.
//!
//! [CS-API §content-repository] recommends the policies, [CS-API §serving-inline-content] lists what may be shown inline.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ruma_common::http_headers::{ContentDisposition, ContentDispositionType};

/// Types that browsers render and do not execute. [CS-API §serving-inline-content]
const INLINE: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

const UNKNOWN_TYPE: &str = "application/octet-stream";

/// What never varies.
const FIXED: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; \
         object-src 'self';",
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // What an address names never changes; it may be deleted, so not for ever. Not for caches on the way, which would
    // hand it out without asking who wants it.
    (header::CACHE_CONTROL, "private, max-age=86400, immutable"),
];

/// The headers for content of this type and name.
pub(super) fn headers(content_type: Option<&str>, file_name: Option<&str>) -> HeaderMap {
    let content_type = content_type.filter(|text| HeaderValue::from_str(text).is_ok()).unwrap_or(UNKNOWN_TYPE);
    let disposition = match is_inline(content_type) {
        true => ContentDispositionType::Inline,
        false => ContentDispositionType::Attachment,
    };
    let disposition = ContentDisposition::new(disposition).with_filename(file_name.map(str::to_owned));

    let mut headers = HeaderMap::new();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let content_type = HeaderValue::from_str(content_type).expect("checked above");
    headers.insert(header::CONTENT_TYPE, content_type);
    let disposition = HeaderValue::try_from(disposition.to_string()).expect("names are written in printable ASCII");
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers
}

/// Parameters such as a charset do not count, nor does upper case. Of what looks like several types browsers take one of
/// their own choice, so none of them is shown.
fn is_inline(content_type: &str) -> bool {
    if content_type.contains(',') {
        return false;
    }
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    INLINE.iter().any(|known| known.eq_ignore_ascii_case(essence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disposition(content_type: Option<&str>, file_name: Option<&str>) -> String {
        let headers = headers(content_type, file_name);
        headers[header::CONTENT_DISPOSITION].to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn only_harmless_types_are_shown_inline() {
        for (content_type, expected) in [
            (Some("image/png"), "inline"),
            (Some("Text/Plain; charset=utf-8"), "inline"),
            (Some("video/mp4"), "inline"),
            (Some("text/html"), "attachment"),
            (Some("image/svg+xml"), "attachment"),
            (Some("application/pdf"), "attachment"),
            (Some("application/javascript"), "attachment"),
            (Some("image/png, text/html"), "attachment"),
            (Some("image/png;a=b, text/html"), "attachment"),
            (Some("nonsense"), "attachment"),
            (None, "attachment"),
        ] {
            assert_eq!(disposition(content_type, None), expected, "{content_type:?}");
        }
    }

    #[test]
    fn names_are_quoted_or_encoded() {
        for (name, expected) in [
            ("ascii", "inline; filename=ascii"),
            ("name with spaces", "inline; filename=\"name with spaces\""),
            ("name;with;semicolons", "inline; filename=\"name;with;semicolons\""),
            ("a\"b\\c", "inline; filename=\"a\\\"b\\\\c\""),
            ("line\r\nbreak: x", "inline; filename=\"linebreak: x\""),
            ("\u{1f414}", "inline; filename*=utf-8''%F0%9F%90%94"),
            ("\u{e4}\r\n", "inline; filename*=utf-8''%C3%A4%0D%0A"),
        ] {
            assert_eq!(disposition(Some("image/png"), Some(name)), expected, "{name:?}");
        }
    }

    #[test]
    fn the_type_is_the_uploaders_and_the_policies_are_ours() {
        let served = headers(Some("img/png"), None);
        assert_eq!(served[header::CONTENT_TYPE], "img/png");
        assert_eq!(served["cross-origin-resource-policy"], "cross-origin");
        assert_eq!(served[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(
            served[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .expect("ASCII")
                .starts_with("sandbox; default-src 'none';")
        );
        assert_eq!(headers(None, None)[header::CONTENT_TYPE], UNKNOWN_TYPE);
        assert_eq!(headers(Some("text/plain\nSet-Cookie: x"), None)[header::CONTENT_TYPE], UNKNOWN_TYPE);
    }
}
