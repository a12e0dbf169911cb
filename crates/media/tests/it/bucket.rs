//! Media in a bucket: a small store on loopback that speaks as much of S3 as is asked of it, and can be told to fail.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use koine_media::{BucketConfig, Config, Media, Place, Spec};
use koine_net::{Client, bytes::Bytes};
use koine_store::DomainId;
use parking_lot::Mutex;
use ruma_common::{MilliSecondsSinceUnixEpoch, owned_server_name};
use tokio::net::TcpListener;

use crate::{House, alice, described, read};

#[derive(Default)]
struct Store {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    parts: Mutex<BTreeMap<u32, Vec<u8>>>,
    reads: AtomicUsize,
    is_down: AtomicBool,
}

impl Store {
    fn answer(&self, method: &Method, path: &str, query: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let key = path.trim_start_matches("/files/").to_owned();
        let number = query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")?.parse().ok());
        match (method.as_str(), number) {
            ("PUT", Some(number)) => drop(self.parts.lock().insert(number, body)),
            ("PUT", None) => drop(self.objects.lock().insert(key, body)),
            ("POST", _) if query.starts_with("uploads") => {
                let xml = "<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>";
                return (StatusCode::OK, xml.into());
            }
            ("POST", _) => {
                let whole = std::mem::take(&mut *self.parts.lock()).into_values().flatten().collect();
                self.objects.lock().insert(key, whole);
                let xml = "<CompleteMultipartUploadResult><ETag>tag</ETag></CompleteMultipartUploadResult>";
                return (StatusCode::OK, xml.into());
            }
            ("GET", _) => {
                self.reads.fetch_add(1, Ordering::SeqCst);
                return match self.objects.lock().get(&key) {
                    Some(bytes) => (StatusCode::OK, bytes.clone()),
                    None => (StatusCode::NOT_FOUND, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
                };
            }
            ("DELETE", _) => {
                self.objects.lock().remove(&key);
                return (StatusCode::NO_CONTENT, Vec::new());
            }
            _ => return (StatusCode::METHOD_NOT_ALLOWED, Vec::new()),
        }
        (StatusCode::OK, Vec::new())
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
        let signature = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (status, body) = if self.is_down.load(Ordering::SeqCst) {
            (StatusCode::FORBIDDEN, b"<Error><Code>AccessDenied</Code></Error>".to_vec())
        } else if signature.starts_with("AWS4-HMAC-SHA256 Credential=me/") {
            self.answer(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), body)
        } else {
            (StatusCode::FORBIDDEN, Vec::new())
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert("etag", http::HeaderValue::from_static("\"tag\""));
        let now = http::HeaderValue::from_static("Sun, 29 Nov 2026 12:00:00 GMT");
        response.headers_mut().insert("last-modified", now);
        Ok(response)
    }

    /// Serves until the test ends; where.
    async fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let store = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let store = store.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| store.serve(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        format!("http://{address}")
    }
}

fn open(house: &House, endpoint: &str, cache_bytes_max: u64) -> Media {
    let bucket = BucketConfig {
        name: "files".to_owned(),
        endpoint: endpoint.to_owned(),
        prefix: "koine".to_owned(),
        access_key_id: "me".to_owned(),
        secret_access_key: "secret".to_owned(),
        cache_bytes_max,
        ..BucketConfig::default()
    };
    let config = Config { bucket, ..Config::default() };
    let place = Place {
        domain: DomainId(1),
        server_name: owned_server_name!("example.org"),
        folder: house.folder.path().to_owned(),
    };
    let client = Client::new(&koine_net::Config::default().with_loopback()).expect("a client");
    Media::open_with(house.shard.clone(), place, config, Some(client)).expect("the media open")
}

fn now() -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(1u32.into())
}

async fn upload(media: &Media, bytes: &[u8]) -> Result<koine_media::Item, koine_media::UploadError> {
    let mut upload = media.begin_upload(alice(), None).await?;
    upload.write(bytes).await?;
    let uri = upload.finish(described(), now()).await?;
    let (server_name, media_id) = uri.parts().expect("an address");
    Ok(media.find(server_name, media_id).expect("readable").expect("there"))
}

