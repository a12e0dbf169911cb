//! A connection between servers once it stands: what comes is routed, what waits is written, hosts are proven, and when it breaks
//! another may go on. [RFC6120 §4.3.5] [XEP-0198] [XEP-0220] [XEP-0288]
//!
//! It is the same whoever made it. Stanzas go one way, unless both servers agreed on both ways; each side sends only for hosts that
//! it has proven.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
};

use koine_stanza::{Condition, Element, Jid, StanzaError, StreamCondition, StreamError, ns, reader::Limits};
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, sleep_until},
};

use super::{
    BIDI, IDLE_MAX, WAITING_MAX, dialback,
    flow::{Asking, Flow, Kept, RESUME_FOR},
    into_client, is_stanza, outgoing,
};
use crate::{
    core::Core,
    stream::{
        NEGOTIATION_MAX,
        client::{new_id, sm_failed},
        tcp::Tcp,
        transport::{Broken, Incoming, Transport, next},
    },
};

/// Pairs of hosts that one connection may carry stanzas between.
const PAIRS_MAX: usize = 100;
/// Proofs that are looked into at once on one connection.
const PROOFS_MAX: usize = 10;
/// Bytes that may wait in a connection; more waits in the queue.
const BACKLOG_MAX: usize = 64 * 1024;
/// Stanzas after which the other side is asked how many it has. [XEP-0198 §4]
const ASK_EVERY: usize = 20;
/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(10);
/// Without an answer, or a byte that could be written, for so long the connection counts as gone.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Who made the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// Another server.
    They,
    /// We.
    We,
}

/// Why a connection is none any more.
#[derive(Debug)]
pub(super) enum Ended {
    /// It broke.
    Lost,
    /// The other side has ended it.
    Closed,
    /// Nothing went over it for long.
    Quiet,
    /// We end it, and say why.
    Error(StreamError),
    /// Another connection goes on with what was under way.
    TakenOver,
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Lost => Self::Lost,
            Broken::Closed => Self::Closed,
            Broken::Error(error) => Self::Error(error),
        }
    }
}

impl From<StreamCondition> for Ended {
    fn from(condition: StreamCondition) -> Self {
        Self::Error(condition.into())
    }
}

/// A connection.
pub(super) struct Wire {
    pub(super) core: Weak<Core>,
    pub(super) tcp: Tcp,
    maker: Maker,
    /// The id of the stream.
    pub(super) id: String,
    /// Our host, as the header of the stream says.
    pub(super) ours: Option<String>,
    /// Their host, as the header of the stream says.
    pub(super) theirs: Option<String>,
    /// What the other side showed in the handshake.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Their host that has proven itself by that, to all of ours. [XEP-0178 §3]
    pub(super) certified: Option<String>,
    /// Pairs of their host and ours that were proven by dialback.
    pairs: HashSet<(String, String)>,
    /// Whether stanzas go both ways.
    pub(super) is_bidi: bool,
    pub(super) flow: Flow,
    /// Holds the queue open until somebody knows of it.
    pub(super) to_queue: Option<mpsc::Sender<Element>>,
    /// We wait to hear whether what was under way goes on.
    pub(super) is_resuming: bool,
    /// By whom it is asked for what is under way, where that can go on.
    asked: Option<mpsc::Receiver<Asking>>,
    /// Most bytes of a stanza that the other side takes. [XEP-0478]
    pub(super) bytes_max: usize,
    proofs: (mpsc::Sender<Proof>, mpsc::Receiver<Proof>),
    pending: usize,
    /// Attempts at EXTERNAL that failed.
    pub(super) failures: u32,
    began: Instant,
    /// When something went over it last.
    used: Instant,
    since_asked: usize,
    /// Since when an answer is awaited.
    waits_since: Option<Instant>,
    /// Bytes that were written, and since when no more.
    written: (u64, Instant),
}

/// What came of looking into a proof.
struct Proof {
    ours: String,
    theirs: String,
    valid: Result<bool, ()>,
}

