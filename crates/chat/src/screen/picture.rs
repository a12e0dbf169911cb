//! Pictures for terminals that have only letters: two pixels a cell, with upper half blocks.

use std::io::Cursor;

use image::{ImageReader, Limits, imageops::FilterType};

use super::state::Picture;

/// Cells a picture may take.
const WIDTH_MAX: u32 = 48;
const HEIGHT_MAX: u32 = 16;
/// Pixels of a side, and bytes, that a picture may need while it is decoded.
const SIDE_MAX: u32 = 12_000;
const DECODE_MAX: u64 = 256 * 1024 * 1024;

/// A picture from its bytes; nothing if it is none, or larger than it may be.
pub fn preview(bytes: &[u8]) -> Option<Picture> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODE_MAX);
    reader.limits(limits);
    let image = reader.decode().ok()?;
    let small = image.resize(WIDTH_MAX, HEIGHT_MAX * 2, FilterType::Triangle).to_rgb8();
    let (width, height) = small.dimensions();
    let row = |top: u32| {
        (0..width)
            .map(|x| {
                let upper = small.get_pixel(x, top).0;
                let lower = if top + 1 < height { small.get_pixel(x, top + 1).0 } else { [0; 3] };
                (upper, lower)
            })
            .collect()
    };
    Some((0..height).step_by(2).map(row).collect())
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, RgbImage};

    use super::*;

    #[test]
    fn a_picture_is_made_small_and_nonsense_is_none() {
        let mut bytes = Vec::new();
        let image = RgbImage::from_fn(200, 100, |x, _| image::Rgb([if x < 100 { 255 } else { 0 }, 0, 0]));
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        let picture = preview(&bytes).unwrap();
        assert_eq!((picture.len(), picture[0].len()), (12, 48));
        assert_eq!(picture[0][0].0, [255, 0, 0]);
        assert_eq!(preview(b"not a picture"), None);
    }
}
