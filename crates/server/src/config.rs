//! The configuration file: the sum of what each part of the program can be told.
//!
//! The comment on a field is its manual. `koine config example` and the reference in `docs/reference/koine.toml` are printed
//! from these comments ([`example`]), and keys that do not exist are refused with the nearest one that does ([`check`]).
//! Settings of a core crate are declared there (`koine_media::Config`) and only listed here.

mod check;
mod example;
mod quantity;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ruma_common::OwnedServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    check::{ConfigError, parse},
    example::{annotate, example},
    quantity::ByteSize,
};

/// Everything that `koine serve` reads from its file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The domain of this server: the part behind the colon in `@alice:example.org`. It is in every id that is made here,
    /// so it can never be changed later. Required.
    #[schemars(with = "String")]
    pub server_name: OwnedServerName,

    /// Folder with everything that is kept: the database, uploaded files, keys, the socket of the admin commands.
    /// Readable by the server's user alone. Default: "koine-data", beside the configuration file.
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,

    /// How much memory all caches together may take, as "256 MiB". The program itself needs about 40 MiB more. Default:
    /// "128 MiB", which serves some hundred people; give a large server a quarter of its memory. Needs a restart.
    #[serde(default = "memory_budget")]
    pub memory_budget: ByteSize,

    /// Where clients reach this server, as "https://matrix.example.org". It is told to clients that look for it under
    /// `https://<server_name>/.well-known/matrix/client`. Default: none, and that address answers 404. Needs a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "https://matrix.example.org")]
    pub public_base_url: Option<String>,

    /// Turns on Synapse's `/_synapse/admin/v1/register`, by which a program that knows this secret makes accounts.
    /// Default: none, and that address does not exist. Needs a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "a long random text")]
    pub registration_shared_secret: Option<String>,

    /// Who may make an account, what passwords cost, and how often one may knock.
    #[serde(default)]
    pub accounts: koine_account::AccountConfig,

    /// Other Matrix servers.
    #[serde(default)]
    pub federation: crate::federation::FederationConfig,

    /// Bridges and bots of Matrix.
    #[serde(default)]
    pub appservices: crate::appservices::AppservicesConfig,

    /// Uploaded files.
    #[serde(default)]
    pub media: koine_media::Config,

    /// Whom people turn to about this server, told at `/.well-known/matrix/support`. Nobody named: that address answers 404.
    #[serde(default)]
    pub support: koine_matrix_api::SupportConfig,

    /// The ed25519 key, in unpadded base64, of the policy server that has the name of this server: another program that says
    /// what may be said in rooms that ask it. Told at `/.well-known/matrix/policy_server`. Default: none, and that address
    /// answers 404. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s")]
    pub policy_server_key: Option<String>,

    /// The TURN server that callers meet at. Without addresses or secret, clients are told of none.
    #[serde(default)]
    pub turn: koine_matrix_api::TurnConfig,

    /// Certificate of the listeners with `tls = true`.
    #[serde(default)]
    pub tls: TlsConfig,

    /// XMPP: the same people and rooms in another tongue. Its addresses are among the listeners.
    #[serde(default)]
    pub xmpp: crate::xmpp::XmppConfig,

    /// Mail: people here write to addresses of mail, and are written to. Its addresses are among the listeners.
    #[serde(default)]
    pub mail: koine_mail::MailConfig,

    /// What is written to standard error, and how.
    #[serde(default)]
    pub log: LogConfig,

    /// Numbers for Prometheus.
    #[serde(default)]
    pub metrics: MetricsConfig,

    /// Addresses to listen on; one such section for each. Default: plain HTTP on 127.0.0.1:8008, for a reverse proxy on
    /// the same machine; HTTP with TLS on all addresses, port 8448; XMPP on all addresses, ports 5222 and 5223 for clients,
    /// 5269 and 5270 for servers. The second of each begins with TLS.
    #[serde(default = "listeners")]
    pub listeners: Vec<ListenerConfig>,
}

