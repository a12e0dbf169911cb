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

use super::{Method, Spec, ThumbnailError};

/// Longest side of a picture that is decoded.
const SIDE_MAX: u32 = 30_000;

/// A decoder may allocate this many times the size of the decoded picture: some hold a frame beside the canvas.
const DECODE_ALLOWANCE: u64 = 3;

/// And this much in any case, so that tiny pictures are not refused for a decoder's fixed tables.
const DECODE_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// JPEG quality of thumbnails: sharp enough for a timeline, a tenth of the bytes.
const JPEG_QUALITY: u8 = 80;

/// A source much larger than its thumbnail is brought to this multiple with a fast filter first.
const PRESCALE: u32 = 2;

/// What is known from the header alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) format: ImageFormat,
    /// Width times height.
    pub(crate) pixels: u64,
    /// Memory that the decoded picture takes.
    pub(crate) decoded_bytes: u64,
}

/// A finished thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rendered {
    /// The original serves: it is no larger than what was asked for.
    Original(ImageFormat),
    /// Encoded bytes.
    Scaled(ImageFormat, Vec<u8>),
}

/// Reads format and size. Only files whose first bytes belong to a known picture format get further than this.
pub(crate) fn read_header(path: &Path) -> Result<Header, ThumbnailError> {
    let mut reader = open(path)?;
    let format = known_format(&reader)?;
    reader.limits(limits(0));
    let decoder = reader.into_decoder().map_err(refusal)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(ThumbnailError::NotAPicture);
    }
    Ok(Header { format, pixels: u64::from(width) * u64::from(height), decoded_bytes: decoder.total_bytes() })
}

/// Decodes, scales, turns, encodes. `header` came from [`read_header`] on the same file and was found small enough.
pub(crate) fn render(path: &Path, header: Header, spec: Spec) -> Result<Rendered, ThumbnailError> {
    let mut reader = open(path)?;
    reader.limits(limits(header.decoded_bytes));
    let mut decoder = reader.into_decoder().map_err(refusal)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (width, height) = decoder.dimensions();
    let (shown_width, shown_height) = if is_sideways(orientation) { (height, width) } else { (width, height) };
    let plan = Plan::new(shown_width, shown_height, spec);
    if plan.is_original(shown_width, shown_height) && is_still(path, header.format)? {
        return Ok(Rendered::Original(header.format));
    }

    let picture = DynamicImage::from_decoder(decoder).map_err(refusal)?;
    let plan = if is_sideways(orientation) { plan.turned() } else { plan };
    let mut picture = scale(&picture, plan);
    picture.apply_orientation(orientation);
    encode(&picture, header.format)
}

fn limits(decoded_bytes: u64) -> Limits {
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

/// Which part of the picture is shown, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    cut_width: u32,
    cut_height: u32,
    width: u32,
    height: u32,
}

impl Plan {
    /// [CS-API §thumbnails]: at least as large as asked for, never larger than the original.
    fn new(width: u32, height: u32, spec: Spec) -> Self {
        let whole = Self { cut_width: width, cut_height: height, width, height };
        match spec.method {
            // Keeps the shape and covers the box that was asked for.
            Method::Scale => {
                if spec.width >= width || spec.height >= height {
                    return whole;
                }
                let (width, height) = if is_wider(width, height, spec) {
                    (scaled(width, spec.height, height), spec.height)
                } else {
                    (spec.width, scaled(height, spec.width, width))
                };
                Self { width, height, ..whole }
            }
            // Takes the shape that was asked for out of the middle.
            Method::Crop => {
                if spec.width >= width && spec.height >= height {
                    return whole;
                }
                let (cut_width, cut_height) = if is_wider(width, height, spec) {
                    (scaled(spec.width, height, spec.height), height)
                } else {
                    (width, scaled(spec.height, width, spec.width))
                };
                Self { cut_width, cut_height, width: cut_width.min(spec.width), height: cut_height.min(spec.height) }
            }
        }
    }

    /// The same for the picture as it is stored, when it is stored lying on its side.
    fn turned(self) -> Self {
        Self { cut_width: self.cut_height, cut_height: self.cut_width, width: self.height, height: self.width }
    }

    fn is_original(self, width: u32, height: u32) -> bool {
        self == Self { cut_width: width, cut_height: height, width, height }
    }
}

/// Whether the picture is wider than the box, for its height.
fn is_wider(width: u32, height: u32, spec: Spec) -> bool {
    u64::from(width) * u64::from(spec.height) > u64::from(spec.width) * u64::from(height)
}

