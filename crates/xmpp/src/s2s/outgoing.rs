//! Our connections to other servers: made, proven, and made again when they break.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use koine_net::{Manner, StreamService};
use koine_stanza::{Condition, Element, StanzaError, ns, reader::Limits};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    BIDI, BIDI_FEATURE, dialback,
    external::EXTERNAL,
    flow::{Flow, RESUME_FOR},
    incoming::chain,
    wire::{Ended, Maker, Wire},
};
use crate::{
    core::Core,
    stream::{
        NEGOTIATION_MAX, UNPROVEN_BYTES_MAX, end, end_with,
        tcp::{Io, Tcp},
        transport::{Broken, Incoming, OurHeader, Security, Transport, next},
    },
};

/// What DNS is asked for. [RFC6120 §3.2.1] [XEP-0368 §3]
const SERVICE: StreamService =
    StreamService { name: "_xmpp-server._tcp", name_tls: "_xmpps-server._tcp", port: 5269, port_tls: 5270 };
/// What is said by ALPN. [XEP-0368 §3]
pub(crate) const PROTOCOL: &[u8] = b"xmpp-server";
/// A connection that breaks sooner is worth little.
const SHORT_LIFE: Duration = Duration::from_secs(5);
/// So many of those in a row, and what is under way is given up: it may be what breaks them.
const SHORT_LIVES_MAX: u32 = 20;
/// Elements that may come while an answer is awaited.
const OTHERS_MAX: usize = 20;

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    /// No connection.
    #[error("{0}")]
    Network(#[from] koine_net::Error),
    /// It takes too long.
    #[error("it took too long")]
    Slow,
    /// It speaks otherwise than it should.
    #[error("{0}")]
    Protocol(String),
    /// It does not believe who we are.
    #[error("it does not believe that we are {0}")]
    Unproven(String),
}

impl Unreached {
    /// What senders are told. [RFC6120 §8.3.3]
    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Network(koine_net::Error::Timeout { .. }) | Self::Slow => Condition::RemoteServerTimeout,
            _ => Condition::RemoteServerNotFound,
        }
    }
}

impl From<Broken> for Unreached {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Lost => Self::Protocol("it closed the connection".into()),
            Broken::Closed => Self::Protocol("it ended the stream".into()),
            Broken::Error(error) => Self::Protocol(error.to_string()),
        }
    }
}

/// A stream with another server, after TLS.
struct Opened {
    tcp: Tcp,
    /// The id that the other server gave the stream.
    id: String,
    features: Element,
    chain: Vec<CertificateDer<'static>>,
}

/// Connects to a server and comes as far as the features after TLS; by the first of its places where that works.
async fn open(core: &Core, ours: &str, theirs: &str) -> Result<Opened, Unreached> {
    let Some(servers) = &core.config().servers else {
        return Err(Unreached::Protocol("other servers are not reached".into()));
    };
    let mut last = Unreached::Network(koine_net::Error::NotFound(theirs.to_owned()));
    for place in servers.places(theirs, &SERVICE).await? {
        let opened = async {
            let socket = servers.dial(theirs, &place).await?;
            match place.begins_with_tls {
                true => encrypted(core, socket, (ours, theirs), Some(PROTOCOL)).await,
                false => {
                    let socket = start_tls(socket, ours, theirs).await?;
                    encrypted(core, socket, (ours, theirs), None).await
                }
            }
        };
        match opened.await {
            Ok(opened) => return Ok(opened),
            Err(reason) => {
                tracing::debug!(server = theirs, %reason, "a server is not at one of its places");
                last = reason;
            }
        }
    }
    Err(last)
}

/// The stream before TLS. [RFC6120 §5.4]
async fn start_tls(socket: TcpStream, ours: &str, theirs: &str) -> Result<TcpStream, Unreached> {
    let limits = Limits::bytes(UNPROVEN_BYTES_MAX);
    let mut tcp = Tcp::new(Io::Plain(socket), Security::default(), ns::SERVER, limits);
    let (_, features) = header(&mut tcp, ours, theirs).await?;
    if !features.has_child("starttls", ns::TLS) {
        return Err(Unreached::Protocol("it does not offer TLS".into()));
    }
    tcp.send(&Element::new("starttls", ns::TLS));
    let answer = element(&mut tcp).await?;
    if !answer.is("proceed", ns::TLS) {
        return Err(Unreached::Protocol("it refuses TLS".into()));
    }
    tcp.into_plain().ok_or_else(|| Unreached::Protocol("something came before TLS".into()))
}