enum Event {
    Came(Result<Incoming, Broken>),
    ToSend(Element),
    Proof(Proof),
    Asked(Asking),
    Tick,
}

impl Wire {
    pub(super) fn new(
        core: Weak<Core>,
        tcp: Tcp,
        maker: Maker,
        chain: Vec<CertificateDer<'static>>,
        flow: Flow,
    ) -> Self {
        let now = Instant::now();
        Self {
            core,
            tcp,
            maker,
            id: new_id(),
            ours: None,
            theirs: None,
            chain,
            certified: None,
            pairs: HashSet::new(),
            is_bidi: false,
            flow,
            to_queue: None,
            is_resuming: false,
            asked: None,
            bytes_max: usize::MAX,
            proofs: mpsc::channel(PROOFS_MAX),
            pending: 0,
            failures: 0,
            began: now,
            used: now,
            since_asked: 0,
            waits_since: None,
            written: (0, now),
        }
    }

    /// Stanzas of that pair may come.
    pub(super) fn accept(&mut self, theirs: &str, ours: &str) {
        self.pairs.insert((theirs.to_owned(), ours.to_owned()));
    }

    /// What was under way, for another connection.
    pub(super) fn into_parts(self) -> (Tcp, Flow, bool, Option<mpsc::Receiver<Asking>>) {
        (self.tcp, self.flow, self.is_bidi, self.asked)
    }

    /// Serves the connection until it ends.
    pub(super) async fn run(&mut self) -> Ended {
        let mut tick_at = Instant::now() + TICK;
        loop {
            let sends = self.maker == Maker::We || self.is_bidi;
            let may_take =
                sends && !self.is_resuming && self.tcp.backlog() < BACKLOG_MAX && self.flow.unconfirmed() < WAITING_MAX;
            let event = tokio::select! {
                came = next(&mut self.tcp) => Event::Came(came),
                Some(stanza) = self.flow.queue.recv(), if may_take => Event::ToSend(stanza),
                Some(proof) = self.proofs.1.recv() => Event::Proof(proof),
                Some(asking) = asked(&mut self.asked) => Event::Asked(asking),
                () = sleep_until(tick_at) => Event::Tick,
            };
            let Some(core) = self.core.upgrade() else { return Ended::Quiet };
            let done = match event {
                Event::Came(Ok(Incoming::Element(element))) => {
                    self.used = Instant::now();
                    self.element(&core, element).await
                }
                Event::Came(Ok(Incoming::Close)) => Err(Ended::Closed),
                Event::Came(Ok(Incoming::Open(_))) => Err(StreamCondition::BadFormat.into()),
                Event::Came(Err(broken)) => Err(broken.into()),
                Event::ToSend(stanza) => {
                    self.write(&core, stanza);
                    Ok(())
                }
                Event::Proof(proof) => {
                    self.pending -= 1;
                    self.proven(&core, proof);
                    Ok(())
                }
                Event::Asked(asking) => {
                    let flow = std::mem::replace(&mut self.flow, nothing());
                    // Whoever asked may be gone, and with it what was under way: it comes back from there.
                    if let Err(kept) = asking.send(Kept { flow, is_bidi: self.is_bidi }) {
                        super::not_certain(&core, kept.flow);
                    }
                    Err(Ended::TakenOver)
                }
                Event::Tick => {
                    tick_at = Instant::now() + TICK;
                    self.tick()
                }
            };
            if let Err(ended) = done {
                return ended;
            }
        }
    }

    fn tick(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        if self.tcp.backlog() == 0 || self.tcp.written() != self.written.0 {
            self.written = (self.tcp.written(), now);
        }
        let is_stuck = now - self.written.1 >= ANSWER_MAX;
        if is_stuck || self.waits_since.is_some_and(|since| now - since >= ANSWER_MAX) {
            return Err(Ended::Lost);
        }
        let is_known = self.certified.is_some() || !self.pairs.is_empty();
        if self.maker == Maker::They && !is_known && self.pending == 0 && now - self.began >= NEGOTIATION_MAX {
            let error = StreamError::new(StreamCondition::ConnectionTimeout, "it took too long to prove who you are");
            return Err(Ended::Error(error));
        }
        if now - self.used < IDLE_MAX {
            return Ok(());
        }
        match self.maker {
            Maker::We => Err(Ended::Quiet),
            Maker::They => {
                Err(Ended::Error(StreamError::new(StreamCondition::ConnectionTimeout, "nothing came for long")))
            }
        }
    }

