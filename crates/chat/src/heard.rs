//! What the engine knows and tells its log alone: with which index of its session a message was encrypted, and which keys of a
//! backup did not open. Nothing of it is to be had from matrix-sdk otherwise (0.18, pinned), so a layer listens; should the words
//! change with another version, the walk (`conformance/walks/chat`) notices.
//!
//! What is done with it is decided in [`replay`](crate::replay) and where keys are fetched.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Debug,
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Decryptions that wait to be written down. Whoever syncs takes them; more than one answer of the server brings are forgotten.
const DECRYPTIONS_MAX: usize = 50_000;
/// Sessions whose keys in the backup did not open.
const UNOPENED_MAX: usize = 10_000;

const MACHINE: &str = "matrix_sdk_crypto::machine";
const SPAN: &str = "decrypt_room_event";
const BACKUPS: &str = "matrix_sdk::encryption::backups";

static HEARD: Mutex<Heard> = Mutex::new(Heard { decryptions: VecDeque::new(), unopened: None });

struct Heard {
    decryptions: VecDeque<Decryption>,
    unopened: Option<HashSet<String>>,
}

/// An event that was decrypted, and with which key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decryption {
    /// The event.
    pub event_id: String,
    /// Its Megolm session.
    pub session_id: String,
    /// Which of the session's keys: each is used for one message.
    pub index: u64,
    failed: bool,
    complete: bool,
}

/// Listens from now on, and writes the engine's log for those who ask for it. It never holds messages or keys.
pub fn listen() {
    let ear = Ear.with_filter(filter_fn(concerns_us));
    let log = EnvFilter::try_from_env("KOINE_CHAT_LOG").ok();
    let log = log.map(|filter| tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter));
    tracing_subscriber::registry().with(ear).with(log).init();
}

/// The decryptions since somebody last asked, in their order.
pub fn decryptions() -> Vec<Decryption> {
    HEARD.lock().decryptions.drain(..).collect()
}

/// How many keys of the backup did not open since somebody last began to count.
pub fn unopened() -> usize {
    HEARD.lock().unopened.as_ref().map_or(0, HashSet::len)
}

/// Whether the key of this session, as the backup has it, did not open.
pub fn is_unopened(session_id: &str) -> bool {
    HEARD.lock().unopened.as_ref().is_some_and(|sessions| sessions.contains(session_id))
}

/// Before keys are fetched: what was found before is forgotten.
pub fn begin_to_count() {
    HEARD.lock().unopened = None;
}

fn concerns_us(metadata: &Metadata<'_>) -> bool {
    match metadata.target() {
        MACHINE if metadata.is_span() => metadata.name() == SPAN,
        MACHINE | BACKUPS => *metadata.level() == Level::WARN,
        _ => false,
    }
}

struct Ear;

impl<S> Layer<S> for Ear
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut decryption = Decryption::default();
            attributes.record(&mut decryption);
            span.extensions_mut().insert(decryption);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(decryption) = span.extensions_mut().get_mut::<Decryption>()
        {
            values.record(decryption);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == BACKUPS {
            let mut words = Words::default();
            event.record(&mut words);
            return note_backup(&words.0);
        }
        // A warning of the machine while it decrypts: it failed.
        if let Some(span) = context.event_span(event)
            && let Some(decryption) = span.extensions_mut().get_mut::<Decryption>()
        {
            decryption.failed = true;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(decryption) = context.span(&id).and_then(|span| span.extensions_mut().remove::<Decryption>()) else {
            return;
        };
        if decryption.failed || !decryption.complete || decryption.event_id.is_empty() {
            return;
        }
        let mut heard = HEARD.lock();
        if heard.decryptions.len() == DECRYPTIONS_MAX {
            heard.decryptions.pop_front();
        }
        heard.decryptions.push_back(decryption);
    }
}

fn note_backup(words: &str) {
    let mut heard = HEARD.lock();
    let about_a_key =
        words.starts_with("Couldn't decrypt a room key") || words.starts_with("Couldn't deserialize a room key");
    let session = words.split_once("session ID: ").and_then(|(_, rest)| rest.split_once(','));
    if let (true, Some((session, _))) = (about_a_key, session) {
        let unopened = heard.unopened.get_or_insert_default();
        if unopened.len() < UNOPENED_MAX {
            unopened.insert(session.to_owned());
        }
    }
}

impl Visit for Decryption {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "message_index" {
            self.index = value;
            self.complete = true;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "session_id" => value.clone_into(&mut self.session_id),
            "event_id" => value.clone_into(&mut self.event_id),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, format!("{value:?}").trim_matches('"'));
    }
}

#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decryptions_that_succeeded_are_heard_and_keys_that_did_not_open() {
        let subscriber = tracing_subscriber::registry().with(Ear.with_filter(filter_fn(concerns_us)));
        tracing::subscriber::with_default(subscriber, || {
            let decrypt = |event: &str, index: u32, fails: bool| {
                let span = tracing::info_span!(
                    target: MACHINE, "decrypt_room_event", event_id = tracing::field::Empty,
                    session_id = tracing::field::Empty, message_index = tracing::field::Empty
                );
                let _in = span.enter();
                span.record("event_id", tracing::field::debug(event));
                span.record("session_id", "session");
                span.record("message_index", index);
                if fails {
                    tracing::warn!(target: MACHINE, "Failed to decrypt a room event: no key");
                }
            };
            decrypt("$one", 3, false);
            decrypt("$two", 4, true);
            tracing::warn!(target: BACKUPS, "Couldn't decrypt a room key we downloaded from backups, session ID: abc, error: MAC");
        });
        let heard: Vec<_> = decryptions().into_iter().map(|one| (one.event_id, one.session_id, one.index)).collect();
        assert_eq!(heard, [("$one".to_owned(), "session".to_owned(), 3)]);
        assert!(is_unopened("abc") && !is_unopened("abd") && unopened() == 1);
    }
}
