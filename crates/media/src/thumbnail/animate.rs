//! Animations made smaller: every frame scaled as a still picture is, put together as a GIF.
//!
//! Frames are decoded one after another, so that memory is that of two pictures; how many there may be, how many pixels
//! they may have together before and after, and how long the result may get is bounded. What is beyond a bound is shown
//! as a still picture instead.

use std::{fs::File, io::BufReader, path::Path};

use image::{
    AnimationDecoder, DynamicImage, Frame, Frames, ImageDecoder, ImageFormat,
    codecs::{
        gif::{GifDecoder, GifEncoder, Repeat},
        png::PngDecoder,
        webp::WebPDecoder,
    },
};

use super::{
    ThumbnailError,
    render::{Job, limits, refusal, scale},
};

/// Most frames.
const FRAMES_MAX: usize = 300;
/// Most pixels that are decoded, of all frames together.
const PIXELS_DECODED_MAX: u64 = 128 * 1024 * 1024;
/// Most pixels of the result, of all frames together.
const PIXELS_MADE_MAX: u64 = 16 * 1024 * 1024;
/// Longest result.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much care colours are chosen with: 1 is most, 30 least.
const HASTE: i32 = 10;

/// The animation, scaled. `None` if it is a still picture, or too much.
pub(super) fn animate(path: &Path, job: Job) -> Result<Option<Vec<u8>>, ThumbnailError> {
    let Some(frames) = frames(path, job)? else { return Ok(None) };
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, HASTE);
    encoder.set_repeat(Repeat::Infinite).map_err(refusal)?;
    let (mut count, mut length) = (0, 0);
    let (decoded_max, made_max) = (PIXELS_DECODED_MAX / job.pixels.max(1), PIXELS_MADE_MAX / job.made_pixels().max(1));
    for frame in frames {
        let frame = frame.map_err(refusal)?;
        count += 1;
        if count > FRAMES_MAX || count as u64 > decoded_max.min(made_max) || length > BYTES_MAX {
            return Ok(None);
        }
        let delay = frame.delay();
        let mut picture = scale(DynamicImage::ImageRgba8(frame.into_buffer()), job.plan);
        picture.apply_orientation(job.orientation);
        // What a GIF holds is known once it is written; a frame takes at most a byte for each pixel, compressed less.
        length += (picture.width() * picture.height()) as usize / 2;
        encoder.encode_frame(Frame::from_parts(picture.into_rgba8(), 0, 0, delay)).map_err(refusal)?;
    }
    drop(encoder);
    Ok((count > 1 && bytes.len() <= BYTES_MAX).then_some(bytes))
}

/// Whether the file is of a format that can move. Of some formats that is known only once they are decoded.
pub(super) fn may_move(path: &Path, format: ImageFormat) -> Result<bool, ThumbnailError> {
    let file = || File::open(path).map(BufReader::new).map_err(ThumbnailError::Disk);
    match format {
        ImageFormat::Gif => Ok(true),
        ImageFormat::Png => PngDecoder::new(file()?).and_then(|decoder| decoder.is_apng()).map_err(refusal),
        ImageFormat::WebP => Ok(WebPDecoder::new(file()?).map_err(refusal)?.has_animation()),
        _ => Ok(false),
    }
}

fn frames(path: &Path, job: Job) -> Result<Option<Frames<'static>>, ThumbnailError> {
    if !may_move(path, job.format)? {
        return Ok(None);
    }
    let file = BufReader::new(File::open(path).map_err(ThumbnailError::Disk)?);
    match job.format {
        ImageFormat::Gif => Ok(Some(limited(GifDecoder::new(file).map_err(refusal)?, job)?.into_frames())),
        ImageFormat::WebP => Ok(Some(limited(WebPDecoder::new(file).map_err(refusal)?, job)?.into_frames())),
        ImageFormat::Png => {
            let decoder = limited(PngDecoder::new(file).map_err(refusal)?, job)?;
            Ok(Some(decoder.apng().map_err(refusal)?.into_frames()))
        }
        _ => Ok(None),
    }
}

fn limited<D: ImageDecoder>(mut decoder: D, job: Job) -> Result<D, ThumbnailError> {
    decoder.set_limits(limits(job.decoded_bytes)).map_err(refusal)?;
    if decoder.total_bytes() > job.decoded_bytes.max(job.pixels * 4) {
        return Err(ThumbnailError::Undecodable("it is not the picture it was a moment ago".to_owned()));
    }
    Ok(decoder)
}
