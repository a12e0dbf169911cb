//! What the media of a domain do, from the outside: receive, keep, share, forget, and survive.

mod bucket;
mod previews;
mod promises;
mod remote;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use koine_media::{Config, Description, Item, Media, MediaId, Place, UPLOADS_AT_ONCE_MAX, UploadError};
use koine_store::{DomainId, MemoryEngine, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedMxcUri, UserId, owned_server_name, server_name, user_id};
use tokio::io::AsyncReadExt;

/// A store and a folder that outlive the media opened on them.
struct House {
    shard: Shard,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty store opens");
        Self { shard, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn open_with(&self, config: Config) -> Media {
        let place = Place {
            domain: DomainId(1),
            server_name: owned_server_name!("example.org"),
            folder: self.folder.path().to_owned(),
        };
        Media::open(self.shard.clone(), place, config).expect("the media open")
    }

    fn open(&self) -> Media {
        self.open_with(Config::default())
    }

    fn files(&self, name: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.folder.path().join("1").join(name), &mut found);
        found
    }
}

fn alice() -> &'static UserId {
    user_id!("@alice:example.org")
}

fn described() -> Description {
    Description { content_type: Some("text/plain".to_owned()), file_name: Some("grüße.txt".to_owned()) }
}

async fn upload(media: &Media, bytes: &[u8]) -> Result<OwnedMxcUri, UploadError> {
    let mut upload = media.begin_upload(alice(), None).await?;
    for piece in bytes.chunks(7) {
        upload.write(piece).await?;
    }
    upload.finish(described(), MilliSecondsSinceUnixEpoch(1000u32.into())).await
}

fn find(media: &Media, uri: &OwnedMxcUri) -> Option<Item> {
    let (server_name, media_id) = uri.parts().expect("an address");
    media.find(server_name, media_id).expect("readable")
}

async fn read(media: &Media, item: &Item) -> Vec<u8> {
    let mut content = media.content(item).await.expect("opens");
    let mut bytes = Vec::new();
    content.file.read_to_end(&mut bytes).await.expect("readable");
    assert_eq!(bytes.len() as u64, content.size);
    bytes
}

#[tokio::test]
async fn what_was_uploaded_comes_back_with_what_was_said_about_it() {
    let house = House::new();
    let media = house.open();
    let uri = upload(&media, b"hello, world").await.expect("uploaded");
    assert_eq!(uri.server_name().expect("ours"), server_name!("example.org"));
    let item = find(&media, &uri).expect("there");
    assert_eq!(item.owner.as_deref(), Some(alice()));
    assert_eq!(item.content_type.as_deref(), Some("text/plain"));
    assert_eq!(item.file_name.as_deref(), Some("grüße.txt"));
    assert_eq!((item.size, item.created), (12, MilliSecondsSinceUnixEpoch(1000u32.into())));
    assert_eq!(read(&media, &item).await, b"hello, world");
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let house = House::new();
    let media = house.open();
    let uri = upload(&media, b"").await.expect("uploaded");
    let item = find(&media, &uri).expect("there");
    assert_eq!(read(&media, &item).await, b"");
}

#[tokio::test]
async fn the_same_bytes_twice_are_one_blob_until_the_last_id_goes() {
    let house = House::new();
    let media = house.open();
    let first = find(&media, &upload(&media, b"same").await.expect("uploaded")).expect("there");
    let second = find(&media, &upload(&media, b"same").await.expect("uploaded")).expect("there");
    assert_ne!(first.id, second.id);
    assert_eq!(house.files("content").len(), 1);

    assert!(media.delete(&first.id).await.expect("deleted"));
    assert!(!media.delete(&first.id).await.expect("gone already"));
    assert_eq!(media.find(server_name!("example.org"), first.id.as_str()).expect("readable"), None);
    assert_eq!(read(&media, &second).await, b"same");

    assert!(media.delete(&second.id).await.expect("deleted"));
    assert!(house.files("content").is_empty());
    assert!(house.files("unsettled").is_empty());
    upload(&media, b"same").await.expect("and can come again");
    assert_eq!(house.files("content").len(), 1);
}

