//! Sessions: who holds which access token, on which device.
//!
//! A request proves itself by hashing its token and finding the hash in memory; only the first request after a start,
//! or after being forgotten, reads the store. [CS-API §using-access-tokens] [CS-API §refreshing-access-tokens]

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use koine_store::{StoreError, Txn};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use ruma_common::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

use crate::{
    Accounts, Secret, StoreUnavailable, keys,
    log::{self, Kind},
    secret::{self, TokenHash},
    tables::{DEVICE, DeviceRecord, TOKEN, TokenKind, TokenRecord, USER},
};

/// How many sessions are remembered, so that requests of the connected need not read the store.
const SESSIONS_MAX: usize = 65_536;
/// How coarsely "last seen" is kept: written at most this often for a device, not for every request.
const SEEN_EVERY_MS: u64 = 10 * 60 * 1000;
/// How long a device id may be.
pub const DEVICE_ID_BYTES_MAX: usize = 255;
/// How long the name of a device may be.
pub const DEVICE_NAME_CHARS_MAX: usize = 100;
/// How long the device ids are that we make up.
const DEVICE_ID_LENGTH: usize = 10;
/// What an access token begins with, so that one that leaked is known for what it is.
const ACCESS_PREFIX: &str = "koa_";
/// What a refresh token begins with.
const REFRESH_PREFIX: &str = "kor_";

/// Somebody's session on one device, proven by an access token.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub user_id: OwnedUserId,
    /// On which device.
    pub device_id: OwnedDeviceId,
    /// An admin of this server.
    pub is_admin: bool,
    /// May look, but do little else. [CS-API §account-suspension]
    pub is_suspended: bool,
    /// An application service acts as them, who has no session of their own here.
    pub is_service: bool,
    is_locked: bool,
    token: TokenHash,
    /// Something about it has changed since it was proven.
    is_stale: AtomicBool,
    expires_ms: Option<u64>,
    seen_ms: AtomicU64,
    seen_ip: Mutex<Option<IpAddr>>,
    /// The token replaces others, which are to be revoked now that it is in use.
    replaces: AtomicBool,
}

/// The device of who acts on none. No device can be called so.
const NO_DEVICE: &str = "";

impl Session {
    fn may_as_much_as(&self, other: &Self) -> bool {
        let may = |session: &Self| (session.is_admin, session.is_suspended, session.is_locked);
        may(self) == may(other)
    }
}

/// What became of a session that was to be remembered.
enum Remembered {
    Holds(Arc<Session>),
    /// It is another meanwhile, or none.
    Changed(Option<Session>),
}

/// Sessions by their access tokens, as far as they are remembered.
#[derive(Clone)]
pub(crate) struct SessionCache(Arc<Cache<TokenHash, Arc<Session>>>);

impl Default for SessionCache {
    fn default() -> Self {
        Self(Arc::new(Cache::new(SESSIONS_MAX)))
    }
}

impl SessionCache {
    pub(crate) fn forget(&self, tokens: &[TokenHash]) {
        for token in tokens {
            if let Some((_, session)) = self.0.remove(token) {
                session.is_stale.store(true, Ordering::Release);
            }
        }
    }

    /// Forgets as soon as the revocation is durable, before anybody is woken by it.
    pub(crate) fn forget_when_durable(&self, txn: &mut Txn, tokens: Vec<TokenHash>) {
        let cache = self.clone();
        txn.on_durable(move |_| cache.forget(&tokens));
    }
}

/// Why an access token proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Never issued, or revoked since.
    #[error("the token is not known")]
    UnknownToken,
    /// The session is still there and can be refreshed.
    #[error("the token has expired")]
    TokenExpired,
    /// An admin has locked the account.
    #[error("the account is locked")]
    UserLocked,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

