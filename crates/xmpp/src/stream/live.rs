//! A session and its connection: what comes is routed, what waits is written, and when the connection breaks the session
//! waits for another. [RFC6120 §4.3.5] [XEP-0198] [XEP-0352]
//!
//! Stanzas of a stream are handled one after the other, each to its end before it is counted: what the client is told of is
//! durable. While one is handled nothing more is read, but what waits for the client is written.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use koine_stanza::{Condition, Element, Jid, StanzaError, StreamCondition, StreamError, ns};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Peer,
    client::{Bound, Negotiation, handled_too_high, sm_failed},
    end, end_with, shutdown,
    transport::{Broken, Incoming, Transport},
};
use crate::{core::Core, outbox::Todo, session::Session};

/// Bytes that may wait in a connection; more waits in the session.
const BACKLOG_MAX: usize = 64 * 1024;
/// Stanzas after which the client is asked how many it has. [XEP-0198 §4]
const ASK_EVERY: usize = 5;
/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(60);
/// Ticks without a word after which something is sent, to find out whether the connection is there.
const QUIET_TICKS: u32 = 5;

/// A stanza that is being handled.
struct Handling {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Its head, for the answer should the work fail badly.
    head: Element,
}

enum Event {
    Came(Incoming),
    Broken(Broken),
    Handled,
    /// Another connection has the session.
    TakenOver,
    /// The session is to end.
    End(StreamError),
    Tick,
    Shutdown,
}

/// Why a session has its connection no longer.
enum Parting {
    /// The client said so.
    Closed,
    /// It broke.
    Lost,
    /// Another connection has the session.
    TakenOver,
    /// Something is wrong.
    Error(StreamError),
    /// The server ends.
    Shutdown,
}

struct Live {
    core: Arc<Core>,
    transport: Box<dyn Transport>,
    session: Arc<Session>,
    connection: u64,
    handling: Option<Handling>,
    /// Unconfirmed stanzas since the client was asked last.
    since_asked: usize,
    /// It was asked and has not said anything since.
    waits_for_answer: bool,
    quiet_ticks: u32,
    /// Something of what waits was written since the last tick.
    has_written: bool,
}

/// Serves a session over a connection until either ends.
pub(crate) async fn run(core: Arc<Core>, transport: Box<dyn Transport>, bound: Bound, peer: Peer) {
    let (session, connection, turn) = bound.take();
    let mut live = Live {
        core: core.clone(),
        transport,
        session: session.clone(),
        connection,
        handling: None,
        since_asked: 0,
        waits_for_answer: false,
        quiet_ticks: 0,
        has_written: false,
    };
    let parting = live.talk(peer.closing).await;
    live.finish_handling().await;
    match parting {
        // Last words may take long, and nobody should talk to a session that is as good as gone.
        Parting::Closed => {
            live.write_all();
            Box::pin(core.session_ended(&session)).await;
            drop(turn);
            Box::pin(end(&mut *live.transport)).await;
        }
        Parting::Error(error) => {
            Box::pin(core.session_ended(&session)).await;
            drop(turn);
            Box::pin(end_with(&mut *live.transport, &error)).await;
        }
        Parting::Lost if session.is_resumable() => {
            tokio::spawn(left(core, session, connection));
        }
        Parting::Lost => Box::pin(core.session_ended(&session)).await,
        Parting::TakenOver => {
            drop(turn);
            let error = StreamError::new(StreamCondition::Conflict, "the session goes on over another connection");
            Box::pin(end_with(&mut *live.transport, &error)).await;
        }
        Parting::Shutdown => {
            // The lists of sessions and devices end with the program, or are put right when it begins again.
            if let Broken::Error(error) = shutdown() {
                Box::pin(end_with(&mut *live.transport, &error)).await;
            }
        }
    }
}

/// A session whose connection has left it: it waits for another one, if it can be resumed, or ends. [XEP-0198 §5]
pub(super) async fn left(core: Arc<Core>, session: Arc<Session>, connection: u64) {
    let wait = if session.is_resumable() { core.config().resume_for } else { Duration::ZERO };
    let todo = timeout(wait, poll_fn(|cx| session.outbox().poll_detached(cx, connection))).await;
    if matches!(todo, Ok(Todo::TakenOver)) {
        return;
    }
    // Whoever comes now is too late; whoever came just now has it.
    if session.outbox().end_if(connection, StreamCondition::ConnectionTimeout.into()) {
        core.session_ended(&session).await;
    }
}

