//! Making a picture smaller: pure image work, no store and no network.
//!
//! What a stranger uploaded is decoded here, so everything is bounded first: the bytes read, the sides and pixels the
//! header claims, and what the decoder may allocate ([CS-API §content-repo-security-considerations]).

use std::{
    fs::File,
    io::{BufReader, Cursor, Seek},
    path::Path,
};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder,
    codecs::png::PngDecoder, imageops::FilterType, metadata::Orientation,
};

use super::{
    Spec, ThumbnailError,
    animate::may_move,
    plan::{Plan, scaled},
};

/// Longest side of a picture that is decoded.
const SIDE_MAX: u32 = 30_000;

/// A decoder may allocate this many times the size of the decoded picture: some hold a frame beside the canvas.
const DECODE_ALLOWANCE: u64 = 3;

/// And this much in any case, so that tiny pictures are not refused for a decoder's fixed tables.
const DECODE_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// JPEG quality of thumbnails: sharp enough for a timeline, a tenth of the bytes.
const JPEG_QUALITY: u8 = 80;

/// A source larger than this multiple of its thumbnail is brought there with a fast filter first.
const PRESCALE: u32 = 2;

/// While it is scaled, a picture takes this much more memory for each pixel of the result: a rough picture of twice the
/// sides, and a strip of floating-point numbers.
const SCALE_BYTES_PER_PIXEL: u64 = 48;

/// Largest thumbnail, in pixels. Who asks for more is handed the original, which is larger than that.
const THUMBNAIL_PIXELS_MAX: u64 = 2 * 1024 * 1024;

/// What is to be done, known from the header alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing: the original serves.
    None(ImageFormat),
    /// Decoding and scaling.
    Scale(Job),
}

/// How a picture is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) format: ImageFormat,
    pub(super) orientation: Orientation,
    /// For the picture as it is stored; EXIF may say that it is to be turned.
    pub(super) plan: Plan,
    /// Pixels to decode. Pictures with deep colours take more memory for each, and count as more.
    pub(super) pixels: u64,
    pub(super) decoded_bytes: u64,
    /// It moves, and is to move in the thumbnail.
    pub(super) animated: bool,
}

impl Job {
    /// Pixels of the result.
    pub(super) fn made_pixels(self) -> u64 {
        self.plan.pixels()
    }

    /// Memory that the work takes.
    pub(super) fn memory_bytes(self) -> u64 {
        self.decoded_bytes + self.plan.pixels() * SCALE_BYTES_PER_PIXEL
    }
}

/// Looks at the header. Only files whose first bytes belong to a known picture format get further than this.
pub(super) fn look(path: &Path, spec: Spec) -> Result<Work, ThumbnailError> {
    let mut reader = open(path)?;
    let format = known_format(&reader)?;
    reader.limits(limits(0));
    let mut decoder = reader.into_decoder().map_err(refusal)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(ThumbnailError::NotAPicture);
    }
    let decoded_bytes = decoder.total_bytes();
    let pixels = (u64::from(width) * u64::from(height)).max(decoded_bytes / 4);

    let (shown_width, shown_height) = if is_sideways(orientation) { (height, width) } else { (width, height) };
    let plan = Plan::new(shown_width, shown_height, spec);
    let is_original = plan.is_original(shown_width, shown_height);
    let animated = spec.animated && may_move(path, format)?;
    if animated && is_original {
        return Ok(Work::None(format));
    }
    if (is_original || plan.pixels() > THUMBNAIL_PIXELS_MAX) && is_still(path, format)? {
        return Ok(Work::None(format));
    }
    if plan.pixels() > THUMBNAIL_PIXELS_MAX {
        return Err(ThumbnailError::TooManyPixels { pixels: plan.pixels(), max: THUMBNAIL_PIXELS_MAX });
    }
    let plan = if is_sideways(orientation) { plan.turned() } else { plan };
    Ok(Work::Scale(Job { format, orientation, plan, pixels, decoded_bytes, animated }))
}

