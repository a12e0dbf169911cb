//! Accounts: making them, proving to be their owner, closing them, and what admins do with them.

use koine_store::{Direction, KeyRange, StoreError, Txn};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId};

use crate::{
    Accounts, Busy, Credentials, InvitationRefused, NameRefused, NewSession, ScramHash, ScramKeys, Secret,
    StartSessionError, StoreUnavailable,
    core::moment,
    invitation,
    log::{self, Kind},
    names,
    password::PASSWORD_BYTES_MAX,
    secret,
    session::SessionPlan,
    tables::{USER, UserRecord},
};

/// How long the names are that we make up.
const NAME_LENGTH: usize = 12;

/// What somebody wants who makes an account.
#[derive(Debug, Default)]
pub struct NewAccount {
    /// The name; made up if not said.
    pub name: Option<String>,
    /// The password; nobody can log in without.
    pub password: Option<Secret>,
    /// An admin of this server.
    pub is_admin: bool,
    /// The registration token that permits it, to be counted.
    pub registration_token: Option<String>,
    /// To log in at once.
    pub session: Option<NewSession>,
    /// One of the server's own, or of a program that it trusts: the name may begin with `_`, and may be reserved.
    pub is_own: bool,
}

/// Why an account was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The name cannot be had by anybody.
    #[error(transparent)]
    Name(#[from] NameRefused),
    /// Somebody has it, or had it.
    #[error("the name is taken")]
    NameTaken,
    /// A program that the server trusts keeps it; see [`Accounts::reserve_names`].
    #[error("the name is kept for an application service")]
    Reserved,
    /// See there.
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    /// The registration token was used up in the meantime.
    #[error(transparent)]
    Invitation(#[from] InvitationRefused),
    /// The session could not be started, so there is no account either.
    #[error(transparent)]
    Session(#[from] StartSessionError),
    /// See there.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Why this cannot be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRefused {
    /// An empty one.
    #[error("the password is empty")]
    Empty,
    /// Longer than [`PASSWORD_BYTES_MAX`].
    #[error("the password has {0} bytes, at most {PASSWORD_BYTES_MAX} are allowed")]
    TooLong(usize),
}

/// Why somebody did not get in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such account, no password, or not this one: which of them is not for strangers to know.
    #[error("no account has this name and password")]
    WrongPassword,
    /// The password was right once. Never said by [`Accounts::log_in`], because a closed account has no password left.
    #[error("the account is deactivated")]
    UserDeactivated,
    /// See there.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such account here.
    #[error("there is no such account")]
    UnknownUser,
    /// There was one.
    #[error("the account is deactivated")]
    UserDeactivated,
    /// See there.
    #[error(transparent)]
    Password(#[from] PasswordRefused),
    /// See there.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// An account as its server's admins see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// Who.
    pub user_id: OwnedUserId,
    /// Since when.
    pub created: MilliSecondsSinceUnixEpoch,
    /// Can log in with a password.
    pub has_password: bool,
    /// Is an admin.
    pub is_admin: bool,
    /// Closed for ever.
    pub is_deactivated: bool,
    /// Closed for ever, and what was written is to be hidden from whoever comes later.
    pub is_erased: bool,
    /// Cannot do anything until unlocked. [CS-API §account-locking]
    pub is_locked: bool,
    /// May look, but do little else. [CS-API §account-suspension]
    pub is_suspended: bool,
}

/// What [`Accounts::set_flag`] sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Is an admin.
    Admin,
    /// Cannot do anything.
    Locked,
    /// May look, but do little else.
    Suspended,
}

impl Accounts {
    /// Whether a new account may have this name, as of now.
    pub fn check_name(&self, name: &str) -> Result<OwnedUserId, CreateError> {
        let user_id = self.check_localpart(&names::new_localpart(name)?)?;
        if self.is_reserved(&user_id) { Err(CreateError::Reserved) } else { Ok(user_id) }
    }

    fn check_localpart(&self, localpart: &str) -> Result<OwnedUserId, CreateError> {
        let user_id = names::user_id(localpart, &self.server_name).ok_or(NameRefused::TooLong(localpart.len()))?;
        let taken = self.shard.get(&USER, self.domain, localpart).map_err(StoreUnavailable::from)?.is_some();
        if taken { Err(CreateError::NameTaken) } else { Ok(user_id) }
    }

    /// Makes an account, and starts its first session if one is wanted: all of it or nothing.
    pub async fn create(&self, wanted: NewAccount) -> Result<(OwnedUserId, Option<Credentials>), CreateError> {
        let made_up = || secret::new_name(NAME_LENGTH, secret::LOWER_CASE, &mut rand::rng());
        let name = wanted.name.unwrap_or_else(made_up);
        let user_id = match wanted.is_own {
            true => self.check_localpart(&names::own_localpart(&name)?)?,
            false => self.check_name(&name)?,
        };
        let password = match wanted.password {
            Some(password) => {
                check_password(&password)?;
                Some(self.hasher.hash(password).await?)
            }
            None => None,
        };
        let session = wanted.session.map(|session| SessionPlan::new(self, &user_id, session)).transpose()?;
        let now_ms = self.now_ms();
        let record = UserRecord {
            created_ms: now_ms,
            password,
            is_admin: wanted.is_admin,
            is_deactivated: false,
            is_erased: false,
            is_locked: false,
            is_suspended: false,
            filters: 0,
        };
        let domain = self.domain;
        let owner = user_id.clone();
        let commit = move |txn: &mut Txn| -> Result<Option<Credentials>, CreateError> {
            let taken = txn.get(&USER, domain, owner.localpart()).map_err(StoreUnavailable::from)?.is_some();
            if taken {
                return Err(CreateError::NameTaken);
            }
            if let Some(token) = &wanted.registration_token {
                invitation::complete(txn, domain, token, now_ms)?;
            }
            txn.put(&USER, domain, owner.localpart(), &record);
            txn.append(log::entry(domain, &owner, Kind::Account, ""));
            let session = session.map(|plan| plan.write(txn)).transpose().map_err(StoreUnavailable::from)?;
            Ok(session.map(|(credentials, _)| credentials))
        };
        let credentials = self.change(commit).await??;
        self.person_changed(user_id.localpart())?;
        tracing::info!(%user_id, "account made");
        Ok((user_id, credentials))
    }

    /// Whose password somebody guesses who types a name, a local part or a user id to log in, whether or not there is such an
    /// account: what is limited by account is limited by this, however it is written. `None` for what names nobody.
    pub fn login_aim(&self, name: &str) -> Result<Option<OwnedUserId>, StoreUnavailable> {
        Ok(self.meant(name)?.and_then(|(localpart, _)| names::user_id(&localpart, &self.server_name)))
    }

    /// The account that is meant by what somebody typed; without one, the last that could be meant.
    fn meant(&self, name: &str) -> Result<Option<(String, Option<UserRecord>)>, StoreUnavailable> {
        let mut meant = None;
        for localpart in names::meant_localparts(name, &self.server_name) {
            let record = self.shard.get(&USER, self.domain, localpart.as_str())?;
            let is_there = record.is_some();
            meant = Some((localpart, record));
            if is_there {
                break;
            }
        }
        Ok(meant)
    }

    /// Who somebody is who types a name, a local part or a user id, and a password. Takes the same time whether or not
    /// there is such an account. [CS-API §legacy-login]
    pub async fn log_in(&self, name: &str, password: Secret) -> Result<OwnedUserId, LoginError> {
        let (localpart, user) = self.meant(name)?.unwrap_or_default();
        let record = user.filter(|user| !user.is_deactivated).and_then(|user| user.password);
        if password.expose().len() > PASSWORD_BYTES_MAX || !self.hasher.matches(record, password).await? {
            return Err(LoginError::WrongPassword);
        }
        Ok(self.user_id(&localpart)?)
    }

    /// The keys by which a server is convinced with SCRAM, for XMPP.
    pub fn scram_keys(&self, localpart: &str, hash: ScramHash) -> Result<Option<ScramKeys>, StoreUnavailable> {
        let user = self.shard.get(&USER, self.domain, localpart)?;
        let password = user.filter(|user| !user.is_deactivated).and_then(|user| user.password);
        Ok(password.and_then(|password| password.scram(hash).cloned()))
    }

    /// Sets the password. Sessions stay; see [`Accounts::delete_devices`].
    pub async fn set_password(&self, user_id: &UserId, password: Secret) -> Result<(), ChangeError> {
        check_password(&password)?;
        let password = self.hasher.hash(password).await?;
        self.change_user(user_id, move |user| user.password = Some(password)).await
    }

    /// Closes the account for ever: nobody can log in, all sessions end, the name stays taken. With `erase`, what is
    /// known of the person goes too. Rooms are left by whoever calls this. Closing a closed account again does whatever
    /// was not done. [CS-API §account-deactivation]
    pub async fn deactivate(&self, user_id: &UserId, erase: bool) -> Result<(), ChangeError> {
        let closed = self.change_user(user_id, move |user| {
            user.password = None;
            user.is_deactivated = true;
            user.is_erased = erase;
            user.is_admin = false;
        });
        match closed.await {
            // Closed before, maybe just before a crash: what follows may not have been done.
            Ok(()) | Err(ChangeError::UserDeactivated) => {}
            Err(error) => return Err(error),
        }
        // No session can begin from here on, so the list is complete.
        let devices: Vec<_> = self.devices(user_id)?.into_iter().map(|device| device.device_id).collect();
        self.delete_devices(user_id, devices).await?;
        self.erase_cross_signing(user_id).await?;
        self.erase_backups(user_id).await?;
        self.erase_drawers(user_id).await?;
        self.erase_nodes(user_id).await?;
        self.erase_contacts(user_id).await?;
        self.erase_certificates(user_id).await?;
        if erase {
            self.erase_profile(user_id).await?;
            self.erase_account_data(user_id).await?;
        }
        self.person_changed(user_id.localpart())?;
        tracing::info!(%user_id, "account deactivated");
        Ok(())
    }

    /// Makes or unmakes an admin, locks or unlocks, suspends or not. Takes effect with the next request.
    pub async fn set_flag(&self, user_id: &UserId, flag: Flag, value: bool) -> Result<(), ChangeError> {
        let set = self.change_user(user_id, move |user| match flag {
            Flag::Admin => user.is_admin = value,
            Flag::Locked => user.is_locked = value,
            Flag::Suspended => user.is_suspended = value,
        });
        set.await?;
        self.forget_sessions_of(user_id.localpart())?;
        Ok(())
    }

    async fn change_user(
        &self,
        user_id: &UserId,
        edit: impl FnOnce(&mut UserRecord) + Send + 'static,
    ) -> Result<(), ChangeError> {
        let localpart = self.key(user_id).ok_or(ChangeError::UnknownUser)?.to_owned();
        let (domain, owner) = (self.domain, user_id.to_owned());
        let commit = move |txn: &mut Txn| -> Result<(), ChangeError> {
            let user = txn.get(&USER, domain, localpart.as_str()).map_err(StoreUnavailable::from)?;
            let mut user = user.ok_or(ChangeError::UnknownUser)?;
            if user.is_deactivated {
                return Err(ChangeError::UserDeactivated);
            }
            edit(&mut user);
            txn.put(&USER, domain, localpart.as_str(), &user);
            txn.append(log::entry(domain, &owner, Kind::Account, ""));
            Ok(())
        };
        self.change(commit).await?
    }

    /// One account.
    pub fn user(&self, user_id: &UserId) -> Result<Option<UserInfo>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let record = self.shard.get(&USER, self.domain, localpart)?;
        Ok(record.map(|record| info(user_id.to_owned(), &record)))
    }

    /// Whether there is such an account here and it is in use.
    pub fn is_active(&self, user_id: &UserId) -> Result<bool, StoreUnavailable> {
        Ok(self.user(user_id)?.is_some_and(|user| !user.is_deactivated))
    }

    /// Accounts in order of their names, beginning after one of them.
    pub fn users(&self, after: Option<&str>, limit: usize) -> Result<Vec<UserInfo>, StoreUnavailable> {
        let range = match after {
            Some(after) => KeyRange::all().after(after),
            None => KeyRange::all(),
        };
        let view = self.shard.view();
        let rows = view.scan(&USER, self.domain, range, Direction::Forward).take(limit);
        rows.map(|row| {
            let (localpart, record) = row?;
            Ok(info(self.user_id(&localpart)?, &record))
        })
        .collect()
    }
}

fn info(user_id: OwnedUserId, record: &UserRecord) -> UserInfo {
    UserInfo {
        user_id,
        created: moment(record.created_ms),
        has_password: record.password.is_some(),
        is_admin: record.is_admin,
        is_deactivated: record.is_deactivated,
        is_erased: record.is_erased,
        is_locked: record.is_locked,
        is_suspended: record.is_suspended,
    }
}

/// Whether this can be a password. How good it is, is for its owner to judge.
pub fn check_password(password: &Secret) -> Result<(), PasswordRefused> {
    match password.expose().len() {
        0 => Err(PasswordRefused::Empty),
        length if length > PASSWORD_BYTES_MAX => Err(PasswordRefused::TooLong(length)),
        _ => Ok(()),
    }
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}
