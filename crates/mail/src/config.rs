//! Settings of mail. The server's configuration file has these under `[mail]`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{out::OutConfig, receive::InConfig};

/// Mail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MailConfig {
    /// Whether people here can be written to by mail, and write to addresses of mail. Default: false. It also takes a
    /// listener that serves "smtp" (port 25, and an MX record that leads there) or "lmtp" (behind a mail server that you
    /// have already). Needs a restart.
    pub enabled: bool,

    /// The name by which this server greets other mail servers; it should resolve to this machine and back. Default: the
    /// host of `server_name`. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "mx.example.org")]
    pub hostname: Option<String>,

    /// The resolver that is asked about senders and recipients, as "127.0.0.1:53". Default: those of the machine. Needs a
    /// restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "127.0.0.1:53")]
    pub resolver: Option<SocketAddr>,

    /// Whether that resolver checks signatures (DNSSEC) and its word for it is taken. Then the certificates that domains name
    /// in DNS (DANE) are obeyed when mails go out. `resolver` has to be set, to an address of loopback: anywhere else its
    /// word could be changed on the way. Default: false. Needs a restart.
    pub resolver_validates: bool,

    /// Mails that come in.
    pub incoming: InConfig,

    /// Mails that go out.
    pub outgoing: OutConfig,
}
