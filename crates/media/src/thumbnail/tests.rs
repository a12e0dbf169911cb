//! Pictures in every format, pictures that lie, and how often each is decoded.

use std::io::Cursor;

use image::{DynamicImage, GenericImageView, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use koine_store::{DomainId, MemoryEngine, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, owned_server_name, user_id};

use super::*;
use crate::{Config, Description, Place};

struct House {
    media: Media,
    _folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty store opens");
        let place = Place {
            domain: DomainId(1),
            server_name: owned_server_name!("example.org"),
            folder: folder.path().to_owned(),
        };
        let config = Config { thumbnail_pixels_max: 4_000_000, ..Config::default() };
        Self { media: Media::open(shard, place, config).expect("the media open"), _folder: folder }
    }

    async fn upload(&self, bytes: &[u8]) -> Item {
        let mut upload = self.media.begin_upload(user_id!("@alice:example.org"), None).await.expect("begins");
        upload.write(bytes).await.expect("is written");
        let description = Description { content_type: Some("application/octet-stream".to_owned()), file_name: None };
        let uri = upload.finish(description, MilliSecondsSinceUnixEpoch(1u32.into())).await.expect("finishes");
        let (server_name, media_id) = uri.parts().expect("an address");
        self.media.find(server_name, media_id).expect("readable").expect("there")
    }

    async fn thumbnail(&self, item: &Item, width: u32, height: u32, method: Method) -> Result<Shown, ThumbnailError> {
        let spec = Spec::new(width, height, method).expect("a size");
        let Thumbnail { content_type, body, .. } = self.media.thumbnail(item, spec).await?;
        let (bytes, was_kept) = match body {
            ThumbnailBody::Memory(bytes) => (bytes, false),
            ThumbnailBody::File(mut content) => {
                let mut bytes = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut content.file, &mut bytes).await.expect("readable");
                assert_eq!(bytes.len() as u64, content.size);
                (bytes, true)
            }
        };
        let picture = image::load_from_memory(&bytes).expect("a thumbnail is a picture");
        Ok(Shown { content_type, picture, bytes, was_kept })
    }
}

#[derive(Debug)]
struct Shown {
    content_type: &'static str,
    picture: DynamicImage,
    bytes: Vec<u8>,
    was_kept: bool,
}

const RED: Rgb<u8> = Rgb([255, 0, 0]);
const BLUE: Rgb<u8> = Rgb([0, 0, 255]);

/// Red above, blue below.
fn picture(width: u32, height: u32) -> DynamicImage {
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |_, y| if y < height / 2 { RED } else { BLUE }))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), format).expect("encodes");
    bytes
}

fn is_reddish(pixel: Rgba<u8>) -> bool {
    pixel[0] > 150 && pixel[2] < 100
}

#[tokio::test]
async fn every_format_is_scaled_and_cropped() {
    let house = House::new();
    for (format, expected) in [
        (ImageFormat::Png, "image/png"),
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::Gif, "image/png"),
        (ImageFormat::WebP, "image/jpeg"),
    ] {
        let item = house.upload(&encoded(&picture(400, 200), format)).await;
        let scaled = house.thumbnail(&item, 100, 60, Method::Scale).await.expect("scaled");
        assert_eq!(scaled.picture.dimensions(), (120, 60), "{format:?}");
        assert_eq!(scaled.content_type, expected, "{format:?}");
        let cropped = house.thumbnail(&item, 50, 50, Method::Crop).await.expect("cropped");
        assert_eq!(cropped.picture.dimensions(), (50, 50), "{format:?}");
        assert!(is_reddish(cropped.picture.get_pixel(25, 5)), "{format:?}");
    }
}

#[tokio::test]
async fn a_crop_is_taken_out_of_the_middle() {
    let house = House::new();
    // Three stripes side by side; a square out of the middle sees the second alone.
    let stripes = RgbImage::from_fn(900, 300, |x, _| if (300..600).contains(&x) { RED } else { BLUE });
    let item = house.upload(&encoded(&DynamicImage::ImageRgb8(stripes), ImageFormat::Png)).await;
    for side in [32, 96, 200] {
        let shown = house.thumbnail(&item, side, side, Method::Crop).await.expect("cropped");
        assert_eq!(shown.picture.dimensions(), (side, side));
        for x in [2, side / 2, side - 3] {
            assert!(is_reddish(shown.picture.get_pixel(x, side / 2)), "{side}, {x}");
        }
    }
}

#[tokio::test]
async fn a_picture_smaller_than_asked_for_is_handed_out_as_it_is() {
    let house = House::new();
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let bytes = encoded(&picture(20, 10), format);
        let item = house.upload(&bytes).await;
        let shown = house.thumbnail(&item, 320, 240, Method::Scale).await.expect("shown");
        assert_eq!(shown.bytes, bytes);
        assert_eq!(shown.content_type, format.to_mime_type(), "the format found in the bytes, not what was claimed");
    }
    let item = house.upload(&encoded(&picture(20, 10), ImageFormat::Gif)).await;
    let shown = house.thumbnail(&item, 320, 240, Method::Scale).await.expect("shown");
    assert_eq!(shown.content_type, "image/png", "a GIF might move, so it is made still");
    assert_eq!(shown.picture.dimensions(), (20, 10));
}

