//! Proving who one is. RFC 4422, as RFC 6120 (section 6) and XEP-0388 carry it.
//!
//! What a stranger learns from a refusal is that it was refused: whether an account exists shows neither in what is answered
//! nor in how long that takes. Attempts count for the same limits as those of Matrix.

mod external;
mod ht;
mod plain;
mod scram;

use std::{net::IpAddr, sync::Arc};

use koine_account::{Class, LimitKey, ScramHash};
use koine_stanza::{BareJid, Element, ns};
use ruma_common::OwnedUserId;

pub(crate) use self::{
    external::{CameBy, EXTERNAL},
    ht::{Ht, token_text},
};
use crate::{core::Core, stream::transport::Security};

/// Why somebody did not prove it. [RFC6120 §6.5]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the names are those of the specification")]
pub(crate) enum Failure {
    Aborted,
    AccountDisabled,
    CredentialsExpired,
    EncryptionRequired,
    IncorrectEncoding,
    InvalidAuthzid,
    InvalidMechanism,
    MalformedRequest,
    NotAuthorized,
    TemporaryAuthFailure,
}

impl Failure {
    fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }

    fn text(self) -> Option<&'static str> {
        match self {
            Self::AccountDisabled => Some("the account is locked; ask whoever runs this server"),
            Self::EncryptionRequired => Some("begin with STARTTLS"),
            Self::TemporaryAuthFailure => Some("try again later"),
            _ => None,
        }
    }

    /// `<failure/>` in the namespace of either profile.
    pub(crate) fn element(self, profile: &'static str) -> Element {
        let text = self.text().map(|text| Element::text_of("text", profile, text).with_attr("xml:lang", "en"));
        Element::new("failure", profile).with_child(Element::new(self.name(), ns::SASL)).with_child_opt(text)
    }
}

/// How far the proof is.
pub(crate) enum Step {
    /// The client is to answer this.
    Challenge(Vec<u8>),
    /// It is who it says it is.
    Done(Proven),
}

/// Who somebody is.
pub(crate) struct Proven {
    pub(crate) user: OwnedUserId,
    /// What proves to the client that we know its password too.
    pub(crate) data: Option<Vec<u8>>,
    /// The number of the token that proved it. [XEP-0484]
    pub(crate) token: Option<u64>,
    /// The certificate that proved it.
    pub(crate) came_by: Option<CameBy>,
}

impl Proven {
    /// Whether they know the password: neither a token nor a certificate proved it.
    pub(crate) fn is_by_password(&self) -> bool {
        self.token.is_none() && self.came_by.is_none()
    }
}

/// What was offered on this stream. The client proves that it saw the same. [XEP-0474]
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    /// The strongest first.
    pub(crate) mechanisms: Vec<&'static str>,
    /// [XEP-0440]
    pub(crate) bindings: Vec<&'static str>,
}

const PLUS: [(&str, ScramHash); 3] = [
    ("SCRAM-SHA-512-PLUS", ScramHash::Sha512),
    ("SCRAM-SHA-256-PLUS", ScramHash::Sha256),
    ("SCRAM-SHA-1-PLUS", ScramHash::Sha1),
];
const SCRAM: [(&str, ScramHash); 3] =
    [("SCRAM-SHA-512", ScramHash::Sha512), ("SCRAM-SHA-256", ScramHash::Sha256), ("SCRAM-SHA-1", ScramHash::Sha1)];
/// [RFC9266]
const EXPORTER: &str = "tls-exporter";
/// [RFC5929 §4]
const END_POINT: &str = "tls-server-end-point";

impl Offer {
    /// What can be offered on a connection that is protected so. [RFC6120 §13.8]
    pub(crate) fn new(security: &Security) -> Self {
        let exporter = security.exporter.as_ref().map(|_| EXPORTER);
        let bindings: Vec<_> = exporter.into_iter().chain(security.end_point.as_ref().map(|_| END_POINT)).collect();
        let plus = PLUS.iter().filter(|_| !bindings.is_empty());
        let plain = security.is_encrypted.then_some("PLAIN");
        let mechanisms = plus.chain(&SCRAM).map(|(name, _)| *name).chain(plain).collect();
        Self { mechanisms, bindings }
    }

    /// Adds EXTERNAL, where the certificate that was shown stands for somebody. [XEP-0178 §2]
    pub(crate) fn with_certificate(mut self, core: &Core, security: &Security) -> Self {
        let presented = security.certificate.as_ref();
        if presented.is_some_and(|presented| external::meant(core, presented).is_ok_and(|meant| !meant.is_empty())) {
            self.mechanisms.insert(0, EXTERNAL);
        }
        self
    }

    /// `<sasl-channel-binding/>`, if there is any. [XEP-0440]
    pub(crate) fn binding_feature(&self) -> Option<Element> {
        let of = |kind: &&'static str| Element::new("channel-binding", ns::SASL_CB).with_attr("type", *kind);
        let feature = Element::new("sasl-channel-binding", ns::SASL_CB);
        (!self.bindings.is_empty()).then(|| feature.with_children(self.bindings.iter().map(of)))
    }

    fn has_plus(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism.ends_with("-PLUS"))
    }
}

