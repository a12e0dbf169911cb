//! Streams over requests: what comes is in the body of a request, what goes waits for one to answer. [XEP-0124] [XEP-0206]
//!
//! A session's requests are numbered, and understood in that order whatever order they come in. Answers are kept until the
//! client shows that it has them, so that a request whose answer was lost can be repeated.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    future::Future as _,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use koine_stanza::{
    Element, escape, ns,
    reader::{Header, Limits, document},
    stream_element,
};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, timeout},
};

use super::{Caller, Web, open_to_all};
use crate::{
    address::household,
    outbox::Outgoing,
    stream::{
        Peer, UNPROVEN_BYTES_MAX,
        client::new_id,
        serve,
        transport::{Broken, Incoming, OurHeader, Security, Transport},
    },
};

/// Sessions over requests at once.
const SESSIONS_MAX: usize = 20_000;
/// The same from one address, or network of IPv6.
const SESSIONS_PER_ADDRESS_MAX: usize = 200;
/// Bytes of requests that wait to be worked off; past it no request is answered, so that no more come.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Elements of one request.
const ELEMENTS_MAX: usize = 1_000;
/// Requests that wait for an answer at once; one more than are held. [XEP-0124 §7.1]
const REQUESTS_MAX: u64 = 2;
/// The longest that a request waits.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long there may be no request before the session counts as gone.
const INACTIVITY: Duration = Duration::from_secs(60);
/// What a body may have around its stanza.
const ENVELOPE_BYTES_MAX: usize = 16 * 1024;
/// Numbers of requests are smaller than this. [XEP-0124 §14.1]
const RID_MAX: u64 = 1 << 53;
/// The version that is spoken here.
const VERSION: &str = "1.11";

/// All sessions over requests.
#[derive(Default)]
pub(super) struct Sessions(Mutex<All>);

#[derive(Default)]
struct All {
    by_sid: HashMap<String, Arc<Channel>>,
    by_address: HashMap<IpAddr, usize>,
}

impl Sessions {
    fn get(&self, sid: &str) -> Option<Arc<Channel>> {
        self.0.lock().by_sid.get(sid).cloned()
    }

    /// Takes a session in, if there is a place.
    fn add(&self, sid: &str, channel: &Arc<Channel>) -> bool {
        let mut all = self.0.lock();
        if all.by_sid.len() >= SESSIONS_MAX {
            return false;
        }
        if let Some(household) = channel.household {
            let here = all.by_address.entry(household).or_default();
            if *here >= SESSIONS_PER_ADDRESS_MAX {
                return false;
            }
            *here += 1;
        }
        all.by_sid.insert(sid.to_owned(), channel.clone());
        true
    }

    fn remove(&self, sid: &str) {
        let mut all = self.0.lock();
        let household = all.by_sid.remove(sid).and_then(|channel| channel.household);
        if let Some(household) = household
            && let Entry::Occupied(mut here) = all.by_address.entry(household)
        {
            *here.get_mut() -= 1;
            if *here.get() == 0 {
                here.remove();
            }
        }
    }
}

/// What the requests of a session and its stream share.
struct Channel {
    state: Mutex<Shared>,
    /// How long a request may wait.
    wait: Duration,
    /// How many may wait.
    hold: usize,
    limits: Mutex<Limits>,
    /// Whom it counts for.
    household: Option<IpAddr>,
}

/// A request that waits for its answer.
struct Held {
    rid: u64,
    told: oneshot::Sender<String>,
    /// It has waited for as long as it was to.
    is_due: bool,
}

struct Shared {
    /// The head of the first request.
    begun_with: Element,
    /// The number of the next request.
    next: u64,
    /// Those that came too early, by their numbers.
    early: BTreeMap<u64, (Element, usize)>,
    /// With the bytes that each came in.
    incoming: VecDeque<(Incoming, usize)>,
    /// All of these bytes.
    waiting: usize,
    /// XML that waits for a request to answer.
    outgoing: String,
    /// Attributes of the next answer.
    attributes: String,
    held: VecDeque<Held>,
    /// The last answers.
    answered: VecDeque<(u64, String)>,
    /// No request waits since then.
    quiet_since: Instant,
    /// The stream has ended; why, if it was no good end. [XEP-0124 §17]
    ended: Option<Option<&'static str>>,
    waker: Option<Waker>,
}

