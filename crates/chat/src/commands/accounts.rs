//! The accounts on this machine, and which is the usual one.

use serde::Serialize;

use crate::{account::Accounts, cli::Common, failure::Failure, output::Output};

/// `koine-chat accounts`
#[derive(clap::Args)]
pub struct Args {
    /// Make this the account that is meant when none is named.
    #[arg(long = "use", value_name = "LABEL")]
    pub usual: Option<String>,
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    account: String,
    usual: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homeserver: Option<String>,
}

/// Lists them.
pub fn run(args: &Args, common: &Common, out: &Output) -> Result<(), Failure> {
    let accounts = Accounts::new(common.data_dir.clone())?;
    if let Some(label) = &args.usual {
        accounts.remember(&accounts.choose(Some(label))?);
    }
    let usual = accounts.choose(common.account.as_deref()).ok();
    for label in accounts.labels() {
        let account = accounts.load(&label).ok();
        let line = Line {
            r#type: "account",
            usual: usual.as_ref() == Some(&label),
            user_id: account.as_ref().map(|account| account.user_id.to_string()),
            device_id: account.as_ref().map(|account| account.device_id.to_string()),
            homeserver: account.as_ref().map(|account| account.homeserver.clone()),
            account: label,
        };
        let mark = if line.usual { "*" } else { " " };
        let sentence = match (&line.user_id, &line.device_id, &line.homeserver) {
            (Some(user), Some(device), Some(server)) => {
                format!("{mark} {}  {user} on {server}, device {device}", line.account)
            }
            _ => format!("{mark} {}  damaged; see `koine-chat repair`", line.account),
        };
        out.say(&line, || sentence)?;
    }
    Ok(())
}
