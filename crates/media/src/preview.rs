//! What a page of the web says of itself, for people who see its address in a message.
//!
//! [CS-API §get_matrixclientv1mediapreview_url] The page is fetched by a client that the address guard watches over, its
//! beginning read for Open Graph properties (see [`page`]), and the picture it names fetched too and served as media of
//! this server. Answers are kept for an hour, failures for five minutes; the same page is fetched once however many ask.

use std::{fs::File, io::BufReader, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use image::ImageReader;
use koine_net::{Client, Error as NetError, Limits, Response, WebRequest, url::Url};
use koine_store::{CommitError, Direction, StoreError};
use ruma_common::MilliSecondsSinceUnixEpoch;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    Description, Media, Receiving, UploadError,
    ids::{ContentHash, MediaId},
    queue::{Queue, WAITING_MAX, Waiting},
    tables::{PREVIEW, PreviewRecord},
};

mod page;

/// Longest address that is looked at.
const URL_BYTES_MAX: usize = 8 * 1024;
/// How much of a page is read: what it says of itself stands at its beginning.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Largest picture.
const PICTURE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Pages that are fetched at the same time.
const AT_ONCE_MAX: usize = 16;
/// Other places that a page may lead to before it comes.
const REDIRECTS_MAX: usize = 5;
/// How long a preview is good.
const LIFETIME_MS: u64 = 60 * 60 * 1000;
/// How long it is remembered that there is none.
const FAILURE_LIFETIME_MS: u64 = 5 * 60 * 1000;
/// Old previews that one round of cleaning deletes.
const CLEANED_AT_ONCE: usize = 5_000;

/// Previews of pages.
#[derive(Clone)]
pub struct Previews(Arc<Inner>);

struct Inner {
    media: Media,
    web: Client,
    queue: Queue,
}

/// Why there is no preview.
#[derive(Debug, Error)]
pub enum PreviewError {
    /// Not an `http` or `https` address, or too long.
    #[error("this is no address of a page")]
    NotAnAddress,
    /// The operator does not want them.
    #[error("this server makes no previews")]
    Off,
    /// The page cannot be had.
    #[error("the page cannot be fetched")]
    Unreachable,
    /// [`WAITING_MAX`] requests wait already.
    #[error("{WAITING_MAX} requests wait for pages already")]
    Busy,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Previews {
    /// Previews whose pictures are kept among these media.
    pub fn new(media: Media, web: Client) -> Self {
        Self(Arc::new(Inner { media, web, queue: Queue::new(AT_ONCE_MAX) }))
    }

    /// What the page at `address` says of itself: a JSON object. A page that says nothing has an empty one.
    pub async fn preview(&self, address: &str, now: MilliSecondsSinceUnixEpoch) -> Result<String, PreviewError> {
        if !self.0.media.config().previews {
            return Err(PreviewError::Off);
        }
        let url = parse(address).ok_or(PreviewError::NotAnAddress)?;
        let key = ContentHash::of(url.as_str().as_bytes());
        if let Some(known) = self.0.known(key, now)? {
            return known;
        }
        let host = url.host_str().unwrap_or_default();
        let waiting = self.0.queue.enter(host).ok_or(PreviewError::Busy)?;
        let inner = self.0.clone();
        // To its end, even if whoever asked goes away: others wait for it.
        let made = tokio::spawn(async move {
            let _alone = inner.queue.alone(key.to_string()).await;
            match inner.known(key, now)? {
                Some(known) => known,
                None => inner.make(key, url, now, &waiting).await,
            }
        });
        made.await.unwrap_or(Err(PreviewError::Unreachable))
    }

    /// Forgets previews that are no longer good. Says how many went.
    pub async fn clean(&self, now: MilliSecondsSinceUnixEpoch) -> Result<usize, PreviewError> {
        let (media, now_ms) = (&self.0.media, u64::from(now.get()));
        let mut old = Vec::new();
        for row in media.shard().view().scan(&PREVIEW, media.domain(), .., Direction::Forward) {
            let (key, record) = row?;
            if !record.is_good(now_ms) && old.len() < CLEANED_AT_ONCE {
                old.push(key);
            }
        }
        let (count, domain) = (old.len(), media.domain());
        media.shard().submit(move |txn| old.iter().for_each(|key| txn.delete(&PREVIEW, domain, key))).await?;
        Ok(count)
    }
}

impl PreviewRecord {
    fn is_good(&self, now_ms: u64) -> bool {
        let lifetime = if self.json.is_empty() { FAILURE_LIFETIME_MS } else { LIFETIME_MS };
        now_ms < self.fetched_ms.saturating_add(lifetime)
    }
}

/// An address without what is no business of its server.
fn parse(address: &str) -> Option<Url> {
    let mut url = (address.len() <= URL_BYTES_MAX).then(|| Url::parse(address).ok())??;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    url.set_fragment(None);
    (is_web && url.username().is_empty() && url.password().is_none()).then_some(url)
}

impl Inner {
    fn known(
        &self,
        key: ContentHash,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Option<Result<String, PreviewError>>, PreviewError> {
        let media = &self.media;
        let record = media.shard().get(&PREVIEW, media.domain(), &key.0)?;
        let Some(record) = record.filter(|record| record.is_good(now.get().into())) else { return Ok(None) };
        if let Some(picture) = &record.picture
            && media.cached(media.server_name(), picture, now)?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(if record.json.is_empty() { Err(PreviewError::Unreachable) } else { Ok(record.json) }))
    }

