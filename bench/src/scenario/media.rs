//! `media-up`, `media-down`, `thumbnail`: files up and down, and small pictures of large ones.
//!
//! Four people at once, one file at a time each. No file is like another, so that no server gets away with one that it has. What is
//! downloaded is asked for with an access token, and has to have all of its bytes. An operation of `thumbnail` is a picture, uploaded
//! and asked for as a small one: some servers make those at the upload, others when they are asked. It is bounded how much is
//! uploaded in one part, since servers keep it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::picture::Picture;
use crate::matrix::{CallError, Client, Person};
use crate::meter::{Line, Tally, quantile_ms};
use crate::world::{World, in_parallel};

/// How many people send and fetch at once.
const PEOPLE: usize = 4;
/// Files of a size that are downloaded in turns.
const FILES: usize = 8;
/// Most bytes uploaded in one measured part.
const UPLOADED_BYTES_MAX: u64 = 250_000_000;
/// Most pictures uploaded in one measured part.
const PICTURES_MAX: u64 = 200;
/// Size of the pictures.
const PICTURE: (u32, u32) = (1_280, 960);
/// Which small pictures are asked for: a size that every server has.
const THUMBNAIL: &str = "width=320&height=240&method=scale";

/// As `100kb` or `5mb`.
pub fn size_in_words(bytes: usize) -> String {
    match bytes {
        whole if whole >= 1_000_000 && whole.is_multiple_of(1_000_000) => format!("{}mb", whole / 1_000_000),
        whole if whole >= 1_000 && whole.is_multiple_of(1_000) => format!("{}kb", whole / 1_000),
        other => format!("{other}b"),
    }
}

