//! Blobs in a bucket: a store that speaks the API of Amazon's S3, for servers whose disk is too small for them.
//!
//! The bucket holds every blob, `content/ab/cdef…` below its prefix; the folder of the media holds those that were asked
//! for lately, as whole files, so that everything else here deals with files. The two invariants of [`crate::folder`]
//! hold for the bucket as they do for the folder: a blob is in it before the metadata names it, and has a mark while the
//! metadata do not.
//!
//! The signatures, the retries and the parts of large files are `object_store`'s; the connections are those of
//! `koine-net`, so that there is one HTTP client in this program.

use std::{fmt, future::Future, io, path::Path, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use koine_net::{Client, Error as NetError, Limits, WebRequest, bytes::Bytes, url::Url};
use object_store::{
    ClientOptions, MultipartUpload as _, ObjectStoreExt as _, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
    path::Path as Name,
};
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::{config::BucketConfig, ids::ContentHash};

/// Larger files go in parts of this size. Every store takes parts of 5 MiB and more.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// How long one request may take; a large file is several.
const LIMITS: Limits = Limits {
    headers: Duration::from_secs(60),
    stall: Duration::from_secs(30),
    total: Duration::from_secs(15 * 60),
    body_bytes_max: u64::MAX,
};
/// How long one request is tried again, all tries together.
const RETRY_MAX: Duration = Duration::from_secs(20);
/// Pieces of an answer that wait to be written down.
const PIECES_WAITING_MAX: usize = 4;

/// The bucket of one domain's media.
#[derive(Debug)]
pub(crate) struct Bucket {
    store: AmazonS3,
    prefix: Name,
    name: String,
    /// How much of it the folder may hold as well.
    pub(crate) cache_bytes_max: u64,
}

impl Bucket {
    /// The bucket that the settings name. Nothing is sent yet.
    pub(crate) fn open(config: &BucketConfig, domain: u32, client: Client) -> io::Result<Self> {
        let retry = RetryConfig { max_retries: 4, retry_timeout: RETRY_MAX, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.name)
            .with_region(&config.region)
            .with_access_key_id(&config.access_key_id)
            .with_secret_access_key(&config.secret_access_key)
            .with_virtual_hosted_style_request(config.host_style)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            // One at a time is all that is ever removed, and every store knows how.
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(Wires(client));
        if !config.endpoint.is_empty() {
            builder = builder.with_endpoint(&config.endpoint);
        }
        let store = builder.build().map_err(io::Error::other)?;
        let prefix = format!("{}/{domain}/content", config.prefix.trim_matches('/'));
        let prefix = Name::parse(prefix.trim_start_matches('/')).map_err(io::Error::other)?;
        Ok(Self { store, prefix, name: config.name.clone(), cache_bytes_max: config.cache_bytes_max })
    }

    fn place(&self, hash: ContentHash) -> Name {
        let hex = hash.to_string();
        let (shelf, rest) = hex.split_at(2);
        self.prefix.clone().join(shelf).join(rest)
    }

    /// Puts the file there. When this returns it is durable, as far as the bucket keeps its word.
    pub(crate) async fn put(&self, file: &Path, hash: ContentHash) -> io::Result<()> {
        let mut file = File::open(file).await?;
        let place = self.place(hash);
        let first = part(&mut file).await?;
        if first.len() < PART_BYTES {
            return self.store.put(&place, PutPayload::from(first)).await.map(drop).map_err(|error| self.said(&error));
        }
        let mut upload = self.store.put_multipart(&place).await.map_err(|error| self.said(&error))?;
        let mut next = first;
        let sent = loop {
            if let Err(error) = upload.put_part(PutPayload::from(next)).await {
                break Err(error);
            }
            next = part(&mut file).await?;
            if next.is_empty() {
                break upload.complete().await.map(drop);
            }
        };
        if let Err(error) = sent {
            // Parts of what never became whole cost space: thrown away if the bucket can be reached at all.
            let _ = upload.abort().await;
            return Err(self.said(&error));
        }
        Ok(())
    }

    /// Writes the blob into a new file, and finds out whether it is the one that was asked for.
    pub(crate) async fn get(&self, hash: ContentHash, into: &Path) -> io::Result<()> {
        let got = self.store.get(&self.place(hash)).await.map_err(|error| self.said(&error))?;
        let mut pieces = got.into_stream();
        let (mut file, mut hasher) = (File::create_new(into).await?, Sha256::new());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| self.said(&error))?;
            hasher.update(&piece);
            file.write_all(&piece).await?;
        }
        file.flush().await?;
        if ContentHash(hasher.finalize().into()) != hash {
            let message = format!("the bucket {} holds something else under the name of {hash}", self.name);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(())
    }

    /// Removes the blob. Not being there is success.
    pub(crate) async fn remove(&self, hash: ContentHash) -> io::Result<()> {
        match self.store.delete(&self.place(hash)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.said(&error)),
        }
    }

    fn said(&self, error: &object_store::Error) -> io::Error {
        let kind = match error {
            object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, format!("the bucket {}: {error}", self.name))
    }
}

