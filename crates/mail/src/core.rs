//! What all of this crate shares.

use std::sync::{Arc, OnceLock};

use koine_account::Accounts;
use koine_media::Media;
use koine_projection::{id, mail::Address};
use koine_room::{Profile, Rooms};
use koine_store::{DomainId, Shard};
use ruma_common::{MilliSecondsSinceUnixEpoch, OwnedUserId, UserId};

use crate::{MailConfig, dns::Dns, out::Out, receive::Gate};

/// What a [`Mail`] is made of.
pub struct Cores {
    /// The tenant.
    pub domain: DomainId,
    /// Rooms.
    pub rooms: Arc<Rooms>,
    /// People.
    pub accounts: Arc<Accounts>,
    /// Files.
    pub media: Media,
    /// DNS.
    pub dns: Dns,
    /// Settings.
    pub config: MailConfig,
    /// The time.
    pub now: fn() -> MilliSecondsSinceUnixEpoch,
}

/// Mail of one domain. Cloning it costs a counter.
#[derive(Clone)]
pub struct Mail(pub(crate) Arc<Core>);

/// What every part of this crate works with.
pub(crate) struct Core {
    pub(crate) cores: Cores,
    /// The domain of addresses: the server's name without a port.
    pub(crate) host: String,
    /// Who may come in how often.
    pub(crate) gate: Arc<Gate>,
    /// Held while rooms are found or made for a mail, so that two mails at once do not make two.
    pub(crate) making: tokio::sync::Mutex<()>,
    /// What sends mails; bounces are news of those.
    pub(crate) out: OnceLock<Out>,
}

impl Mail {
    /// Ready to serve. What happens in rooms means nothing to it before [`start`](Self::start).
    pub fn new(cores: Cores) -> Self {
        let host = cores.rooms.server_name().host().to_ascii_lowercase();
        let gate = Arc::new(Gate::new(&cores.config.incoming));
        Self(Arc::new(Core { cores, host, gate, making: tokio::sync::Mutex::default(), out: OnceLock::new() }))
    }

    /// Names what sends mails: bounces are news of those. Without, every bounce is forged. The first call counts.
    pub fn sends_with(&self, out: Out) {
        let _ = self.0.out.set(out);
    }

    /// Starts to follow the log. Needs a tokio runtime; the tasks end when the shard does, or the last owner lets go.
    pub fn start(&self) {
        crate::receive::follow(&self.0);
    }
}

impl Core {
    pub(crate) fn rooms(&self) -> &Arc<Rooms> {
        &self.cores.rooms
    }

    pub(crate) fn accounts(&self) -> &Arc<Accounts> {
        &self.cores.accounts
    }

    pub(crate) fn shard(&self) -> &Shard {
        self.cores.rooms.shard()
    }

    pub(crate) fn domain(&self) -> DomainId {
        self.cores.domain
    }

    pub(crate) fn config(&self) -> &MailConfig {
        &self.cores.config
    }

    pub(crate) fn now(&self) -> MilliSecondsSinceUnixEpoch {
        (self.cores.now)()
    }

    /// The name by which we greet.
    pub(crate) fn hostname(&self) -> &str {
        self.config().hostname.as_deref().unwrap_or(&self.host)
    }

    /// Whether mail for a domain ends here: accounts, rooms, and those whom the gateways stand for.
    pub(crate) fn is_ours(&self, domain: &str) -> bool {
        domain == self.host
            || domain
                .strip_suffix(&self.host)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|service| ["rooms", "mail", "matrix", "upload"].contains(&service))
    }

    /// Whoever has an address, as rooms know them: an account of ours or a correspondent. `None` for addresses of ours
    /// that are nobody's, and for what cannot be a name.
    pub(crate) fn person_of(&self, address: &Address) -> Option<OwnedUserId> {
        if address.domain() == self.host {
            return self.account_of(address.local()).or_else(|| self.account_of(address.without_detail().0.local()));
        }
        // Never a ghost of a ghost.
        let ghost = Some(address).filter(|address| !self.is_ours(address.domain()));
        let name = id::ghost_from_address(ghost?, self.rooms().server_name())?;
        UserId::parse(format!("@{name}:{}", self.rooms().server_name())).ok()
    }

    /// The account that has a local part, if there is one in use.
    pub(crate) fn account_of(&self, local: &str) -> Option<OwnedUserId> {
        if local.starts_with('_') {
            return None;
        }
        let user = UserId::parse(format!("@{local}:{}", self.rooms().server_name())).ok()?;
        self.accounts().is_active(&user).unwrap_or(false).then_some(user)
    }

    /// The address of a correspondent; `None` for anybody else.
    pub(crate) fn correspondent(&self, user: &UserId) -> Option<Address> {
        let server = self.rooms().server_name();
        let ours = user.server_name() == server && user.localpart().starts_with(id::MAIL_GHOST);
        let address = id::address_from_ghost(Some(user).filter(|_| ours)?.localpart(), server)?;
        Some(address).filter(|address| !self.is_ours(address.domain()))
    }

    /// How somebody is called in rooms. A correspondent never without their address: names are for anybody to choose.
    pub(crate) fn profile_of(&self, user: &UserId, name: Option<&str>) -> Profile {
        let Some(address) = self.correspondent(user) else {
            let (displayname, avatar_url) = self.accounts().display_profile(user).unwrap_or_default();
            return Profile { displayname, avatar_url };
        };
        let name = name.map(str::trim).filter(|name| !name.is_empty() && !name.contains('@'));
        let displayname = name.map_or_else(|| address.to_string(), |name| format!("{name} ({address})"));
        Profile { displayname: Some(displayname), avatar_url: None }
    }
}
