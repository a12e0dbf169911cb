//! Settings of how we reach other servers. The server's configuration file has these under `[federation.network]`.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::guard::{LOOPBACK, Range};

/// Settings of how we reach other servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Ranges of addresses that are not part of the internet and may be connected to nevertheless, as
    /// `["10.1.0.0/16", "fd00::/8"]`. Default: none. Other people choose the names of servers, so everything in such a
    /// range can be reached through us; name no more than where your other servers are. Needs a restart.
    pub allow_ranges: Vec<Range>,

    /// Where certain servers are, as `{ "one.test" = "127.0.0.2:8448" }`: DNS and `.well-known` are not asked, and the
    /// address guard takes your word. The certificate has to be for the server all the same. A name without port
    /// stands for every port of that host; a place without port leaves the port as it is. Default: none. For clusters
    /// on one machine and for tests; the machine's hosts file serves well otherwise. Needs a restart.
    pub static_destinations: BTreeMap<String, String>,

    /// A file with further certificates (PEM) of authorities that are believed, beside those of the operating system.
    /// Default: none. For networks that have an authority of their own. Needs a restart.
    pub extra_authorities: Option<PathBuf>,

    /// Most requests to one server at the same time; over HTTP/1.1, so many connections. Default: 32. Needs a restart.
    pub requests_per_server_max: usize,

    /// Most connections to other servers, all together. Default: 4096. Each takes a file descriptor and, while it is
    /// used, some tens of KiB. Needs a restart.
    pub connections_max: usize,

    /// How long a connection without requests is kept, in seconds. Default: 90. Needs a restart.
    pub idle_s: u64,

    /// How long connecting to a server may take, in seconds, over all its addresses. Default: 10. Needs a restart.
    pub connect_s: u64,

    /// How long we leave a server alone after the first failure, in seconds; doubled with every further one. Default: 1.
    /// Needs a restart.
    pub backoff_min_s: u64,

    /// How long we leave a server alone at most, in seconds. Default: 3600 (1 hour). A server that calls us is tried
    /// again at once. Needs a restart.
    pub backoff_max_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_ranges: Vec::new(),
            static_destinations: BTreeMap::new(),
            extra_authorities: None,
            requests_per_server_max: 32,
            connections_max: 4096,
            idle_s: 90,
            connect_s: 10,
            backoff_min_s: 1,
            backoff_max_s: 3600,
        }
    }
}

impl Config {
    /// The same, with loopback allowed: for servers that try things out on one machine.
    #[must_use]
    pub fn with_loopback(mut self) -> Self {
        self.allow_ranges.extend(LOOPBACK);
        self
    }
}
