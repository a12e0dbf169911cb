//! `koine mail suppress`: addresses that nothing is sent to.

use std::fmt;

use clap::Args;
use koine_mail::out::Address;
use serde::{Deserialize, Serialize};

use super::{Command, Refusal, mail_of};
use crate::program::Server;

/// Lists addresses that nothing is sent to, puts one on the list, or takes it off
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct MailSuppress {
    /// From now on nothing is sent to this address
    address: Option<String>,
    /// From now on mails are sent there again
    #[arg(long, requires = "address")]
    lift: bool,
    /// Why, for whoever writes there
    #[arg(long, value_name = "TEXT", default_value = "the operator of this server said so")]
    reason: String,
}

/// The list, or what was done.
#[derive(Serialize, Deserialize)]
pub struct Answer {
    done: Option<String>,
    addresses: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    address: String,
    since_ms: u64,
    reason: String,
}

impl Command for MailSuppress {
    type Answer = Answer;

    async fn run(self, server: &Server) -> Result<Answer, Refusal> {
        let mail = mail_of(server)?;
        let Some(address) = self.address else {
            let listed = mail.suppressed().map_err(Refusal::because)?;
            let listed = listed.into_iter().map(|one| Listed {
                address: one.address,
                since_ms: one.since_ms,
                reason: one.reason,
            });
            return Ok(Answer { done: None, addresses: listed.collect() });
        };
        let wrong = || Refusal::because(format!("{address} is no address of mail"));
        let address = Address::parse(&address).ok_or_else(wrong)?.to_string();
        let done = match self.lift {
            true => match mail.unsuppress(&address).await.map_err(Refusal::because)? {
                true => format!("mails are sent to {address} again"),
                false => format!("{address} was not on the list"),
            },
            false => {
                mail.suppress(address.clone(), self.reason).await.map_err(Refusal::because)?;
                format!("nothing is sent to {address} any more")
            }
        };
        Ok(Answer { done: Some(done), addresses: Vec::new() })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(done) = &self.done {
            return write!(f, "{done}");
        }
        for one in &self.addresses {
            writeln!(f, "{:<40} {}", one.address, one.reason)?;
        }
        write!(f, "{} addresses", self.addresses.len())
    }
}
