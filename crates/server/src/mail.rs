//! Mail: what it is made of. Its settings are its own (`koine_mail::MailConfig`).

use koine_mail::{Cores, Dns, Mail};
use koine_media::Media;
use ruma_common::MilliSecondsSinceUnixEpoch;

use crate::program::{DOMAIN, Server, StartError};

/// Mail of the domain, if it is wanted; what happens in rooms is followed from now on.
pub fn open(server: &Server, media: Media) -> Result<Option<Mail>, StartError> {
    let config = &server.config.mail;
    if !config.enabled {
        return Ok(None);
    }
    let mail = Mail::new(Cores {
        domain: DOMAIN,
        rooms: server.rooms.clone(),
        accounts: server.accounts.clone(),
        media,
        dns: Dns::open(config.resolver).map_err(StartError::Mail)?,
        config: config.clone(),
        now: MilliSecondsSinceUnixEpoch::now,
    });
    mail.start();
    Ok(Some(mail))
}