#[tokio::test]
async fn many_at_once_agree_about_the_blob() {
    let house = House::new();
    let media = house.open();
    let uploads = (0..20).map(|_| {
        let media = media.clone();
        tokio::spawn(async move { upload(&media, b"popular").await.expect("uploaded") })
    });
    let mut items = Vec::new();
    for upload in uploads.collect::<Vec<_>>() {
        items.push(find(&media, &upload.await.expect("no panic")).expect("there"));
    }
    assert_eq!(house.files("content").len(), 1);
    let (last, others) = items.split_last().expect("twenty");
    let deletions = others.iter().map(|item| {
        let (media, id) = (media.clone(), item.id.clone());
        tokio::spawn(async move { media.delete(&id).await.expect("deleted") })
    });
    for deletion in deletions.collect::<Vec<_>>() {
        assert!(deletion.await.expect("no panic"));
    }
    assert_eq!(read(&media, last).await, b"popular");
}

#[tokio::test]
async fn ids_of_others_and_nonsense_find_nothing() {
    let house = House::new();
    let media = house.open();
    let uri = upload(&media, b"ours").await.expect("uploaded");
    let id = uri.media_id().expect("an id");
    assert!(media.find(server_name!("example.org"), id).expect("readable").is_some());
    assert!(media.find(server_name!("elsewhere.org"), id).expect("readable").is_none());
    for nonsense in ["", "..", "../../1/content", "nothing", "a/b"] {
        assert!(media.find(server_name!("example.org"), nonsense).expect("readable").is_none(), "{nonsense}");
    }
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_and_leaves_nothing() {
    let house = House::new();
    let media = house.open_with(Config { upload_bytes_max: 10, ..Config::default() });
    upload(&media, b"0123456789").await.expect("just fits");
    let error = upload(&media, b"01234567890").await.expect_err("too large");
    assert!(matches!(error, UploadError::TooLarge { max: 10 }), "{error}");
    let error = media.begin_upload(alice(), Some(11)).await.expect_err("refused when announced");
    assert!(matches!(error, UploadError::TooLarge { max: 10 }), "{error}");
    assert!(house.files("incoming").is_empty());
    assert_eq!(house.files("content").len(), 1);
}

#[tokio::test]
async fn an_account_has_its_share_and_gets_it_back() {
    let house = House::new();
    let media = house.open_with(Config { account_bytes_max: 10, ..Config::default() });
    let uri = upload(&media, b"123456").await.expect("fits");
    let error = upload(&media, b"12345").await.expect_err("full");
    assert!(matches!(error, UploadError::AccountFull { would_be: 11, max: 10 }), "{error}");
    assert_eq!(house.files("content").len(), 1);
    let error = media.begin_upload(alice(), Some(5)).await.expect_err("refused when announced");
    assert!(matches!(error, UploadError::AccountFull { .. }), "{error}");
    media.delete(&find(&media, &uri).expect("there").id).await.expect("deleted");
    upload(&media, b"12345").await.expect("fits again");
}

#[tokio::test]
async fn nobody_sends_any_number_of_files_at_once() {
    let house = House::new();
    let media = house.open();
    let mut uploads = Vec::new();
    for _ in 0..UPLOADS_AT_ONCE_MAX {
        uploads.push(media.begin_upload(alice(), None).await.expect("begins"));
    }
    let error = media.begin_upload(alice(), None).await.expect_err("one too many");
    assert!(matches!(error, UploadError::TooManyAtOnce), "{error}");
    media.begin_upload(user_id!("@bob:example.org"), None).await.expect("others are not affected");
    let first = uploads.remove(0);
    first.finish(described(), MilliSecondsSinceUnixEpoch(1u32.into())).await.expect("finishes");
    let next = media.begin_upload(alice(), None).await.expect("there is room again");
    drop((next, uploads));
    media.begin_upload(alice(), None).await.expect("and no trace of those given up");
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let house = House::new();
    let media = house.open();
    let mut upload = media.begin_upload(alice(), None).await.expect("begins");
    upload.write(b"half of it").await.expect("is written");
    assert_eq!(house.files("incoming").len(), 1);
    drop(upload);
    assert!(house.files("incoming").is_empty());
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let house = House::new();
    let uri = upload(&house.open(), b"kept").await.expect("uploaded");
    let media = house.open();
    let item = find(&media, &uri).expect("there");
    assert_eq!(read(&media, &item).await, b"kept");
}

/// The crash between moving the bytes to their place and committing the metadata: a blob that nobody names, and its mark.
#[tokio::test]
async fn a_blob_placed_just_before_a_crash_is_cleared_away_and_a_committed_one_is_not() {
    let house = House::new();
    let uri = upload(&house.open(), b"committed").await.expect("uploaded");
    let committed = house.files("content").pop().expect("one blob");
    let root = house.folder.path().join("1");
    let hex = |path: &Path| {
        let part = |path: &Path| path.file_name().expect("a name").to_str().expect("hex").to_owned();
        part(path.parent().expect("a shelf")) + &part(path)
    };
    let orphan = root.join("content/ff").join("0".repeat(62));
    fs::create_dir_all(orphan.parent().expect("a shelf")).expect("made");
    fs::write(&orphan, "nobody's").expect("written");
    // Both were being settled when the process ended, and a third was only announced.
    for path in [&committed, &orphan, &root.join("content/aa").join("1".repeat(62))] {
        fs::write(root.join("unsettled").join(hex(path)), "").expect("marked");
    }

    let media = house.open();
    assert!(!orphan.exists());
    assert!(house.files("unsettled").is_empty());
    assert_eq!(read(&media, &find(&media, &uri).expect("there")).await, b"committed");
}

/// What [`Media::find`] knows is on disk already: there is no moment in which the metadata name a blob that is not there.
#[tokio::test]
async fn metadata_never_run_ahead_of_the_bytes() {
    let house = House::new();
    let media = house.open();
    let uploads = (0..30u8).map(|number| {
        let media = media.clone();
        tokio::spawn(async move { upload(&media, &[number; 100]).await.expect("uploaded") })
    });
    for upload in uploads.collect::<Vec<_>>() {
        let item = find(&media, &upload.await.expect("no panic")).expect("there");
        assert_eq!(read(&media, &item).await.len(), 100);
    }
    assert!(house.files("incoming").is_empty() && house.files("unsettled").is_empty());
}

#[tokio::test]
async fn finishing_goes_on_when_the_caller_goes_away() {
    let house = House::new();
    let media = house.open();
    let mut upload = media.begin_upload(alice(), None).await.expect("begins");
    upload.write(b"impatient").await.expect("is written");
    let mut finish = Box::pin(upload.finish(described(), MilliSecondsSinceUnixEpoch(1u32.into())));
    // Polled once, so that it has begun, and then forgotten.
    std::future::poll_fn(|context| {
        let _ = finish.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(finish);
    while house.files("content").is_empty() || !house.files("unsettled").is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(house.files("incoming").is_empty());
}

#[test]
fn opening_a_folder_that_cannot_be_written_says_so() {
    let house = House::new();
    let file = house.folder.path().join("file");
    fs::write(&file, "in the way").expect("written");
    let place = Place { domain: DomainId(1), server_name: owned_server_name!("example.org"), folder: file };
    let error = Media::open(house.shard.clone(), place, Config::default()).expect_err("refused");
    assert!(error.to_string().contains("check that it is there"), "{error}");
}

#[test]
fn a_new_id_is_random() {
    assert_ne!(MediaId::random(&mut rand::rng()), MediaId::random(&mut rand::rng()));
}
