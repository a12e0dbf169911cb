//! What waits for a session to be sent to it. [XEP-0198] [XEP-0352]
//!
//! It belongs to the session, not to its connection: a connection that breaks loses nothing, and the next one goes on where
//! the other side says that it was. A stanza is written as XML once, and shared by all whom it goes to.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use koine_stanza::{Element, StreamError, escape, ns, reader};

/// Most stanzas that wait for a session; whoever is slower than that is cut off.
pub(crate) const WAITING_STANZAS_MAX: usize = 10_000;
/// Most bytes that wait for a session.
pub(crate) const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// So many may wait for a session however much waits for others.
const WAITING_BYTES_SURE: usize = 256 * 1024;
/// Most stanzas that are held back while nobody looks. [XEP-0352]
const HELD_BACK_MAX: usize = 500;

/// A stanza as XML, to be shared.
pub(crate) struct Rendered {
    /// Without the declaration of `jabber:client`.
    xml: Box<str>,
    /// Bytes of `<message`, behind which attributes can be put in.
    head: usize,
    patience: Patience,
}

/// How urgent a stanza is to somebody who does not look just now. [XEP-0352 §6]
#[derive(Clone, Debug, PartialEq, Eq)]
enum Patience {
    /// At once.
    None,
    /// Presence: the last of each sender is enough.
    Presence(Box<str>),
    /// A chat state: of no interest later.
    State,
}

/// A stanza on its way to one session.
#[derive(Clone)]
pub(crate) struct Outgoing {
    rendered: Arc<Rendered>,
    /// Whether `to` is to be put in: the stanza is the same for many.
    addressed: bool,
}

impl Rendered {
    /// Writes a stanza as XML.
    pub(crate) fn new(stanza: &Element) -> Arc<Self> {
        let mut xml = String::with_capacity(256);
        stanza.write(&mut xml, ns::CLIENT);
        Arc::new(Self { xml: xml.into(), head: 1 + stanza.name().len(), patience: patience(stanza) })
    }
}

fn patience(stanza: &Element) -> Patience {
    match (stanza.name(), stanza.kind()) {
        // With `<x/>` of MUC come nicknames and reasons that others refer to, and one's own arrival.
        ("presence", None | Some("unavailable")) if !stanza.has_ns(ns::MUC_USER) => {
            stanza.attr("from").map_or(Patience::None, |from| Patience::Presence(from.into()))
        }
        ("message", kind) if kind != Some("error") => {
            let mut children = stanza.children().filter(|child| child.ns() != ns::HINTS && child.name() != "thread");
            match stanza.has_ns(ns::CHAT_STATES) && children.all(|child| child.ns() == ns::CHAT_STATES) {
                true => Patience::State,
                false => Patience::None,
            }
        }
        _ => Patience::None,
    }
}

impl Outgoing {
    /// The same stanza for many; each gets it with its own address as `to`.
    pub(crate) fn addressed(rendered: &Arc<Rendered>) -> Self {
        Self { rendered: rendered.clone(), addressed: true }
    }

    /// Writes it piece by piece, with bytes of what all have in common copied once; `declare` puts in the namespace, where the
    /// place has another one.
    pub(crate) fn write(&self, to: &str, declare: bool, mut put: impl FnMut(&str)) {
        let (head, rest) = self.rendered.xml.split_at(self.rendered.head);
        put(head);
        if declare {
            put(" xmlns='jabber:client'");
        }
        if self.addressed {
            let mut attribute = String::with_capacity(to.len() + 8);
            attribute.push_str(" to='");
            escape(to, &mut attribute);
            attribute.push('\'');
            put(&attribute);
        }
        put(rest);
    }

    /// As a document of its own.
    pub(crate) fn document(&self, to: &str) -> String {
        let mut xml = String::with_capacity(self.len() + to.len() + 64);
        self.write(to, true, |piece| xml.push_str(piece));
        xml
    }

    /// As an element again, for whoever gets it instead.
    pub(crate) fn element(&self, to: &str) -> Option<Element> {
        reader::document(self.document(to).as_bytes(), reader::Limits { bytes: usize::MAX, ..reader::Limits::bytes(0) })
            .ok()
    }

    /// Its bytes, without those of the address that is put in.
    pub(crate) fn len(&self) -> usize {
        self.rendered.xml.len()
    }
}

