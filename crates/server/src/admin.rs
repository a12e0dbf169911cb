//! Admin commands: asked on the command line, carried out by the running server, through a socket in its data folder.
//!
//! One file for each command, with its arguments, what it does and how its answer reads; one line in [`COMMANDS`], and it is
//! in the help, in the client and in the server. Who can open the socket (mode 0600) is the operator, and is asked nothing.

mod backup;
mod key_rotate;
mod mail_queue;
mod mail_records;
mod mail_retry;
mod mail_suppress;
mod mail_test;
mod prompt;
mod report_list;
mod restore;
mod room_list;
mod room_show;
mod socket;
mod token_create;
mod token_delete;
mod token_list;
mod user_create;
mod user_deactivate;
mod user_list;
mod user_password;
mod user_show;

use std::{fmt, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use clap::{ArgMatches, Args, FromArgMatches};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use crate::program::Server;
pub use socket::{Socket, ask};

/// Every command, in the order of the help.
const COMMANDS: &[Entry] = &[
    entry::<user_create::UserCreate>(&["user", "create"]),
    entry::<user_list::UserList>(&["user", "list"]),
    entry::<user_show::UserShow>(&["user", "show"]),
    entry::<user_password::UserPassword>(&["user", "password"]),
    entry::<user_deactivate::UserDeactivate>(&["user", "deactivate"]),
    entry::<room_list::RoomList>(&["room", "list"]),
    entry::<room_show::RoomShow>(&["room", "show"]),
    entry::<key_rotate::KeyRotate>(&["key", "rotate"]),
    entry::<report_list::ReportList>(&["report", "list"]),
    entry::<token_create::TokenCreate>(&["token", "create"]),
    entry::<token_list::TokenList>(&["token", "list"]),
    entry::<token_delete::TokenDelete>(&["token", "delete"]),
    entry::<mail_queue::MailQueue>(&["mail", "queue"]),
    entry::<mail_retry::MailRetry>(&["mail", "retry"]),
    entry::<mail_suppress::MailSuppress>(&["mail", "suppress"]),
    entry::<mail_test::MailTest>(&["mail", "test"]),
    entry::<mail_records::MailRecords>(&["mail", "records"]),
    entry::<backup::Backup>(&["backup"]),
];

pub use restore::Restore;

/// Groups of commands, with what they are about.
const GROUPS: &[(&str, &str)] = &[
    ("user", "Accounts of this server"),
    ("room", "Rooms that this server is in"),
    ("key", "The key that signs for this server"),
    ("mail", "Mails to addresses elsewhere"),
    ("report", "What people reported to the operator"),
    ("token", "Registration tokens, for `registration = \"token\"`"),
];

/// A command. The comment on the type is its help.
trait Command: Args + Serialize + DeserializeOwned + Send + 'static {
    /// What the operator gets to see, as text or, with `--json`, as JSON.
    type Answer: Serialize + DeserializeOwned + fmt::Display;

    /// On the operator's side, before the server is asked: what must not stand on a command line is asked for here.
    fn complete(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    /// In the server.
    fn run(self, server: &Server) -> impl Future<Output = Result<Self::Answer, Refusal>> + Send;
}

/// Why a command was not carried out: one sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl Refusal {
    /// Because of this.
    pub fn because(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Json, Refusal>> + Send + 'a>>;

/// What sends mails, for the commands about it.
fn mail_of(server: &Server) -> Result<&koine_mail::out::Out, Refusal> {
    server.mail.get().ok_or_else(|| Refusal::because("this server does not do mail; see `mail.enabled`"))
}

/// A command without its type.
struct Entry {
    path: &'static [&'static str],
    arguments: fn(clap::Command) -> clap::Command,
    prepare: fn(&ArgMatches) -> Result<Json, Refusal>,
    run: fn(Json, &Server) -> Running<'_>,
    show: fn(&Json) -> Result<String, Refusal>,
}

const fn entry<C: Command>(path: &'static [&'static str]) -> Entry {
    Entry {
        path,
        arguments: |command| C::augment_args(command),
        prepare: |matches| {
            let mut command = C::from_arg_matches(matches).map_err(Refusal::because)?;
            command.complete()?;
            serde_json::to_value(command).map_err(Refusal::because)
        },
        run: |arguments, server| {
            Box::pin(async move {
                let command: C = serde_json::from_value(arguments).map_err(Refusal::because)?;
                serde_json::to_value(command.run(server).await?).map_err(Refusal::because)
            })
        },
        show: |answer| {
            <C::Answer as serde::Deserialize>::deserialize(answer)
                .map(|answer| answer.to_string())
                .map_err(Refusal::because)
        },
    }
}

