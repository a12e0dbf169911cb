//! What a caller holds of a command under way.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

use tokio::sync::oneshot;

use crate::{error::CommitError, log::Position};

/// The writer's end.
pub(super) type Reply = oneshot::Sender<Result<Position, CommitError>>;

/// Resolves when the command is durable, to the position of the newest log entry at its end (its own last one, if it
/// appended any). Dropping it does not cancel the command.
#[must_use = "a command is durable only when its commit has resolved"]
pub struct Commit(State);

enum State {
    Waiting(oneshot::Receiver<Result<Position, CommitError>>),
    /// Failed before it was queued.
    Failed(CommitError),
}

impl Commit {
    pub(super) fn pair() -> (Reply, Self) {
        let (reply, answer) = oneshot::channel();
        (reply, Self(State::Waiting(answer)))
    }

    pub(super) fn failed(error: CommitError) -> Self {
        Self(State::Failed(error))
    }

    /// Blocks the thread until the command is durable. Not for the threads of a runtime.
    pub fn wait(self) -> Result<Position, CommitError> {
        let mut this = pin!(self);
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match this.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl Future for Commit {
    type Output = Result<Position, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Waiting(answer) => {
                Pin::new(answer).poll(context).map(|answer| answer.unwrap_or(Err(CommitError::Closed)))
            }
            State::Failed(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Commit")
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