#[tokio::test]
async fn a_thumbnail_as_large_as_a_poster_is_the_original() {
    let house = House::new();
    let bytes = encoded(&picture(2100, 1100), ImageFormat::Png);
    let item = house.upload(&bytes).await;
    let shown = house.thumbnail(&item, 2090, 1090, Method::Scale).await.expect("shown");
    assert_eq!(shown.bytes, bytes);
    let error = {
        let item = house.upload(&encoded(&picture(2100, 1100), ImageFormat::Gif)).await;
        house.thumbnail(&item, 2090, 1090, Method::Scale).await.expect_err("a GIF might move")
    };
    assert!(matches!(error, ThumbnailError::TooManyPixels { max: 2_097_152, .. }), "{error}");
}

#[tokio::test]
async fn what_shines_through_still_does() {
    let house = House::new();
    let glass = DynamicImage::ImageRgba8(RgbaImage::from_pixel(200, 200, Rgba([0, 255, 0, 40])));
    let item = house.upload(&encoded(&glass, ImageFormat::WebP)).await;
    let shown = house.thumbnail(&item, 32, 32, Method::Crop).await.expect("cropped");
    assert_eq!(shown.content_type, "image/png");
    assert_eq!(shown.picture.get_pixel(16, 16)[3], 40);
}

/// A JPEG that says "turn me": a minimal EXIF block right after the start of the file.
fn turned_jpeg(picture: &DynamicImage, orientation: u8) -> Vec<u8> {
    let tiff = [b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
    let mut block = b"Exif\0\0".to_vec();
    block.extend(tiff);
    let length = u16::try_from(block.len() + 2).expect("short").to_be_bytes();
    let plain = encoded(picture, ImageFormat::Jpeg);
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xff, 0xe1]);
    bytes.extend(length);
    bytes.extend(block);
    bytes.extend(&plain[2..]);
    bytes
}

#[tokio::test]
async fn a_photograph_taken_sideways_is_turned() {
    let house = House::new();
    // Stored lying on its side: red above; a quarter turn clockwise brings red to the right.
    let item = house.upload(&turned_jpeg(&picture(400, 200), 6)).await;
    let shown = house.thumbnail(&item, 50, 50, Method::Scale).await.expect("scaled");
    assert_eq!(shown.picture.dimensions(), (50, 100));
    assert!(is_reddish(shown.picture.get_pixel(45, 50)));
    assert!(!is_reddish(shown.picture.get_pixel(5, 50)));
    let wide = house.thumbnail(&item, 100, 50, Method::Crop).await.expect("cropped");
    assert_eq!(wide.picture.dimensions(), (100, 50));
}

/// A PNG whose header claims this size and whose data is next to nothing.
fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encoded(&picture(1, 1), ImageFormat::Png);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 })
    })
}

#[tokio::test]
async fn bombs_are_refused_by_their_header() {
    let house = House::new();
    let bomb = house.upload(&png_bomb(20_000, 20_000)).await;
    let error = house.thumbnail(&bomb, 32, 32, Method::Crop).await.expect_err("refused");
    assert!(matches!(error, ThumbnailError::TooManyPixels { pixels: 400_000_000, max: 4_000_000 }), "{error}");
    let wide = house.upload(&png_bomb(4_000_000_000, 1)).await;
    let error = house.thumbnail(&wide, 32, 32, Method::Crop).await.expect_err("refused");
    assert!(matches!(error, ThumbnailError::NeedsTooMuchMemory), "{error}");
}

#[tokio::test]
async fn what_is_no_picture_or_a_broken_one_gets_a_clear_error() {
    let house = House::new();
    let text = house.upload(b"just text, whatever its name").await;
    let error = house.thumbnail(&text, 32, 32, Method::Crop).await.expect_err("refused");
    assert!(matches!(error, ThumbnailError::NotAPicture), "{error}");
    let empty = house.upload(b"").await;
    let error = house.thumbnail(&empty, 32, 32, Method::Crop).await.expect_err("refused");
    assert!(matches!(error, ThumbnailError::NotAPicture), "{error}");

    for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP] {
        let whole = encoded(&picture(300, 300), format);
        let cut = house.upload(&whole[..whole.len() / 2]).await;
        let error = house.thumbnail(&cut, 32, 32, Method::Crop).await.expect_err("refused");
        assert!(matches!(error, ThumbnailError::Undecodable(_)), "{format:?}: {error}");
    }
}

