//! Files of other servers: fetched once, kept while somebody wants them, gone afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use koine_media::{Config, Description, FetchError, Fetching, Media, MediaId, Origin, Receiving};
use ruma_common::{MilliSecondsSinceUnixEpoch, ServerName, server_name};
use tokio::io::AsyncReadExt as _;

use crate::House;

const DAY_MS: u32 = 24 * 60 * 60 * 1000;

/// Another server, whose files are their own names, 100 times; it counts who asks.
#[derive(Default)]
struct Elsewhere {
    asked: AtomicUsize,
}

impl Origin for Elsewhere {
    fn fetch<'a>(
        &'a self,
        server: &'a ServerName,
        media_id: &'a MediaId,
        _patience: Duration,
        into: &'a mut Receiving,
    ) -> Fetching<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if media_id.as_str() == "missing" {
                return Err(FetchError::NotFound);
            }
            for _ in 0..100 {
                into.write(media_id.as_str().as_bytes()).await?;
            }
            let file_name = Some(format!("{server}.txt"));
            Ok(Description { content_type: Some("text/plain".to_owned()), file_name })
        })
    }
}

fn on_day(day: u32) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch((u64::from(day) * u64::from(DAY_MS)).try_into().expect("a moment"))
}

fn open(house: &House, config: Config) -> (Media, Arc<Elsewhere>) {
    let (media, elsewhere) = (house.open_with(config), Arc::new(Elsewhere::default()));
    media.set_origin(elsewhere.clone());
    (media, elsewhere)
}

async fn fetch(media: &Media, id: &str, day: u32) -> Result<koine_media::Item, FetchError> {
    media.fetch(server_name!("other.org"), id, on_day(day), Duration::ZERO).await
}

fn is_here(media: &Media, id: &str, day: u32) -> bool {
    media.cached(server_name!("other.org"), id, on_day(day)).expect("readable").is_some()
}

#[tokio::test]
async fn a_file_is_fetched_once_however_many_ask() {
    let house = House::new();
    let (media, elsewhere) = open(&house, Config::default());
    let many = (0..20).map(|_| {
        let media = media.clone();
        tokio::spawn(async move { fetch(&media, "cat", 1).await })
    });
    for one in many.collect::<Vec<_>>() {
        let item = one.await.expect("no panic").expect("fetched");
        assert_eq!((item.size, item.file_name.as_deref()), (300, Some("other.org.txt")));
        let mut bytes = String::new();
        media.content(&item).await.expect("here").file.read_to_string(&mut bytes).await.expect("readable");
        assert_eq!(bytes, "cat".repeat(100));
    }
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_its_server_does_not_have_or_is_too_large_is_not_kept() {
    let house = House::new();
    let (media, elsewhere) = open(&house, Config { remote_bytes_max: 299, ..Config::default() });
    assert!(matches!(fetch(&media, "missing", 1).await, Err(FetchError::NotFound)));
    assert!(matches!(fetch(&media, "cat", 1).await, Err(FetchError::Keep(_))));
    assert!(matches!(fetch(&media, "../x", 1).await, Err(FetchError::NotFound)));
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 2, "what cannot be an id is not asked for");
    assert!(house.files("content").is_empty() && house.files("incoming").is_empty());
}

#[tokio::test]
async fn files_that_nobody_asks_for_go_and_their_bytes_too() {
    let house = House::new();
    let (media, _) = open(&house, Config { remote_days: 30, ..Config::default() });
    for id in ["cat", "dog"] {
        fetch(&media, id, 1).await.expect("fetched");
    }
    assert!(is_here(&media, "dog", 20));
    assert_eq!(media.clean(on_day(31)).await.expect("cleaned"), 0);
    assert_eq!(media.clean(on_day(32)).await.expect("cleaned"), 1);
    assert!(!is_here(&media, "cat", 32) && is_here(&media, "dog", 32));
    assert_eq!(house.files("content").len(), 1);
}

#[tokio::test]
async fn a_full_cache_lets_the_oldest_go() {
    let house = House::new();
    let (media, _) = open(&house, Config { remote_cache_bytes_max: 700, ..Config::default() });
    for (day, id) in [(1, "one"), (2, "two"), (3, "six")] {
        fetch(&media, id, day).await.expect("fetched");
    }
    assert!(!is_here(&media, "one", 3));
    assert!(is_here(&media, "two", 3) && is_here(&media, "six", 3));
}