/// TLS, and the stream within.
async fn encrypted(
    core: &Core,
    socket: TcpStream,
    (ours, theirs): (&str, &str),
    protocol: Option<&[u8]>,
) -> Result<Opened, Unreached> {
    let Some(servers) = &core.config().servers else {
        return Err(Unreached::Protocol("other servers are not reached".into()));
    };
    let manner = Manner { protocol, identity: core.config().identity.as_ref() };
    let stream = servers.encrypt(socket, theirs, manner).await?;
    let chain = chain(stream.get_ref().1.peer_certificates());
    let security = Security { is_encrypted: true, ..Security::default() };
    let limits = Limits::bytes(UNPROVEN_BYTES_MAX);
    let mut tcp = Tcp::new(Io::TlsOut(Box::new(stream)), security, ns::SERVER, limits);
    let (id, features) = header(&mut tcp, ours, theirs).await?;
    Ok(Opened { tcp, id, features, chain })
}

/// Headers both ways, and what the other side offers.
async fn header(tcp: &mut Tcp, ours: &str, theirs: &str) -> Result<(String, Element), Unreached> {
    let header = OurHeader { from: ours.to_owned(), to: Some(theirs.to_owned()), id: String::new() };
    tcp.send_open(&header);
    let id = match next(tcp).await? {
        Incoming::Open(header) if header.element.is("stream", ns::STREAM) => {
            header.element.id().unwrap_or_default().to_owned()
        }
        _ => return Err(Unreached::Protocol("it does not begin a stream".into())),
    };
    let features = element(tcp).await?;
    match features.is("features", ns::STREAM) {
        true => Ok((id, features)),
        false => Err(Unreached::Protocol("it does not say what it offers".into())),
    }
}

async fn element(tcp: &mut Tcp) -> Result<Element, Unreached> {
    match next(tcp).await? {
        Incoming::Element(error) if error.is("error", ns::STREAM) => {
            let condition = error.children().next().map(|child| child.name().to_owned()).unwrap_or_default();
            let text = error.child_text("text", ns::STREAM_ERRORS).unwrap_or_default();
            let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            Err(Unreached::Protocol(format!("it ended the stream with {condition}: {text}")))
        }
        Incoming::Element(element) => Ok(element),
        Incoming::Close => Err(Broken::Closed.into()),
        Incoming::Open(_) => Err(Unreached::Protocol("it began the stream twice".into())),
    }
}

/// Asks the server of `theirs` whether a key is its. [XEP-0220 §2.3]
pub(super) async fn verify(core: &Core, ours: &str, theirs: &str, stream: &str, key: &str) -> Result<bool, Unreached> {
    let asked = async {
        let mut opened = open(core, ours, theirs).await?;
        let question = dialback::element("verify", ours, theirs).with_attr("id", stream).with_text(key);
        opened.tcp.send_dialback(&question);
        for _ in 0..OTHERS_MAX {
            let answer = element(&mut opened.tcp).await?;
            if answer.is("verify", dialback::NS) && answer.id() == Some(stream) {
                end(&mut opened.tcp).await;
                return Ok(answer.kind() == Some("valid"));
            }
        }
        Err(Unreached::Protocol("it does not answer".into()))
    };
    timeout(NEGOTIATION_MAX, asked).await.unwrap_or(Err(Unreached::Slow))
}

