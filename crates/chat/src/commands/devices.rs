//! Devices: one's own and other people's, and which of them get keys.

use matrix_sdk::{
    Client,
    encryption::identities::Device,
    ruma::{
        OwnedDeviceId, OwnedUserId, UserId,
        api::client::uiaa::{self, MatrixUserIdentifier, UserIdentifier},
    },
};
use matrix_sdk_crypto::LocalTrust;
use serde::Serialize;

use super::{Done, user};
use crate::{account::Sharing, ask, failure::Failure, harmless, output::Output, session::Session};

/// `koine-chat devices`
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Whose; your own without this.
    pub user: Option<String>,
    /// What to do with one.
    #[command(subcommand)]
    pub what: Option<What>,
}

/// What can be done with devices.
#[derive(clap::Subcommand)]
pub enum What {
    /// Call one of your devices something else.
    Rename {
        /// Which.
        device: String,
        /// What it is called.
        name: String,
    },
    /// Log one of your devices out. The password is needed.
    Delete {
        /// Which.
        device: String,
    },
    /// Give a device no keys from now on.
    Block {
        /// Whose.
        user: String,
        /// Which.
        device: String,
    },
    /// Undo that.
    Unblock {
        /// Whose.
        user: String,
        /// Which.
        device: String,
    },
    /// Who gets keys at all: all devices, those signed by their owners, or those of people verified here.
    Sharing {
        /// Shown without this.
        value: Option<Sharing>,
    },
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    user_id: String,
    device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// This one.
    own: bool,
    /// Trusted here.
    verified: bool,
    /// Signed by its owner's identity.
    signed: bool,
    blocked: bool,
    /// Whether it has keys at all.
    encrypts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ed25519: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_ms: Option<u64>,
}

#[derive(Serialize)]
struct SharingLine {
    r#type: &'static str,
    sharing: Sharing,
}

/// Lists, or does.
pub async fn run(args: Args, session: &Session, out: &Output) -> Result<(), Failure> {
    match args.what {
        None => list(args.user.as_deref(), session, out).await,
        Some(What::Rename { device, name }) => {
            session.needs_server()?;
            let device: OwnedDeviceId = device.into();
            session.client.rename_device(&device, &name).await?;
            out.say(&Done::new("rename"), || "Renamed.".to_owned())
        }
        Some(What::Delete { device }) => delete(device.into(), session, out).await,
        Some(What::Block { user: whose, device }) => {
            trust(&whose, &device, true, session).await?;
            out.say(&Done::new("block"), || "It gets no keys from now on.".to_owned())
        }
        Some(What::Unblock { user: whose, device }) => {
            trust(&whose, &device, false, session).await?;
            out.say(&Done::new("unblock"), || "It gets keys again.".to_owned())
        }
        Some(What::Sharing { value }) => {
            let mut account = session.accounts.load(&session.label)?;
            if let Some(value) = value {
                account.sharing = value;
                session.accounts.save(&session.label, &account)?;
            }
            out.say(&SharingLine { r#type: "sharing", sharing: account.sharing }, || {
                match account.sharing {
                    Sharing::All => "Every device of every member gets keys, but for blocked ones.",
                    Sharing::Signed => "Devices that their owners have verified get keys.",
                    Sharing::Verified => "Devices of people you have verified get keys.",
                }
                .to_owned()
            })
        }
    }
}

