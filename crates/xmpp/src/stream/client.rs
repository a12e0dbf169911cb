//! How a client's connection becomes a session: header, authentication, resource. [RFC6120 §4.3] [RFC6120 §7]

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use koine_account::AttachDevice;
use koine_stanza::{
    BareJid, Condition, Element, FullJid, Jid, StanzaError, StreamCondition, StreamError, ns,
    reader::{Header, Limits},
};
use ruma_common::{OwnedDeviceId, OwnedUserId};
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::{
    features, live,
    transport::{Broken, Incoming, OurHeader, Transport, next},
};
use crate::{
    core::Core,
    iq,
    outbox::{Counts, TooHigh},
    sasl::{CameBy, Offer},
    session::Session,
};

/// Attempts to log in on one stream. [RFC6120 §6.4.5]
const ATTEMPTS_MAX: u32 = 5;
/// Sessions of one account at once.
const SESSIONS_MAX: usize = 200;
/// How long an older connection of a session may take to let go of it.
const HANDOVER_MAX: Duration = Duration::from_secs(60);

/// A session, and the right of this connection to it. Whoever drops it leaves the session without a connection.
pub(crate) struct Bound {
    core: Arc<Core>,
    pub(crate) session: Arc<Session>,
    /// The number by which its outbox knows the connection.
    connection: u64,
    /// The turn to handle stanzas, once the connection before has let go of it.
    turn: Option<OwnedMutexGuard<()>>,
    is_taken: bool,
}

impl Bound {
    fn new(core: &Arc<Core>, session: Arc<Session>, connection: u64) -> Self {
        Self { core: core.clone(), session, connection, turn: None, is_taken: false }
    }

    /// The session, the number of its connection, and the turn.
    pub(crate) fn take(mut self) -> (Arc<Session>, u64, Option<OwnedMutexGuard<()>>) {
        self.is_taken = true;
        (self.session.clone(), self.connection, self.turn.take())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if !self.is_taken {
            tokio::spawn(live::left(self.core.clone(), self.session.clone(), self.connection));
        }
    }
}

/// What a client wants before TLS.
pub(super) enum BeforeTls {
    StartTls,
    /// To log in as it is, which is allowed here: its first element.
    GoOn(Element),
}

/// What a client says about itself when it logs in.
#[derive(Clone, Debug, Default)]
pub(super) struct Agent {
    /// Its device, where it said which installation it is. [XEP-0388 §2.3]
    pub(super) device: Option<OwnedDeviceId>,
    /// What to call it.
    pub(super) name: Option<String>,
}

/// A stream that is not a session yet.
pub(crate) struct Negotiation {
    core: Arc<Core>,
    pub(super) address: IpAddr,
    /// Our header, once it was sent.
    header: Option<OurHeader>,
    /// Who the client says it is in its header.
    pub(super) claimed: Option<BareJid>,
    attempts: u32,
    /// Accounts made on this stream.
    pub(super) made: u32,
    /// What the client was invited with. [XEP-0445]
    pub(super) invitation: Option<String>,
    /// The certificate by which the client came in.
    pub(super) came_by: Option<CameBy>,
    /// It came in by the password itself.
    pub(super) by_password: bool,
}