/// What somebody wants who logs in.
#[derive(Debug, Clone, Default)]
pub struct NewSession {
    /// The device, if the client knows one already. If it exists, its tokens until now are revoked.
    pub device_id: Option<String>,
    /// What to call a device that is new.
    pub device_name: Option<String>,
    /// Whether the client can refresh its token, so that it may expire.
    pub refreshable: bool,
    /// Where from.
    pub address: Option<IpAddr>,
}

/// What somebody gets who logs in.
#[derive(Debug)]
pub struct Credentials {
    /// On which device.
    pub device_id: OwnedDeviceId,
    /// To be sent with every request.
    pub access_token: Secret,
    /// To get the next access token.
    pub refresh_token: Option<Secret>,
    /// For how long the access token is good; forever if not said.
    pub expires_in: Option<Duration>,
}

/// Why nobody can log in to this account.
#[derive(Debug, thiserror::Error)]
pub enum StartSessionError {
    /// There is no such account.
    #[error("there is no such account")]
    UnknownUser,
    /// There was one.
    #[error("the account is deactivated")]
    UserDeactivated,
    /// Empty, too long, or with characters that have no place in an id.
    #[error("this cannot be the id of a device")]
    BadDeviceId,
    /// See there.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Accounts {
    /// Whose access token this is.
    pub fn authenticate(&self, token: &str, address: Option<IpAddr>) -> Result<Arc<Session>, AuthenticateError> {
        let session = self.authenticate_even_locked(token, address)?;
        if session.is_locked { Err(AuthenticateError::UserLocked) } else { Ok(session) }
    }

    /// The same for the few things that the locked may do: logging out. [CS-API §account-locking]
    pub fn authenticate_even_locked(
        &self,
        token: &str,
        address: Option<IpAddr>,
    ) -> Result<Arc<Session>, AuthenticateError> {
        let hash = secret::hash_token(token);
        let session = match self.sessions.0.get(&hash) {
            Some(session) => session,
            None => self.load_session(hash)?.ok_or(AuthenticateError::UnknownToken)?,
        };
        let now = self.now_ms();
        if session.expires_ms.is_some_and(|moment| moment <= now) {
            return Err(AuthenticateError::TokenExpired);
        }
        if session.replaces.swap(false, Ordering::Relaxed) {
            self.revoke_replaced(hash);
        }
        self.note_seen(&session, address, now);
        Ok(session)
    }