/// Certificate of the listeners with `tls = true`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// File with the certificate chain, in PEM form. Default: none, and the server makes a certificate of its own, which no
    /// other server trusts. SIGHUP reads it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/letsencrypt/live/example.org/fullchain.pem")]
    pub certificate: Option<PathBuf>,

    /// File with the private key of that certificate, in PEM form. SIGHUP reads it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/letsencrypt/live/example.org/privkey.pem")]
    pub key: Option<PathBuf>,

    /// File with the certificates of authorities, in PEM form, whose word it is that a client's certificate is for an address of
    /// XMPP (`xmppAddr`): whoever has such a certificate logs in without a password. For a company that gives its people
    /// certificates; lists of revoked ones are not read. People's own certificates are another thing: each account lists its own.
    /// Default: none. SIGHUP reads it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/koine/people-ca.pem")]
    pub client_authorities: Option<PathBuf>,
}

/// What is written to standard error, and how.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// "text" for people, "json" for collectors: one object a line. Default: "text". Needs a restart.
    pub format: LogFormat,

    /// What is worth a line: "error", "warn", "info", "debug", or by part, as "info,koine_room=debug". Default: "info".
    /// The environment variable KOINE_LOG overrides it. Needs a restart.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

/// The form of a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one object a line.
    Json,
}

/// Numbers for Prometheus.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Whether `/metrics` and `/health` are served at all. Default: true. Needs a restart.
    pub enabled: bool,

    /// Where they are served. Keep it on loopback or in a private network: there is no password. Default:
    /// "127.0.0.1:9008". Needs a restart.
    pub address: SocketAddr,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { enabled: true, address: SocketAddr::from(([127, 0, 0, 1], 9008)) }
    }
}

/// One address to listen on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Address and port, as "127.0.0.1:8008", or "[::]:8448" for every address of the machine. Required.
    pub address: SocketAddr,

    /// Whether this listener speaks TLS from the first byte, with the certificate of `[tls]`. Default: false. Needs a
    /// restart.
    #[serde(default)]
    pub tls: bool,

    /// What is spoken here: "http" (Matrix, and XMPP over WebSocket and BOSH), "xmpp-client" or "xmpp-server" (without `tls`
    /// it begins in the clear and goes on with STARTTLS), "xmpp-component" (programs of your own, see `xmpp.components`;
    /// without `tls` in the clear, so only on loopback), "xmpp-bytestreams" (clients of XMPP that cannot reach each other send
    /// files through here, by SOCKS5; see `xmpp.bytestreams_host`), "smtp" (other mail servers; without `tls`, as they expect it, it begins
    /// in the clear and goes on with STARTTLS; see `[mail]`) or "lmtp" (a mail server in front of this one; the same).
    /// Default: "http". Needs a restart.
    #[serde(default)]
    pub serves: Serves,

    /// Whether the address of a client is taken from the last entry of `X-Forwarded-For`. Only for a listener that nobody
    /// but your reverse proxy can reach: otherwise strangers choose which address their attempts count for. Default:
    /// false. Needs a restart.
    #[serde(default)]
    pub behind_proxy: bool,

    /// How many connections may be open here at once; the next ones are closed at once. Default: 20000. Needs a restart.
    #[serde(default = "connections_max")]
    pub connections_max: usize,

    /// How many of them may come from one address. Connections from loopback are not counted: that is your proxy.
    /// Default: 500. Needs a restart.
    #[serde(default = "connections_per_address_max")]
    pub connections_per_address_max: usize,
}

impl ListenerConfig {
    /// A listener with the usual limits.
    pub fn new(address: SocketAddr, tls: bool) -> Self {
        Self {
            address,
            tls,
            serves: Serves::Http,
            behind_proxy: false,
            connections_max: connections_max(),
            connections_per_address_max: connections_per_address_max(),
        }
    }
}