/// What a proof depends on.
pub(crate) struct Attempt<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) security: &'a Security,
    pub(crate) offer: &'a Offer,
    pub(crate) address: Option<IpAddr>,
    /// The installation that the client says it is, for tokens. [XEP-0484 §4.1]
    pub(crate) agent: Option<&'a str>,
    /// How often it used its token, if it counts. [XEP-0484]
    pub(crate) count: Option<u64>,
}

/// A proof under way.
pub(crate) enum Exchange {
    /// The client speaks first, and has not.
    Begin(Mechanism),
    /// SCRAM, after our challenge.
    Scram(Box<scram::Challenged>),
}

/// A mechanism that was offered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mechanism {
    Scram { hash: ScramHash, is_plus: bool },
    Plain,
    External,
    Ht(Ht),
}

impl Exchange {
    /// Begins with a mechanism; only with one that was offered.
    pub(crate) fn new(name: &str, attempt: &Attempt<'_>, with_token: bool) -> Result<Self, Failure> {
        if with_token {
            let ht = Ht::offered(attempt.security).find(|ht| ht.name() == name);
            return ht.map(|ht| Self::Begin(Mechanism::Ht(ht))).ok_or(Failure::InvalidMechanism);
        }
        if !attempt.offer.mechanisms.contains(&name) {
            return Err(Failure::InvalidMechanism);
        }
        let scram = |list: &[(&str, ScramHash)]| list.iter().find(|(known, _)| *known == name).map(|(_, hash)| *hash);
        let mechanism = match (scram(&PLUS), scram(&SCRAM)) {
            (Some(hash), _) => Mechanism::Scram { hash, is_plus: true },
            (_, Some(hash)) => Mechanism::Scram { hash, is_plus: false },
            _ if name == EXTERNAL => Mechanism::External,
            _ => Mechanism::Plain,
        };
        Ok(Self::Begin(mechanism))
    }

    /// Takes what the client says.
    pub(crate) async fn step(self, message: &[u8], attempt: &Attempt<'_>) -> Result<(Step, Option<Self>), Failure> {
        match self {
            Self::Begin(Mechanism::Scram { hash, is_plus }) => {
                let (challenge, challenged) = scram::begin(message, hash, is_plus, attempt)?;
                Ok((Step::Challenge(challenge), Some(Self::Scram(Box::new(challenged)))))
            }
            Self::Begin(Mechanism::Plain) => Ok((Step::Done(plain::check(message, attempt).await?), None)),
            Self::Begin(Mechanism::External) => Ok((Step::Done(external::check(message, attempt)?), None)),
            Self::Begin(Mechanism::Ht(ht)) => Ok((Step::Done(ht.check(message, attempt).await?), None)),
            Self::Scram(challenged) => {
                let (user, data) = challenged.finish(message, attempt)?;
                check_state(&user, attempt)?;
                Ok((Step::Done(Proven { user, data: Some(data), token: None, came_by: None }), None))
            }
        }
    }
}

/// One attempt at an account counts for whoever makes it and for the account. [RFC6120 §6.4.5]
fn permit(attempt: &Attempt<'_>, user: Option<&OwnedUserId>) -> Result<(), Failure> {
    let accounts = attempt.core.accounts();
    let by_address = attempt.address.map(LimitKey::Address);
    for key in by_address.into_iter().chain(user.map(|user| LimitKey::User(user))) {
        accounts.permit(Class::Login, key).map_err(|_| Failure::TemporaryAuthFailure)?;
    }
    Ok(())
}

/// The proof is good; whether the account may be used is another question. [RFC6120 §6.5.2]
fn check_state(user: &OwnedUserId, attempt: &Attempt<'_>) -> Result<(), Failure> {
    match attempt.core.accounts().user(user) {
        Ok(Some(info)) if info.is_deactivated => Err(Failure::NotAuthorized),
        Ok(Some(info)) if info.is_locked => Err(Failure::AccountDisabled),
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Failure::NotAuthorized),
        Err(error) => {
            tracing::error!(reason = %error, "an account cannot be read: nobody can log in");
            Err(Failure::TemporaryAuthFailure)
        }
    }
}

/// The account that a name means, whether or not there is one.
fn named(name: &str, attempt: &Attempt<'_>) -> Option<OwnedUserId> {
    let hosts = &attempt.core.hosts;
    // Some clients send their whole address.
    let name = name.strip_suffix(hosts.domain.as_str()).and_then(|name| name.strip_suffix('@')).unwrap_or(name);
    let node = koine_stanza::local_part(name).ok()?;
    attempt.core.user_of(&BareJid::new(&format!("{node}@{}", hosts.domain)).ok()?)
}

/// Whether somebody may act for `authzid`: nobody but for themselves. [RFC6120 §6.3.8]
fn check_authzid(authzid: &str, user: Option<&OwnedUserId>, attempt: &Attempt<'_>) -> Result<(), Failure> {
    if authzid.is_empty() {
        return Ok(());
    }
    let wanted = BareJid::new(authzid).map_err(|_| Failure::InvalidAuthzid)?;
    match user.and_then(|user| attempt.core.jid_of(user)) {
        Some(own) if own == wanted => Ok(()),
        _ => Err(Failure::InvalidAuthzid),
    }
}
