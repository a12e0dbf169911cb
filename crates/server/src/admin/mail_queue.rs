//! `koine mail queue`: mails that wait to be delivered.

use std::fmt;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, mail_of};
use crate::program::Server;

/// Lists mails that wait to be delivered, by destination
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct MailQueue {}

/// What waits.
#[derive(Serialize, Deserialize)]
pub struct Answer {
    waiting: u64,
    destinations: Vec<Destination>,
    /// There are more destinations than are listed.
    more: bool,
}

#[derive(Serialize, Deserialize)]
struct Destination {
    name: String,
    waiting: u64,
    next_ms: u64,
    in_s: u64,
    failures: u32,
    reason: String,
    mails: Vec<Waiting>,
}

#[derive(Serialize, Deserialize)]
struct Waiting {
    number: u64,
    from: String,
    to: String,
    attempts: u32,
    last: String,
}

impl Command for MailQueue {
    type Answer = Answer;

    async fn run(self, server: &Server) -> Result<Answer, Refusal> {
        let queue = mail_of(server)?.queue().map_err(Refusal::because)?;
        let now_ms = u64::from(ruma_common::MilliSecondsSinceUnixEpoch::now().get());
        let destinations = queue.lanes.into_iter().map(|lane| Destination {
            name: lane.name,
            waiting: lane.waiting,
            next_ms: lane.next_ms,
            in_s: lane.next_ms.saturating_sub(now_ms) / 1_000,
            failures: lane.failures,
            reason: lane.reason,
            mails: lane
                .mails
                .into_iter()
                .map(|(number, from, to, attempts, last)| Waiting { number, from, to, attempts, last })
                .collect(),
        });
        Ok(Answer { waiting: queue.waiting, destinations: destinations.collect(), more: queue.more })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for to in &self.destinations {
            let failing = match to.failures {
                0 => String::new(),
                failures => format!(", after {failures} failures: {}", to.reason),
            };
            writeln!(f, "{}: {} waiting, next in {} s{failing}", to.name, to.waiting, to.in_s)?;
            for mail in &to.mails {
                let last = if mail.last.is_empty() { String::new() } else { format!(", last: {}", mail.last) };
                writeln!(f, "  {:>6}  {} to {} ({} attempts{last})", mail.number, mail.from, mail.to, mail.attempts)?;
            }
        }
        if self.more {
            writeln!(f, "and further destinations")?;
        }
        write!(f, "{} mails wait", self.waiting)
    }
}
