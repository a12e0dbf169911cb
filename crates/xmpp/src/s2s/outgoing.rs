//! Our connections to other servers: made, proven, and written to.

use std::sync::Weak;

use koine_stanza::{Condition, Element, StanzaError, StreamError, ns, reader::Limits};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{IDLE_MAX, PORT, SERVICE, dialback, is_stanza};
use crate::{
    core::Core,
    stream::{
        NEGOTIATION_MAX, UNPROVEN_BYTES_MAX, end, end_with,
        tcp::{Io, Tcp},
        transport::{Broken, Incoming, OurHeader, Security, Transport, flush, next},
    },
};

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
    fn condition(&self) -> Condition {
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
pub(super) struct Opened {
    pub(super) tcp: Tcp,
    /// The id that the other server gave the stream.
    pub(super) id: String,
}

/// Connects to a server and comes as far as the features after TLS.
pub(super) async fn open(core: &Core, ours: &str, theirs: &str) -> Result<Opened, Unreached> {
    let Some(client) = &core.config().servers else {
        return Err(Unreached::Protocol("other servers are not reached".into()));
    };
    let socket = client.dial(theirs, SERVICE, PORT).await?;
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
    let Some(socket) = tcp.into_plain() else { return Err(Unreached::Protocol("something came before TLS".into())) };
    let stream = client.encrypt(socket, theirs).await?;
    let security = Security { is_encrypted: true, ..Security::default() };
    let mut tcp = Tcp::new(Io::TlsOut(Box::new(stream)), security, ns::SERVER, limits);
    let (id, _) = header(&mut tcp, ours, theirs).await?;
    Ok(Opened { tcp, id })
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
            Err(Unreached::Protocol(format!("it ended the stream with {condition}")))
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
        opened.tcp.send(&question);
        loop {
            let answer = element(&mut opened.tcp).await?;
            if answer.is("verify", dialback::NS) && answer.id() == Some(stream) {
                end(&mut opened.tcp).await;
                return Ok(answer.kind() == Some("valid"));
            }
        }
    };
    timeout(NEGOTIATION_MAX, asked).await.unwrap_or(Err(Unreached::Slow))
}

/// Proves who we are. [XEP-0220 §2.1.1]
async fn prove(core: &Core, opened: &mut Opened, ours: &str, theirs: &str) -> Result<(), Unreached> {
    let key = dialback::key(core, theirs, ours, &opened.id);
    opened.tcp.send(&dialback::element("result", ours, theirs).with_text(key));
    loop {
        let answer = element(&mut opened.tcp).await?;
        if answer.is("result", dialback::NS) && answer.attr("from") == Some(theirs) {
            return match answer.kind() {
                Some("valid") => Ok(()),
                _ => Err(Unreached::Unproven(ours.to_owned())),
            };
        }
    }
}

/// Carries stanzas to a server until there are none for a while, or it ends.
pub(super) async fn run(core: Weak<Core>, ours: String, theirs: String, mut waiting: mpsc::Receiver<Element>) {
    let Some(strong) = core.upgrade() else { return };
    let reached = async {
        let mut opened = open(&strong, &ours, &theirs).await?;
        prove(&strong, &mut opened, &ours, &theirs).await?;
        Ok::<_, Unreached>(opened)
    };
    let mut opened = match timeout(NEGOTIATION_MAX, reached).await.unwrap_or(Err(Unreached::Slow)) {
        Ok(opened) => opened,
        Err(reason) => {
            tracing::info!(server = theirs, %reason, "an XMPP server was not reached");
            strong.link_ended(&ours, &theirs, Some(reason.condition()));
            let error = StanzaError::new(reason.condition(), format!("{theirs} was not reached: {reason}"));
            waiting.close();
            while let Some(stanza) = waiting.recv().await {
                if let Some(answer) = error.answer(&stanza) {
                    strong.bounce(answer).await;
                }
            }
            return;
        }
    };
    tracing::debug!(server = theirs, "connected to an XMPP server");
    drop(strong);
    let limits = Limits::bytes(UNPROVEN_BYTES_MAX);
    opened.tcp.set_limits(limits);
    let ended = carry(&mut opened.tcp, &mut waiting).await;
    if let Some(core) = core.upgrade() {
        // What comes from now on takes a new connection; what waits here goes there.
        core.link_ended(&ours, &theirs, None);
        waiting.close();
        while let Some(stanza) = waiting.recv().await {
            core.send_elsewhere(stanza).await;
        }
    }
    match ended {
        Some(error) => end_with(&mut opened.tcp, &error).await,
        None => end(&mut opened.tcp).await,
    }
}

/// Writes what waits; reads what a server says on a connection that is ours, which is nothing but its end.
async fn carry(tcp: &mut Tcp, waiting: &mut mpsc::Receiver<Element>) -> Option<StreamError> {
    let mut quiet_until = Instant::now() + IDLE_MAX;
    loop {
        tokio::select! {
            stanza = waiting.recv() => {
                let stanza = stanza?;
                tcp.send(&stanza);
                quiet_until = Instant::now() + IDLE_MAX;
                // One at a time, so that what waits stays in the queue, where it is bounded.
                if flush(tcp).await.is_err() {
                    return None;
                }
            }
            came = next(tcp) => match came {
                Ok(Incoming::Element(element)) if is_stanza(&element) => {
                    let condition = koine_stanza::StreamCondition::NotAuthorized;
                    return Some(StreamError::new(condition, "stanzas for us come over a connection of yours"));
                }
                Ok(Incoming::Element(error)) if error.is("error", ns::STREAM) => return None,
                Ok(Incoming::Element(_)) => {}
                Ok(_) | Err(_) => return None,
            },
            () = sleep_until(quiet_until) => return None,
        }
    }
}