/// `OPTIONS /http-bind`, before scripts of other pages ask. [XEP-0124 §13]
pub(super) async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type")),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400")),
    ];
    open_to_all((StatusCode::NO_CONTENT, headers))
}

/// `POST /http-bind`
pub(super) async fn request(State(web): State<Web>, Caller(address): Caller, request: Request) -> Response {
    let bytes_max = web.core.config().stanza_bytes_max + ENVELOPE_BYTES_MAX;
    let Ok(bytes) = to_bytes(request.into_body(), bytes_max).await else {
        return answer(ended(Some("policy-violation")));
    };
    let body = document(&bytes, Limits::bytes(bytes_max)).ok().filter(|body| body.is("body", ns::HTTP_BIND));
    let Some(body) = body else { return answer(ended(Some("bad-request"))) };
    let Some(rid) = body.attr("rid").and_then(|rid| rid.parse::<u64>().ok()).filter(|rid| *rid < RID_MAX) else {
        return answer(ended(Some("bad-request")));
    };
    let channel = match body.attr("sid") {
        Some(sid) => web.bosh.get(sid),
        None => begin(&web, &body, rid, Peer { address: address.ip(), closing: web.closing.clone() }),
    };
    match channel {
        Some(channel) => answer(channel.take(rid, body, bytes.len()).await),
        None => answer(ended(Some("item-not-found"))),
    }
}

fn answer(body: String) -> Response {
    let kind = HeaderValue::from_static("text/xml; charset=utf-8");
    open_to_all(([(header::CONTENT_TYPE, kind)], body))
}

/// `<body/>` with attributes and content.
fn wrapped(attributes: &str, content: &str) -> String {
    format!(
        "<body xmlns='{}' xmlns:stream='{}' xmlns:xmpp='{}'{attributes}>{content}</body>",
        ns::HTTP_BIND,
        ns::STREAM,
        ns::XBOSH
    )
}

fn ended(condition: Option<&str>) -> String {
    wrapped(&ending(condition), "")
}

fn ending(condition: Option<&str>) -> String {
    match condition {
        Some(condition) => format!(" type='terminate' condition='{condition}'"),
        None => " type='terminate'".into(),
    }
}

/// A new session. [XEP-0124 §7.1]
fn begin(web: &Web, body: &Element, rid: u64, peer: Peer) -> Option<Arc<Channel>> {
    let number = |name| body.attr(name).and_then(|number: &str| number.parse::<u64>().ok());
    let wait = Duration::from_secs(number("wait").unwrap_or(0)).min(WAIT_MAX);
    let hold = number("hold").unwrap_or(1).min(REQUESTS_MAX - 1) as usize;
    let sid = new_id();
    let mut begun_with = Element::new("body", ns::HTTP_BIND);
    body.attributes().iter().cloned().for_each(|attribute| begun_with.push_attribute(attribute));
    let state = Shared {
        begun_with,
        next: rid,
        early: BTreeMap::new(),
        incoming: VecDeque::new(),
        waiting: 0,
        outgoing: String::new(),
        attributes: format!(
            " sid='{sid}' wait='{}' requests='{REQUESTS_MAX}' inactivity='{}' polling='2' hold='{hold}' ver='{VERSION}' \
             secure='true' xmpp:version='1.0' xmpp:restartlogic='true'",
            wait.as_secs(),
            INACTIVITY.as_secs()
        ),
        held: VecDeque::new(),
        answered: VecDeque::new(),
        quiet_since: Instant::now(),
        ended: None,
        waker: None,
    };
    let limits = Mutex::new(Limits::bytes(UNPROVEN_BYTES_MAX));
    let household = household(peer.address);
    let channel = Arc::new(Channel { state: Mutex::new(state), wait, hold, limits, household });
    if !web.bosh.add(&sid, &channel) {
        return None;
    }
    let security = Security { is_encrypted: true, ..Security::default() };
    let inactivity = Box::pin(tokio::time::sleep(INACTIVITY));
    let transport = Bosh { channel: channel.clone(), sessions: web.bosh.clone(), sid, security, inactivity };
    tokio::spawn(serve(web.core.clone(), Box::new(transport), peer));
    Some(channel)
}

