//! A second look at what could not be read: after its key came, or by asking the backup for it.

use std::collections::HashSet;

use matrix_sdk::{
    Room,
    deserialized_responses::{TimelineEvent, TimelineEventKind},
    ruma::{events::room::encrypted::OriginalSyncRoomEncryptedEvent, serde::Raw},
};

/// Sessions that are asked of the backup for one page of history.
const SESSIONS_MAX: usize = 100;

/// The event, decrypted if that is possible now.
pub async fn decrypt(room: &Room, event: &TimelineEvent) -> Option<TimelineEvent> {
    let TimelineEventKind::UnableToDecrypt { event: encrypted, .. } = &event.kind else { return None };
    let encrypted: &Raw<OriginalSyncRoomEncryptedEvent> = encrypted.cast_ref_unchecked();
    let again = room.decrypt_event(encrypted, None).await.ok()?;
    (!again.kind.is_utd()).then_some(again)
}

/// Asks the backup for the keys of what could not be read, each session once, and reads it again.
pub async fn with_backup(room: &Room, events: &mut [TimelineEvent]) {
    let backups = room.client().encryption().backups();
    let mut asked = HashSet::new();
    for event in events {
        if !event.kind.is_utd() {
            continue;
        }
        if let Some(again) = decrypt(room, event).await {
            *event = again;
            continue;
        }
        let Some(session) = event.kind.session_id().map(ToOwned::to_owned) else { continue };
        if asked.len() < SESSIONS_MAX && asked.insert(session.clone()) {
            // Not there, or not reachable: the event keeps its reason.
            if !matches!(backups.download_room_key(room.room_id(), &session).await, Ok(true)) {
                continue;
            }
        }
        if let Some(again) = decrypt(room, event).await {
            *event = again;
        }
    }
}
