//! What scripts can ask for: one file a command (or a handful that are one story).

pub mod accounts;
pub mod backup;
pub mod create;
pub mod devices;
pub mod download;
pub mod keys;
pub mod login;
pub mod members;
pub mod moderate;
pub mod read;
pub mod recover;
pub mod repair;
pub mod rooms;
pub mod run;
pub mod say;
pub mod set;
pub mod tail;
pub mod upload;
pub mod verify;
pub mod whoami;

use matrix_sdk::ruma::{EventId, OwnedEventId, OwnedUserId, UserId};
use serde::Serialize;

use crate::{
    account::Accounts,
    cli::{Command, Common},
    failure::Failure,
    output::Output,
    session::{Opening, Session},
};

/// A line that says that something was done, for commands that have nothing else to tell.
#[derive(Serialize)]
pub struct Done<'a> {
    r#type: &'static str,
    done: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
}

impl<'a> Done<'a> {
    /// What was done.
    pub fn new(done: &'a str) -> Self {
        Self { r#type: "done", done, room_id: None, event_id: None }
    }

    /// In which room.
    pub fn room(mut self, room: &(impl ToString + ?Sized)) -> Self {
        self.room_id = Some(room.to_string());
        self
    }

    /// By which event.
    pub fn event(mut self, event: &(impl ToString + ?Sized)) -> Self {
        self.event_id = Some(event.to_string());
        self
    }
}

/// A user id, or what one looks like.
pub fn user(text: &str) -> Result<OwnedUserId, Failure> {
    UserId::parse(text).map_err(|_| Failure::Usage(format!("{text} is no user id; it looks like @name:server")))
}

/// An event id, or what one looks like.
pub fn event_id(text: &str) -> Result<OwnedEventId, Failure> {
    EventId::parse(text).map_err(|_| Failure::Usage(format!("{text} is no event id; it begins with $")))
}

/// How an account is opened, by what holds for every command.
pub fn opening(common: &Common) -> Opening {
    Opening { share_history: !common.no_history_sharing, offline: common.offline, patience: common.network_patience }
}

/// Opens the account that is meant.
pub async fn open(common: &Common) -> Result<Session, Failure> {
    let accounts = Accounts::new(common.data_dir.clone())?;
    let label = accounts.choose(common.account.as_deref())?;
    let lock = accounts.lock(&label, common.wait)?;
    let session = Session::open(&accounts, &label, lock, opening(common)).await?;
    accounts.remember(&label);
    Ok(session)
}

/// Does what was asked.
pub async fn dispatch(command: Command, common: &Common, out: &Output) -> Result<(), Failure> {
    match command {
        Command::Login(args) => login::run(args, common, out).await,
        Command::Accounts(args) => accounts::run(&args, common, out),
        Command::Repair(args) => repair::run(&args, common, out).await,
        Command::Run(args) => run::run(&args, common, out).await,
        Command::Logout(args) => login::logout(&args, common, out).await,
        command => {
            let session = open(common).await?;
            let done = with_session(command, &session, out).await;
            if done.is_ok() {
                session.finish().await;
            }
            done
        }
    }
}

/// Does what needs an open account.
pub async fn with_session(command: Command, session: &Session, out: &Output) -> Result<(), Failure> {
    match command {
        Command::Whoami => whoami::run(session, out).await,
        Command::Rooms(args) => rooms::run(&args, session, out).await,
        Command::Create(args) => create::run(args, session, out).await,
        Command::Join(args) => rooms::join(&args, session, out).await,
        Command::Leave(args) => rooms::leave(&args, session, out).await,
        Command::Invite(args) => moderate::run(moderate::What::Invite, &args, session, out).await,
        Command::Kick(args) => moderate::run(moderate::What::Kick, &args, session, out).await,
        Command::Ban(args) => moderate::run(moderate::What::Ban, &args, session, out).await,
        Command::Unban(args) => moderate::run(moderate::What::Unban, &args, session, out).await,
        Command::Members(args) => members::run(&args, session, out).await,
        Command::Set(args) => set::run(args, session, out).await,
        Command::Send(args) => say::send(args, session, out).await,
        Command::React(args) => say::react(&args, session, out).await,
        Command::Redact(args) => say::redact(&args, session, out).await,
        Command::Seen(args) => say::seen(&args, session, out).await,
        Command::Tail(args) => tail::run(&args, session, out).await,
        Command::Read(args) => read::run(&args, session, out).await,
        Command::Upload(args) => upload::run(&args, session, out).await,
        Command::Download(args) => download::run(&args, session, out).await,
        Command::Verify(args) => verify::run(&args, session, out).await,
        Command::Devices(args) => devices::run(args, session, out).await,
        Command::ExportKeys(args) => keys::export(&args, session, out).await,
        Command::ImportKeys(args) => keys::import(&args, session, out).await,
        Command::NewSession(args) => keys::new_session(&args, session, out).await,
        Command::Recover(args) => recover::run(&args, session, out).await,
        Command::Backup(args) => backup::run(&args, session, out).await,
        Command::Login(_) | Command::Logout(_) | Command::Accounts(_) | Command::Repair(_) | Command::Run(_) => {
            Err(Failure::Usage("this command runs by itself, not inside another".to_owned()))
        }
    }
}