#[tokio::test]
async fn a_file_lies_in_the_bucket_and_comes_back_when_the_folder_has_lost_it() {
    let (house, store) = (House::new(), Arc::new(Store::default()));
    let media = open(&house, &store.start().await, 1_000_000);
    let item = upload(&media, b"hello").await.expect("uploaded");
    let names: Vec<String> = store.objects.lock().keys().cloned().collect();
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("koine/1/content/"), "{names:?}");
    assert!(house.files("unsettled").is_empty());
    assert_eq!(read(&media, &item).await, b"hello");
    assert_eq!(store.reads.load(Ordering::SeqCst), 0, "it is in the folder as well");
    for file in house.files("content") {
        fs::remove_file(file).expect("removed");
    }
    for _ in 0..2 {
        assert_eq!(read(&media, &item).await, b"hello");
    }
    assert_eq!(store.reads.load(Ordering::SeqCst), 1, "fetched once");
    // The same bytes again are one blob; it goes with the last address.
    let again = upload(&media, b"hello").await.expect("uploaded");
    assert!(media.delete(&item.id).await.expect("deleted"));
    assert_eq!(store.objects.lock().len(), 1);
    assert!(media.delete(&again.id).await.expect("deleted"));
    assert!(store.objects.lock().is_empty() && house.files("content").is_empty());
}

#[tokio::test]
async fn a_large_file_goes_in_parts() {
    let (house, store) = (House::new(), Arc::new(Store::default()));
    let media = open(&house, &store.start().await, 0);
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let item = upload(&media, &bytes).await.expect("uploaded");
    // No room in the folder: the cache is emptied, and what is asked for comes from the bucket.
    media.clean(now()).await.expect("cleaned");
    assert!(house.files("content").is_empty());
    assert!(read(&media, &item).await == bytes);
}

#[tokio::test]
async fn what_the_bucket_refuses_leaves_nothing_behind_and_can_be_sent_again() {
    let (house, store) = (House::new(), Arc::new(Store::default()));
    let media = open(&house, &store.start().await, 1_000_000);
    store.is_down.store(true, Ordering::SeqCst);
    let refused = upload(&media, b"hello").await;
    assert!(matches!(refused, Err(koine_media::UploadError::Disk(_))), "{refused:?}");
    store.is_down.store(false, Ordering::SeqCst);
    // The mark that stayed is looked after once the bucket answers.
    media.clean(now()).await.expect("cleaned");
    assert!(house.files("unsettled").is_empty() && house.files("incoming").is_empty());
    let item = upload(&media, b"hello").await.expect("uploaded");
    assert_eq!(read(&media, &item).await, b"hello");
}

#[tokio::test]
async fn bytes_that_were_changed_in_the_bucket_are_not_handed_out() {
    let (house, store) = (House::new(), Arc::new(Store::default()));
    let media = open(&house, &store.start().await, 1_000_000);
    let item = upload(&media, b"hello").await.expect("uploaded");
    for file in house.files("content") {
        fs::remove_file(file).expect("removed");
    }
    for bytes in store.objects.lock().values_mut() {
        *bytes = b"other".to_vec();
    }
    assert!(media.content(&item).await.is_err());
    assert!(house.files("content").is_empty() && house.files("incoming").is_empty());
    store.objects.lock().clear();
    assert!(matches!(media.content(&item).await, Err(koine_media::ReadError::ContentMissing(_))));
}

#[tokio::test]
async fn thumbnails_are_made_of_what_is_in_the_bucket() {
    let (house, store) = (House::new(), Arc::new(Store::default()));
    let media = open(&house, &store.start().await, 0);
    // The smallest picture there is: a GIF of one pixel.
    let pixel = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";
    let item = upload(&media, pixel).await.expect("uploaded");
    media.clean(now()).await.expect("cleaned");
    let spec = Spec::new(32, 32, koine_media::Method::Crop).expect("a size");
    let thumbnail = media.thumbnail(&item, spec).await.expect("a thumbnail");
    assert_eq!(thumbnail.content_type, "image/png");
    assert_eq!(house.files("thumbnails").len(), 1);
}
