//! What the operator sees and does: the queue, what DNS is to say.

use koine_store::{CommitError, Direction, StoreError};

use super::{
    Out,
    config::Deliver,
    tables::{ITEM, LANE, READY},
};

/// Destinations that are listed.
const LANES_MAX: usize = 200;
/// Mails of one destination that are listed.
const MAILS_MAX: usize = 5;

/// What waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Mails, to all destinations together.
    pub waiting: u64,
    /// The destinations, in the order of their names; not all of very many.
    pub lanes: Vec<Lane>,
    /// Whether there are more of them.
    pub more: bool,
}

/// What waits for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// A domain, or `@smarthost`.
    pub name: String,
    /// Mails.
    pub waiting: u64,
    /// When it is tried next, in milliseconds since the epoch.
    pub next_ms: u64,
    /// Failures in a row.
    pub failures: u32,
    /// What the last one was.
    pub reason: String,
    /// Some of the mails: number, sender, recipient, attempts, what the last one met.
    pub mails: Vec<(u64, String, String, u32, String)>,
}

impl Out {
    /// What waits.
    pub fn queue(&self) -> Result<Queue, StoreError> {
        let (view, domain) = (self.shard().view(), self.domain());
        let mut queue = Queue::default();
        for row in view.scan(&LANE, domain, .., Direction::Forward) {
            let (name, lane) = row?;
            queue.waiting += lane.waiting;
            if queue.lanes.len() == LANES_MAX {
                queue.more = true;
                continue;
            }
            let mut mails = Vec::new();
            for row in view.prefix(&READY, domain, &(name.as_str(),), Direction::Forward).take(MAILS_MAX) {
                let ((_, _, id), ()) = row?;
                if let Some(item) = view.get(&ITEM, domain, &id)? {
                    mails.push((id, item.author, item.recipient, item.attempts, item.last));
                }
            }
            let (waiting, next_ms) = (lane.waiting, lane.due_ms);
            queue.lanes.push(Lane { name, waiting, next_ms, failures: lane.failures, reason: lane.reason, mails });
        }
        Ok(queue)
    }

    /// Has what waits for a destination tried now, or everything. How many destinations that are.
    pub async fn retry(&self, only: Option<String>) -> Result<u64, CommitError> {
        self.hurry(only, self.now_ms()).await
    }

    /// What DNS is to say for mails of this domain to be believed: names and texts.
    ///
    /// # Errors
    /// A sentence, if the keys cannot be read or made.
    pub async fn records(&self) -> Result<Vec<(String, String)>, String> {
        let host = self.host();
        let mut records = self.keys().await?.records().to_vec();
        let sender = match self.config().deliver {
            Deliver::Smarthost => "v=spf1 mx include:YOUR-SMARTHOST ~all",
            _ => "v=spf1 mx ~all",
        };
        records.push((host.to_owned(), sender.to_owned()));
        records.push((format!("_dmarc.{host}"), format!("v=DMARC1; p=quarantine; rua=mailto:postmaster@{host}")));
        Ok(records)
    }
}
