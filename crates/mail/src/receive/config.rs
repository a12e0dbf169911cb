//! Settings of mails that come in. The server's configuration file has these under `[mail.incoming]`.

use koine_net::guard::Range;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mails that come in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InConfig {
    /// Largest mail that is taken, in bytes; senders are told this number. It is held in memory while it comes in. Default:
    /// 36700160 (35 MiB), what large providers take. Needs a restart.
    pub message_bytes_max: usize,

    /// Most bytes of mails that come in at the same time, all together; further ones are told to come back. Default:
    /// 268435456 (256 MiB). Needs a restart.
    pub waiting_bytes_max: usize,

    /// Most recipients of one mail. Default: 100. Needs a restart.
    pub recipients_max: usize,

    /// Networks whose servers have looked at senders already, as `["127.0.0.0/8", "10.1.2.3/32"]`: their mails are not
    /// judged by the address they come from, nor refused for what the author's domain wishes, and are not counted.
    /// Default: none. Name the mail server in front of this one, if there is one. What comes by LMTP is treated so
    /// anyway. Needs a restart.
    pub trusted_networks: Vec<Range>,

    /// Whether a mail is refused that fails DMARC, where the author's domain asks for that. Default: true. Needs a restart.
    pub honour_reject: bool,

    /// Lists of hosts that are refused, asked by DNS, as `["zen.spamhaus.org"]`. Default: none; read the terms of use of
    /// those who run them. Needs a restart.
    pub block_lists: Vec<String>,

    /// Most mails from one address in an hour (of IPv6, from one /64 network). Default: 600. Needs a restart.
    pub per_address_hour: u32,

    /// Most mails from one network in an hour (/24 of IPv4, /48 of IPv6). Default: 3000. Needs a restart.
    pub per_network_hour: u32,

    /// Most mails for one account in an hour. Default: 1000. Needs a restart.
    pub per_account_hour: u32,

    /// Most strangers in an hour who may ask one account into a conversation; further ones are told to come back. Default:
    /// 20. Needs a restart.
    pub strangers_hour: u32,
}

impl Default for InConfig {
    fn default() -> Self {
        Self {
            message_bytes_max: 35 * 1024 * 1024,
            waiting_bytes_max: 256 * 1024 * 1024,
            recipients_max: 100,
            trusted_networks: Vec::new(),
            honour_reject: true,
            block_lists: Vec::new(),
            per_address_hour: 600,
            per_network_hour: 3000,
            per_account_hour: 1000,
            strangers_hour: 20,
        }
    }
}
