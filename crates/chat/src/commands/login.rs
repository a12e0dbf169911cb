//! Logging in makes a device with keys of its own; logging out ends it. The first device of an account sets up the
//! account's identity (cross-signing), a recovery key and the backup of keys.

use std::{env, fs, time::Duration};

use matrix_sdk::{
    Client,
    ruma::api::client::{
        session::login::v3::{LoginInfo, Password, Request, Response},
        uiaa::{self, MatrixUserIdentifier, UserIdentifier},
    },
};
use serde::Serialize;

use super::{open, opening};
use crate::{
    account::{Account, Accounts, Sharing},
    ask,
    cli::Common,
    failure::Failure,
    harmless,
    output::Output,
    session::Session,
};

/// `koine-chat login`
#[derive(clap::Args)]
pub struct Args {
    /// Who: a user id (@name:server), or a name with --homeserver.
    pub user: Option<String>,
    /// Address of the homeserver, if it is not to be found by the user id's server name.
    #[arg(long, env = "KOINE_CHAT_HOMESERVER", value_name = "URL")]
    pub homeserver: Option<String>,
    /// What others see this device called.
    #[arg(long, value_name = "NAME")]
    pub device_name: Option<String>,
    /// Make no recovery key and no backup (`recover --new-key` does both later).
    #[arg(long)]
    pub no_backup: bool,
}

/// `koine-chat logout`
#[derive(clap::Args)]
pub struct LogoutArgs {
    /// Remove what is kept here even if the server cannot be told.
    #[arg(long)]
    pub forget: bool,
}

/// What a login made.
#[derive(Serialize)]
pub struct LoggedIn {
    r#type: &'static str,
    /// Its label.
    pub account: String,
    user_id: String,
    device_id: String,
    homeserver: String,
    /// Whether this device is verified: true for the first of an account.
    pub verified: bool,
    /// Whether this login set up the account's identity.
    first_device: bool,
    /// Printed this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_key: Option<String>,
}

/// Logs in.
pub async fn run(args: Args, common: &Common, out: &Output) -> Result<(), Failure> {
    if common.offline {
        return Err(Failure::Usage("logging in needs the server".to_owned()));
    }
    let user = match args.user {
        Some(user) => user,
        None if out.can_ask() => ask::answer("User id (@name:server):")?,
        None => return Err(Failure::Usage("say who logs in: koine-chat login @name:server".to_owned())),
    };
    let accounts = Accounts::new(common.data_dir.clone())?;
    if let Some(label) = &common.account {
        free(&accounts, &Accounts::label(label)?)?;
    }
    let server = server_of(&user, args.homeserver.as_deref())?;
    let password = ask::secret("KOINE_CHAT_PASSWORD", &format!("Password of {}", harmless::line(&user))).await?;
    let wish = Wish {
        user,
        server,
        password,
        label: common.account.clone(),
        device_name: args.device_name,
        backup: !args.no_backup,
    };
    let (session, made) = log_in(wish, &accounts, common).await?;
    let sentence = describe(&made);
    out.say(&made, || sentence)?;
    session.finish().await;
    Ok(())
}

/// Who wants to log in where.
pub struct Wish {
    /// User id or name.
    pub user: String,
    /// Server name or address.
    pub server: String,
    /// The password.
    pub password: String,
    /// The label to keep it under.
    pub label: Option<String>,
    /// What the device is called.
    pub device_name: Option<String>,
    /// Whether a first device makes a recovery key and a backup.
    pub backup: bool,
}

/// Where to log in: the address given, or the server of the user id.
pub fn server_of(user: &str, homeserver: Option<&str>) -> Result<String, Failure> {
    match (homeserver, user.strip_prefix('@').and_then(|rest| rest.split_once(':'))) {
        (Some(server), _) => Ok(server.to_owned()),
        (None, Some((_, server))) if !server.is_empty() => Ok(server.to_owned()),
        _ => Err(Failure::Usage(format!("{user} names no server; say @name:server, or --homeserver"))),
    }
}

/// Logs in, keeps the account, sets up its encryption.
pub async fn log_in(wish: Wish, accounts: &Accounts, common: &Common) -> Result<(Session, LoggedIn), Failure> {
    // Only to find the server and ask it for a token; the device's own store is opened under its label afterwards.
    let door = Client::builder().server_name_or_homeserver_url(&wish.server).build().await?;
    let identifier = UserIdentifier::Matrix(MatrixUserIdentifier::new(wish.user.clone()));
    let mut request = Request::new(LoginInfo::Password(Password::new(identifier, wish.password.clone())));
    request.initial_device_display_name = Some(wish.device_name.clone().unwrap_or_else(device_name));
    let answer: Response = door.send(request).await?;
    let homeserver = door.homeserver().to_string();
    let account = Account {
        user_id: answer.user_id.clone(),
        device_id: answer.device_id.clone(),
        homeserver: homeserver.clone(),
        access_token: answer.access_token.clone(),
        store_key: Account::new_key(),
        sharing: Sharing::All,
    };
    let label = match &wish.label {
        Some(label) => Accounts::label(label)?,
        None => free_label(accounts, &Accounts::label_of(answer.user_id.as_str())),
    };
    let lock = accounts.lock(&label, common.wait)?;
    free(accounts, &label)?;
    accounts.save(&label, &account)?;
    accounts.remember(&label);
    let session = Session::open(accounts, &label, lock, opening(common)).await?;
    session.client.encryption().wait_for_e2ee_initialization_tasks().await;
    session.catch_up().await?;
    let (first_device, recovery_key) = set_up(&session, &wish).await?;
    // What the identity signed is known here once the server says it.
    session.client.encryption().request_user_identity(&account.user_id).await?;
    let device = session.client.encryption().get_own_device().await.map_err(matrix_sdk::Error::from)?;
    let made = LoggedIn {
        r#type: "login",
        account: label,
        user_id: account.user_id.to_string(),
        device_id: account.device_id.to_string(),
        homeserver,
        verified: device.is_some_and(|device| device.is_verified_with_cross_signing()),
        first_device,
        recovery_key,
    };
    Ok((session, made))
}

