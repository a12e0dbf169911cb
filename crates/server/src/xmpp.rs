//! XMPP: settings, and what it is made of.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use koine_account::Registration;
use koine_media::Media;
use koine_net::Client;
use koine_push::PushRules;
use koine_xmpp::{Component, Cores, Proxy, Support, Turn, Xmpp, XmppConfig as ProtocolConfig};
use ruma_common::MilliSecondsSinceUnixEpoch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{ByteSize, Config, Serves},
    listener::tls::Certificates,
    program::{DOMAIN, Server, StartError},
};

/// XMPP.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct XmppConfig {
    /// The longest stanza that somebody may send who is logged in, as "512 KiB". Default: "512 KiB"; some clients send
    /// pictures of themselves in one piece, so not much less. Needs a restart.
    pub stanza_max: ByteSize,

    /// For how many seconds a session whose connection broke waits for its client to come back, with all that is for it kept.
    /// 0 keeps none. Default: 600. Needs a restart.
    pub resume_for_s: u64,

    /// Whether clients on this machine may log in without TLS, though never with their password in the clear. For tests.
    /// Default: false. Needs a restart.
    pub plain_on_loopback: bool,

    /// Domains whose XMPP servers are not talked to, with everything below them, as `["spam.example"]`: their connections are
    /// refused and none are made to them. Default: none. Needs a restart.
    pub blocked_servers: Vec<String>,

    /// Programs that have a host of their own here (XEP-0114), as `[{ host = "irc.example.org", secret = "a long random text" }]`.
    /// They connect to a listener that serves "xmpp-component"; without one there is one at 127.0.0.1:5347. Whoever knows the
    /// secret may send in the name of everybody at that host. For other servers to reach it, the certificate must be for it, too.
    /// Default: none. Needs a restart.
    pub components: Vec<ComponentConfig>,

    /// The name or address at which clients reach the listener that serves "xmpp-bytestreams", as "files.example.org". Default:
    /// the server's name without its port. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "files.example.org")]
    pub bytestreams_host: Option<String>,

    /// Addresses, beginning with "https://", at which XMPP clients learn what is wrong when this server cannot be reached, on
    /// another machine. What is there is JSON as XEP-0455 has it. Default: none. Needs a restart.
    pub status_pages: Vec<String>,

    /// Address of the terms of service, told to XMPP clients with how long data are kept. Default: none. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "https://example.org/terms")]
    pub terms: Option<String>,
}

/// A program that has a host of its own.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentConfig {
    /// Its host.
    pub host: String,
    /// What it proves itself with.
    pub secret: String,
}

/// Where components connect unless a listener says otherwise.
pub const COMPONENT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5347);

impl Default for XmppConfig {
    fn default() -> Self {
        Self {
            stanza_max: ByteSize::kibibytes(512),
            resume_for_s: 600,
            plain_on_loopback: false,
            blocked_servers: Vec::new(),
            components: Vec::new(),
            bytestreams_host: None,
            status_pages: Vec::new(),
            terms: None,
        }
    }
}

/// XMPP of the domain; what happens is delivered from now on.
pub fn open(
    server: &Server,
    media: Media,
    servers: Client,
    certificates: Option<&Certificates>,
) -> Result<Xmpp, StartError> {
    let config = &server.config;
    let component = |wanted: &ComponentConfig| Component { host: wanted.host.clone(), secret: wanted.secret.clone() };
    let xmpp = Xmpp::new(Cores {
        domain: DOMAIN,
        rooms: server.rooms.clone(),
        accounts: server.accounts.clone(),
        media,
        push: Arc::new(PushRules::new(server.accounts.clone())),
        config: ProtocolConfig {
            stanza_bytes_max: usize::try_from(config.xmpp.stanza_max.bytes()).unwrap_or(usize::MAX),
            waiting_bytes_max: usize::try_from(config.memory_budget.bytes() / 4).unwrap_or(usize::MAX),
            resume_for: Duration::from_secs(config.xmpp.resume_for_s),
            turn: turn(config),
            support: Support {
                admins: config.support.admins.clone(),
                security: config.support.security.clone(),
                page: config.support.page.clone(),
                status_pages: config.xmpp.status_pages.clone(),
                terms: config.xmpp.terms.clone(),
            },
            web_url: config.public_base_url.clone(),
            mail: config.mail.enabled,
            registration: config.accounts.registration == Registration::Open,
            plain_on_loopback: config.xmpp.plain_on_loopback,
            servers: Some(servers),
            identity: certificates.map(Certificates::identity),
            blocked_servers: config.xmpp.blocked_servers.iter().map(|host| host.to_ascii_lowercase()).collect(),
            components: config.xmpp.components.iter().map(component).collect(),
            proxy: proxy(config),
        },
        now: MilliSecondsSinceUnixEpoch::now,
    });
    let xmpp = xmpp.map_err(StartError::Xmpp)?;
    xmpp.start();
    Ok(xmpp)
}

/// Where streams of bytes go through, if anywhere.
fn proxy(config: &Config) -> Option<Proxy> {
    let listener = config.listeners.iter().find(|listener| listener.serves == Serves::XmppBytestreams)?;
    let own = || config.server_name.host().trim_matches(['[', ']']).to_owned();
    let host = config.xmpp.bytestreams_host.clone().unwrap_or_else(own);
    Some(Proxy { host, port: listener.address.port() })
}

/// The TURN server, if clients are told of one.
fn turn(config: &Config) -> Option<Turn> {
    let turn = &config.turn;
    let shared_secret = turn.shared_secret.clone()?;
    let is_named = !turn.uris.is_empty();
    is_named.then(|| Turn { uris: turn.uris.clone(), shared_secret, lifetime_s: turn.lifetime_s })
}
