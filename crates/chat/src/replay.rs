//! The same ciphertext, sent again as another event. Each key of a Megolm session encrypts one message, so a second event under
//! the same key was made by somebody who repeats what he cannot read: a server, or a member. Clients are to notice;
//! matrix-sdk does not. [CS-API §mmegolmv1aes-sha2]
//!
//! What was decrypted is written down in the account's own store (encrypted there, and kept over restarts): session and index,
//! and which event it was. The event that was decrypted first counts; a second one is shown as what it is, without its text.

use std::collections::HashMap;

use matrix_sdk::Client;
use parking_lot::Mutex;

use crate::{heard, trust::Finding};

/// What is shown in place of such a message.
pub const FINDING: Finding = ("replayed", "the same message came before: somebody sent what was encrypted again");

/// Events of which it is known in memory whether they repeat another; the store knows the rest.
const KNOWN_MAX: usize = 50_000;

static KNOWN: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);

/// Writes down what was decrypted since the last time. After each sync, and before anything is shown.
pub async fn settle(client: &Client) {
    for one in heard::decryptions() {
        let place = format!("koine-chat.index.{}.{}", one.session_id, one.index);
        let store = client.state_store();
        // A store that fails says so where messages are read; what cannot be compared is shown.
        let Ok(before) = store.get_custom_value(place.as_bytes()).await else { continue };
        match before {
            None => {
                let _ = store.set_custom_value_no_read(place.as_bytes(), one.event_id.into_bytes()).await;
            }
            Some(first) if first == one.event_id.as_bytes() => {}
            Some(first) => {
                know(&one.event_id, true);
                let _ = store.set_custom_value_no_read(&name(&one.event_id), first).await;
            }
        }
    }
}

/// Whether this event repeats another one.
pub async fn is_repeated(client: &Client, event_id: &str) -> bool {
    settle(client).await;
    if let Some(known) = KNOWN.lock().as_ref().and_then(|known| known.get(event_id)) {
        return *known;
    }
    let repeated = matches!(client.state_store().get_custom_value(&name(event_id)).await, Ok(Some(_)));
    know(event_id, repeated);
    repeated
}

fn name(event_id: &str) -> Vec<u8> {
    format!("koine-chat.replay.{event_id}").into_bytes()
}

fn know(event_id: &str, repeated: bool) {
    let mut known = KNOWN.lock();
    let known = known.get_or_insert_default();
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(event_id.to_owned(), repeated);
}