/// The first device makes the account's identity, a recovery key and the backup.
async fn set_up(session: &Session, wish: &Wish) -> Result<(bool, Option<String>), Failure> {
    let encryption = session.client.encryption();
    let own = session.client.user_id().ok_or_else(|| Failure::Local("the session has no user".to_owned()))?;
    if encryption.request_user_identity(own).await?.is_some() {
        return Ok((false, None));
    }
    if let Err(error) = encryption.bootstrap_cross_signing(None).await {
        // [CS-API §post_matrixclientv3keysdevice_signingupload] Servers may want the password again.
        let Some(asked) = error.as_uiaa_response() else { return Err(error.into()) };
        let identifier = UserIdentifier::Matrix(MatrixUserIdentifier::new(own.to_string()));
        let mut password = uiaa::Password::new(identifier, wish.password.clone());
        password.session.clone_from(&asked.session);
        encryption.bootstrap_cross_signing(Some(uiaa::AuthData::Password(password))).await?;
    }
    if !wish.backup {
        return Ok((true, None));
    }
    let key = encryption.recovery().enable().await?;
    Ok((true, Some(key)))
}

fn free(accounts: &Accounts, label: &str) -> Result<(), Failure> {
    match accounts.labels().iter().any(|taken| taken == label) {
        true => Err(Failure::Usage(format!(
            "{label} is logged in here already; log it out, or name this device with --account"
        ))),
        false => Ok(()),
    }
}

/// The label itself, or with a number if there is one already.
fn free_label(accounts: &Accounts, label: &str) -> String {
    let taken = accounts.labels();
    let mut candidates = std::iter::once(label.to_owned()).chain((2..).map(|number| format!("{label}-{number}")));
    candidates.find(|candidate| !taken.contains(candidate)).unwrap_or_else(|| label.to_owned())
}

fn device_name() -> String {
    let host = env::var("HOSTNAME").ok().or_else(|| fs::read_to_string("/etc/hostname").ok());
    match host.as_deref().map(str::trim).filter(|host| !host.is_empty()) {
        Some(host) => format!("koine-chat on {host}"),
        None => "koine-chat".to_owned(),
    }
}

/// A login in words.
pub fn describe(made: &LoggedIn) -> String {
    let mut text = format!("Logged in as {} on device {} ({}).", made.user_id, made.device_id, made.homeserver);
    if let Some(key) = &made.recovery_key {
        text.push_str(&format!(
            "\n\nThis is the recovery key of the account. It is shown this once: write it down. With it a new device reads old \
             messages and is trusted, without it they are lost when the last device is.\n\n    {key}\n"
        ));
    } else if !made.verified {
        text.push_str(
            "\nThis account has an identity already, and this device is not verified yet. `koine-chat recover` with the recovery \
             key, or `koine-chat verify` with another device, makes old messages readable and this device trusted.",
        );
    }
    text
}

#[derive(Serialize)]
struct LoggedOut<'a> {
    r#type: &'static str,
    account: &'a str,
    server_told: bool,
}

/// Logs out.
pub async fn logout(args: &LogoutArgs, common: &Common, out: &Output) -> Result<(), Failure> {
    let accounts = Accounts::new(common.data_dir.clone())?;
    let label = accounts.choose(common.account.as_deref())?;
    let told = match tell(common).await {
        Ok(()) => true,
        // The device is gone on the server already: what is kept here is of no use.
        Err(Failure::NotLoggedIn(_)) => false,
        Err(_) if args.forget => false,
        Err(failure) => return Err(failure),
    };
    let lock = accounts.lock(&label, common.wait)?;
    accounts.remove(&label)?;
    drop(lock);
    out.say(&LoggedOut { r#type: "logout", account: &label, server_told: told }, || {
        format!("{label} is logged out; its keys are gone from this machine.")
    })
}

async fn tell(common: &Common) -> Result<(), Failure> {
    let session = open(common).await?;
    session.needs_server()?;
    let backups = session.client.encryption().backups();
    if backups.are_enabled().await {
        let _ = tokio::time::timeout(Duration::from_secs(10), backups.wait_for_steady_state()).await;
    }
    Ok(session.client.logout().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_the_one_given_or_that_of_the_user_id() {
        assert_eq!(server_of("@a:example.org", None).unwrap(), "example.org");
        assert_eq!(server_of("@a:localhost:8448", None).unwrap(), "localhost:8448");
        assert_eq!(server_of("alice", Some("http://localhost:8008")).unwrap(), "http://localhost:8008");
        assert_eq!(server_of("alice", None).unwrap_err().code(), 2);
    }
}
