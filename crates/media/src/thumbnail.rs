//! Thumbnails: which are made, by how many at a time, and where they are kept.
//!
//! Specified in [CS-API §thumbnails]. A thumbnail is made when it is first asked for and kept beside the blob, keyed by
//! size and method; it is a cache and may vanish at any time. A still picture, unless an animated one is asked for and the
//! original moves.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use image::ImageFormat;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::{
    Media,
    download::{Content, Item},
    ids::ContentHash,
    tables::BLOBS,
};

mod animate;
mod plan;
mod render;
#[cfg(test)]
mod tests;

/// Largest file that is decoded, in bytes. Larger pictures exist, but a decoder may hold the whole file in memory.
pub const THUMBNAIL_SOURCE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// How many requests wait for a place to decode before further ones are turned away.
pub const THUMBNAILS_WAITING_MAX: usize = 64;

/// How many sizes of one blob are kept beside the standard ones. Further sizes are made, but not kept, so that nobody
/// fills the disk by asking for every number.
pub const THUMBNAILS_KEPT_MAX: usize = 16;

/// Sizes that are always kept: the ones a server should have. [CS-API §thumbnails]
const STANDARD: [Spec; 5] = [
    Spec { width: 32, height: 32, method: Method::Crop, animated: false },
    Spec { width: 96, height: 96, method: Method::Crop, animated: false },
    Spec { width: 320, height: 240, method: Method::Scale, animated: false },
    Spec { width: 640, height: 480, method: Method::Scale, animated: false },
    Spec { width: 800, height: 600, method: Method::Scale, animated: false },
];

/// How the picture is made to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The shape of the original, at least as large as asked for.
    Scale,
    /// The shape that was asked for, out of the middle of the original.
    Crop,
}

/// What was asked for. Both sides are at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spec {
    width: u32,
    height: u32,
    method: Method,
    animated: bool,
}

impl Spec {
    /// `None` if a side is 0. Any other size is fine: pictures are never made larger than they are.
    pub fn new(width: u32, height: u32, method: Method) -> Option<Self> {
        (width > 0 && height > 0).then_some(Self { width, height, method, animated: false })
    }

    /// The same, moving if the original does.
    #[must_use]
    pub fn animated(self, animated: bool) -> Self {
        Self { animated, ..self }
    }

    fn file_name(self, format: ImageFormat) -> String {
        let method = match self.method {
            Method::Scale => "scale",
            Method::Crop => "crop",
        };
        let moves = if self.animated { "-animated" } else { "" };
        format!("{}x{}-{method}{moves}.{}", self.width, self.height, extension(format))
    }
}

/// A thumbnail, ready to be sent.
#[derive(Debug)]
pub struct Thumbnail {
    /// `image/png`, `image/jpeg`, `image/gif`; the format found in the bytes, whatever the uploader said.
    pub content_type: &'static str,
    /// `thumbnail.png` and the like.
    pub file_name: &'static str,
    /// The bytes.
    pub body: ThumbnailBody,
}

/// Where the bytes of a thumbnail are.
#[derive(Debug)]
pub enum ThumbnailBody {
    /// On disk.
    File(Content),
    /// Just made.
    Memory(Vec<u8>),
}

