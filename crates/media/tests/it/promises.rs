//! Addresses that are given out before their content arrives.

use std::time::Duration;

use koine_media::{Found, Media, PROMISE_LIFETIME, PROMISES_MAX, UploadError};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedMxcUri, user_id};

use crate::{House, alice, described};

fn at(ms: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(ms.try_into().expect("a moment"))
}

async fn promise(media: &Media, now: u64) -> Result<OwnedMxcUri, UploadError> {
    media.promise(alice(), at(now)).await.map(|promise| promise.uri)
}

fn id(uri: &OwnedMxcUri) -> &str {
    uri.media_id().expect("an address")
}

async fn upload(media: &Media, who: &ruma_common::UserId, id: &str, now: u64) -> Result<OwnedMxcUri, UploadError> {
    let mut upload = media.begin_promised_upload(who, id, None, at(now)).await?;
    upload.write(b"late").await?;
    upload.finish(described(), at(now)).await
}

#[tokio::test]
async fn content_arrives_where_it_was_promised_and_wakes_who_waits() {
    let house = House::new();
    let media = house.open();
    let uri = promise(&media, 1).await.expect("promised");
    assert_eq!(media.look(id(&uri), at(2)).expect("readable"), Found::Promised);
    let waiting = tokio::spawn({
        let (media, id) = (media.clone(), id(&uri).to_owned());
        async move { media.await_content(&id, at(2), Duration::from_secs(60)).await }
    });
    assert_eq!(upload(&media, alice(), id(&uri), 3).await.expect("uploaded"), uri);
    let found = waiting.await.expect("no panic").expect("readable");
    assert!(matches!(found, Found::Item(item) if item.size == 4));
}

#[tokio::test]
async fn only_the_one_it_was_promised_to_may_upload_and_once() {
    let house = House::new();
    let media = house.open();
    let uri = promise(&media, 1).await.expect("promised");
    let bob = user_id!("@bob:example.org");
    assert!(matches!(upload(&media, bob, id(&uri), 2).await, Err(UploadError::PromisedToOthers)));
    assert!(matches!(upload(&media, alice(), "never", 2).await, Err(UploadError::NotPromised)));
    upload(&media, alice(), id(&uri), 2).await.expect("uploaded");
    assert!(matches!(upload(&media, alice(), id(&uri), 3).await, Err(UploadError::AlreadyThere)));
}

#[tokio::test]
async fn of_two_uploads_to_one_address_one_is_kept() {
    let house = House::new();
    let media = house.open();
    let uri = promise(&media, 1).await.expect("promised");
    let mut both = Vec::new();
    for bytes in [b"one", b"two"] {
        let mut upload = media.begin_promised_upload(alice(), id(&uri), None, at(2)).await.expect("begun");
        upload.write(bytes).await.expect("written");
        both.push(upload);
    }
    let second = both.pop().expect("two");
    both.pop().expect("one").finish(described(), at(3)).await.expect("kept");
    assert!(matches!(second.finish(described(), at(3)).await, Err(UploadError::AlreadyThere)));
    assert_eq!(house.files("content").len(), 1, "of the other nothing stays");
}

#[tokio::test]
async fn promises_are_counted_and_end() {
    let house = House::new();
    let media = house.open();
    let day = PROMISE_LIFETIME.as_millis() as u64;
    let first = promise(&media, 1).await.expect("promised");
    for _ in 1..PROMISES_MAX {
        promise(&media, 2).await.expect("promised");
    }
    assert!(matches!(promise(&media, 3).await, Err(UploadError::TooManyPromises)));
    assert!(matches!(upload(&media, alice(), id(&first), day + 1).await, Err(UploadError::NotPromised)));
    assert_eq!(media.look(id(&first), at(day + 1)).expect("readable"), Found::Nothing);
    promise(&media, day + 1).await.expect("one has ended");
    assert_eq!(media.forget_promises(at(day + 2)).await.expect("forgotten"), PROMISES_MAX - 1);
}