    async fn element(&mut self, core: &Arc<Core>, element: Element) -> Result<(), Ended> {
        let is_guest = self.maker == Maker::They;
        match (element.name(), element.ns()) {
            _ if is_stanza(&element) => self.stanza(core, element).await,
            // [XEP-0220 §2.1.1] [XEP-0288 §2]
            ("result", dialback::NS) if element.kind().is_none() && (is_guest || self.is_bidi) => {
                self.look_into(core, &element)
            }
            // Nobody was asked: such an answer proves nothing. [XEP-0220 §3]
            ("result" | "verify", dialback::NS) if element.kind().is_some() => Ok(()),
            ("verify", dialback::NS) if is_guest => {
                let answer = dialback::answer(core, &element);
                self.tcp.send_dialback(&answer);
                Ok(())
            }
            ("bidi", BIDI) if is_guest => {
                // [XEP-0288 §2] Before anybody is proven; afterwards it is too late.
                self.is_bidi |= self.certified.is_none() && self.pairs.is_empty();
                Ok(())
            }
            ("auth", ns::SASL) if is_guest => self.external(core, &element).await,
            (_, ns::SM) => self.stream_management(core, &element).await,
            ("error", ns::STREAM) => Err(Ended::Closed),
            ("features", ns::STREAM) if !is_guest => Ok(()),
            _ => Err(StreamCondition::UnsupportedStanzaType.into()),
        }
    }

    async fn stanza(&mut self, core: &Arc<Core>, mut stanza: Element) -> Result<(), Ended> {
        let address = |name: &str| stanza.attr(name).and_then(|jid| Jid::new(jid).ok());
        // [RFC6120 §8.1.1.2] [RFC6120 §8.1.2.2]
        let (Some(from), Some(to)) = (address("from"), address("to")) else {
            return Err(StreamCondition::ImproperAddressing.into());
        };
        let pair = (from.domain().to_string(), to.domain().to_string());
        let is_certified = self.certified.as_ref() == Some(&pair.0) && core.is_served(&pair.1);
        if !is_certified && !self.pairs.contains(&pair) {
            let is_nobody = self.certified.is_none() && self.pairs.is_empty();
            let condition = if is_nobody { StreamCondition::NotAuthorized } else { StreamCondition::InvalidFrom };
            let error = StreamError::new(condition, "the stanza is from a host that was not proven");
            return Err(Ended::Error(error));
        }
        into_client(&mut stanza);
        core.take_from_elsewhere(stanza, &pair.1).await;
        if self.flow.is_on {
            self.flow.handled = self.flow.handled.wrapping_add(1);
        }
        Ok(())
    }

    /// Writes a stanza, or tells its sender that it is too long.
    fn write(&mut self, core: &Arc<Core>, stanza: Element) {
        self.used = Instant::now();
        if !self.tcp.send_within(&stanza, self.bytes_max) {
            let text = format!("that server takes stanzas of {} bytes at most", self.bytes_max);
            super::bounce_all(core, &[stanza], &StanzaError::new(Condition::PolicyViolation, text));
            return;
        }
        self.flow.sent(stanza);
        self.since_asked += 1;
        if self.flow.is_on && (self.since_asked >= ASK_EVERY || self.flow.queue.is_empty()) {
            self.since_asked = 0;
            self.waits_since.get_or_insert_with(Instant::now);
            self.tcp.send(&Element::new("r", ns::SM));
        }
    }