/// The next [`PART_BYTES`] of a file; fewer at its end.
async fn part(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(PART_BYTES as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// `object_store`'s requests over our client.
#[derive(Clone)]
struct Wires(Client);

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wires")
    }
}

impl HttpConnector for Wires {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Wires {
    fn call<'a, 'async_trait>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.exchange(request))
    }
}

impl Wires {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string()).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let body = body.collect().await?.to_bytes();
        let has_body = !body.is_empty() || matches!(head.method, http::Method::PUT | http::Method::POST);
        let mut headers = head.headers;
        // Ours to write, from the address.
        headers.remove(http::header::HOST);
        headers.remove(http::header::CONTENT_LENGTH);
        headers.entry(http::header::CONTENT_TYPE).or_insert(http::HeaderValue::from_static("application/octet-stream"));
        let request = WebRequest {
            method: head.method,
            url,
            headers,
            body: has_body.then_some(body),
            limits: LIMITS,
            trusted: true,
        };
        match self.0.web(request).await {
            Ok(answer) => {
                let mut response = http::Response::new(streamed(answer.body));
                *response.status_mut() = answer.status;
                *response.headers_mut() = answer.headers;
                Ok(response)
            }
            Err(NetError::Status { status, headers, body }) => {
                let mut response = http::Response::new(HttpResponseBody::from(body));
                *response.status_mut() = status;
                *response.headers_mut() = *headers;
                Ok(response)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: NetError) -> HttpError {
    let kind = match error {
        NetError::Timeout { .. } => HttpErrorKind::Timeout,
        NetError::Broken(_) => HttpErrorKind::Interrupted,
        NetError::Unreachable { .. } | NetError::Dns { .. } => HttpErrorKind::Connect,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}

/// The body of an answer as `object_store` takes it: shared between threads, which ours is not.
fn streamed(mut body: koine_net::Body) -> HttpResponseBody {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, NetError>>(PIECES_WAITING_MAX);
    tokio::spawn(async move {
        while let Some(piece) = body.chunk().await.transpose() {
            let is_last = piece.is_err();
            // Nobody reads on: the connection goes with the body.
            if sender.send(piece).await.is_err() || is_last {
                break;
            }
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece.map(Frame::data).map_err(failed), receiver))
    });
    HttpResponseBody::new(StreamBody::new(pieces))
}

/// The client, where a bucket is named.
pub(crate) fn named(config: &BucketConfig, domain: u32, client: Option<Client>) -> io::Result<Option<Arc<Bucket>>> {
    if config.name.is_empty() {
        return Ok(None);
    }
    let client = client.ok_or_else(|| io::Error::other("there is no client to reach the bucket with"))?;
    Bucket::open(config, domain, client).map(|bucket| Some(Arc::new(bucket)))
}