/// Decodes, scales, turns, encodes. The job came from [`look`] on the same file and was found small enough.
pub(super) fn render(path: &Path, job: Job) -> Result<(ImageFormat, Vec<u8>), ThumbnailError> {
    let mut reader = open(path)?;
    reader.limits(limits(job.decoded_bytes));
    let decoder = reader.into_decoder().map_err(refusal)?;
    if decoder.total_bytes() != job.decoded_bytes {
        return Err(ThumbnailError::Undecodable("it is not the picture it was a moment ago".to_owned()));
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(refusal)?;
    let mut picture = scale(picture, job.plan);
    // Turned last: a small picture is turned faster.
    picture.apply_orientation(job.orientation);
    encode(&picture, job.format)
}

pub(super) fn limits(decoded_bytes: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(decoded_bytes.saturating_mul(DECODE_ALLOWANCE).saturating_add(DECODE_BYTES_MIN));
    limits
}

fn open(path: &Path) -> Result<ImageReader<BufReader<File>>, ThumbnailError> {
    ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(ThumbnailError::Disk)
}

fn known_format<R: std::io::BufRead + Seek>(reader: &ImageReader<R>) -> Result<ImageFormat, ThumbnailError> {
    use ImageFormat::{Gif, Jpeg, Png, WebP};
    reader.format().filter(|format| matches!(format, Png | Jpeg | Gif | WebP)).ok_or(ThumbnailError::NotAPicture)
}

/// Whether the original shows one still picture: an animation must not be handed out as a thumbnail unless asked for.
fn is_still(path: &Path, format: ImageFormat) -> Result<bool, ThumbnailError> {
    match format {
        ImageFormat::Jpeg => Ok(true),
        ImageFormat::Png => {
            let file = BufReader::new(File::open(path).map_err(ThumbnailError::Disk)?);
            let animated = PngDecoder::new(file).and_then(|decoder| decoder.is_apng()).map_err(refusal)?;
            Ok(!animated)
        }
        _ => Ok(false),
    }
}

fn is_sideways(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

pub(super) fn scale(mut picture: DynamicImage, plan: Plan) -> DynamicImage {
    let Plan { mut cut_width, mut cut_height, width, height } = plan;
    // The fine filter works in floating-point numbers over the whole width of its source, so a fast one goes first; and
    // before anything is cut, since a cut is a copy.
    let (rough_width, rough_height) = (width.saturating_mul(PRESCALE), height.saturating_mul(PRESCALE));
    if cut_width > rough_width && cut_height > rough_height {
        let whole_width = scaled(picture.width(), rough_width, cut_width);
        let whole_height = scaled(picture.height(), rough_height, cut_height);
        picture = picture.thumbnail_exact(whole_width, whole_height);
        (cut_width, cut_height) = (rough_width.min(whole_width), rough_height.min(whole_height));
    }
    if (cut_width, cut_height) != (picture.width(), picture.height()) {
        let left = (picture.width() - cut_width) / 2;
        let top = (picture.height() - cut_height) / 2;
        picture = picture.crop_imm(left, top, cut_width, cut_height);
    }
    if (picture.width(), picture.height()) == (width, height) {
        return picture;
    }
    picture.resize_exact(width, height, FilterType::CatmullRom)
}

/// Photographs become JPEG; what was drawn, or shines through, becomes PNG.
fn encode(picture: &DynamicImage, source: ImageFormat) -> Result<(ImageFormat, Vec<u8>), ThumbnailError> {
    let mut bytes = Vec::new();
    let is_photograph = matches!(source, ImageFormat::Jpeg | ImageFormat::WebP) && !picture.color().has_alpha();
    if is_photograph {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        picture.to_rgb8().write_with_encoder(encoder).map_err(refusal)?;
        return Ok((ImageFormat::Jpeg, bytes));
    }
    let eight_bit = if picture.color().has_alpha() {
        DynamicImage::ImageRgba8(picture.to_rgba8())
    } else {
        DynamicImage::ImageRgb8(picture.to_rgb8())
    };
    eight_bit.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(refusal)?;
    Ok((ImageFormat::Png, bytes))
}

pub(super) fn refusal(error: ImageError) -> ThumbnailError {
    match error {
        ImageError::Limits(_) => ThumbnailError::NeedsTooMuchMemory,
        ImageError::IoError(error) if !is_about_the_data(&error) => ThumbnailError::Disk(error),
        other => ThumbnailError::Undecodable(other.to_string()),
    }
}

/// A file that ends too early is the uploader's doing, not the disk's.
fn is_about_the_data(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput | Other)
}
