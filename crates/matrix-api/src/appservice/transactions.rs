//! Telling an application service what happens, in order and until it says that it knows.
//!
//! [AS-API §pushing-events] One reader of the log for each service, with a place that moves when a transaction was taken. The
//! part of the log that a transaction tells of is written down before it is sent, so that after a restart it is sent again
//! under the same id, and what was there is not told twice. What concerns the service is found out in [`interest`](super::interest);
//! what is not in the log is told by [`fleeting`](super::fleeting).

use std::time::Duration;

use http::Method;
use koine_net::WebRequest;
use koine_store::{Position, Space, Table, TableInfo};

use super::{
    fleeting::Fleeting,
    interest::{Interest, Transaction},
    services::{LIMITS, Service},
};
use crate::{Api, Error, Result, api::WeakApi};

/// By the id of a service: the log that the transaction under way tells of, from and to.
pub(crate) const UNDER_WAY: Table<String, (u64, u64)> = Table::new("appservice.under_way", Space::Ephemeral, 0x98);

/// All tables here, for the test that no two of the server share rows.
pub const TABLES: &[TableInfo] = &[UNDER_WAY.info()];

/// Most events of one transaction.
const EVENTS_MAX: usize = 100;
/// Most entries read from the log at once.
const BATCH: usize = 512;
/// How often our place is written down while there is nothing to tell.
const SAVE_EVERY: u64 = 10_000;
/// The first wait after a failure; doubled with every further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);

struct Reader {
    interest: Interest,
    cursor: String,
    place: Position,
    saved: Position,
}

pub(super) async fn run(weak: WeakApi, service: Service) {
    if service.url.is_none() {
        return;
    }
    let Some(api) = weak.upgrade() else { return };
    let mut grown = api.rooms.shard().watch();
    let mut reader = match Reader::open(&api, service) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::error!(reason = %error, "an application service cannot be told anything");
            return;
        }
    };
    let mut fleeting = Fleeting::new(&api);
    drop(api);
    grown.mark_changed();
    loop {
        let goes_on = tokio::select! {
            grown = grown.changed() => grown.is_ok(),
            goes_on = fleeting.arrived(), if reader.interest.service.wants_ephemeral => goes_on,
        };
        if !goes_on || reader.follow(&weak).await.is_none() {
            return;
        }
        let Some(api) = weak.upgrade() else { return };
        if reader.interest.service.wants_ephemeral
            && let Err(error) = fleeting.tell(&api, &mut reader.interest).await
        {
            tracing::error!(reason = %error, "an application service cannot be told who types and who is there");
        }
    }
}

impl Reader {
    fn open(api: &Api, service: Service) -> Result<Self> {
        let cursor = format!("appservice/{}", service.id);
        let view = api.rooms.shard().view();
        // A service that is new is not told what happened before.
        let place = match view.cursor(&cursor).map_err(Error::internal)? {
            Some(place) => place,
            None => {
                let (name, place) = (cursor.clone(), view.position());
                // Whoever is killed before there is anything to tell would be new once more.
                drop(api.rooms.shard().submit(move |txn| txn.move_cursor(&name, place)));
                place
            }
        };
        Ok(Self { interest: Interest::of(service), cursor, place, saved: Position(0) })
    }

    /// Tells everything there is; `None` when nobody is left to do it for.
    async fn follow(&mut self, weak: &WeakApi) -> Option<()> {
        loop {
            let api = weak.upgrade()?;
            let transaction = match self.next(&api) {
                Ok(Some(transaction)) => transaction,
                Ok(None) => return Some(()),
                Err(error) => {
                    tracing::error!(service = self.interest.service.id, reason = %error, "the log cannot be read for an application service");
                    return Some(());
                }
            };
            let to = transaction.to;
            if transaction.is_empty() {
                self.place = to;
                if to.0 > self.saved.0 + SAVE_EVERY {
                    self.save(&api, to).await;
                }
                continue;
            }
            if !self.begin(&api, to).await {
                return Some(());
            }
            let body = match transaction.body(&api, &self.interest.service) {
                Ok(body) => body.to_string(),
                Err(error) => {
                    tracing::error!(service = self.interest.service.id, reason = %error, "a transaction for an application service cannot be written");
                    return Some(());
                }
            };
            drop(api);
            self.send(weak, to, &body).await?;
            let api = weak.upgrade()?;
            if let Err(error) = transaction.taken(&api) {
                tracing::warn!(service = self.interest.service.id, reason = %error, "messages that an application service has are kept");
            }
            self.save(&api, to).await;
            self.place = to;
        }
    }

    /// What comes next, at most so much as one transaction holds; `None` at the end of the log.
    fn next(&mut self, api: &Api) -> Result<Option<Transaction>> {
        let shard = api.rooms.shard();
        let under_way =
            shard.get(&UNDER_WAY, api.rooms.domain(), self.interest.service.id.as_str()).map_err(Error::internal)?;
        let until = under_way.filter(|(from, _)| *from == self.place.0).map(|(_, to)| to);
        let entries = shard.log_after(self.place, BATCH).map_err(Error::internal)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let mut transaction = Transaction::default();
        for (position, entry) in entries {
            if until.is_some_and(|until| position.0 > until) || transaction.events.len() >= EVENTS_MAX {
                break;
            }
            transaction.to = position;
            if entry.domain == api.rooms.domain() {
                self.interest.look_at(api, position, &entry, &mut transaction)?;
            }
        }
        Ok(Some(transaction))
    }

    /// Writes down what the next transaction tells of.
    async fn begin(&self, api: &Api, to: Position) -> bool {
        let (domain, id, from) = (api.rooms.domain(), self.interest.service.id.clone(), self.place);
        let cursor = self.cursor.clone();
        let commit = api.rooms.shard().submit(move |txn| {
            txn.put(&UNDER_WAY, domain, id.as_str(), &(from.0, to.0));
            txn.move_cursor(&cursor, from);
        });
        if let Err(error) = commit.await {
            tracing::warn!(service = self.interest.service.id, reason = %error, "a transaction for an application service cannot be begun");
            return false;
        }
        true
    }

    /// Sends until it is taken.
    async fn send(&self, weak: &WeakApi, to: Position, body: &str) -> Option<()> {
        let mut wait = BACKOFF_MIN;
        loop {
            let api = weak.upgrade()?;
            let url = self.interest.service.address(&["transactions", &to.0.to_string()], "")?;
            let request = WebRequest::json(Method::PUT, url, body.to_owned(), LIMITS);
            match api.services.call(&self.interest.service, request).await {
                Ok(_) => return Some(()),
                Err(error) => {
                    tracing::debug!(service = self.interest.service.id, reason = %error, wait_s = wait.as_secs(), "an application service did not take a transaction");
                }
            }
            drop(api);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    async fn save(&mut self, api: &Api, place: Position) {
        let (cursor, domain, id) = (self.cursor.clone(), api.rooms.domain(), self.interest.service.id.clone());
        let commit = api.rooms.shard().submit(move |txn| {
            txn.move_cursor(&cursor, place);
            txn.delete(&UNDER_WAY, domain, id.as_str());
        });
        match commit.await {
            Ok(_) => self.saved = place,
            Err(error) => {
                tracing::warn!(service = self.interest.service.id, reason = %error, "the place of an application service was not written down");
            }
        }
    }
}
