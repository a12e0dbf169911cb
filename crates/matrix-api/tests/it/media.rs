//! Uploads, downloads and thumbnails, as clients meet them.

use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{Answer, Person, World};

/// A red picture, 4 by 2 pixels, as PNG.
const PICTURE: &[u8] = b"\
    \x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x04\x00\x00\x00\x02\x08\x02\x00\
    \x00\x00\xf0\xca\xea\x34\x00\x00\x00\x10\x49\x44\x41\x54\x78\xda\x63\xf8\xcf\xc0\x00\x47\x0c\xc8\x1c\x00\x6f\
    \xaa\x07\xf9\x68\xdd\xaf\xa7\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

async fn upload(world: &World, who: Option<&Person>, query: &str, content_type: Option<&str>, bytes: &[u8]) -> Answer {
    let mut request = Request::builder().method(Method::POST).uri(format!("/_matrix/media/v3/upload{query}"));
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    if let Some(who) = who {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    }
    world.send(request.body(Body::from(bytes.to_vec())).expect("a valid request")).await
}

/// Uploads and answers the last two parts of the path: `example.org/<media id>`.
async fn uploaded(world: &World, who: &Person, query: &str, content_type: Option<&str>, bytes: &[u8]) -> String {
    let answer = upload(world, Some(who), query, content_type, bytes).await.ok();
    let uri = answer["content_uri"].as_str().expect("an address");
    uri.strip_prefix("mxc://").expect("an mxc address").to_owned()
}