    /// Somebody says to be a host, and gives a key that its server knows. [XEP-0220 §2.2]
    fn look_into(&mut self, core: &Arc<Core>, element: &Element) -> Result<(), Ended> {
        if self.pending >= PROOFS_MAX {
            return Err(StreamCondition::PolicyViolation.into());
        }
        let (Some(theirs), Some(ours)) = (dialback::host(element, "from"), dialback::host(element, "to")) else {
            return Err(StreamCondition::ImproperAddressing.into());
        };
        let refused = if !core.is_served(&ours) {
            Some(Condition::ItemNotFound)
        } else if core.is_served(&theirs) || self.pairs.len() >= PAIRS_MAX {
            // Nobody else is who we are.
            Some(Condition::NotAllowed)
        } else if core.is_blocked_server(&theirs) {
            Some(Condition::PolicyViolation)
        } else {
            None
        };
        if let Some(condition) = refused {
            self.tcp.send_dialback(&dialback::refusal(&ours, &theirs, condition));
            return Ok(());
        }
        // [XEP-0220 §2.2.2] Whose certificate says it already need not be asked about.
        let vouched = core.config().servers.as_ref().map(|servers| servers.vouches(&self.chain, &theirs));
        if matches!(vouched, Some(Ok(()))) {
            self.proven(core, Proof { ours, theirs, valid: Ok(true) });
            return Ok(());
        }
        self.pending += 1;
        let (core, id, key, done) = (core.clone(), self.id.clone(), element.text(), self.proofs.0.clone());
        tokio::spawn(async move {
            let valid = outgoing::verify(&core, &ours, &theirs, &id, key.trim()).await;
            if let Err(reason) = &valid {
                tracing::info!(server = theirs, %reason, "an XMPP server could not be asked whether a key is its");
            }
            // Whoever asked may be gone.
            let _ = done.send(Proof { ours, theirs, valid: valid.map_err(drop) }).await;
        });
        Ok(())
    }

    fn proven(&mut self, core: &Arc<Core>, proof: Proof) {
        let Proof { ours, theirs, valid } = proof;
        let result = dialback::element("result", &ours, &theirs);
        let answer = match valid {
            Ok(true) => result.with_attr("type", "valid"),
            Ok(false) => result.with_attr("type", "invalid"),
            // [XEP-0220 §2.5]
            Err(()) => dialback::refusal(&ours, &theirs, Condition::RemoteServerNotFound),
        };
        self.tcp.send_dialback(&answer);
        if valid == Ok(true) {
            tracing::debug!(server = theirs, ours, "a server has proven by dialback who it is");
            self.tcp.set_limits(Limits::bytes(core.config().stanza_bytes_max));
            self.welcome(core, &theirs, &ours);
            self.pairs.insert((theirs, ours));
        }
    }

    /// A host has proven itself to one of ours: it can be talked to, maybe over this very connection.
    pub(super) fn welcome(&self, core: &Core, theirs: &str, ours: &str) {
        core.heard_from_server(theirs);
        if self.is_bidi
            && let Some(queue) = self.flow.to_queue.upgrade()
        {
            core.links.adopt(ours, theirs, queue);
        }
    }