    /// A session of somebody whom a program acts for that has proven itself in another way. `None`: there is no such
    /// account, or it is closed, or it has no such device.
    pub fn session_for(
        &self,
        user_id: &UserId,
        device_id: Option<&DeviceId>,
    ) -> Result<Option<Arc<Session>>, StoreUnavailable> {
        let Some(localpart) = self.key(user_id) else { return Ok(None) };
        let view = self.shard.view();
        let user = view.get(&USER, self.domain, localpart)?.filter(|user| !user.is_deactivated);
        let Some(user) = user else { return Ok(None) };
        if let Some(device_id) = device_id
            && view.get(&DEVICE, self.domain, &(localpart, device_id.as_str()))?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(Arc::new(Session {
            user_id: user_id.to_owned(),
            device_id: device_id.map_or_else(|| NO_DEVICE.into(), ToOwned::to_owned),
            is_admin: user.is_admin,
            is_suspended: user.is_suspended,
            is_service: true,
            is_locked: user.is_locked,
            token: TokenHash::default(),
            is_stale: AtomicBool::new(false),
            expires_ms: None,
            seen_ms: AtomicU64::new(u64::MAX),
            seen_ip: Mutex::new(None),
            replaces: AtomicBool::new(false),
        })))
    }

    /// Whether a session that was proven some time ago is still good, for requests that take long. Cheap while nothing
    /// has happened to it.
    pub fn recheck(&self, session: &Session) -> Result<(), AuthenticateError> {
        if !session.is_stale.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.load_session(session.token)? {
            Some(session) if session.is_locked => Err(AuthenticateError::UserLocked),
            Some(_) => Ok(()),
            None => Err(AuthenticateError::UnknownToken),
        }
    }

    fn load_session(&self, hash: TokenHash) -> Result<Option<Arc<Session>>, StoreUnavailable> {
        let mut read = self.read_session(hash)?;
        while let Some(session) = read {
            match self.remember_session(hash, session)? {
                Remembered::Holds(session) => return Ok(Some(session)),
                Remembered::Changed(newer) => read = newer,
            }
        }
        Ok(None)
    }

    /// Remembers a session that was read just now. Whoever revoked its token in between, or locked, suspended or promoted its
    /// owner, found nothing to forget; so it is looked again now that there is.
    fn remember_session(&self, hash: TokenHash, session: Session) -> Result<Remembered, StoreUnavailable> {
        let session = Arc::new(session);
        self.sessions.0.insert(hash, session.clone());
        match self.read_session(hash)? {
            Some(newer) if newer.may_as_much_as(&session) => Ok(Remembered::Holds(session)),
            newer => {
                self.sessions.forget(&[hash]);
                Ok(Remembered::Changed(newer))
            }
        }
    }

    fn read_session(&self, hash: TokenHash) -> Result<Option<Session>, StoreUnavailable> {
        let view = self.shard.view();
        let Some(token) = view.get(&TOKEN, self.domain, &hash)? else { return Ok(None) };
        if token.kind != TokenKind::Access {
            return Ok(None);
        }
        let Some(user) = view.get(&USER, self.domain, token.localpart.as_str())? else { return Ok(None) };
        if user.is_deactivated {
            return Ok(None);
        }
        let device = view.get(&DEVICE, self.domain, &(token.localpart.as_str(), token.device_id.as_str()))?;
        let Some(device) = device else { return Ok(None) };
        Ok(Some(Session {
            user_id: self.user_id(&token.localpart)?,
            device_id: token.device_id.into(),
            is_admin: user.is_admin,
            is_suspended: user.is_suspended,
            is_service: false,
            is_locked: user.is_locked,
            token: hash,
            is_stale: AtomicBool::new(false),
            expires_ms: token.expires_ms,
            seen_ms: AtomicU64::new(device.seen_ms),
            seen_ip: Mutex::new(device.seen_ip.and_then(|text| text.parse().ok())),
            replaces: AtomicBool::new(!token.replaces.is_empty()),
        }))
    }

    /// Writes down, now and then, when and where from a device was last seen. Nobody waits for it.
    fn note_seen(&self, session: &Session, address: Option<IpAddr>, now: u64) {
        let seen = session.seen_ms.load(Ordering::Relaxed);
        if now < seen.saturating_add(SEEN_EVERY_MS) {
            return;
        }
        if session.seen_ms.compare_exchange(seen, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        *session.seen_ip.lock() = address;
        let domain = self.domain;
        let key = (session.user_id.localpart().to_owned(), session.device_id.to_string());
        drop(self.shard.submit(move |txn| {
            if let Ok(Some(mut device)) = txn.get(&DEVICE, domain, &key) {
                device.seen_ms = now;
                device.seen_ip = address.map(|address| address.to_string());
                txn.put(&DEVICE, domain, &key, &device);
            }
        }));
    }

    /// Starts a session for an account whose owner has proven who they are.
    pub async fn start_session(&self, user_id: &UserId, wanted: NewSession) -> Result<Credentials, StartSessionError> {
        let localpart = self.key(user_id).ok_or(StartSessionError::UnknownUser)?.to_owned();
        let plan = SessionPlan::new(self, user_id, wanted)?;
        let domain = self.domain;
        let commit = move |txn: &mut Txn| -> Result<(Credentials, Vec<TokenHash>), StartSessionError> {
            let user = txn.get(&USER, domain, localpart.as_str()).map_err(StoreUnavailable::from)?;
            let user = user.ok_or(StartSessionError::UnknownUser)?;
            if user.is_deactivated {
                return Err(StartSessionError::UserDeactivated);
            }
            Ok(plan.write(txn).map_err(StoreUnavailable::from)?)
        };
        let (credentials, revoked) = self.change(commit).await??;
        self.sessions.forget(&revoked);
        Ok(credentials)
    }

    /// A new access token for a refresh token, and a new refresh token. The old ones are good until one of the new ones
    /// is used. [CS-API §refreshing-access-tokens]
    pub async fn refresh(&self, refresh_token: &str) -> Result<Credentials, AuthenticateError> {
        let hash = secret::hash_token(refresh_token);
        let found = self.shard.get(&TOKEN, self.domain, &hash).map_err(StoreUnavailable::from)?;
        let found = found.filter(|token| token.kind == TokenKind::Refresh).ok_or(AuthenticateError::UnknownToken)?;
        let user = self.shard.get(&USER, self.domain, found.localpart.as_str()).map_err(StoreUnavailable::from)?;
        match user {
            Some(user) if user.is_locked => return Err(AuthenticateError::UserLocked),
            Some(user) if !user.is_deactivated => {}
            _ => return Err(AuthenticateError::UnknownToken),
        }
        let tokens = NewTokens::new(self, true);
        let domain = self.domain;
        let device_id: OwnedDeviceId = found.device_id.clone().into();
        let commit = move |txn: &mut Txn| -> Result<Option<(NewTokens, Vec<TokenHash>)>, StoreError> {
            // Looked at again here: it may have been used or revoked since.
            let Some(old) = txn.get(&TOKEN, domain, &hash)? else { return Ok(None) };
            let key = (old.localpart.clone(), old.device_id.clone());
            let Some(mut device) = txn.get(&DEVICE, domain, &key)? else { return Ok(None) };
            // In use now: what it replaced goes. Besides it only the access token beside it may stay for now.
            let mut revoked = old.replaces.clone();
            let mut kept = Vec::new();
            for other in device.tokens.iter().filter(|other| **other != hash && !old.replaces.contains(other)) {
                // A pair that replaces this token and was never used: the client never received it.
                let is_unused = txn.get(&TOKEN, domain, other)?.is_some_and(|other| other.replaces.contains(&hash));
                if is_unused { revoked.push(*other) } else { kept.push(*other) }
            }
            for revoked in &revoked {
                txn.delete(&TOKEN, domain, revoked);
            }
            txn.put(&TOKEN, domain, &hash, &TokenRecord { replaces: Vec::new(), ..old.clone() });
            kept.push(hash);
            tokens.write(txn, domain, &key, kept.clone());
            device.tokens = kept;
            device.tokens.extend(tokens.hashes());
            txn.put(&DEVICE, domain, &key, &device);
            Ok(Some((tokens, revoked)))
        };
        let outcome = self.change(commit).await?.map_err(StoreUnavailable::from)?;
        let (tokens, revoked) = outcome.ok_or(AuthenticateError::UnknownToken)?;
        self.sessions.forget(&revoked);
        Ok(tokens.credentials(device_id))
    }

    /// The client uses a new token, so it has it: the old ones can go. Nobody waits for it.
    fn revoke_replaced(&self, hash: TokenHash) {
        let domain = self.domain;
        // Forgotten at once in memory: the store follows.
        if let Ok(Some(token)) = self.shard.get(&TOKEN, domain, &hash) {
            self.sessions.forget(&token.replaces);
        }
        drop(self.shard.submit(move |txn| {
            if let Err(error) = revoke_replaced(txn, domain, hash) {
                tracing::warn!(reason = %error, "replaced tokens could not be revoked and stay valid");
            }
        }));
    }

    /// Forgets what is remembered of all sessions of a user, because something about the user has changed.
    pub(crate) fn forget_sessions_of(&self, localpart: &str) -> Result<(), StoreUnavailable> {
        for (_, device) in self.device_records(localpart)? {
            self.sessions.forget(&device.tokens);
        }
        Ok(())
    }
}

