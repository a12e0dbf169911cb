//! The answer to a join that is far larger than any room. A process of its own, so that what it takes can be measured.

// Of the servers that the other tests use, these need a part.
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "it/houses.rs"]
mod houses;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use koine_matrix_federation::{Future, Incoming, PeerError};
use koine_room::Preset;
use ruma_common::RoomVersionId;
use serde_json::json;

use houses::pair;

/// What is sent.
const FLOOD_BYTES: usize = 200 << 20;
/// What may be held more than before.
const HELD_BYTES_MAX: u64 = 64 << 20;

/// An answer of events that are well formed and signed by nobody who is known.
struct Flood {
    start: Option<Bytes>,
    event: Bytes,
    left: usize,
    read: Arc<AtomicUsize>,
}

impl Incoming for Flood {
    fn next(&mut self) -> Future<'_, Result<Option<Bytes>, PeerError>> {
        let chunk = self.start.take().or_else(|| {
            self.left = self.left.checked_sub(self.event.len())?;
            Some(self.event.clone())
        });
        self.read.fetch_add(chunk.as_ref().map_or(0, Bytes::len), Ordering::Relaxed);
        Box::pin(async move { Ok(chunk) })
    }
}

/// The most that this process ever held, as the kernel counts.
fn most_held() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_200_mb_to_a_join_is_refused_in_little_memory() {
    let (one, two) = pair().await;
    let room = one.create(&one.user("alice"), Preset::PublicChat, RoomVersionId::V11).await;
    let event = json!({
        "type": "org.example.flood", "state_key": "x", "room_id": room, "sender": one.user("alice"), "depth": 1,
        "origin_server_ts": 1, "prev_events": [], "auth_events": [], "hashes": { "sha256": "AAAA" },
        "content": { "filling": "x".repeat(60_000) },
        "signatures": { "one.example": { "ed25519:1": "AAAA" } },
    });
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    one.links.answer_with("/send_join/", move |_| {
        let event = Bytes::from(format!("{event},"));
        let start = Some(Bytes::from_static(b"{\"state\":["));
        Box::new(Flood { start, event, left: FLOOD_BYTES, read: counted.clone() })
    });
    let before = most_held();
    let joined = two.join(&two.user("bob"), &room, &one).await;
    assert!(joined.is_err());
    assert!(two.rooms.room(&room).is_err(), "nothing is left of it");
    let read = read.load(Ordering::Relaxed);
    if let (Some(before), Some(after)) = (before, most_held()) {
        let held = after - before;
        assert!(held < HELD_BYTES_MAX, "{held} bytes were held of {read} that came");
    }
    // The server goes on, and the room is entered once its server tells the truth.
    one.links.answer_with("/send_join/", |whole| Box::new(Some(whole)));
    two.join(&two.user("bob"), &room, &one).await.expect("let in");
}