    async fn make(
        &self,
        key: ContentHash,
        url: Url,
        now: MilliSecondsSinceUnixEpoch,
        waiting: &Waiting,
    ) -> Result<String, PreviewError> {
        let _place = waiting.place().await;
        let made = self.look(url, now).await;
        let (json, picture) = match &made {
            Ok((properties, picture)) => (Value::Object(properties.clone()).to_string(), picture.clone()),
            Err(error) => {
                tracing::debug!(reason = %error, "a page has no preview");
                (String::new(), None)
            }
        };
        let record = PreviewRecord { fetched_ms: now.get().into(), json: json.clone(), picture };
        let (media, domain) = (&self.media, self.media.domain());
        media.shard().submit(move |txn| txn.put(&PREVIEW, domain, &key.0, &record)).await?;
        if json.is_empty() { Err(PreviewError::Unreachable) } else { Ok(json) }
    }

    /// The properties of a page, and the id of its picture.
    async fn look(
        &self,
        url: Url,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<(Map<String, Value>, Option<String>), NetError> {
        let (url, answer) =
            self.fetch(url, "text/html, application/xhtml+xml, image/*;q=0.9, */*;q=0.5", PAGE_BYTES_MAX).await?;
        let kind = content_type(&answer.headers);
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence.starts_with("image/") {
            let mut properties = Map::new();
            let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
            if !name.is_empty() {
                properties.insert("og:title".to_owned(), name.into());
            }
            let picture = self.picture(url, &mut properties, now).await;
            return Ok((properties, picture));
        }
        if !matches!(essence.as_str(), "" | "text/html" | "application/xhtml+xml") {
            return Ok((Map::new(), None));
        }
        let bytes = beginning(answer).await?;
        let mut properties = page::properties(&bytes, &kind);
        let picture = match properties.remove("og:image").as_ref().and_then(Value::as_str).map(|named| url.join(named))
        {
            Some(Ok(named)) if matches!(named.scheme(), "http" | "https") => {
                self.picture(named, &mut properties, now).await
            }
            _ => None,
        };
        Ok((properties, picture))
    }

    /// Fetches a picture, keeps it, and tells of it among the properties. Without one the preview is a preview still.
    async fn picture(
        &self,
        url: Url,
        properties: &mut Map<String, Value>,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Option<String> {
        for told in ["og:image:type", "og:image:width", "og:image:height", "og:image:secure_url", "og:image:url"] {
            properties.remove(told);
        }
        let (_, answer) = self.fetch(url, "image/*", PICTURE_BYTES_MAX).await.ok()?;
        let kind = content_type(&answer.headers);
        let mut receiving = self.media.receive(PICTURE_BYTES_MAX).await.ok()?;
        fill(&mut receiving, answer).await.ok()?;
        let size = receiving.size();
        let (width, height) = receiving.dimensions().await?;
        let id = MediaId::random(&mut rand::rng());
        let said = Description { content_type: Some(kind.clone()).filter(|kind| !kind.is_empty()), file_name: None };
        let address = (self.media.server_name().to_owned(), id.clone());
        self.media.keep_remote(receiving, said, address, now).await.ok()?;
        properties.insert("og:image".to_owned(), self.media.address(&id).to_string().into());
        properties.insert("og:image:width".to_owned(), width.into());
        properties.insert("og:image:height".to_owned(), height.into());
        if !kind.is_empty() {
            properties.insert("og:image:type".to_owned(), kind.into());
        }
        // [CS-API §get_matrixclientv1mediapreview_url]
        properties.insert("matrix:image:size".to_owned(), size.into());
        Some(id.to_string())
    }

    /// Follows redirects, each of which the guard looks at.
    async fn fetch(&self, mut url: Url, accept: &'static str, bytes_max: u64) -> Result<(Url, Response), NetError> {
        let limits = Limits {
            headers: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            total: Duration::from_secs(30),
            body_bytes_max: bytes_max,
        };
        for _ in 0..=REDIRECTS_MAX {
            let request = WebRequest::get(url.clone(), limits).header(header::ACCEPT, HeaderValue::from_static(accept));
            match self.web.web(request).await {
                Ok(answer) => return Ok((url, answer)),
                Err(NetError::Status { status, headers, .. }) if status.is_redirection() => {
                    let next = headers.get(header::LOCATION).and_then(|place| url.join(place.to_str().ok()?).ok());
                    url = next.ok_or_else(|| NetError::Request("a redirect to nowhere".to_owned()))?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(NetError::Request("too many redirects".to_owned()))
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.unwrap_or_default().trim().to_owned()
}

/// As much of a body as is read of a page; that there is more is no error.
async fn beginning(answer: Response) -> Result<Vec<u8>, NetError> {
    let (mut body, mut bytes) = (answer.body, Vec::new());
    loop {
        match body.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) | Err(NetError::TooLarge { .. }) => return Ok(bytes),
            Err(error) => return Err(error),
        }
    }
}

async fn fill(receiving: &mut Receiving, answer: Response) -> Result<(), UploadError> {
    let mut body = answer.body;
    loop {
        match body.chunk().await {
            Ok(Some(chunk)) => receiving.write(&chunk).await?,
            Ok(None) => return Ok(()),
            Err(_) => return Err(UploadError::TooLarge { max: PICTURE_BYTES_MAX }),
        }
    }
}

/// Width and height of a picture, from its beginning; `None` if it is none that can be shown.
pub(crate) fn dimensions(file: File) -> Option<(u32, u32)> {
    ImageReader::new(BufReader::new(file)).with_guessed_format().ok()?.into_dimensions().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_web_without_passwords_are_looked_at() {
        let text = |address: &str| parse(address).map(|url| url.to_string());
        assert_eq!(text("https://example.org/a#b").as_deref(), Some("https://example.org/a"));
        assert_eq!(text("http://example.org:8080").as_deref(), Some("http://example.org:8080/"));
        let long = format!("https://example.org/{}", "x".repeat(URL_BYTES_MAX));
        for bad in ["", "example.org", "file:///etc/passwd", "ftp://example.org", "https://me:pw@example.org/", &long] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
