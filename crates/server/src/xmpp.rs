//! XMPP: settings, and what it is made of.

use std::{sync::Arc, time::Duration};

use koine_account::Registration;
use koine_media::Media;
use koine_net::Client;
use koine_push::PushRules;
use koine_xmpp::{Cores, Turn, Xmpp, XmppConfig as ProtocolConfig};
use ruma_common::MilliSecondsSinceUnixEpoch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::{ByteSize, Config},
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
}

impl Default for XmppConfig {
    fn default() -> Self {
        Self { stanza_max: ByteSize::kibibytes(512), resume_for_s: 600, plain_on_loopback: false }
    }
}

/// XMPP of the domain; what happens is delivered from now on.
pub fn open(server: &Server, media: Media, servers: Client) -> Result<Xmpp, StartError> {
    let config = &server.config;
    let xmpp = Xmpp::new(Cores {
        domain: DOMAIN,
        rooms: server.rooms.clone(),
        accounts: server.accounts.clone(),
        media,
        push: Arc::new(PushRules::new(server.accounts.clone())),
        config: ProtocolConfig {
            stanza_bytes_max: usize::try_from(config.xmpp.stanza_max.bytes()).unwrap_or(usize::MAX),
            resume_for: Duration::from_secs(config.xmpp.resume_for_s),
            turn: turn(config),
            web_url: config.public_base_url.clone(),
            registration: config.accounts.registration == Registration::Open,
            plain_on_loopback: config.xmpp.plain_on_loopback,
            servers: Some(servers),
        },
        now: MilliSecondsSinceUnixEpoch::now,
    });
    let xmpp = xmpp.map_err(StartError::Xmpp)?;
    xmpp.start();
    Ok(xmpp)
}

/// The TURN server, if clients are told of one.
fn turn(config: &Config) -> Option<Turn> {
    let turn = &config.turn;
    let shared_secret = turn.shared_secret.clone()?;
    let is_named = !turn.uris.is_empty();
    is_named.then(|| Turn { uris: turn.uris.clone(), shared_secret, lifetime_s: turn.lifetime_s })
}