struct Fetched {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Fetched {
    fn error(&self) -> (u16, String) {
        let json: Value = serde_json::from_slice(&self.bytes).unwrap_or_default();
        (self.status.as_u16(), json["errcode"].as_str().unwrap_or_default().to_owned())
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("ASCII")
    }
}

async fn fetch(world: &World, who: Option<&Person>, path: &str) -> Fetched {
    fetch_range(world, who, path, None).await
}

async fn fetch_range(world: &World, who: Option<&Person>, path: &str, range: Option<&str>) -> Fetched {
    let mut request = Request::builder().uri(format!("/_matrix/{path}"));
    if let Some(range) = range {
        request = request.header(header::RANGE, range);
    }
    if let Some(who) = who {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    }
    let request = request.body(Body::empty()).expect("a valid request");
    let response = world.router.clone().oneshot(request).await.expect("the router does not fail");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("answers are complete").to_bytes().to_vec();
    Fetched { status: parts.status, headers: parts.headers, bytes }
}

#[tokio::test]
async fn what_is_uploaded_can_be_fetched_at_every_address() {
    let world = World::new();
    let alice = world.person("alice").await;
    let item = uploaded(&world, &alice, "?filename=test.png", Some("image/png"), PICTURE).await;
    for (path, who) in [
        ("client/v1/media/download/", Some(&alice)),
        ("client/unstable/org.matrix.msc3916/media/download/", Some(&alice)),
        ("media/v3/download/", None),
        ("media/v1/download/", None),
        ("media/r0/download/", None),
    ] {
        let fetched = fetch(&world, who, &format!("{path}{item}")).await;
        assert_eq!(fetched.status, StatusCode::OK, "{path}");
        assert_eq!(fetched.bytes, PICTURE);
        assert_eq!(fetched.header("content-type"), "image/png");
        assert_eq!(fetched.header("content-length"), PICTURE.len().to_string());
        assert_eq!(fetched.header("content-disposition"), "inline; filename=test.png");
        assert_eq!(fetched.header("cross-origin-resource-policy"), "cross-origin");
        assert_eq!(fetched.header("x-content-type-options"), "nosniff");
        assert!(fetched.header("content-security-policy").contains("default-src 'none'"));
        assert_eq!(fetched.header("access-control-allow-origin"), "*");
        let renamed = fetch(&world, who, &format!("{path}{item}/other%20name.png")).await;
        assert_eq!(renamed.header("content-disposition"), "inline; filename=\"other name.png\"");
    }
}

#[tokio::test]
async fn what_nobody_described_is_a_nameless_attachment() {
    let world = World::new();
    let alice = world.person("alice").await;
    let item = uploaded(&world, &alice, "", None, b"\0\x01").await;
    let fetched = fetch(&world, Some(&alice), &format!("client/v1/media/download/{item}")).await;
    assert_eq!(fetched.header("content-type"), "application/octet-stream");
    assert_eq!(fetched.header("content-disposition"), "attachment");
    let item = uploaded(&world, &alice, "?filename=%F0%9F%90%94", Some("text/html"), b"<script>").await;
    let fetched = fetch(&world, Some(&alice), &format!("client/v1/media/download/{item}")).await;
    assert_eq!(fetched.header("content-disposition"), "attachment; filename*=utf-8''%F0%9F%90%94");
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_strangers_are_turned_away() {
    let world = World::new();
    let alice = world.person("alice").await;
    let item = uploaded(&world, &alice, "", Some("image/png"), PICTURE).await;
    for (path, who, expected) in [
        ("client/v1/media/download/example.org/nothing".to_owned(), Some(&alice), (404, "M_NOT_FOUND")),
        ("client/v1/media/download/example.org/..%2F..%2Fkeys".to_owned(), Some(&alice), (404, "M_NOT_FOUND")),
        ("client/v1/media/download/elsewhere.org/nothing".to_owned(), Some(&alice), (404, "M_NOT_FOUND")),
        ("client/v1/media/download/not%20a%20name/nothing".to_owned(), Some(&alice), (400, "M_INVALID_PARAM")),
        (
            "media/v3/download/example.org/nothing?allow_remote=false&timeout_ms=1".to_owned(),
            None,
            (404, "M_NOT_FOUND"),
        ),
        (format!("client/v1/media/download/{item}"), None, (401, "M_MISSING_TOKEN")),
        (format!("client/v1/media/thumbnail/{item}"), None, (401, "M_MISSING_TOKEN")),
        ("client/v1/media/config".to_owned(), None, (401, "M_MISSING_TOKEN")),
        ("media/v3/config".to_owned(), None, (401, "M_MISSING_TOKEN")),
        ("client/v1/media/preview_url?url=x".to_owned(), Some(&alice), (404, "M_UNRECOGNIZED")),
    ] {
        let (status, errcode) = fetch(&world, who, &path).await.error();
        assert_eq!((status, errcode.as_str()), expected, "{path}");
    }
    assert_eq!(upload(&world, None, "", None, b"x").await.error(), (401, "M_MISSING_TOKEN"));
}

#[tokio::test]
async fn the_size_limit_is_told_and_kept() {
    let world = World::new();
    let alice = world.person("alice").await;
    let max = koine_media::Config::default().upload_bytes_max;
    for path in ["client/v1/media/config", "media/v3/config", "media/r0/config"] {
        let config = fetch(&world, Some(&alice), path).await;
        let config: Value = serde_json::from_slice(&config.bytes).expect("JSON");
        assert_eq!(config["m.upload.size"], max, "{path}");
    }
    let large = vec![0; usize::try_from(max).expect("fits") + 1];
    assert_eq!(upload(&world, Some(&alice), "", None, &large).await.error(), (413, "M_TOO_LARGE"));
}

#[tokio::test]
async fn thumbnails_are_pictures_or_errors() {
    let world = World::new();
    let alice = world.person("alice").await;
    let item = uploaded(&world, &alice, "?filename=secret.png", Some("text/html"), PICTURE).await;
    for (path, who) in [("client/v1/media/thumbnail/", Some(&alice)), ("media/v3/thumbnail/", None)] {
        let small = fetch(&world, who, &format!("{path}{item}?width=1&height=1&method=crop&animated=true")).await;
        assert_eq!(small.status, StatusCode::OK, "{}", String::from_utf8_lossy(&small.bytes));
        assert_eq!(small.header("content-type"), "image/png");
        assert_eq!(small.header("content-disposition"), "inline; filename=thumbnail.png");
        assert_eq!(small.bytes[16..24], [0, 0, 0, 1, 0, 0, 0, 1], "one pixel");
        let whole = fetch(&world, who, &format!("{path}{item}?width=320&height=240&method=scale")).await;
        assert_eq!(whole.bytes, PICTURE, "smaller than asked for: the original");
    }
    let text = uploaded(&world, &alice, "", Some("image/png"), b"no picture").await;
    for (path, expected) in [
        (format!("{item}?width=32"), (400, "M_MISSING_PARAM")),
        (format!("{item}?width=-32&height=32"), (400, "M_UNKNOWN")),
        (format!("{item}?width=0&height=32"), (400, "M_UNKNOWN")),
        (format!("{text}?width=32&height=32"), (400, "M_UNKNOWN")),
        ("example.org/nothing?width=32&height=32".to_owned(), (404, "M_NOT_FOUND")),
    ] {
        let (status, errcode) = fetch(&world, Some(&alice), &format!("client/v1/media/thumbnail/{path}")).await.error();
        assert_eq!((status, errcode.as_str()), expected, "{path}");
    }
}

#[tokio::test]
async fn a_part_of_a_file_can_be_asked_for() {
    let world = World::new();
    let alice = world.person("alice").await;
    let item = uploaded(&world, &alice, "", Some("video/mp4"), b"0123456789").await;
    let path = format!("client/v1/media/download/{item}");
    for (range, status, bytes, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
    ] {
        let part = fetch_range(&world, Some(&alice), &path, Some(range)).await;
        assert_eq!(part.status.as_u16(), status, "{range}");
        assert_eq!(part.bytes, bytes.as_bytes(), "{range}");
        assert_eq!(part.header("content-range"), content_range);
        assert_eq!(part.header("content-length"), bytes.len().to_string());
    }
    let whole = fetch(&world, Some(&alice), &path).await;
    assert_eq!((whole.status, whole.header("accept-ranges")), (StatusCode::OK, "bytes"));
}

async fn promised(world: &World, who: &Person) -> String {
    let request = Request::builder().method(Method::POST).uri("/_matrix/media/v1/create");
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    let answer = world.send(request.body(Body::empty()).expect("a valid request")).await.ok();
    assert!(answer["unused_expires_at"].is_u64());
    answer["content_uri"].as_str().and_then(|uri| uri.strip_prefix("mxc://")).expect("an mxc address").to_owned()
}

async fn upload_promised(world: &World, who: &Person, address: &str) -> Answer {
    let request = Request::builder().method(Method::PUT).uri(format!("/_matrix/media/v3/upload/{address}?filename=a"));
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    world.send(request.body(Body::from("late")).expect("a valid request")).await
}

#[tokio::test]
async fn an_address_may_be_had_before_its_content() {
    let world = World::new();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let address = promised(&world, &alice).await;
    let path = format!("client/v1/media/download/{address}");
    let early = fetch(&world, Some(&bob), &format!("{path}?timeout_ms=1")).await;
    assert_eq!(early.error(), (504, "M_NOT_YET_UPLOADED".to_owned()));
    assert_eq!(upload_promised(&world, &bob, &address).await.error(), (403, "M_FORBIDDEN"));
    assert_eq!(upload_promised(&world, &alice, "example.org/never").await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(upload_promised(&world, &alice, "other.org/never").await.error(), (404, "M_NOT_FOUND"));
    assert_eq!(upload_promised(&world, &alice, &address).await.ok(), serde_json::json!({}));
    assert_eq!(upload_promised(&world, &alice, &address).await.error(), (409, "M_CANNOT_OVERWRITE_MEDIA"));
    let fetched = fetch(&world, Some(&bob), &path).await;
    assert_eq!((fetched.status, &*fetched.bytes), (StatusCode::OK, &b"late"[..]));
}

#[tokio::test]
async fn media_of_other_servers_are_not_there_where_nobody_reaches_them() {
    let world = World::new();
    let alice = world.person("alice").await;
    let fetched = fetch(&world, Some(&alice), "client/v1/media/download/other.org/abc").await;
    assert_eq!(fetched.error(), (404, "M_NOT_FOUND".to_owned()));
    let fetched = fetch(&world, None, "media/v3/thumbnail/other.org/abc?width=9&height=9&allow_remote=false").await;
    assert_eq!(fetched.error(), (404, "M_NOT_FOUND".to_owned()));
}
