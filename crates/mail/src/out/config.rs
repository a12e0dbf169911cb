//! Settings of mails that go out. The server's configuration file has these under `[mail.outgoing]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mails that go out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutConfig {
    /// Where mails go: "internet" (to the mail servers of the recipients' domains), "smarthost" (all of them to one server,
    /// see `[mail.outgoing.smarthost]`), "outbox" (into a folder, for trying things out) or "nowhere" (they wait).
    /// Default: "internet". Needs a restart.
    pub deliver: Deliver,

    /// The folder of `deliver = "outbox"`, a Maildir. Default: `outbox` in the data folder. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/var/lib/koine/outbox")]
    pub outbox: Option<PathBuf>,

    /// For how many seconds somebody has to say nothing until their lines go out, together, as one mail. Default: 60.
    /// Needs a restart.
    pub silence_s: u64,

    /// For how many seconds lines are collected at most, if there is no silence. Default: 600. Needs a restart.
    pub collect_s: u64,

    /// Most bytes of files that are attached to one mail; further ones are there as links that run out. Default: 10485760
    /// (10 MiB), for many servers take no larger mails than 25 MiB, and files grow by a third. Needs a restart.
    pub attached_bytes_max: u64,

    /// For how many days such links lead to their files. Default: 30. Needs a restart.
    pub link_days: u64,

    /// Most mails that one account may send in a day, one for each recipient, whatever they say: lines, edits, reactions,
    /// notices that something was read. All people of another server, of Matrix or XMPP, share as many. Default: 500. Needs
    /// a restart.
    pub per_account_day: u64,

    /// For how many hours it is tried to deliver a mail. Default: 120 (5 days). Needs a restart.
    pub retry_hours: u64,

    /// After how many hours its author is told that a mail is still under way. Default: 4. Needs a restart.
    pub delayed_hours: u64,

    /// To how many servers mails are delivered at the same time. Default: 16. Needs a restart.
    pub connections_max: usize,

    /// Whether mails go only to servers that speak TLS with a certificate in their name that is believed. Default: false;
    /// TLS is used wherever it is offered, and required where the recipients' domain asks for it (MTA-STS). Needs a restart.
    pub require_tls: bool,

    /// The port of other mail servers. Default: 25; other ports are for tests. Needs a restart.
    pub port: u16,

    /// The server that takes all mails where `deliver` is "smarthost", and sees to the rest.
    pub smarthost: SmarthostConfig,
}

impl Default for OutConfig {
    fn default() -> Self {
        Self {
            deliver: Deliver::Internet,
            outbox: None,
            silence_s: 60,
            collect_s: 600,
            attached_bytes_max: 10 * 1024 * 1024,
            link_days: 30,
            per_account_day: 500,
            retry_hours: 120,
            delayed_hours: 4,
            connections_max: 16,
            require_tls: false,
            port: 25,
            smarthost: SmarthostConfig::default(),
        }
    }
}

/// Where mails go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Deliver {
    /// To the mail servers of the recipients' domains.
    #[default]
    Internet,
    /// To one server, which sees to the rest.
    Smarthost,
    /// Into a folder.
    Outbox,
    /// They wait.
    Nowhere,
}

/// A server that takes all mails and sees to the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SmarthostConfig {
    /// Its name, which its certificate has to be for. Default: none. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "smtp.example.net")]
    pub host: Option<String>,

    /// Its port. Default: 587; 465 goes with `tls = "implicit"`. Needs a restart.
    pub port: u16,

    /// "starttls", "implicit" (TLS from the first byte) or "none" (only for a server on this machine, and never with a
    /// password). Default: "starttls". Needs a restart.
    pub tls: SmarthostTls,

    /// The name to log in with. Default: none, and nobody logs in. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "koine@example.net")]
    pub username: Option<String>,

    /// File whose first line is the password; it is read at every connection. Default: none. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/koine/smarthost-password")]
    pub password_file: Option<PathBuf>,
}

impl Default for SmarthostConfig {
    fn default() -> Self {
        Self { host: None, port: 587, tls: SmarthostTls::default(), username: None, password_file: None }
    }
}

/// How the connection to a smarthost is kept from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmarthostTls {
    /// Begins in the clear, and goes on with TLS before anything is said.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// Not at all.
    None,
}
