//! Other servers: settings, the client that reaches them, and where they find us.

use std::path::Path;

use koine_matrix_federation::{Cores, Federation, FederationConfig as ProtocolConfig};
use koine_media::Media;
use koine_net::Client;
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedServerName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    program::{DOMAIN, Server, StartError},
    signing_key,
};

/// Other Matrix servers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FederationConfig {
    /// Where other servers reach this one, as "matrix.example.org:443", told at `/.well-known/matrix/server`. Default:
    /// none; they try port 8448 of the server's name, and that address answers 404. Needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "matrix.example.org:443")]
    pub reached_at: Option<OwnedServerName>,

    /// Servers whose word is believed about the keys of servers that do not answer. Default: none. Events of servers that
    /// are gone for ever cannot be checked without. Needs a restart.
    #[schemars(with = "Vec<String>")]
    pub notaries: Vec<OwnedServerName>,

    /// Keys that signed for this server once, in other software, as
    /// `[{ id = "ed25519:a_1", key = "<public key in base64>", ended_ms = 1700000000000 }]`. Default: none. Those that
    /// `koine key rotate` replaced are known without. Other servers check old events with them. Needs a restart.
    pub old_keys: Vec<OldKeyConfig>,

    /// Whether rooms of other servers are joined without waiting for their members, which are then fetched in the
    /// background. Default: false. With it, a room of 100,000 members can be talked in at once; until its members are
    /// known, which takes about 0.2 ms of CPU for each, nobody is invited or removed from here, clients that do not load
    /// members lazily are not told of the room, and what only the members would forbid is shown. Joining 10,000 members
    /// takes about a second without it. Needs a restart.
    pub partial_joins: bool,

    /// How other servers are reached.
    pub network: koine_net::Config,
}

/// A key that signed for this server once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OldKeyConfig {
    /// Its id, as `ed25519:a_1`.
    pub id: String,
    /// The public part, in base64.
    pub key: String,
    /// When it was replaced, in milliseconds since 1970.
    pub ended_ms: u64,
}

/// Federation of the domain; it sends from now on.
pub fn open(server: &Server, media: Media, client: &Client, data_dir: &Path) -> Result<Federation, StartError> {
    let config = &server.config.federation;
    let mut old_keys: Vec<_> =
        signing_key::old(data_dir)?.into_iter().map(|old| (old.id, old.key, old.ended)).collect();
    for old in &config.old_keys {
        let ended = old
            .ended_ms
            .try_into()
            .map(MilliSecondsSinceUnixEpoch)
            .unwrap_or_else(|_| MilliSecondsSinceUnixEpoch::now());
        old_keys.push((old.id.clone(), old.key.clone(), ended));
    }
    let federation = Federation::new(Cores {
        domain: DOMAIN,
        rooms: server.rooms.clone(),
        accounts: server.accounts.clone(),
        media: Some(media),
        signing_key: signing_key::open(data_dir, &mut rand::rng())?,
        peers: std::sync::Arc::new(client.clone()),
        config: ProtocolConfig {
            reached_at: config.reached_at.clone(),
            notaries: config.notaries.clone(),
            partial_joins: config.partial_joins,
            old_keys,
        },
        now: MilliSecondsSinceUnixEpoch::now,
    });
    federation.start();
    Ok(federation)
}