/// `length * numerator / denominator`, rounded, at least 1.
fn scaled(length: u32, numerator: u32, denominator: u32) -> u32 {
    let exact = u64::from(length) * u64::from(numerator);
    let rounded = (exact + u64::from(denominator) / 2) / u64::from(denominator);
    u32::try_from(rounded).unwrap_or(u32::MAX).max(1)
}

fn scale(picture: &DynamicImage, plan: Plan) -> DynamicImage {
    let left = (picture.width() - plan.cut_width) / 2;
    let top = (picture.height() - plan.cut_height) / 2;
    let cut = if (plan.cut_width, plan.cut_height) == (picture.width(), picture.height()) {
        std::borrow::Cow::Borrowed(picture)
    } else {
        std::borrow::Cow::Owned(picture.crop_imm(left, top, plan.cut_width, plan.cut_height))
    };
    if (plan.cut_width, plan.cut_height) == (plan.width, plan.height) {
        return cut.into_owned();
    }
    let (rough_width, rough_height) = (plan.width.saturating_mul(PRESCALE), plan.height.saturating_mul(PRESCALE));
    let is_far = plan.cut_width > rough_width.saturating_mul(2) && plan.cut_height > rough_height.saturating_mul(2);
    if is_far {
        let rough = cut.thumbnail_exact(rough_width, rough_height);
        rough.resize_exact(plan.width, plan.height, FilterType::CatmullRom)
    } else {
        cut.resize_exact(plan.width, plan.height, FilterType::CatmullRom)
    }
}

/// Photographs become JPEG; what was drawn, or shines through, becomes PNG.
fn encode(picture: &DynamicImage, source: ImageFormat) -> Result<Rendered, ThumbnailError> {
    let mut bytes = Vec::new();
    let is_photograph = matches!(source, ImageFormat::Jpeg | ImageFormat::WebP) && !picture.color().has_alpha();
    if is_photograph {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        picture.to_rgb8().write_with_encoder(encoder).map_err(refusal)?;
        return Ok(Rendered::Scaled(ImageFormat::Jpeg, bytes));
    }
    let eight_bit = if picture.color().has_alpha() {
        DynamicImage::ImageRgba8(picture.to_rgba8())
    } else {
        DynamicImage::ImageRgb8(picture.to_rgb8())
    };
    eight_bit.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(refusal)?;
    Ok(Rendered::Scaled(ImageFormat::Png, bytes))
}

fn refusal(error: ImageError) -> ThumbnailError {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(width: u32, height: u32, method: Method, wanted: (u32, u32)) -> (u32, u32) {
        let plan = Plan::new(width, height, Spec { width: wanted.0, height: wanted.1, method });
        assert!(plan.cut_width <= width && plan.cut_height <= height);
        assert!(plan.width <= plan.cut_width && plan.height <= plan.cut_height, "never larger than the original");
        (plan.width, plan.height)
    }

    #[test]
    fn scaling_keeps_the_shape_and_covers_what_was_asked_for() {
        assert_eq!(plan(1600, 1200, Method::Scale, (320, 240)), (320, 240));
        assert_eq!(plan(1000, 500, Method::Scale, (320, 240)), (480, 240));
        assert_eq!(plan(500, 1000, Method::Scale, (320, 240)), (320, 640));
    }

    #[test]
    fn a_picture_that_is_smaller_on_one_side_is_not_scaled() {
        assert_eq!(plan(100, 1000, Method::Scale, (200, 200)), (100, 1000));
        assert_eq!(plan(10, 10, Method::Scale, (32, 32)), (10, 10));
    }

    #[test]
    fn cropping_gives_the_shape_that_was_asked_for() {
        assert_eq!(plan(1000, 500, Method::Crop, (96, 96)), (96, 96));
        assert_eq!(plan(500, 1000, Method::Crop, (200, 50)), (200, 50));
        assert_eq!(plan(100, 1000, Method::Crop, (200, 200)), (100, 100));
        assert_eq!(plan(50, 60, Method::Crop, (96, 96)), (50, 60), "both sides are smaller: the original");
    }

    #[test]
    fn extreme_shapes_keep_at_least_one_pixel() {
        assert_eq!(plan(30_000, 1, Method::Crop, (96, 96)), (1, 1));
        assert_eq!(plan(30_000, 2, Method::Scale, (1, 1)), (15_000, 1));
    }
}
