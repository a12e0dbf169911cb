//! What is under way between two servers, and outlives the connection that it is under way on. [XEP-0198]
//!
//! Stanzas are kept until the other side has confirmed them. Whoever made the connection makes another when it breaks and goes on
//! where the other side says that it was; the other side keeps what it knows until then.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use koine_stanza::Element;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// How long the other side is waited for when a connection broke.
pub(super) const RESUME_FOR: Duration = Duration::from_secs(120);
/// Streams that may be resumed, at once.
const RESUMABLE_MAX: usize = 4_000;

/// What is under way.
pub(super) struct Flow {
    /// Whether both sides count.
    pub(super) is_on: bool,
    /// Stanzas of the other side that were handled: what they say is durable.
    pub(super) handled: u32,
    /// Stanzas of ours that the other side has confirmed.
    confirmed: u32,
    unconfirmed: VecDeque<Element>,
    /// What the other side calls it, if it can be resumed there.
    pub(super) id: Option<String>,
    /// What waits to be sent.
    pub(super) queue: mpsc::Receiver<Element>,
    /// The other end of it.
    pub(super) to_queue: mpsc::WeakSender<Element>,
}

impl Flow {
    /// Nothing is under way but what waits.
    pub(super) fn new(to_queue: &mpsc::Sender<Element>, queue: mpsc::Receiver<Element>) -> Self {
        let (confirmed, unconfirmed, to_queue) = (0, VecDeque::new(), to_queue.downgrade());
        Self { is_on: false, handled: 0, confirmed, unconfirmed, id: None, queue, to_queue }
    }

    /// Both sides count from now on.
    pub(super) fn begin(&mut self) {
        (self.is_on, self.handled, self.confirmed) = (true, 0, 0);
    }

    /// A stanza was written.
    pub(super) fn sent(&mut self, stanza: Element) {
        if self.is_on {
            self.unconfirmed.push_back(stanza);
        }
    }

    /// Stanzas that are not confirmed.
    pub(super) fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// The other side has `h` stanzas; `false` if it was not sent as many. Counts begin anew after 2^32.
    pub(super) fn confirm(&mut self, h: u32) -> bool {
        let news = h.wrapping_sub(self.confirmed) as usize;
        if news > self.unconfirmed.len() {
            return false;
        }
        self.confirmed = h;
        self.unconfirmed.drain(..news);
        true
    }

    /// Takes what is not confirmed, to be sent again.
    pub(super) fn take_unconfirmed(&mut self) -> Vec<Element> {
        std::mem::take(&mut self.unconfirmed).into()
    }

    /// Everything that did not arrive for certain, in order. Nothing waits any more.
    pub(super) fn give_up(mut self) -> Vec<Element> {
        self.queue.close();
        let mut rest = self.take_unconfirmed();
        while let Ok(stanza) = self.queue.try_recv() {
            rest.push(stanza);
        }
        rest
    }
}

/// Whoever has a flow is asked for it with one of these.
pub(super) type Asking = oneshot::Sender<Kept>;

/// What goes from a connection that broke to the one that goes on.
pub(super) struct Kept {
    pub(super) flow: Flow,
    /// Whether stanzas go both ways.
    pub(super) is_bidi: bool,
}

/// Flows that the other side may resume, and whom to ask for them.
#[derive(Default)]
pub(super) struct Resumable(Mutex<HashMap<String, (String, mpsc::Sender<Asking>)>>);

impl Resumable {
    /// A flow of `theirs` may be resumed by that id; whoever has it is asked by the receiver. `None` when there are too many.
    pub(super) fn add(&self, id: &str, theirs: &str) -> Option<mpsc::Receiver<Asking>> {
        let mut all = self.0.lock();
        if all.len() >= RESUMABLE_MAX {
            return None;
        }
        let (ask, asked) = mpsc::channel(1);
        all.insert(id.to_owned(), (theirs.to_owned(), ask));
        Some(asked)
    }

    pub(super) fn remove(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// The flow of that id, which nobody else gets again. That of another server is not there.
    pub(super) async fn take(&self, id: &str, theirs: &str) -> Option<Kept> {
        let ask = {
            let mut all = self.0.lock();
            let (owner, _) = all.get(id)?;
            if owner != theirs {
                return None;
            }
            all.remove(id)?.1
        };
        let (asking, answer) = oneshot::channel();
        ask.send(asking).await.ok()?;
        // Whoever has it finishes the stanza at hand first.
        tokio::time::timeout(RESUME_FOR, answer).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> (mpsc::Sender<Element>, Flow) {
        let (to_queue, queue) = mpsc::channel(10);
        let flow = Flow::new(&to_queue, queue);
        (to_queue, flow)
    }

    #[test]
    fn what_is_confirmed_is_not_sent_again() {
        let (to_queue, mut flow) = flow();
        flow.begin();
        for name in ["a", "b", "c"] {
            flow.sent(Element::new(name, "x"));
        }
        assert!(flow.confirm(2) && !flow.confirm(4));
        to_queue.try_send(Element::new("d", "x")).expect("there is room");
        let rest: Vec<_> = flow.give_up().iter().map(|stanza| stanza.name().to_owned()).collect();
        assert_eq!(rest, ["c", "d"]);
        assert!(to_queue.try_send(Element::new("e", "x")).is_err(), "nothing gets lost in a queue that nobody reads");
    }

    #[tokio::test]
    async fn nobody_resumes_the_stream_of_another_server() {
        let resumable = Resumable::default();
        let mut asked = resumable.add("1", "two.example").expect("there is room");
        assert!(resumable.take("1", "mallory.example").await.is_none());
        let (_to_queue, flow) = flow();
        let answer = async {
            let asking = asked.recv().await.expect("somebody asks");
            let _ = asking.send(Kept { flow, is_bidi: false });
        };
        let (kept, ()) = tokio::join!(resumable.take("1", "two.example"), answer);
        assert!(kept.is_some());
        assert!(resumable.take("1", "two.example").await.is_none(), "once");
    }
}