/// Whether it believes our certificate; the stream begins anew then. [XEP-0178 §3]
async fn external(opened: &mut Opened, ours: &str, theirs: &str) -> Result<bool, Unreached> {
    // COMPAT(servers before XEP-0178 1.1): who we want to be is said, though the header says it already.
    let auth = Element::text_of("auth", ns::SASL, BASE64_STANDARD.encode(ours)).with_attr("mechanism", EXTERNAL);
    opened.tcp.send(&auth);
    for _ in 0..OTHERS_MAX {
        let answer = element(&mut opened.tcp).await?;
        match (answer.name(), answer.ns()) {
            ("success", ns::SASL) => {
                opened.tcp.restart();
                (opened.id, opened.features) = header(&mut opened.tcp, ours, theirs).await?;
                return Ok(true);
            }
            ("challenge", ns::SASL) => opened.tcp.send(&Element::text_of("response", ns::SASL, "=")),
            ("failure", ns::SASL) => {
                let reason = answer.children().next().map(|reason| reason.name().to_owned()).unwrap_or_default();
                tracing::debug!(server = theirs, reason, "a server does not believe our certificate");
                return Ok(false);
            }
            _ => {}
        }
    }
    Err(Unreached::Protocol("it does not answer".into()))
}

/// Proves who we are by a key that our server knows. [XEP-0220 §2.1.1]
async fn dial_back(core: &Core, opened: &mut Opened, ours: &str, theirs: &str) -> Result<(), Unreached> {
    let key = dialback::key(core, theirs, ours, &opened.id);
    opened.tcp.send_dialback(&dialback::element("result", ours, theirs).with_text(key));
    for _ in 0..OTHERS_MAX {
        let answer = element(&mut opened.tcp).await?;
        if answer.is("result", dialback::NS) && answer.attr("from") == Some(theirs) && answer.kind().is_some() {
            return match answer.kind() {
                Some("valid") => Ok(()),
                _ => Err(Unreached::Unproven(ours.to_owned())),
            };
        }
    }
    Err(Unreached::Protocol("it does not answer".into()))
}

/// A connection on which we have proven who we are.
struct Reached {
    opened: Opened,
    is_bidi: bool,
}

/// By our certificate, if it takes that, else by dialback. What is under way goes on by certificate alone: a connection that
/// breaks once more in the middle of it is no reason to begin anew.
async fn reach(core: &Core, ours: &str, theirs: &str, goes_on: bool) -> Result<Reached, Unreached> {
    let first = if goes_on { By::Certificate } else { By::Either };
    match reach_by(core, ours, theirs, first).await {
        // Some end the stream when a certificate is not what they want.
        Err(Failed { was_external: true, reason }) if !goes_on => {
            tracing::debug!(server = theirs, %reason, "once more, by dialback");
            reach_by(core, ours, theirs, By::Dialback).await.map_err(|failed| failed.reason)
        }
        reached => reached.map_err(|failed| failed.reason),
    }
}

/// How we prove who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Certificate,
    Dialback,
    Either,
}

struct Failed {
    was_external: bool,
    reason: Unreached,
}

async fn reach_by(core: &Core, ours: &str, theirs: &str, by: By) -> Result<Reached, Failed> {
    let failed = |was_external| move |reason| Failed { was_external, reason };
    let mut opened = open(core, ours, theirs).await.map_err(failed(false))?;
    let is_bidi = opened.features.has_child("bidi", BIDI_FEATURE);
    if is_bidi {
        // [XEP-0288 §2]
        opened.tcp.send(&Element::new("bidi", BIDI));
    }
    let offered = opened.features.child("mechanisms", ns::SASL);
    let is_offered = offered.is_some_and(|list| list.children().any(|mechanism| mechanism.text().trim() == EXTERNAL));
    if by != By::Dialback && is_offered && core.config().identity.is_some() {
        match external(&mut opened, ours, theirs).await {
            Ok(true) => return Ok(Reached { opened, is_bidi }),
            Ok(false) if by == By::Certificate => {}
            Ok(false) => {
                dial_back(core, &mut opened, ours, theirs).await.map_err(failed(true))?;
                return Ok(Reached { opened, is_bidi });
            }
            Err(reason) => return Err(Failed { was_external: true, reason }),
        }
    }
    if by == By::Certificate {
        return Err(failed(false)(Unreached::Unproven(ours.to_owned())));
    }
    dial_back(core, &mut opened, ours, theirs).await.map_err(failed(false))?;
    Ok(Reached { opened, is_bidi })
}