impl Channel {
    /// Takes a request; its answer.
    async fn take(self: Arc<Self>, rid: u64, body: Element, bytes: usize) -> String {
        let (told, mut to_tell) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if let Some((_, before)) = state.answered.iter().find(|(number, _)| *number == rid) {
                return before.clone();
            }
            if let Some(end) = state.ended {
                return ended(end);
            }
            let is_held = state.held.iter().any(|held| held.rid == rid);
            if rid >= state.next + REQUESTS_MAX || (rid < state.next && !is_held) {
                state.end(Some("item-not-found"));
                return ended(Some("item-not-found"));
            }
            let is_too_large = bytes > self.limits.lock().bytes + ENVELOPE_BYTES_MAX;
            let is_too_much = body.children().nth(ELEMENTS_MAX).is_some();
            // More at once than it may have, while it knows that it is to wait. [XEP-0124 §11]
            let is_too_many = !is_held && state.is_full() && state.held.len() as u64 >= REQUESTS_MAX;
            if is_too_large || is_too_much || is_too_many {
                state.end(Some("policy-violation"));
                return ended(Some("policy-violation"));
            }
            if is_held {
                // Asked again while it waits: the new connection gets the answer.
                state.held.retain(|held| held.rid != rid);
            } else {
                state.early.insert(rid, (body, bytes));
            }
            let at = state.held.iter().take_while(|held| held.rid < rid).count();
            state.held.insert(at, Held { rid, told, is_due: false });
            state.understand();
            state.answer(self.hold);
        }
        match timeout(self.wait.max(Duration::from_millis(50)), &mut to_tell).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => ended(Some("item-not-found")),
            Err(_) => {
                let is_full = {
                    let mut state = self.state.lock();
                    // It may have been answered in this moment.
                    if let Ok(answer) = to_tell.try_recv() {
                        return answer;
                    }
                    let is_full = state.is_full();
                    if is_full {
                        let late = state.held.iter_mut().filter(|held| held.rid <= rid);
                        late.for_each(|held| held.is_due = true);
                    }
                    while !is_full && state.held.front().is_some_and(|held| held.rid <= rid) {
                        state.answer_one();
                    }
                    is_full
                };
                if is_full {
                    // It gets its answer as soon as there is room for what comes next; the stream ends it otherwise.
                    return to_tell.await.unwrap_or_else(|_| ended(Some("item-not-found")));
                }
                to_tell.try_recv().unwrap_or_else(|_| wrapped("", ""))
            }
        }
    }
}