impl From<Element> for Outgoing {
    fn from(stanza: Element) -> Self {
        Self { rendered: Rendered::new(&stanza), addressed: false }
    }
}

impl From<Arc<Element>> for Outgoing {
    fn from(stanza: Arc<Element>) -> Self {
        Self { rendered: Rendered::new(&stanza), addressed: false }
    }
}

/// What waits for all sessions together.
///
/// A session may have as much as is still free then: one that reads nothing leaves others as much as it has itself, and many
/// that read nothing share. A stanza for many counts once for each.
#[derive(Debug)]
pub(crate) struct AllWaiting {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl AllWaiting {
    /// Nothing, of so much at most.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: AtomicUsize::new(0) }
    }

    /// Bytes that may wait for any one session now.
    fn share(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.load(Ordering::Relaxed)).max(WAITING_BYTES_SURE)
    }
}

impl Default for AllWaiting {
    /// Without an end.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// Bytes of one session, as part of those of all.
#[derive(Default)]
struct Waiting {
    bytes: usize,
    all: Arc<AllWaiting>,
}

impl Waiting {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn has_its_share(&self) -> bool {
        self.bytes > self.all.share()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.remove(self.bytes);
    }
}

/// The queue of a session.
///
/// Invariant: a stanza is in exactly one of `unconfirmed`, `waiting` and `held_back`, in the order in which the client gets
/// them; it leaves by being confirmed, or written where nothing is confirmed.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Held back until something urgent comes, or somebody looks.
    held_back: VecDeque<Outgoing>,
    waiting: VecDeque<Outgoing>,
    /// Written, and not confirmed by the client.
    unconfirmed: VecDeque<Outgoing>,
    bytes: Waiting,
    /// Counts of stream management, once it is on.
    pub(crate) counts: Option<Counts>,
    /// Nobody looks. [XEP-0352]
    inactive: bool,
    /// Which connection has the session: they are counted.
    connection: u64,
    /// Why the session is to end.
    end: Option<Ending>,
    waker: Option<Waker>,
}

/// [XEP-0198 §4]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Stanzas of the client that were handled: what they say is durable.
    pub(crate) handled: u32,
    /// Stanzas that the client has confirmed.
    pub(crate) confirmed: u32,
}

/// The client confirms more than it was sent. [XEP-0198 §4]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooHigh {
    /// What it confirmed.
    pub(crate) h: u32,
    /// What it was sent.
    pub(crate) sent: u32,
}

/// How a session ends.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// The client is told why, if it is there.
    Error(StreamError),
    /// It has ended; nothing is taken any more.
    Over,
}

/// What there is to do for the connection of a session.
pub(crate) enum Todo {
    /// So many stanzas were written.
    Wrote(usize),
    /// Another connection has the session now.
    TakenOver,
    /// The session is to end.
    End(StreamError),
}

impl Outbox {
    /// An empty one, whose bytes count among all.
    pub(crate) fn among(all: &Arc<AllWaiting>) -> Self {
        Self { bytes: Waiting { bytes: 0, all: all.clone() }, ..Self::default() }
    }

    /// Puts a stanza in; `false` when the session has ended, or now ends because too much waits.
    pub(crate) fn push(&mut self, outgoing: Outgoing, overflow: impl FnOnce() -> StreamError) -> bool {
        if self.end.is_some() {
            return false;
        }
        let too_large = self.bytes.bytes + outgoing.len() > WAITING_BYTES_MAX;
        if self.len() >= WAITING_STANZAS_MAX || too_large || self.bytes.has_its_share() {
            self.end(overflow());
            return false;
        }
        if self.inactive && outgoing.rendered.patience != Patience::None {
            self.hold_back(outgoing);
            return true;
        }
        self.bytes.add(outgoing.len());
        self.release();
        self.waiting.push_back(outgoing);
        self.wake();
        true
    }

    fn hold_back(&mut self, outgoing: Outgoing) {
        if let Patience::Presence(from) = &outgoing.rendered.patience {
            let same = self
                .held_back
                .iter()
                .position(|held| matches!(&held.rendered.patience, Patience::Presence(other) if other == from));
            if let Some(before) = same.and_then(|at| self.held_back.remove(at)) {
                self.bytes.remove(before.len());
            }
        } else if outgoing.rendered.patience == Patience::State {
            return;
        }
        self.bytes.add(outgoing.len());
        self.held_back.push_back(outgoing);
        if self.held_back.len() >= HELD_BACK_MAX {
            self.release();
            self.wake();
        }
    }