fn revoke_replaced(txn: &mut Txn, domain: koine_store::DomainId, hash: TokenHash) -> Result<(), StoreError> {
    let Some(token) = txn.get(&TOKEN, domain, &hash)? else { return Ok(()) };
    let key = (token.localpart.clone(), token.device_id.clone());
    let Some(mut device) = txn.get(&DEVICE, domain, &key)? else { return Ok(()) };
    for replaced in &token.replaces {
        txn.delete(&TOKEN, domain, replaced);
    }
    device.tokens.retain(|other| !token.replaces.contains(other));
    txn.put(&DEVICE, domain, &key, &device);
    // The other half of the pair replaced the same ones.
    for other in &device.tokens {
        if let Some(mut other_token) = txn.get(&TOKEN, domain, other)?
            && !other_token.replaces.is_empty()
        {
            other_token.replaces.retain(|replaced| !token.replaces.contains(replaced));
            txn.put(&TOKEN, domain, other, &other_token);
        }
    }
    Ok(())
}

/// A session about to be written, with its secrets.
pub(crate) struct SessionPlan {
    domain: koine_store::DomainId,
    user_id: OwnedUserId,
    device_id: String,
    device_name: Option<String>,
    address: Option<IpAddr>,
    now_ms: u64,
    tokens: NewTokens,
    sessions: SessionCache,
}