impl ListenerConfig {
    /// A listener for XMPP clients with the usual limits.
    pub fn xmpp_client(address: SocketAddr, tls: bool) -> Self {
        Self { serves: Serves::XmppClient, ..Self::new(address, tls) }
    }

    /// A listener for other XMPP servers with the usual limits.
    pub fn xmpp_server(address: SocketAddr, tls: bool) -> Self {
        Self { serves: Serves::XmppServer, ..Self::new(address, tls) }
    }

    /// A listener for streams of bytes with the usual limits.
    pub fn xmpp_bytestreams(address: SocketAddr) -> Self {
        Self { serves: Serves::XmppBytestreams, ..Self::new(address, false) }
    }

    /// A listener for components with the usual limits.
    pub fn xmpp_component(address: SocketAddr) -> Self {
        Self { serves: Serves::XmppComponent, ..Self::new(address, false) }
    }
}

impl ListenerConfig {
    /// A listener for other mail servers with the usual limits.
    pub fn smtp(address: SocketAddr) -> Self {
        Self { serves: Serves::Smtp, ..Self::new(address, false) }
    }

    /// A listener for a mail server in front of this one.
    pub fn lmtp(address: SocketAddr) -> Self {
        Self { serves: Serves::Lmtp, ..Self::new(address, false) }
    }
}

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Serves {
    /// Matrix, and XMPP over WebSocket and BOSH.
    #[default]
    Http,
    /// Clients of XMPP.
    XmppClient,
    /// Other XMPP servers.
    XmppServer,
    /// Components of XMPP.
    XmppComponent,
    /// Streams of bytes between clients of XMPP.
    XmppBytestreams,
    /// Other mail servers.
    Smtp,
    /// A mail server in front of this one.
    Lmtp,
}

impl Config {
    /// The configuration of a server that was told nothing but its name.
    pub fn new(server_name: OwnedServerName) -> Self {
        Self {
            server_name,
            data_dir: data_dir(),
            memory_budget: memory_budget(),
            public_base_url: None,
            registration_shared_secret: None,
            accounts: koine_account::AccountConfig::default(),
            federation: crate::federation::FederationConfig::default(),
            appservices: crate::appservices::AppservicesConfig::default(),
            media: koine_media::Config::default(),
            support: koine_matrix_api::SupportConfig::default(),
            policy_server_key: None,
            turn: koine_matrix_api::TurnConfig::default(),
            tls: TlsConfig::default(),
            xmpp: crate::xmpp::XmppConfig::default(),
            mail: koine_mail::MailConfig::default(),
            log: LogConfig::default(),
            metrics: MetricsConfig::default(),
            listeners: listeners(),
        }
    }

    /// Reads and checks a file. Relative paths in it count from the folder it lies in.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
        let mut config = parse(&text)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let settle = |path: &mut PathBuf| *path = base.join(&*path);
        settle(&mut config.data_dir);
        config.tls.certificate.iter_mut().for_each(settle);
        config.federation.network.extra_authorities.iter_mut().for_each(settle);
        config.tls.key.iter_mut().for_each(settle);
        Ok(config)
    }
}

fn data_dir() -> PathBuf {
    "koine-data".into()
}

fn memory_budget() -> ByteSize {
    ByteSize::mebibytes(128)
}

fn connections_max() -> usize {
    20_000
}

fn connections_per_address_max() -> usize {
    500
}

fn listeners() -> Vec<ListenerConfig> {
    vec![
        ListenerConfig::new(SocketAddr::from(([127, 0, 0, 1], 8008)), false),
        ListenerConfig::new(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8448)), true),
        ListenerConfig::xmpp_client(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 5222)), false),
        ListenerConfig::xmpp_client(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 5223)), true),
        ListenerConfig::xmpp_server(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 5269)), false),
        ListenerConfig::xmpp_server(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 5270)), true),
    ]
}
