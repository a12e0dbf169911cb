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

    /// How other servers are reached.
    pub network: koine_net::Config,
}

/// Federation of the domain; it sends from now on.
pub fn open(server: &Server, media: Media, client: &Client, data_dir: &Path) -> Result<Federation, StartError> {
    let config = &server.config.federation;
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
            old_keys: Vec::new(),
        },
        now: MilliSecondsSinceUnixEpoch::now,
    });
    federation.start();
    Ok(federation)
}