impl SessionPlan {
    pub(crate) fn new(accounts: &Accounts, user_id: &UserId, wanted: NewSession) -> Result<Self, StartSessionError> {
        let device_id = match wanted.device_id {
            Some(id) if !is_device_id(&id) => return Err(StartSessionError::BadDeviceId),
            Some(id) => id,
            None => secret::new_name(DEVICE_ID_LENGTH, secret::UPPER_CASE, &mut rand::rng()),
        };
        Ok(Self {
            domain: accounts.domain,
            user_id: user_id.to_owned(),
            device_id,
            device_name: wanted.device_name.map(|name| name.chars().take(DEVICE_NAME_CHARS_MAX).collect()),
            address: wanted.address,
            now_ms: accounts.now_ms(),
            tokens: NewTokens::new(accounts, wanted.refreshable),
            sessions: accounts.sessions.clone(),
        })
    }

    /// Writes device and tokens; answers what was revoked besides what was granted.
    pub(crate) fn write(self, txn: &mut Txn) -> Result<(Credentials, Vec<TokenHash>), StoreError> {
        let key = (self.user_id.localpart().to_owned(), self.device_id.clone());
        let known = txn.get(&DEVICE, self.domain, &key)?;
        let is_new = known.is_none();
        let mut device = known.unwrap_or_else(|| DeviceRecord {
            display_name: self.device_name.clone(),
            created_ms: self.now_ms,
            ..DeviceRecord::default()
        });
        // [CS-API §relationship-between-access-tokens-and-devices]
        let revoked = std::mem::take(&mut device.tokens);
        for token in &revoked {
            txn.delete(&TOKEN, self.domain, token);
        }
        self.sessions.forget_when_durable(txn, revoked.clone());
        device.seen_ms = self.now_ms;
        device.seen_ip = self.address.map(|address| address.to_string());
        self.tokens.write(txn, self.domain, &key, Vec::new());
        device.tokens = self.tokens.hashes();
        txn.put(&DEVICE, self.domain, &key, &device);
        txn.append(log::entry(self.domain, &self.user_id, Kind::Device, self.device_id.clone()));
        if is_new {
            keys::note_device(txn, self.domain, &self.user_id, &self.device_id)?;
        }
        Ok((self.tokens.credentials(self.device_id.into()), revoked))
    }
}