/// Bytes that nothing makes smaller, and of which those with another number are others.
fn noise(bytes: usize, number: u64) -> Vec<u8> {
    // xorshift64*: quick, and long enough.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ number.wrapping_add(1).wrapping_mul(0xD134_2543_DE82_EF95);
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        out.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

/// Writes its number into the beginning of a file.
fn numbered(file: &mut [u8], number: u64) {
    for (place, byte) in file.iter_mut().zip(number.to_le_bytes()) {
        *place = byte;
    }
}

/// The paths of a file and of its small picture. [CS-API §get_matrixclientv1mediadownloadservernamemediaid]
fn path(what: &str, uri: &str) -> String {
    format!("/_matrix/client/v1/media/{what}/{}", uri.strip_prefix("mxc://").unwrap_or(uri))
}

/// `media-up`.
pub async fn up(world: &mut World, bytes: usize) -> Result<Line, CallError> {
    let people = world.people("uploader", PEOPLE).await?;
    let numbers = world.fresh() << 32;
    let limit = (UPLOADED_BYTES_MAX / bytes.max(1) as u64).clamp(1, world.sizes.ops);
    let file = noise(bytes, numbers);
    let name = format!("media-up-{}", size_in_words(bytes));
    let line = at_once(world, &name, &people, limit, move |mut client, number| {
        let mut file = file.clone();
        async move {
            numbered(&mut file, numbers + number);
            let began = Instant::now();
            let outcome = client.upload("application/octet-stream", &file).await.map(drop);
            (client, began, outcome)
        }
    })
    .await;
    Ok(in_megabytes(line, bytes))
}

/// `media-down`.
pub async fn down(world: &mut World, bytes: usize) -> Result<Line, CallError> {
    let people = world.people("downloader", PEOPLE).await?;
    let files = match world.files.get(&bytes) {
        Some(files) => files.clone(),
        None => {
            let numbers = world.fresh() << 32;
            let server = world.server.clone();
            let owner = people[0].clone();
            in_parallel((0..FILES as u64).collect(), move |number| {
                let mut client = Client::new(&server, &owner);
                async move { client.upload("application/octet-stream", &noise(bytes, numbers + number)).await }
            })
            .await?
        }
    };
    world.files.insert(bytes, files.clone());
    let name = format!("media-down-{}", size_in_words(bytes));
    let line = at_once(world, &name, &people, world.sizes.ops, move |mut client, number| {
        let path = path("download", &files[number as usize % files.len()]);
        async move {
            let began = Instant::now();
            let outcome = match client.call("GET", &path, "").await {
                Ok(file) if file.len() != bytes => Err(CallError::Incomplete(file.len(), bytes, "bytes of a file")),
                other => other.map(drop),
            };
            (client, began, outcome)
        }
    })
    .await;
    Ok(in_megabytes(line, bytes))
}

/// `thumbnail`.
pub async fn thumbnail(world: &mut World) -> Result<Line, CallError> {
    let people = world.people("painter", PEOPLE).await?;
    let numbers = world.fresh() << 32;
    let picture = Arc::new(Picture::new(PICTURE.0, PICTURE.1));
    let bytes = picture.numbered(0).len();
    let asked = Arc::new(parking_lot::Mutex::new(Vec::<Duration>::new()));
    let of_asking = asked.clone();
    let limit = PICTURES_MAX.min(world.sizes.ops);
    let line = at_once(world, "thumbnail", &people, limit, move |mut client, number| {
        let (picture, asked) = (picture.clone(), asked.clone());
        async move {
            let file = picture.numbered(numbers + number);
            let began = Instant::now();
            let outcome = async {
                let uri = client.upload("image/png", &file).await?;
                let path = format!("{}?{THUMBNAIL}", path("thumbnail", &uri));
                let began = Instant::now();
                let small = client.call("GET", &path, "").await?;
                asked.lock().push(began.elapsed());
                if is_picture(small) { Ok(()) } else { Err(CallError::Incomplete(0, 1, "pictures")) }
            };
            let outcome = outcome.await;
            (client, began, outcome)
        }
    })
    .await;
    let mut asked = std::mem::take(&mut *of_asking.lock());
    asked.sort_unstable();
    let line = line.with("picture_kb", bytes as f64 / 1e3);
    Ok(line.with("asking_p50_ms", quantile_ms(&asked, 0.5)).with("asking_p99_ms", quantile_ms(&asked, 0.99)))
}

/// Whether it begins as PNG, JPEG or WebP do.
fn is_picture(file: &[u8]) -> bool {
    file.starts_with(b"\x89PNG") || file.starts_with(b"\xFF\xD8\xFF") || file.starts_with(b"RIFF")
}

fn in_megabytes(line: Line, bytes: usize) -> Line {
    let rate = line.throughput * bytes as f64 / 1e6;
    line.with("mb_per_s", rate).with("kb", bytes as f64 / 1e3)
}

/// Everybody does one thing after the other, each with a number of its own, until the time or the numbers are over.
async fn at_once<F, Fut>(world: &World, name: &str, people: &[Person], limit: u64, work: F) -> Line
where
    F: Fn(Client, u64) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = (Client, Instant, Result<(), CallError>)> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let meter = world.meter(name);
    let until = Instant::now() + world.sizes.duration();
    let mut working = JoinSet::new();
    for person in people {
        let (mut client, next, work) = (world.client(person), next.clone(), work.clone());
        working.spawn(async move {
            let mut tally = Tally::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= limit || Instant::now() >= until {
                    return tally;
                }
                let began;
                let outcome;
                (client, began, outcome) = work(client, number).await;
                tally.take(began, &outcome);
            }
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = working.join_next().await {
        all.merge(tally.expect("a worker does not panic and is not cancelled"));
    }
    meter.finish(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_named_as_people_do() {
        let words = [100_000, 5_000_000, 1_500, 12].map(size_in_words);
        assert_eq!(words, ["100kb", "5mb", "1500b", "12b"]);
    }

    #[test]
    fn no_file_is_like_another() {
        let (mut one, mut other) = (noise(1_001, 7), noise(1_001, 8));
        assert_eq!(one.len(), 1_001);
        assert_ne!(one, other);
        numbered(&mut one, 1);
        other.clone_from(&one);
        numbered(&mut other, 2);
        assert_ne!(one, other);
    }

    #[test]
    fn file_is_found_by_its_uri() {
        assert_eq!(path("download", "mxc://here/abc"), "/_matrix/client/v1/media/download/here/abc");
    }
}