impl Shared {
    /// Requests in order become what the stream reads.
    fn understand(&mut self) {
        while let Some((body, bytes)) = self.early.remove(&self.next) {
            self.next += 1;
            let restart = body.attributes().iter().any(|a| {
                a.ns.as_deref() == Some(ns::XBOSH) && a.name == "restart" && matches!(a.value.as_str(), "true" | "1")
            });
            if restart || body.attr("sid").is_none() {
                let header = header(&body, &self.begun_with);
                self.push(Incoming::Open(header), 0);
            }
            let is_end = body.kind() == Some("terminate");
            let mut body = body;
            let share = bytes / body.children().count().max(1) + 1;
            for mut child in body.take_children() {
                // COMPAT(clients that leave the namespace out): what is in that of BOSH itself was meant for the stream.
                if child.ns() == ns::HTTP_BIND {
                    into_client(&mut child);
                }
                self.push(Incoming::Element(child), share);
            }
            if is_end {
                self.push(Incoming::Close, 0);
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn push(&mut self, incoming: Incoming, bytes: usize) {
        self.waiting += bytes;
        self.incoming.push_back((incoming, bytes));
    }

    /// What the stream reads next.
    fn pop(&mut self) -> Option<Incoming> {
        let (incoming, bytes) = self.incoming.pop_front()?;
        self.waiting -= bytes;
        Some(incoming)
    }

    /// Whether so much waits that no more should come: each answer lets the client send another request.
    fn is_full(&self) -> bool {
        self.ended.is_none() && self.waiting > WAITING_BYTES_MAX
    }

    /// Answers what can be answered.
    fn answer(&mut self, hold: usize) {
        // Only requests that were understood; those before them were answered first.
        let is_understood = |state: &Self| state.held.front().is_some_and(|held| held.rid < state.next);
        let has_to = |state: &Self| {
            let is_due = state.held.front().is_some_and(|held| held.is_due);
            !state.outgoing.is_empty() || state.held.len() > hold || is_due || state.ended.is_some()
        };
        while !self.is_full() && is_understood(self) && has_to(self) {
            self.answer_one();
        }
    }

    fn answer_one(&mut self) {
        let Some(Held { rid, told, .. }) = self.held.pop_front() else { return };
        let mut attributes = std::mem::take(&mut self.attributes);
        if let Some(end) = self.ended {
            attributes.push_str(&ending(end));
        }
        let body = wrapped(&attributes, &std::mem::take(&mut self.outgoing));
        self.answered.push_back((rid, body.clone()));
        if self.answered.len() as u64 > REQUESTS_MAX {
            self.answered.pop_front();
        }
        if self.held.is_empty() {
            self.quiet_since = Instant::now();
        }
        let _ = told.send(body);
    }

    fn end(&mut self, condition: Option<&'static str>) {
        self.ended.get_or_insert(condition);
        while !self.held.is_empty() {
            self.answer_one();
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The header of a stream. One that begins anew need not say all of it again.
fn header(body: &Element, begun_with: &Element) -> Header {
    let mut header = Element::new("stream", ns::STREAM).with_attr("version", "1.0");
    for name in ["to", "from", "xml:lang"] {
        header.set_attr(name, body.attr(name).or(begun_with.attr(name)));
    }
    Header { element: header, content_ns: Some(ns::CLIENT.into()) }
}

fn into_client(element: &mut Element) {
    element.move_ns(ns::CLIENT);
    element.children_mut().filter(|child| child.ns() == ns::HTTP_BIND).for_each(into_client);
}

/// A stream over requests.
struct Bosh {
    channel: Arc<Channel>,
    sessions: Arc<Sessions>,
    sid: String,
    security: Security,
    inactivity: Pin<Box<Sleep>>,
}

impl Bosh {
    fn put(&mut self, text: &str) {
        self.channel.state.lock().outgoing.push_str(text);
    }
}

impl Drop for Bosh {
    fn drop(&mut self) {
        self.channel.state.lock().end(None);
        self.sessions.remove(&self.sid);
    }
}

impl Transport for Bosh {
    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<Incoming, Broken>> {
        let channel = self.channel.clone();
        let mut state = channel.state.lock();
        state.answer(channel.hold);
        state.waker = Some(cx.waker().clone());
        if state.ended.is_some() {
            return Poll::Ready(Err(Broken::Lost));
        }
        if read && let Some(incoming) = state.pop() {
            state.answer(channel.hold);
            return Poll::Ready(Ok(incoming));
        }
        if !state.held.is_empty() {
            return Poll::Pending;
        }
        let until = state.quiet_since + INACTIVITY;
        drop(state);
        if self.inactivity.deadline() != until {
            self.inactivity.as_mut().reset(until);
        }
        self.inactivity.as_mut().poll(cx).map(|()| Err(Broken::Lost))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut state = self.channel.state.lock();
        state.answer(self.channel.hold);
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn backlog(&self) -> usize {
        self.channel.state.lock().outgoing.len()
    }

    fn send_open(&mut self, header: &OurHeader) {
        let mut state = self.channel.state.lock();
        let mut attributes = std::mem::take(&mut state.attributes);
        for (name, value) in [("from", &header.from), ("authid", &header.id)] {
            attributes.push_str(&format!(" {name}='"));
            escape(value, &mut attributes);
            attributes.push('\'');
        }
        state.attributes = attributes;
    }

    fn send_of_stream(&mut self, name: &str, children: &[Element]) {
        let text = stream_element(name, children, false);
        let mut state = self.channel.state.lock();
        state.outgoing.push_str(&text);
        if name == "error" {
            // [XEP-0124 §17.1] The answer that has it is the last.
            state.ended.get_or_insert(Some("remote-stream-error"));
        }
    }

    fn send(&mut self, element: &Element) {
        self.put(&element.to_xml());
    }

    fn send_stanza(&mut self, stanza: &Outgoing, to: &str) {
        self.put(&stanza.document(to));
    }

    fn send_keepalive(&mut self) {}

    fn send_close(&mut self) {
        self.channel.state.lock().ended.get_or_insert(None);
    }

    fn restart(&mut self) {}

    fn set_limits(&mut self, limits: Limits) {
        *self.channel.limits.lock() = limits;
    }

    fn security(&self) -> &Security {
        &self.security
    }
}

#[cfg(test)]
mod tests;
