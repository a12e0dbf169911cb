//! Mail: what it is made of. Its settings are its own (`koine_mail::MailConfig`).

use std::sync::Arc;

use koine_mail::{
    Cores, Dns, Mail,
    out::{Out, OutCores},
};
use koine_media::Media;
use koine_net::{Client, guard::Guard};
use ruma_common::MilliSecondsSinceUnixEpoch;

use crate::program::{DOMAIN, Server, StartError};

/// Mail of the domain, if it is wanted; what happens in rooms is followed from now on.
pub fn open(server: &Server, media: Media, web: Client) -> Result<Option<Mail>, StartError> {
    let config = &server.config.mail;
    if !config.enabled {
        return Ok(None);
    }
    let dns = Dns::open(config.resolver).map_err(StartError::Mail)?;
    let network = &server.config.federation.network;
    let host = server.config.server_name.host().to_ascii_lowercase();
    let out = Out::open(OutCores {
        domain: DOMAIN,
        rooms: server.rooms.clone(),
        accounts: server.accounts.clone(),
        media: media.clone(),
        dns: dns.for_sending(config.resolver, config.resolver_validates).map_err(StartError::Mail)?,
        web,
        guard: Guard::new(network.allow_ranges.clone()),
        authorities: network.extra_authorities.clone(),
        data_dir: server.config.data_dir.clone(),
        base_url: server.config.public_base_url.clone(),
        hostname: config.hostname.clone().unwrap_or(host),
        config: config.outgoing.clone(),
        now_ms: Arc::new(|| MilliSecondsSinceUnixEpoch::now().get().into()),
        patience: None,
    });
    let out = out.map_err(StartError::Mail)?;
    let mail = Mail::new(Cores {
        domain: DOMAIN,
        rooms: server.rooms.clone(),
        accounts: server.accounts.clone(),
        media,
        dns,
        config: config.clone(),
        now: MilliSecondsSinceUnixEpoch::now,
    });
    mail.sends_with(out.clone());
    mail.start();
    out.start();
    // Only here is it set, and once.
    let _ = server.mail.set(out);
    Ok(Some(mail))
}