/// Not empty, not long, and nothing in it that would not print.
pub(crate) fn is_device_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= DEVICE_ID_BYTES_MAX && !text.chars().any(char::is_control)
}

struct NewTokens {
    access: Secret,
    refresh: Option<Secret>,
    expires_in: Option<Duration>,
    expires_ms: Option<u64>,
}

impl NewTokens {
    fn new(accounts: &Accounts, refreshable: bool) -> Self {
        let lifetime = refreshable.then(|| Duration::from_secs(accounts.config.access_token_lifetime_s));
        let lifetime_ms = lifetime.map(|lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        Self {
            access: secret::new_token(ACCESS_PREFIX, &mut rand::rng()),
            refresh: refreshable.then(|| secret::new_token(REFRESH_PREFIX, &mut rand::rng())),
            expires_in: lifetime,
            expires_ms: lifetime_ms.map(|lifetime| accounts.now_ms().saturating_add(lifetime)),
        }
    }

    fn hashes(&self) -> Vec<TokenHash> {
        let both = [Some(&self.access), self.refresh.as_ref()];
        both.into_iter().flatten().map(|token| secret::hash_token(token.expose())).collect()
    }

    fn write(&self, txn: &mut Txn, domain: koine_store::DomainId, key: &(String, String), replaces: Vec<TokenHash>) {
        let (localpart, device_id) = key.clone();
        let access =
            TokenRecord { localpart, device_id, kind: TokenKind::Access, expires_ms: self.expires_ms, replaces };
        txn.put(&TOKEN, domain, &secret::hash_token(self.access.expose()), &access);
        if let Some(refresh) = &self.refresh {
            let record = TokenRecord { kind: TokenKind::Refresh, expires_ms: None, ..access };
            txn.put(&TOKEN, domain, &secret::hash_token(refresh.expose()), &record);
        }
    }

    fn credentials(self, device_id: OwnedDeviceId) -> Credentials {
        Credentials { device_id, access_token: self.access, refresh_token: self.refresh, expires_in: self.expires_in }
    }
}

#[cfg(test)]
mod tests {
    use koine_store::{DomainId, MemoryEngine, Shard};
    use ruma_common::{MilliSecondsSinceUnixEpoch, owned_server_name};

    use super::*;
    use crate::{AccountConfig, Flag, NewAccount};

    #[tokio::test]
    async fn what_changes_while_a_session_is_read_is_not_remembered_as_it_was() {
        let shard = Shard::open(Arc::new(MemoryEngine::new())).expect("an empty engine opens");
        let clock = Arc::new(MilliSecondsSinceUnixEpoch::now);
        let name = owned_server_name!("example.org");
        let accounts = Accounts::new(shard, DomainId(1), name, AccountConfig::default(), clock);
        let wanted = NewAccount {
            name: Some("alice".into()),
            is_admin: true,
            session: Some(NewSession::default()),
            ..NewAccount::default()
        };
        let (alice, credentials) = accounts.create(wanted).await.expect("the name is free");
        let token = credentials.expect("a session was wanted").access_token;
        let hash = secret::hash_token(token.expose());
        for (flag, value) in [(Flag::Suspended, true), (Flag::Admin, false), (Flag::Locked, true)] {
            let read = accounts.read_session(hash).expect("the store can be read").expect("a session");
            accounts.set_flag(&alice, flag, value).await.expect("there is such an account");
            let remembered = accounts.remember_session(hash, read).expect("the store can be read");
            assert!(matches!(remembered, Remembered::Changed(Some(_))), "{flag:?}");
            assert!(accounts.sessions.0.get(&hash).is_none(), "{flag:?}");
        }
        let refused = accounts.authenticate(token.expose(), None).expect_err("locked");
        assert!(matches!(refused, AuthenticateError::UserLocked));
        let session = accounts.authenticate_even_locked(token.expose(), None).expect("a session");
        assert!(session.is_suspended && !session.is_admin);
    }
}