impl Live {
    async fn talk(&mut self, mut closing: tokio::sync::watch::Receiver<bool>) -> Parting {
        let mut tick = pin!(sleep(TICK));
        // Made once: to wait anew for each stanza would cost as much as the stanza.
        let mut closing = pin!(async move { closing.wait_for(|closing| *closing).await.is_ok() });
        loop {
            let event = tokio::select! {
                biased;
                _ = closing.as_mut() => Event::Shutdown,
                event = poll_fn(|cx| self.poll(cx)) => event,
                () = tick.as_mut() => {
                    tick.as_mut().reset(Instant::now() + TICK);
                    Event::Tick
                }
            };
            if let Err(parting) = self.take(event) {
                return parting;
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while self.transport.backlog() < BACKLOG_MAX {
            match self.write_waiting(cx) {
                Poll::Ready(Todo::Wrote(stanzas)) => self.wrote(stanzas),
                Poll::Ready(Todo::TakenOver) => return Poll::Ready(Event::TakenOver),
                Poll::Ready(Todo::End(error)) => return Poll::Ready(Event::End(error)),
                Poll::Pending => break,
            }
        }
        if let Some(handling) = &mut self.handling {
            // A panic ends what met it and nothing else.
            let polled = catch_unwind(AssertUnwindSafe(|| handling.work.as_mut().poll(cx)));
            match polled {
                Ok(Poll::Ready(())) => return Poll::Ready(Event::Handled),
                Ok(Poll::Pending) => {}
                Err(_) => {
                    tracing::error!(user_id = %self.session.user(), "handling a stanza panicked");
                    let error = StanzaError::from(Condition::InternalServerError);
                    if let Some(answer) = error.answer(&handling.head) {
                        self.session.send(answer);
                    }
                    return Poll::Ready(Event::Handled);
                }
            }
        }
        let before = self.transport.backlog();
        let polled = self.transport.poll(cx, self.handling.is_none());
        let after = self.transport.backlog();
        self.has_written |= after < before;
        match polled {
            Poll::Ready(Ok(incoming)) => Poll::Ready(Event::Came(incoming)),
            Poll::Ready(Err(broken)) => Poll::Ready(Event::Broken(broken)),
            Poll::Pending => {
                if before >= BACKLOG_MAX && after < BACKLOG_MAX {
                    // There is room again for what waits in the session.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Parting> {
        match event {
            Event::Came(incoming) => {
                (self.quiet_ticks, self.waits_for_answer) = (0, false);
                match incoming {
                    Incoming::Element(element) => self.element(element),
                    Incoming::Open(_) => Err(Parting::Error(StreamCondition::InvalidXml.into())),
                    Incoming::Close => Err(Parting::Closed),
                }
            }
            Event::Broken(Broken::Error(error)) => Err(Parting::Error(error)),
            Event::Broken(Broken::Closed) => Err(Parting::Closed),
            Event::Broken(Broken::Lost) => Err(Parting::Lost),
            Event::Handled => {
                self.handled();
                Ok(())
            }
            Event::TakenOver => Err(Parting::TakenOver),
            Event::End(error) => Err(Parting::Error(error)),
            Event::Tick => self.tick(),
            Event::Shutdown => Err(Parting::Shutdown),
        }
    }

    fn handled(&mut self) {
        self.handling = None;
        if let Some(counts) = &mut self.session.outbox().counts {
            counts.handled = counts.handled.wrapping_add(1);
        }
    }

    /// Puts what waits for the client into the connection, as far as there is room.
    fn write_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Todo> {
        let Self { transport, session, connection, .. } = self;
        session.outbox().poll(cx, *connection, |outgoing| {
            transport.send_stanza(outgoing, session.jid().as_str());
            transport.backlog() < BACKLOG_MAX
        })
    }

    /// Asks now and then how many stanzas the client has. [XEP-0198 §4]
    fn wrote(&mut self, stanzas: usize) {
        if self.session.outbox().counts.is_none() {
            return;
        }
        self.since_asked += stanzas;
        if self.since_asked >= ASK_EVERY {
            self.ask();
        }
    }

    fn ask(&mut self) {
        self.since_asked = 0;
        self.transport.send(&Element::new("r", ns::SM));
    }

    fn tick(&mut self) -> Result<(), Parting> {
        // Asked a minute ago, and not a byte since; or a minute in which nothing could be written.
        let is_stuck = self.transport.backlog() > 0 && !self.has_written;
        if self.waits_for_answer || is_stuck {
            return Err(Parting::Lost);
        }
        self.has_written = false;
        self.quiet_ticks += 1;
        let (has_counts, has_unconfirmed) = {
            let outbox = self.session.outbox();
            (outbox.counts.is_some(), outbox.has_unconfirmed())
        };
        if has_unconfirmed || (has_counts && self.quiet_ticks >= QUIET_TICKS) {
            self.ask();
            self.waits_for_answer = true;
        } else if self.quiet_ticks >= QUIET_TICKS {
            self.quiet_ticks = 0;
            self.transport.send_keepalive();
        }
        Ok(())
    }

    fn element(&mut self, element: Element) -> Result<(), Parting> {
        match (element.name(), element.ns()) {
            ("iq" | "message" | "presence", ns::CLIENT) => self.stanza(element),
            (_, ns::SM) => self.stream_management(&element),
            ("active", ns::CSI) => {
                self.session.set_inactive(false);
                Ok(())
            }
            ("inactive", ns::CSI) => {
                self.session.set_inactive(true);
                Ok(())
            }
            // [RFC6120 §4.9.3.24]
            _ => Err(Parting::Error(StreamError::new(
                StreamCondition::UnsupportedStanzaType,
                format!("<{}/> is nothing that is understood here", element.name()),
            ))),
        }
    }

    fn stream_management(&mut self, element: &Element) -> Result<(), Parting> {
        match element.name() {
            "r" => {
                let handled = self.session.outbox().counts.map(|counts| counts.handled);
                if let Some(handled) = handled {
                    self.transport.send(&Element::new("a", ns::SM).with_attr("h", handled.to_string()));
                }
                Ok(())
            }
            "a" => {
                let h = element.attr("h").and_then(|h| h.parse().ok());
                let h =
                    h.ok_or_else(|| Parting::Error(StreamError::new(StreamCondition::InvalidXml, "`h` is a count")))?;
                self.session.outbox().confirm(h).map_err(|too_high| Parting::Error(handled_too_high(too_high)))
            }
            "enable" => {
                let answer = Negotiation::enable(&self.core, &self.session, element);
                self.transport.send(&answer);
                Ok(())
            }
            "resume" => {
                // [XEP-0198 §5] There is a resource already.
                self.transport.send(&sm_failed(Condition::UnexpectedRequest, None));
                Ok(())
            }
            _ => Err(Parting::Error(StreamCondition::UnsupportedStanzaType.into())),
        }
    }

    /// A stanza of the client: from itself alone. [RFC6120 §8.1.2.1]
    fn stanza(&mut self, mut stanza: Element) -> Result<(), Parting> {
        let own = self.session.jid();
        if let Some(from) = stanza.attr("from") {
            let is_own = Jid::new(from).is_ok_and(|from| from == *own || from == own.to_bare());
            if !is_own {
                return Err(Parting::Error(StreamError::new(StreamCondition::InvalidFrom, "`from` is not you")));
            }
        }
        stanza.set_attr("from", Some(own.to_string()));
        let mut head = Element::new(stanza.name().to_owned(), ns::CLIENT);
        for name in ["from", "to", "id", "type"] {
            head.set_attr(name, stanza.attr(name));
        }
        let (core, session) = (self.core.clone(), self.session.clone());
        let work = Box::pin(async move { core.route(stanza, Some(&session)).await });
        self.handling = Some(Handling { work, head });
        Ok(())
    }

    /// The stanza that is being handled is handled to its end, whatever became of the connection.
    async fn finish_handling(&mut self) {
        if let Some(handling) = &mut self.handling {
            let panicked = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| handling.work.as_mut().poll(cx))) {
                Ok(Poll::Ready(())) => Poll::Ready(false),
                Ok(Poll::Pending) => Poll::Pending,
                Err(_) => Poll::Ready(true),
            });
            if panicked.await {
                tracing::error!(user_id = %self.session.user(), "handling a stanza panicked");
            }
            self.handled();
        }
    }

    /// Before our end of the stream the client gets what waits, and the last count. [XEP-0198 §4]
    fn write_all(&mut self) {
        let _ = self.write_waiting(&mut Context::from_waker(std::task::Waker::noop()));
        let handled = self.session.outbox().counts.map(|counts| counts.handled);
        if let Some(handled) = handled {
            self.transport.send(&Element::new("a", ns::SM).with_attr("h", handled.to_string()));
        }
    }
}