// Where the server is whose operator asks, and how the answer should look. No docstring: it would become the help of every command.
#[derive(Debug, Args)]
struct Asking {
    /// Data folder of the running server
    #[arg(long, value_name = "DIR", default_value = "koine-data", global = true)]
    data_dir: PathBuf,
    /// Configuration of the running server, to find its data folder
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// Answer with JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

/// Adds all commands to the help.
pub fn augment(mut command: clap::Command) -> clap::Command {
    for (name, about) in GROUPS {
        let mut group = Asking::augment_args(
            clap::Command::new(*name).about(*about).subcommand_required(true).arg_required_else_help(true),
        );
        for entry in COMMANDS {
            if let [first, second] = entry.path
                && first == name
            {
                group = group.subcommand((entry.arguments)(clap::Command::new(*second)));
            }
        }
        command = command.subcommand(group);
    }
    for entry in COMMANDS {
        if let [name] = entry.path {
            command = command.subcommand(Asking::augment_args((entry.arguments)(clap::Command::new(*name))));
        }
    }
    command
}

/// Asks the running server to carry out a command, if this is one; the answer is for standard output.
pub fn dispatch(name: &str, matches: &ArgMatches) -> Option<Result<String, Refusal>> {
    let (path, inner) = match matches.subcommand() {
        Some((second, inner)) => (vec![name, second], inner),
        None => (vec![name], matches),
    };
    let entry = COMMANDS.iter().find(|entry| entry.path == path)?;
    Some(carry_out(entry, inner))
}

fn carry_out(entry: &Entry, matches: &ArgMatches) -> Result<String, Refusal> {
    let asking = Asking::from_arg_matches(matches).map_err(Refusal::because)?;
    let data_dir = match &asking.config {
        Some(path) => crate::config::Config::load(path).map_err(Refusal::because)?.data_dir,
        None => asking.data_dir,
    };
    let arguments = (entry.prepare)(matches)?;
    let answer = ask(&data_dir, &entry.path.join(" "), arguments)?;
    match asking.json {
        true => serde_json::to_string_pretty(&answer).map_err(Refusal::because),
        false => (entry.show)(&answer),
    }
}

/// In the server: carries out the command of that name.
async fn run(name: &str, arguments: Json, server: &Arc<Server>) -> Result<Json, Refusal> {
    let entry = COMMANDS.iter().find(|entry| entry.path.join(" ") == name);
    let entry = entry
        .ok_or_else(|| Refusal::because(format!("this server has no command `{name}`; is it an older version?")))?;
    (entry.run)(arguments, server).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_the_help_with_a_sentence() {
        let mut help = augment(clap::Command::new("koine"));
        help.build();
        for entry in COMMANDS {
            let found = entry.path.iter().try_fold(&help, |command, name| command.find_subcommand(name));
            let found = found.unwrap_or_else(|| panic!("{:?} is not in the help", entry.path));
            assert!(found.get_about().is_some(), "{:?} says nothing about itself", entry.path);
        }
        let mut said = std::collections::HashSet::new();
        for command in help.get_subcommands() {
            let about = command.get_about().map(ToString::to_string);
            assert!(said.insert(about.clone()), "{} says what another says: {about:?}", command.get_name());
        }
    }
}
