//! Who is in a room, and how far they are trusted.

use matrix_sdk::{Client, RoomMemberships, ruma::UserId};
use serde::Serialize;

use crate::{failure::Failure, harmless, identity, output::Output, session::Session};

/// `koine-chat members`
#[derive(clap::Args)]
pub struct Args {
    /// Id, address or name.
    pub room: String,
}

/// A member as scripts see one.
#[derive(Serialize)]
pub struct Line {
    r#type: &'static str,
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    membership: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    power: Option<i64>,
    /// verified, unverified, changed, none.
    trust: &'static str,
    devices: usize,
    unsigned_devices: usize,
}

/// Somebody whose identity is another than it was.
pub const CHANGED: (&str, &str) = ("changed", "!");

/// How far a person is trusted: code, and mark for the terminal.
pub async fn trust(client: &Client, user: &UserId) -> (&'static str, &'static str) {
    match client.encryption().get_user_identity(user).await {
        Ok(Some(identity)) if identity.has_verification_violation() => CHANGED,
        Ok(Some(identity)) if identity.is_verified() => ("verified", "✔"),
        Ok(Some(_)) => ("unverified", "·"),
        _ => ("none", " "),
    }
}

/// Lists them.
pub async fn run(args: &Args, session: &Session, out: &Output) -> Result<(), Failure> {
    session.catch_up().await?;
    let room = session.room(&args.room).await?;
    let members = match session.offline {
        true => room.members_no_sync(RoomMemberships::ACTIVE).await?,
        false => room.members(RoomMemberships::ACTIVE).await?,
    };
    let changed = identity::changed(&room).await;
    for member in members {
        let devices = session.client.encryption().get_user_devices(member.user_id()).await?;
        let (trust, mark) = match changed.contains(member.user_id()) {
            true => CHANGED,
            false => trust(&session.client, member.user_id()).await,
        };
        let power = match member.power_level() {
            matrix_sdk::ruma::events::room::power_levels::UserPowerLevel::Int(level) => Some(i64::from(level)),
            _ => None,
        };
        let line = Line {
            r#type: "member",
            user_id: member.user_id().to_string(),
            name: member.display_name().map(ToOwned::to_owned),
            membership: member.membership().to_string(),
            power,
            trust,
            devices: devices.devices().count(),
            unsigned_devices: devices.devices().filter(|device| !device.is_cross_signed_by_owner()).count(),
        };
        out.say(&line, || {
            let name = line.name.as_deref().map(harmless::line).unwrap_or_default();
            let state = if line.membership == "join" { String::new() } else { format!(" [{}]", line.membership) };
            let changed = if line.trust == "changed" { "  [!] their identity is another than it was" } else { "" };
            let unsigned = match line.unsigned_devices {
                0 => String::new(),
                count => format!("  [!] {count} of {} devices not verified by their owner", line.devices),
            };
            format!("{mark} {}  {name}{state}{changed}{unsigned}", harmless::line(&line.user_id))
        })?;
    }
    Ok(())
}
