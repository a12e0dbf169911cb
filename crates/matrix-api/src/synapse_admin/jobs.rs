//! Work that takes longer than a request: an admin starts it, and asks later how it went.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde_json::Value;

/// Most jobs remembered; the oldest that are done make room.
const JOBS_MAX: usize = 1_000;

/// Jobs of this process.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<VecDeque<Job>>);

/// One of them.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) id: String,
    /// What it works on.
    pub(super) subject: String,
    pub(super) status: Status,
}

/// How it goes.
#[derive(Clone)]
pub(super) enum Status {
    Active,
    Complete(Value),
    Failed(String),
}

impl Jobs {
    /// Runs `work` to its end, whoever waits; the job's id.
    pub(super) fn start(
        api: &crate::Api,
        subject: String,
        work: impl Future<Output = crate::Result<Value>> + Send + 'static,
    ) -> String {
        let id = format!("{:032x}", rand::random::<u128>());
        {
            let mut jobs = api.jobs().0.lock();
            if jobs.len() >= JOBS_MAX {
                jobs.pop_front();
            }
            jobs.push_back(Job { id: id.clone(), subject, status: Status::Active });
        }
        let (api, job) = (api.clone(), id.clone());
        tokio::spawn(async move {
            let status = match work.await {
                Ok(result) => Status::Complete(result),
                Err(error) => Status::Failed(error.to_string()),
            };
            if let Some(known) = api.jobs().0.lock().iter_mut().find(|known| known.id == job) {
                known.status = status;
            }
        });
        id
    }

    pub(super) fn get(&self, id: &str) -> Option<Job> {
        self.0.lock().iter().find(|job| job.id == id).cloned()
    }

    /// Those that work on something, the oldest first.
    pub(super) fn of(&self, subject: &str) -> Vec<Job> {
        self.0.lock().iter().filter(|job| job.subject == subject).cloned().collect()
    }
}

impl Status {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Complete(_) => "complete",
            Self::Failed(_) => "failed",
        }
    }
}