#[tokio::test]
async fn a_thumbnail_is_made_once_and_goes_with_its_blob() {
    let house = House::new();
    let item = house.upload(&encoded(&picture(400, 200), ImageFormat::Png)).await;
    assert!(!house.thumbnail(&item, 96, 96, Method::Crop).await.expect("made").was_kept);
    assert!(house.thumbnail(&item, 96, 96, Method::Crop).await.expect("found").was_kept);
    assert!(!house.thumbnail(&item, 96, 96, Method::Scale).await.expect("another method").was_kept);
    let folder = house.media.folder().thumbnails(item.hash);
    assert_eq!(fs::read_dir(&folder).expect("there").count(), 2);
    assert!(house.media.delete(&item.id).await.expect("deleted"));
    assert!(!folder.exists());
}

#[tokio::test]
async fn asking_for_every_size_does_not_fill_the_disk() {
    let house = House::new();
    let item = house.upload(&encoded(&picture(200, 200), ImageFormat::Png)).await;
    for size in 1..=40 {
        house.thumbnail(&item, size, size, Method::Scale).await.expect("made");
    }
    let count = || fs::read_dir(house.media.folder().thumbnails(item.hash)).expect("there").count();
    assert_eq!(count(), THUMBNAILS_KEPT_MAX + STANDARD.len());
    house.thumbnail(&item, 96, 96, Method::Crop).await.expect("made");
    assert!(house.thumbnail(&item, 96, 96, Method::Crop).await.expect("found").was_kept, "standard sizes are kept");
}

#[tokio::test]
async fn a_thumbnail_for_the_impatient_is_refused_when_many_wait() {
    let house = House::new();
    let item = house.upload(&encoded(&picture(200, 200), ImageFormat::Png)).await;
    let waiting = house.media.workshop().waiting.clone();
    let taken = waiting.acquire_many_owned(THUMBNAILS_WAITING_MAX as u32).await.expect("free");
    let error = house.thumbnail(&item, 32, 32, Method::Crop).await.expect_err("refused");
    assert!(matches!(error, ThumbnailError::Busy), "{error}");
    drop(taken);
    house.thumbnail(&item, 32, 32, Method::Crop).await.expect("made");
}

/// A picture that moves: red, then blue.
fn animation(width: u32, height: u32, frames: u32) -> Vec<u8> {
    use image::codecs::gif::GifEncoder;
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for n in 0..frames {
        let Rgb([red, green, blue]) = if n % 2 == 0 { RED } else { BLUE };
        let picture = RgbaImage::from_pixel(width, height, Rgba([red, green, blue, 255]));
        let delay = image::Delay::from_numer_denom_ms(120, 1);
        encoder.encode_frame(image::Frame::from_parts(picture, 0, 0, delay)).expect("encodes");
    }
    drop(encoder);
    bytes
}

async fn moving(house: &House, item: &Item, side: u32) -> (&'static str, Vec<u8>) {
    let spec = Spec::new(side, side, Method::Scale).expect("a size").animated(true);
    let Thumbnail { content_type, body, .. } = house.media.thumbnail(item, spec).await.expect("a thumbnail");
    let mut bytes = Vec::new();
    match body {
        ThumbnailBody::Memory(made) => bytes = made,
        ThumbnailBody::File(mut content) => {
            tokio::io::AsyncReadExt::read_to_end(&mut content.file, &mut bytes).await.expect("readable");
        }
    }
    (content_type, bytes)
}

fn frames_of(bytes: &[u8]) -> Vec<image::Frame> {
    use image::AnimationDecoder as _;
    let decoder = image::codecs::gif::GifDecoder::new(Cursor::new(bytes)).expect("a GIF");
    decoder.into_frames().collect_frames().expect("frames")
}

#[tokio::test]
async fn an_animation_moves_in_its_thumbnail_if_that_is_asked_for() {
    let house = House::new();
    let item = house.upload(&animation(200, 100, 4)).await;
    for was_kept in [false, true] {
        let (content_type, bytes) = moving(&house, &item, 40).await;
        let frames = frames_of(&bytes);
        assert_eq!((content_type, frames.len()), ("image/gif", 4), "kept: {was_kept}");
        assert_eq!(frames[1].buffer().dimensions(), (80, 40));
        assert!(is_reddish(*frames[2].buffer().get_pixel(5, 5)) && !is_reddish(*frames[1].buffer().get_pixel(5, 5)));
        assert_eq!(frames[0].delay().numer_denom_ms(), (120, 1));
    }
    let still = house.thumbnail(&item, 40, 40, Method::Scale).await.expect("still");
    assert_eq!(still.content_type, "image/png");
    // Small enough: the original, which moves.
    let (content_type, bytes) = moving(&house, &item, 400).await;
    assert_eq!((content_type, frames_of(&bytes).len()), ("image/gif", 4));
}

#[tokio::test]
async fn what_does_not_move_or_moves_too_much_stays_still() {
    let house = House::new();
    let still = house.upload(&encoded(&picture(200, 100), ImageFormat::Png)).await;
    assert_eq!(moving(&house, &still, 40).await.0, "image/png");
    let one = house.upload(&animation(200, 100, 1)).await;
    assert_eq!(moving(&house, &one, 40).await.0, "image/png");
    let long = house.upload(&animation(50, 50, 301)).await;
    assert_eq!(moving(&house, &long, 20).await.0, "image/png");
}