    fn release(&mut self) {
        self.waiting.append(&mut self.held_back);
    }

    fn len(&self) -> usize {
        self.held_back.len() + self.waiting.len() + self.unconfirmed.len()
    }

    /// Whether something was written that the client has not confirmed.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty()
    }

    /// Somebody looks, or nobody does.
    pub(crate) fn set_inactive(&mut self, inactive: bool) {
        self.inactive = inactive;
        if !inactive {
            self.release();
            self.wake();
        }
    }

    /// The session is to end.
    pub(crate) fn end(&mut self, why: StreamError) {
        if self.end.is_none() {
            self.end = Some(Ending::Error(why));
            self.wake();
        }
    }

    /// A new connection has the session; the number by which it proves so. `None` when the session has ended.
    pub(crate) fn attach(&mut self) -> Option<u64> {
        if self.end.is_some() {
            return None;
        }
        self.connection += 1;
        self.wake();
        Some(self.connection)
    }

    /// Whether a connection still has the session.
    pub(crate) fn is_attached(&self, connection: u64) -> bool {
        self.connection == connection && self.end.is_none()
    }

    /// Ends the session if no later connection has it; whether it is that one's to clean up.
    pub(crate) fn end_if(&mut self, connection: u64, why: StreamError) -> bool {
        let is_its_own = self.connection == connection;
        if is_its_own {
            self.end(why);
        }
        is_its_own
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits for something to do, and writes what waits with `write` until that says no more fits.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: u64,
        mut write: impl FnMut(&Outgoing) -> bool,
    ) -> Poll<Todo> {
        if self.connection != connection {
            return Poll::Ready(Todo::TakenOver);
        }
        let mut wrote = 0;
        let mut fits = true;
        while fits && let Some(outgoing) = self.waiting.pop_front() {
            wrote += 1;
            fits = write(&outgoing);
            match self.counts {
                Some(_) => self.unconfirmed.push_back(outgoing),
                None => self.bytes.remove(outgoing.len()),
            }
        }
        match &self.end {
            _ if wrote > 0 => Poll::Ready(Todo::Wrote(wrote)),
            Some(Ending::Error(why)) => Poll::Ready(Todo::End(why.clone())),
            _ => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits, without a connection, for another one or the end.
    pub(crate) fn poll_detached(&mut self, cx: &mut Context<'_>, connection: u64) -> Poll<Todo> {
        match &self.end {
            _ if self.connection != connection => Poll::Ready(Todo::TakenOver),
            Some(Ending::Error(why)) => Poll::Ready(Todo::End(why.clone())),
            _ => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The client has `h` stanzas. [XEP-0198 §4]
    pub(crate) fn confirm(&mut self, h: u32) -> Result<(), TooHigh> {
        let Some(counts) = &mut self.counts else { return Ok(()) };
        // Counts begin anew after 2^32.
        let news = h.wrapping_sub(counts.confirmed) as usize;
        if news > self.unconfirmed.len() {
            let sent = counts.confirmed.wrapping_add(self.unconfirmed.len() as u32);
            return Err(TooHigh { h, sent });
        }
        counts.confirmed = h;
        for confirmed in self.unconfirmed.drain(..news) {
            self.bytes.remove(confirmed.len());
        }
        if self.unconfirmed.is_empty() {
            self.unconfirmed.shrink_to(8);
        }
        Ok(())
    }

    /// The client went on with another connection: what it has not confirmed is sent again.
    pub(crate) fn rewind(&mut self) {
        self.unconfirmed.append(&mut self.waiting);
        std::mem::swap(&mut self.unconfirmed, &mut self.waiting);
        self.release();
        self.inactive = false;
    }

    /// The session is over. What the client has not got, in order.
    pub(crate) fn close(&mut self) -> Vec<Outgoing> {
        self.end = Some(Ending::Over);
        self.bytes.remove(self.bytes.bytes);
        self.release();
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        unconfirmed.into_iter().chain(std::mem::take(&mut self.waiting)).collect()
    }
}

#[cfg(test)]
mod tests;
