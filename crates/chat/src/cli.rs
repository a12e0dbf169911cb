//! The command line: what can be asked for, and what is true of all commands.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

use crate::commands::{
    accounts, backup, create, devices, download, keys, login, members, moderate, read, recover, repair, rooms, run,
    say, set, tail, upload, verify,
};

/// A Matrix client for terminals and scripts, end-to-end encrypted. Without a command it opens its screen.
#[derive(Parser)]
#[command(name = "koine-chat", version, after_help = AFTER)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do; without one, the screen opens.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const AFTER: &str = "Exit codes: 0 done, 1 local failure, 2 usage, 3 not logged in, 4 refused by the server, 5 network, 6 cannot \
decrypt, 7 account in use, 8 local store damaged, 9 not confirmed, 10 timed out, 11 not found.\nPasswords and keys are asked for, or \
read from standard input or KOINE_CHAT_PASSWORD, KOINE_CHAT_RECOVERY_KEY, KOINE_CHAT_PASSPHRASE; never from the command line.";

/// What holds for every command.
#[derive(Clone, clap::Args)]
pub struct Common {
    /// Which account: its label or user id. Needed only if there are several.
    #[arg(long, global = true, env = "KOINE_CHAT_ACCOUNT", value_name = "LABEL")]
    pub account: Option<String>,
    /// Where accounts are kept, instead of $XDG_DATA_HOME/koine-chat.
    #[arg(long, global = true, env = "KOINE_CHAT_DATA", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Answer with JSON, one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Use what is known here and ask the server nothing.
    #[arg(long, global = true)]
    pub offline: bool,
    /// Seconds to wait for another process that uses the account.
    #[arg(long, global = true, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub wait: Duration,
    /// Seconds for which requests that fail for the network are repeated.
    #[arg(long, global = true, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub network_patience: Duration,
    /// Whoever is invited gets no keys of what was said before.
    #[arg(long, global = true)]
    pub no_history_sharing: bool,
}

/// Seconds, also with a fraction.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(value).map_err(|_| "a number of seconds, not negative".to_owned())
}

/// What can be done.
#[derive(Subcommand)]
pub enum Command {
    /// Log in: make a new device and keep it here.
    Login(login::Args),
    /// Log out: the server forgets this device, this machine its keys.
    Logout(login::LogoutArgs),
    /// Who this is, and how its encryption stands.
    Whoami,
    /// The accounts on this machine.
    Accounts(accounts::Args),
    /// Rooms and invitations.
    Rooms(rooms::Args),
    /// Make a room: encrypted, for invited people, unless something else is said.
    Create(create::Args),
    /// Join a room by its address, or accept an invitation.
    Join(rooms::JoinArgs),
    /// Leave a room, or decline an invitation.
    Leave(rooms::LeaveArgs),
    /// Invite somebody.
    Invite(moderate::Args),
    /// Remove somebody.
    Kick(moderate::Args),
    /// Remove somebody and keep them out.
    Ban(moderate::Args),
    /// Let somebody back in.
    Unban(moderate::Args),
    /// Who is in a room, and how far they are trusted.
    Members(members::Args),
    /// Change a room's name, topic, rules, or your own name.
    Set(set::Args),
    /// Send a message; `-` takes it from standard input.
    Send(say::Args),
    /// React to a message.
    React(say::ReactArgs),
    /// Remove a message.
    Redact(say::RedactArgs),
    /// Say that a room was read up to its end, or up to an event.
    Seen(say::SeenArgs),
    /// Follow a room, or all: what is said from now on, decrypted.
    Tail(tail::Args),
    /// The last messages of a room.
    Read(read::Args),
    /// Send a file.
    Upload(upload::Args),
    /// Fetch a file that was sent.
    Download(download::Args),
    /// Verify a device or a person by comparing emoji.
    Verify(verify::Args),
    /// Devices: list, rename, delete, block; who gets keys.
    Devices(devices::Args),
    /// Write the keys of messages to a file, under a passphrase.
    ExportKeys(keys::ExportArgs),
    /// Read the keys of messages from a file.
    ImportKeys(keys::ImportArgs),
    /// Throw away a room's outgoing session, so that the next message begins a new one.
    NewSession(keys::NewSessionArgs),
    /// Get old messages and trust back with the recovery key, or make a new one.
    Recover(recover::Args),
    /// The backup of keys on the server.
    Backup(backup::Args),
    /// Set a damaged local store aside and fetch its contents anew.
    Repair(repair::Args),
    /// Run commands from standard input in one process: one a line, as words or as a JSON array.
    Run(run::Args),
}