impl Negotiation {
    pub(crate) fn new(core: Arc<Core>, address: IpAddr) -> Self {
        Self {
            core,
            address,
            header: None,
            claimed: None,
            attempts: 0,
            made: 0,
            invitation: None,
            came_by: None,
            by_password: false,
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Sends our header, if the client has none yet.
    pub(super) fn send_header(&mut self, transport: &mut dyn Transport) {
        if self.header.is_none() {
            let header = OurHeader { from: self.core.hosts.domain.clone(), to: None, id: new_id() };
            transport.send_open(&header);
            self.header = Some(header);
        }
    }

    /// Everything that comes before TLS. [RFC6120 §5.4]
    pub(super) async fn before_tls(&mut self, transport: &mut dyn Transport) -> Result<BeforeTls, Broken> {
        self.open(transport).await?;
        let offer = self.core.may_log_in_plain(self.address).then(|| Offer::new(transport.security()));
        transport.send_of_stream("features", &features::before_tls(offer.as_ref()));
        loop {
            let element = element(transport).await?;
            if element.is("starttls", ns::TLS) {
                transport.send(&Element::new("proceed", ns::TLS));
                super::transport::flush(transport).await?;
                return Ok(BeforeTls::StartTls);
            }
            if offer.is_some() {
                return Ok(BeforeTls::GoOn(element));
            }
            match element.ns() {
                // [RFC6120 §6.5.4]
                ns::SASL | ns::SASL2 if matches!(element.name(), "auth" | "authenticate") => {
                    let profile = if element.ns() == ns::SASL { ns::SASL } else { ns::SASL2 };
                    transport.send(&crate::sasl::Failure::EncryptionRequired.element(profile));
                    self.attempt()?;
                }
                _ => return Err(refused("begin with STARTTLS")),
            }
        }
    }

    /// From the header to the session. `first` is what came already.
    pub(super) async fn run(
        &mut self,
        transport: &mut dyn Transport,
        mut first: Option<Element>,
    ) -> Result<Bound, Broken> {
        let offer = Offer::new(transport.security()).with_certificate(&self.core, transport.security());
        if first.is_none() {
            // After TLS the stream begins anew.
            self.header = None;
            self.open(transport).await?;
            let security = transport.security().clone();
            transport.send_of_stream("features", &features::before_login(&self.core, &offer, &security));
        }
        let (user, agent) = loop {
            let element = match first.take() {
                Some(first) => first,
                None => element(transport).await?,
            };
            match (element.name(), element.ns()) {
                ("auth", ns::SASL) => {
                    if let Some(user) = self.sasl1(transport, &element, &offer).await? {
                        transport.restart();
                        self.header = None;
                        self.open(transport).await?;
                        break (user, Agent::default());
                    }
                }
                ("authenticate", ns::SASL2) => match self.sasl2(transport, &element, &offer).await? {
                    super::sasl2::Outcome::Refused => {}
                    super::sasl2::Outcome::Proven(user, agent) => break (user, agent),
                    super::sasl2::Outcome::Bound(bound) => return Ok(bound),
                },
                // [XEP-0198 §3] Not before there is a session.
                ("enable" | "resume", ns::SM) => {
                    transport.send(&sm_failed(Condition::UnexpectedRequest, None));
                    self.attempt()?;
                }
                ("iq", ns::CLIENT) if self.may_register(&element) => self.register(transport, &element).await?,
                _ => return Err(refused("log in first")),
            }
        };
        transport.set_limits(Limits::bytes(self.core.config().stanza_bytes_max));
        transport.send_of_stream("features", &features::after_login(&self.core));
        self.bind(transport, user, agent).await
    }

    /// One attempt more. [RFC6120 §6.4.5]
    pub(super) fn attempt(&mut self) -> Result<(), Broken> {
        self.attempts += 1;
        match self.attempts {
            ..ATTEMPTS_MAX => Ok(()),
            _ => Err(StreamError::new(StreamCondition::PolicyViolation, "too many attempts to log in").into()),
        }
    }

    /// Waits for the client's header, and answers it. [RFC6120 §4.7]
    async fn open(&mut self, transport: &mut dyn Transport) -> Result<(), Broken> {
        let Incoming::Open(header) = next(transport).await? else {
            return Err(StreamError::new(StreamCondition::InvalidXml, "a stream begins with its header").into());
        };
        let checked = self.check(&header);
        let to = header.element.attr("from").and_then(|from| Jid::new(from).ok());
        let ours = OurHeader {
            from: self.core.hosts.domain.clone(),
            to: to.as_ref().map(|to| to.to_bare().to_string()),
            id: new_id(),
        };
        transport.send_open(&ours);
        self.header = Some(ours);
        self.claimed = to.map(|to| to.to_bare());
        checked.map_err(Broken::Error)
    }

    fn check(&self, header: &Header) -> Result<(), StreamError> {
        let element = &header.element;
        let refuse = |condition, text: &str| Err(StreamError::new(condition, text));
        if element.ns() != ns::STREAM {
            return refuse(
                StreamCondition::InvalidNamespace,
                "the header is in another namespace than that of streams",
            );
        }
        if element.name() != "stream" {
            return refuse(StreamCondition::BadFormat, "the header is not called stream");
        }
        if !matches!(header.content_ns.as_deref(), Some(ns::CLIENT | ns::STREAM)) {
            return refuse(StreamCondition::InvalidNamespace, "clients are served here: jabber:client");
        }
        let major = element.attr("version").and_then(|version| version.split_once('.')?.0.parse::<u32>().ok());
        if major.is_none_or(|major| major < 1) {
            return refuse(StreamCondition::UnsupportedVersion, "versions before 1.0 are not spoken here");
        }
        // [RFC6120 §4.7.2]
        let to = element.attr("to").map(Jid::new);
        match to {
            Some(Ok(to)) if to.node().is_none() && to.domain() == self.core.hosts.domain => {}
            Some(_) => return refuse(StreamCondition::HostUnknown, "this host is not served here"),
            None => return refuse(StreamCondition::HostUnknown, "say in `to` whom you want"),
        }
        match element.attr("from").map(Jid::new) {
            Some(Ok(from)) if from.domain() == self.core.hosts.domain => Ok(()),
            Some(_) => refuse(StreamCondition::InvalidFrom, "`from` is no address of this host"),
            None => Ok(()),
        }
    }

    /// Waits until the client binds a resource or resumes a session. [RFC6120 §7.6]
    async fn bind(&mut self, transport: &mut dyn Transport, user: OwnedUserId, agent: Agent) -> Result<Bound, Broken> {
        loop {
            let element = element(transport).await?;
            if element.is("resume", ns::SM) {
                match self.resume(&user, &element).await? {
                    Ok((bound, resumed)) => {
                        transport.send(&resumed);
                        return Ok(bound);
                    }
                    Err(failed) => {
                        transport.send(&failed);
                        continue;
                    }
                }
            }
            if element.is("enable", ns::SM) {
                // [XEP-0198 §3] Not before there is a resource.
                transport.send(&sm_failed(Condition::UnexpectedRequest, None));
                continue;
            }
            let wanted = element.child("bind", ns::BIND).filter(|_| element.is("iq", ns::CLIENT));
            let Some(wanted) = wanted.filter(|_| element.kind() == Some("set")) else {
                return Err(refused("bind a resource first"));
            };
            let resource = wanted.child_text("resource", ns::BIND).filter(|resource| !resource.is_empty());
            let bound = match resource.as_deref().map(koine_stanza::resource_part) {
                Some(Err(_)) => Err(StanzaError::new(Condition::BadRequest, "this cannot be a resource")),
                Some(Ok(resource)) => self.start(&user, resource.to_string(), agent.clone()).await,
                None => self.start(&user, new_id(), agent.clone()).await,
            };
            match bound {
                Ok(bound) => {
                    let jid = Element::text_of("jid", ns::BIND, bound.session.jid().to_string());
                    let mut result = iq::result(&element, Some(Element::new("bind", ns::BIND).with_child(jid)));
                    result.set_attr("from", None::<String>);
                    result.set_attr("to", None::<String>);
                    transport.send(&result);
                    return Ok(bound);
                }
                Err(error) => {
                    if let Some(answer) = error.answer(&element) {
                        transport.send(&answer);
                    }
                }
            }
        }
    }

    /// Starts a session with that resource.
    pub(super) async fn start(&self, user: &OwnedUserId, resource: String, agent: Agent) -> Result<Bound, StanzaError> {
        let core = &self.core;
        let internal = || StanzaError::from(Condition::InternalServerError);
        let bare = core.jid_of(user).ok_or_else(internal)?;
        let jid: FullJid = bare.with_resource(&resource).map_err(|_| StanzaError::from(Condition::BadRequest))?;
        // [RFC6120 §7.7.2.2] The newcomer has it; often it is the same client, whose connection broke.
        if let Some(old) = core.sessions.get(&jid) {
            old.end(StreamError::new(StreamCondition::Conflict, "another connection has taken this resource"));
            let _ = timeout(HANDOVER_MAX, old.over()).await;
        }
        if core.sessions.count(&bare) >= SESSIONS_MAX {
            return Err(StanzaError::new(Condition::ResourceConstraint, "this account has too many sessions"));
        }
        let wanted = AttachDevice {
            device_id: agent.device.map(|device| device.to_string()),
            name: Some(agent.name.unwrap_or_else(|| format!("XMPP ({})", resource.as_str()))),
            address: Some(self.address),
        };
        let device = core.accounts().attach_device(user, wanted).await.map_err(|error| {
            tracing::warn!(user_id = %user, reason = %error, "a session could not begin");
            internal()
        })?;
        let session = Session::new(jid, user.clone(), device, &core.waiting);
        self.note_proof(&session);
        let connection = session.outbox().attach().ok_or_else(internal)?;
        let mut bound = Bound::new(core, session, connection);
        if let Some(old) = core.sessions.add(bound.session.clone()) {
            old.end(StreamError::new(StreamCondition::Conflict, "another connection has taken this resource"));
        }
        self.end_if_revoked(&bound.session);
        bound.turn = Some(bound.session.connection.clone().lock_owned().await);
        Ok(bound)
    }

    /// How whoever has the connection has proven who they are.
    fn note_proof(&self, session: &Session) {
        let mut state = session.state();
        state.came_by.clone_from(&self.came_by);
        state.by_password = self.by_password;
    }

    /// The certificate that somebody comes in by may be revoked meanwhile.
    fn end_if_revoked(&self, session: &Session) {
        let Some(came_by) = self.came_by.as_ref().filter(|came_by| came_by.is_listed) else { return };
        let holders = self.core.accounts().holders(&came_by.hash).unwrap_or_default();
        if !holders.iter().any(|holder| holder.user == *session.user()) {
            session.end(crate::xep::certificates::revoked());
        }
    }

    /// Goes on with a session whose connection broke: it with `<resumed/>`, or `<failed/>`. [XEP-0198 §5]
    pub(super) async fn resume(
        &self,
        user: &OwnedUserId,
        wanted: &Element,
    ) -> Result<Result<(Bound, Element), Element>, Broken> {
        let id = wanted.attr("previd").unwrap_or_default();
        let Some(h) = wanted.attr("h").and_then(|h| h.parse::<u32>().ok()) else {
            return Ok(Err(sm_failed(Condition::BadRequest, None)));
        };
        // Somebody else's session is not there.
        let session = self.core.sessions.resumable(id).filter(|session| session.user() == user);
        let Some(session) = session else { return Ok(Err(sm_failed(Condition::ItemNotFound, None))) };
        let Some(connection) = session.outbox().attach() else {
            return Ok(Err(sm_failed(Condition::ItemNotFound, None)));
        };
        let mut bound = Bound::new(&self.core, session.clone(), connection);
        // What came over the old connection is handled to its end before it is counted.
        let Ok(turn) = timeout(HANDOVER_MAX, session.connection.clone().lock_owned()).await else {
            return Ok(Err(sm_failed(Condition::ItemNotFound, None)));
        };
        bound.turn = Some(turn);
        let handled = {
            let mut outbox = session.outbox();
            if !outbox.is_attached(connection) {
                return Ok(Err(sm_failed(Condition::ItemNotFound, None)));
            }
            if let Err(too_high) = outbox.confirm(h) {
                outbox.end(handled_too_high(too_high));
                return Err(handled_too_high(too_high).into());
            }
            outbox.rewind();
            outbox.counts.unwrap_or_default().handled
        };
        {
            let mut state = session.state();
            state.inactive = false;
        }
        self.note_proof(&session);
        self.end_if_revoked(&session);
        let resumed = Element::new("resumed", ns::SM).with_attr("previd", id).with_attr("h", handled.to_string());
        Ok(Ok((bound, resumed)))
    }

    /// Turns stream management on. [XEP-0198 §3]
    pub(crate) fn enable(core: &Core, session: &Arc<Session>, wanted: &Element) -> Element {
        {
            let mut outbox = session.outbox();
            if outbox.counts.is_some() {
                return sm_failed(Condition::UnexpectedRequest, None);
            }
            outbox.counts = Some(Counts::default());
        }
        let enabled = Element::new("enabled", ns::SM);
        if !matches!(wanted.attr("resume"), Some("true" | "1")) || core.config().resume_for.is_zero() {
            return enabled;
        }
        let id = new_id();
        core.sessions.make_resumable(id.clone(), session);
        enabled
            .with_attr("id", id)
            .with_attr("resume", "true")
            .with_attr("max", core.config().resume_for.as_secs().to_string())
    }
}

/// `<failed/>` [XEP-0198 §4]
pub(crate) fn sm_failed(condition: Condition, handled: Option<u32>) -> Element {
    Element::new("failed", ns::SM)
        .with_attr_opt("h", handled.map(|h| h.to_string()))
        .with_child(Element::new(condition.as_str(), ns::STANZA_ERRORS))
}

/// [XEP-0198 §4]
pub(crate) fn handled_too_high(TooHigh { h, sent }: TooHigh) -> StreamError {
    let condition = Element::new("handled-count-too-high", ns::SM)
        .with_attr("h", h.to_string())
        .with_attr("send-count", sent.to_string());
    StreamError::new(StreamCondition::UndefinedCondition, format!("{h} stanzas confirmed, but {sent} sent"))
        .with_application(condition)
}

/// The next element of the stream; its end is the end.
pub(super) async fn element(transport: &mut dyn Transport) -> Result<Element, Broken> {
    match next(transport).await? {
        Incoming::Element(element) => Ok(element),
        Incoming::Open(_) => Err(StreamCondition::InvalidXml.into()),
        Incoming::Close => Err(Broken::Closed),
    }
}

/// [RFC6120 §4.9.3.12]
fn refused(text: &str) -> Broken {
    StreamError::new(StreamCondition::NotAuthorized, text).into()
}

/// An id that nobody guesses.
pub(crate) fn new_id() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>())
}