/// Carries stanzas to a server until there are none for a while, or it ends.
pub(super) async fn run(core: Weak<Core>, ours: String, theirs: String, mut flow: Flow) {
    // Until when what is under way may go on.
    let mut resume_until: Option<Instant> = None;
    let mut short_lived = 0;
    loop {
        let Some(strong) = core.upgrade() else { return };
        let began = std::time::Instant::now();
        let reached = timeout(NEGOTIATION_MAX, Box::pin(reach(&strong, &ours, &theirs, flow.id.is_some()))).await;
        let reached = match reached.unwrap_or(Err(Unreached::Slow)) {
            Ok(reached) => reached,
            Err(reason) => {
                tracing::info!(server = theirs, %reason, "an XMPP server was not reached");
                let error = StanzaError::new(reason.condition(), format!("{theirs} was not reached: {reason}"));
                strong.server_failed(&theirs, began, &reason);
                if let Some(until) = resume_until
                    && timeout_at(until, strong.until_server_ready(&theirs)).await.is_ok()
                    && Instant::now() < until
                {
                    continue;
                }
                strong.link_failed(&ours, &theirs, &error);
                super::bounce_all(&strong, &flow.give_up(), &error);
                if resume_until.is_some() {
                    crate::portal::doubt(&strong, &theirs);
                }
                return;
            }
        };
        tracing::debug!(server = theirs, bidi = reached.is_bidi, "connected to an XMPP server");
        strong.heard_from_server(&theirs);
        if resume_until.take().is_some() {
            // It may have begun anew meanwhile.
            crate::portal::doubt(&strong, &theirs);
        }
        let mut wire = wire(&strong, reached, (&ours, &theirs), flow);
        drop(strong);
        let connected = Instant::now();
        let ended = wire.run().await;
        short_lived = if connected.elapsed() < SHORT_LIFE { short_lived + 1 } else { 0 };
        let (mut tcp, under_way, _, _) = wire.into_parts();
        flow = under_way;
        if matches!(ended, Ended::Lost) && flow.id.is_some() && short_lived < SHORT_LIVES_MAX {
            resume_until = Some(Instant::now() + RESUME_FOR);
            continue;
        }
        if let Some(core) = core.upgrade() {
            // What comes from now on takes a new connection; what waits here goes there.
            super::not_certain(&core, flow);
            if matches!(ended, Ended::Lost | Ended::Closed) {
                crate::portal::doubt(&core, &theirs);
            }
        }
        return match ended {
            Ended::Error(error) => end_with(&mut tcp, &error).await,
            Ended::Lost => {}
            _ => end(&mut tcp).await,
        };
    }
}

/// What was negotiated becomes a connection that stands, with what was under way before.
fn wire(core: &Arc<Core>, reached: Reached, (ours, theirs): (&str, &str), flow: Flow) -> Wire {
    let Reached { opened: Opened { mut tcp, id, features, chain }, is_bidi } = reached;
    let bytes_max = if is_bidi { core.config().stanza_bytes_max } else { UNPROVEN_BYTES_MAX };
    tcp.set_limits(Limits::bytes(bytes_max));
    let mut wire = Wire::new(Arc::downgrade(core), tcp, Maker::We, chain, flow);
    (wire.id, wire.is_bidi) = (id, is_bidi);
    (wire.ours, wire.theirs) = (Some(ours.to_owned()), Some(theirs.to_owned()));
    if is_bidi {
        wire.accept(theirs, ours);
    }
    let limits = features.child("limits", ns::STREAM_LIMITS);
    let limit = limits.and_then(|limits| limits.child_text("max-bytes", ns::STREAM_LIMITS));
    // [XEP-0478 §3] No less than everybody must take.
    wire.bytes_max =
        limit.and_then(|limit| limit.trim().parse().ok()).map_or(usize::MAX, |limit: usize| limit.max(10_000));
    match (features.has_child("sm", ns::SM), wire.flow.id.clone()) {
        (true, Some(id)) => {
            wire.is_resuming = true;
            let resume = Element::new("resume", ns::SM).with_attr("previd", id);
            wire.tcp.send(&resume.with_attr("h", wire.flow.handled.to_string()));
        }
        (true, None) => wire.begin_counting(),
        (false, _) => wire.stop_counting(),
    }
    wire
}