async fn list(whose: Option<&str>, session: &Session, out: &Output) -> Result<(), Failure> {
    session.catch_up().await?;
    let encryption = session.client.encryption();
    let own = session.client.user_id().ok_or_else(|| Failure::Local("the session has no user".to_owned()))?;
    let whose: OwnedUserId = whose.map(user).transpose()?.unwrap_or_else(|| own.to_owned());
    let is_own = whose == own;
    if !session.offline {
        encryption.request_user_identity(&whose).await?;
    }
    let known = encryption.get_user_devices(&whose).await?;
    let mut lines: Vec<Line> = known.devices().map(|device| line(&device, session)).collect();
    if is_own && !session.offline {
        for listed in session.client.devices().await?.devices {
            let id = listed.device_id.to_string();
            let last_seen_ms = listed.last_seen_ts.map(|at| u64::from(at.get()));
            match lines.iter_mut().find(|line| line.device_id == id) {
                Some(line) => {
                    line.name = listed.display_name;
                    line.last_seen_ms = last_seen_ms;
                }
                None => lines.push(Line {
                    r#type: "device",
                    user_id: own.to_string(),
                    device_id: id,
                    name: listed.display_name,
                    own: false,
                    verified: false,
                    signed: false,
                    blocked: false,
                    encrypts: false,
                    ed25519: None,
                    last_seen_ms,
                }),
            }
        }
    }
    lines.sort_by(|a, b| a.device_id.cmp(&b.device_id));
    for line in lines {
        out.say(&line, || {
            let state = match (line.blocked, line.verified, line.signed, line.encrypts) {
                (true, ..) => "blocked",
                (_, true, ..) => "verified",
                (_, _, true, _) => "signed by its owner",
                (_, _, _, true) => "[!] not verified by its owner",
                _ => "does not encrypt",
            };
            let own = if line.own { " (this one)" } else { "" };
            let name = line.name.as_deref().map(harmless::line).unwrap_or_default();
            format!("{}{own}  {name}  {state}", harmless::line(&line.device_id))
        })?;
    }
    Ok(())
}

fn line(device: &Device, session: &Session) -> Line {
    Line {
        r#type: "device",
        user_id: device.user_id().to_string(),
        device_id: device.device_id().to_string(),
        name: device.display_name().map(ToOwned::to_owned),
        own: session.client.device_id() == Some(device.device_id())
            && session.client.user_id() == Some(device.user_id()),
        verified: device.is_verified(),
        signed: device.is_cross_signed_by_owner(),
        blocked: device.is_blacklisted(),
        encrypts: true,
        ed25519: device.ed25519_key().map(|key| key.to_base64()),
        last_seen_ms: None,
    }
}

async fn delete(device: OwnedDeviceId, session: &Session, out: &Output) -> Result<(), Failure> {
    session.needs_server()?;
    if session.client.device_id() == Some(&*device) {
        return Err(Failure::Usage("that is this device; `logout` ends it".to_owned()));
    }
    if let Err(error) = session.client.delete_devices(std::slice::from_ref(&device), None).await {
        let Some(asked) = error.as_uiaa_response() else { return Err(error.into()) };
        let own = session.client.user_id().ok_or_else(|| Failure::Local("the session has no user".to_owned()))?;
        let secret = ask::secret("KOINE_CHAT_PASSWORD", "Password").await?;
        let mut password =
            uiaa::Password::new(UserIdentifier::Matrix(MatrixUserIdentifier::new(own.to_string())), secret);
        password.session.clone_from(&asked.session);
        session.client.delete_devices(&[device], Some(uiaa::AuthData::Password(password))).await?;
    }
    out.say(&Done::new("delete"), || "It is logged out.".to_owned())
}

async fn trust(whose: &str, device: &str, blocked: bool, session: &Session) -> Result<(), Failure> {
    let whose = user(whose)?;
    session.catch_up().await?;
    if !session.offline {
        session.client.encryption().request_user_identity(&whose).await?;
    }
    block(&session.client, &whose, device, blocked).await
}

/// Gives a device no keys from now on, or again.
pub async fn block(client: &Client, whose: &UserId, device: &str, blocked: bool) -> Result<(), Failure> {
    let found = client.encryption().get_device(whose, device.into()).await.map_err(matrix_sdk::Error::from)?;
    let found = found.ok_or_else(|| Failure::NotFound(format!("{whose} has no device {device} that can encrypt")))?;
    let trust = if blocked { LocalTrust::BlackListed } else { LocalTrust::Unset };
    Ok(found.set_local_trust(trust).await.map_err(matrix_sdk::Error::from)?)
}

/// A device's mark for the terminal, and the words for it.
pub fn state(device: &Device) -> (&'static str, &'static str) {
    match (device.is_blacklisted(), device.is_verified(), device.is_cross_signed_by_owner()) {
        (true, ..) => ("✖", "blocked: it gets no keys"),
        (_, true, _) => ("✔", "verified"),
        (_, _, true) => ("·", "signed by its owner"),
        _ => ("!", "not verified by its owner"),
    }
}