/// Why there is no thumbnail.
#[derive(Debug, Error)]
pub enum ThumbnailError {
    /// The bytes are not a PNG, JPEG, GIF or WebP; most often a video, a document, or a file that is encrypted.
    #[error("the content is not a picture in a format that can be scaled (PNG, JPEG, GIF, WebP)")]
    NotAPicture,
    /// It begins like a picture and is damaged or made to confuse decoders.
    #[error("the picture cannot be decoded: {0}")]
    Undecodable(String),
    /// The header claims more pixels than are decoded here.
    #[error("the picture has {pixels} pixels, at most {max} are scaled")]
    TooManyPixels {
        /// What the header claims.
        pixels: u64,
        /// The limit.
        max: u64,
    },
    /// The file is larger than what is handed to a decoder.
    #[error("the picture has {size} bytes, at most {max} are scaled")]
    SourceTooLarge {
        /// Size of the file.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// Decoding wanted more memory than a picture of that size should: most often an attack.
    #[error("decoding the picture needs more memory than its size explains")]
    NeedsTooMuchMemory,
    /// Many thumbnails are being made right now.
    #[error("{THUMBNAILS_WAITING_MAX} thumbnails are waiting to be made; ask again in a moment")]
    Busy,
    /// Our disk.
    #[error("the media folder cannot be read: {0}")]
    Disk(#[source] io::Error),
}

/// Who may decode now. One unit is a mebibyte of decoded picture; all units together decode the largest picture.
#[derive(Debug)]
pub(crate) struct Workshop {
    memory: Arc<Semaphore>,
    memory_units: u32,
    waiting: Arc<Semaphore>,
}

impl Workshop {
    pub(crate) fn new(pixels_max: u32) -> Self {
        let memory_units = units(u64::from(pixels_max) * 4);
        Self {
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            memory_units,
            waiting: Arc::new(Semaphore::new(THUMBNAILS_WAITING_MAX)),
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024 * 1024)).unwrap_or(u32::MAX).clamp(1, Semaphore::MAX_PERMITS as u32)
}

impl Media {
    /// A thumbnail of this item, from disk if it was made before.
    ///
    /// Cost of making one: decoding, which is bounded by [`crate::Config::thumbnail_pixels_max`]; runs on the blocking
    /// pool. A caller that goes away does not stop it, and the result is kept for the next.
    pub async fn thumbnail(&self, item: &Item, spec: Spec) -> Result<Thumbnail, ThumbnailError> {
        let hash = item.hash;
        let folder = self.folder().thumbnails(hash);
        if let Some(kept) = look_up(&folder, spec).await? {
            return Ok(kept);
        }
        let _waiting = self.workshop().waiting.clone().try_acquire_owned().map_err(|_| ThumbnailError::Busy)?;
        let one_at_a_time = self.thumbnail_lock(hash).lock_owned().await;
        if let Some(kept) = look_up(&folder, spec).await? {
            return Ok(kept);
        }

        if item.size > THUMBNAIL_SOURCE_BYTES_MAX {
            return Err(ThumbnailError::SourceTooLarge { size: item.size, max: THUMBNAIL_SOURCE_BYTES_MAX });
        }
        let source = self.at_hand(hash).await.map_err(ThumbnailError::Disk)?;
        let max = u64::from(self.config().thumbnail_pixels_max);
        let work = {
            let source = source.clone();
            blocking(move || work(&source, spec, max)).await?
        };
        let job = match work {
            render::Work::None(format) => {
                let content = blocking(move || Content::open(&source).map_err(ThumbnailError::Disk)).await?;
                return Ok(finished(format, ThumbnailBody::File(content)));
            }
            render::Work::Scale(job) => job,
        };
        let need = units(job.memory_bytes()).min(self.workshop().memory_units);
        let place =
            self.workshop().memory.clone().acquire_many_owned(need).await.expect("the semaphore is never closed");

        let media = self.clone();
        blocking(move || {
            let _held = (place, one_at_a_time);
            let (format, bytes) = make(&source, job)?;
            if let Err(error) = media.keep(hash, &folder, spec, format, &bytes) {
                tracing::warn!(%hash, %error, "a thumbnail could not be kept and will be made again next time");
            }
            Ok(finished(format, ThumbnailBody::Memory(bytes)))
        })
        .await
    }

    /// Writes the thumbnail beside the blob, unless there are too many already or the blob has just been deleted.
    fn keep(&self, hash: ContentHash, folder: &Path, spec: Spec, format: ImageFormat, bytes: &[u8]) -> io::Result<()> {
        let _settled = self.blob_lock(hash).blocking_lock_owned();
        if !matches!(self.shard().get(&BLOBS, self.domain(), &hash.0), Ok(Some(_))) {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        if !STANDARD.contains(&spec) && fs::read_dir(folder)?.count() >= THUMBNAILS_KEPT_MAX + STANDARD.len() {
            return Ok(());
        }
        let unfinished = folder.join("unfinished");
        fs::write(&unfinished, bytes)?;
        // Synced, because a rename may reach the disk before the data, and an empty picture would be served for good.
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, folder.join(spec.file_name(format)))
    }
}

/// A thumbnail of a file that is in no store; nothing where the file itself serves. Blocks for as long as decoding takes.
///
/// Errors: as [`Media::thumbnail`], but never [`ThumbnailError::Busy`].
pub fn thumbnail_of_file(source: &Path, spec: Spec, pixels_max: u64) -> Result<Option<Vec<u8>>, ThumbnailError> {
    match work(source, spec, pixels_max)? {
        render::Work::None(_) => Ok(None),
        render::Work::Scale(job) => make(source, job).map(|(_, bytes)| Some(bytes)),
    }
}

/// What is to be done with a picture, if it is none too large to be decoded here.
fn work(source: &Path, spec: Spec, pixels_max: u64) -> Result<render::Work, ThumbnailError> {
    match render::look(source, spec)? {
        render::Work::Scale(job) if job.pixels > pixels_max => {
            Err(ThumbnailError::TooManyPixels { pixels: job.pixels, max: pixels_max })
        }
        work => Ok(work),
    }
}

fn make(source: &Path, job: render::Job) -> Result<(ImageFormat, Vec<u8>), ThumbnailError> {
    let moving = if job.animated { animate::animate(source, job)? } else { None };
    match moving {
        Some(bytes) => Ok((ImageFormat::Gif, bytes)),
        None => render::render(source, job),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ThumbnailError> + Send + 'static,
) -> Result<T, ThumbnailError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| {
        // A decoder that panics on hostile bytes takes its own task down and nothing else.
        Err(ThumbnailError::Undecodable(panic.to_string()))
    })
}

async fn look_up(folder: &Path, spec: Spec) -> Result<Option<Thumbnail>, ThumbnailError> {
    let folder = folder.to_owned();
    let found = blocking(move || find(&folder, spec)).await?;
    Ok(found.map(|(content, format)| finished(format, ThumbnailBody::File(content))))
}

fn find(folder: &Path, spec: Spec) -> Result<Option<(Content, ImageFormat)>, ThumbnailError> {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif] {
        let path: PathBuf = folder.join(spec.file_name(format));
        match Content::open(&path) {
            Ok(content) => return Ok(Some((content, format))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ThumbnailError::Disk(error)),
        }
    }
    Ok(None)
}

fn finished(format: ImageFormat, body: ThumbnailBody) -> Thumbnail {
    let file_name = match format {
        ImageFormat::Jpeg => "thumbnail.jpg",
        ImageFormat::Gif => "thumbnail.gif",
        _ => "thumbnail.png",
    };
    Thumbnail { content_type: format.to_mime_type(), file_name, body }
}

fn extension(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "jpg",
        ImageFormat::Gif => "gif",
        _ => "png",
    }
}