    async fn stream_management(&mut self, core: &Arc<Core>, element: &Element) -> Result<(), Ended> {
        let h = element.attr("h").and_then(|h| h.parse::<u32>().ok());
        match element.name() {
            "r" if self.flow.is_on => {
                self.tcp.send(&Element::new("a", ns::SM).with_attr("h", self.flow.handled.to_string()));
                Ok(())
            }
            "a" if self.flow.is_on => {
                self.waits_since = None;
                match h.is_some_and(|h| self.flow.confirm(h)) {
                    true => Ok(()),
                    false => Err(too_high()),
                }
            }
            "enable" if self.maker == Maker::They => {
                let answer = self.enable(core, element);
                self.tcp.send(&answer);
                Ok(())
            }
            "resume" if self.maker == Maker::They => self.resume(core, element, h).await,
            "enabled" if self.maker == Maker::We => {
                let may = matches!(element.attr("resume"), Some("true" | "1"));
                self.flow.id = element.attr("id").filter(|_| may).map(ToOwned::to_owned);
                Ok(())
            }
            "resumed" if self.is_resuming => {
                if !h.is_some_and(|h| self.flow.confirm(h)) {
                    return Err(too_high());
                }
                self.write_again(core);
                Ok(())
            }
            "failed" if self.is_resuming => {
                // Without a count nobody knows what has arrived; twice is better than not at all.
                let _ = h.is_some_and(|h| self.flow.confirm(h));
                self.begin_counting();
                self.write_again(core);
                Ok(())
            }
            "failed" => {
                self.flow.is_on = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Asks that both sides count.
    pub(super) fn begin_counting(&mut self) {
        let rest = self.flow.take_unconfirmed();
        self.flow.begin();
        self.tcp.send(&Element::new("enable", ns::SM).with_attr("resume", "true"));
        rest.into_iter().for_each(|stanza| self.flow.sent(stanza));
    }

    /// Nobody counts on this connection. What was not confirmed on the one before is written again: twice is better than not at
    /// all.
    pub(super) fn stop_counting(&mut self) {
        let rest = self.flow.take_unconfirmed();
        (self.flow.is_on, self.flow.id) = (false, None);
        for stanza in rest {
            self.tcp.send_within(&stanza, self.bytes_max);
        }
    }

    /// What was not confirmed is written again.
    fn write_again(&mut self, core: &Arc<Core>) {
        self.is_resuming = false;
        for stanza in self.flow.take_unconfirmed() {
            self.write(core, stanza);
        }
    }

    fn enable(&mut self, core: &Core, wanted: &Element) -> Element {
        let Some(theirs) = self.certified.clone().filter(|_| !self.flow.is_on) else {
            return sm_failed(Condition::UnexpectedRequest, None);
        };
        self.flow.begin();
        let enabled = Element::new("enabled", ns::SM);
        if !matches!(wanted.attr("resume"), Some("true" | "1")) {
            return enabled;
        }
        let id = new_id();
        self.asked = core.links.resumable.add(&id, &theirs);
        if self.asked.is_none() {
            return enabled;
        }
        self.flow.id = Some(id.clone());
        enabled.with_attr("id", id).with_attr("resume", "true").with_attr("max", RESUME_FOR.as_secs().to_string())
    }

    /// Goes on with what was under way on another connection. [XEP-0198 §5]
    async fn resume(&mut self, core: &Arc<Core>, wanted: &Element, h: Option<u32>) -> Result<(), Ended> {
        let id = wanted.attr("previd").unwrap_or_default().to_owned();
        let (Some(theirs), Some(h), false) = (self.certified.clone(), h, self.flow.is_on) else {
            self.tcp.send(&sm_failed(Condition::UnexpectedRequest, None));
            return Ok(());
        };
        let Some(kept) = core.links.resumable.take(&id, &theirs).await else {
            self.tcp.send(&sm_failed(Condition::ItemNotFound, None));
            return Ok(());
        };
        let before = std::mem::replace(&mut self.flow, kept.flow);
        self.is_bidi = kept.is_bidi;
        // What may have come meanwhile for this connection.
        super::send_again(core, before.give_up());
        if !self.flow.confirm(h) {
            return Err(too_high());
        }
        self.asked = core.links.resumable.add(&id, &theirs);
        let handled = self.flow.handled.to_string();
        self.tcp.send(&Element::new("resumed", ns::SM).with_attr("previd", id).with_attr("h", handled));
        self.write_again(core);
        Ok(())
    }
}

/// Nothing that could be under way.
fn nothing() -> Flow {
    let (to_queue, queue) = mpsc::channel(1);
    Flow::new(&to_queue, queue)
}

/// [XEP-0198 §4]
fn too_high() -> Ended {
    let text = "more stanzas confirmed than were sent";
    Ended::Error(StreamError::new(StreamCondition::UndefinedCondition, text))
}

async fn asked(by: &mut Option<mpsc::Receiver<Asking>>) -> Option<Asking> {
    by.as_mut()?.recv().await
}
