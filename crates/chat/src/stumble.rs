//! Where the engine panics. matrix-sdk-crypto 0.18 does so by design if a session expires between being shared and being
//! used, by time or by another message on its way: rare, for sessions live an hour at least, and harmless, since nothing was encrypted.
//! A script's command tries again; the screen opens the account anew, from the store in which what waits to be sent is kept.
//! A terminal is never left in a state that nobody can use.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
};

use crate::failure::Failure;

/// How the panic that is survived begins.
const EXPIRED: &str = "Session expired";
/// Times in a row that a session expires while a message is encrypted with it, until it is the room that is to be blamed.
const TRIES_MAX: usize = 5;

/// Commands that survive a panic, so that nobody needs to read of it.
static SURVIVING: AtomicUsize = AtomicUsize::new(0);

/// The words of a panic.
pub fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

/// Whether a session expired in the middle.
pub fn is_expiry(words: &str) -> bool {
    words.starts_with(EXPIRED)
}

/// For commands: what is survived is not printed.
pub fn hush() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let survived = SURVIVING.load(Ordering::Relaxed) > 0 && is_expiry(&words(panic.payload()));
        if !survived {
            before(panic);
        }
    }));
}

/// Does what may meet a session that just expired, again if it does.
pub async fn survive<T, E, Work>(work: impl Fn() -> Work) -> Result<T, Failure>
where
    Work: Future<Output = Result<T, E>>,
    Failure: From<E>,
{
    for _ in 0..TRIES_MAX {
        SURVIVING.fetch_add(1, Ordering::Relaxed);
        let done = caught(work()).await;
        SURVIVING.fetch_sub(1, Ordering::Relaxed);
        match done {
            Ok(done) => return Ok(done?),
            Err(panic) if is_expiry(&words(&*panic)) => {}
            Err(panic) => return Err(Failure::Local(format!("the engine stumbled: {}", words(&*panic)))),
        }
    }
    Err(Failure::Local(format!(
        "the sessions of this room expired {TRIES_MAX} times while a message was encrypted: its rules renew them too often"
    )))
}

/// What work came to, or its panic.
async fn caught<Work: Future>(work: Work) -> Result<Work::Output, Box<dyn Any + Send>> {
    let mut work = pin!(work);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn nothing(words: &'static str) -> Result<(), Failure> {
        std::panic::panic_any(words)
    }

    #[tokio::test]
    async fn a_session_that_expired_in_the_middle_is_tried_again_and_other_panics_are_told() {
        hush();
        let tries = Cell::new(0);
        let done = survive(|| async {
            tries.set(tries.get() + 1);
            assert!(tries.get() == 3, "Session expired");
            Ok::<_, Failure>(tries.get())
        });
        assert_eq!(done.await.unwrap(), 3);
        let fails = |words: &'static str| survive(move || async move { nothing(words) });
        assert!(fails("something else").await.unwrap_err().to_string().contains("something else"));
        assert!(fails("Session expired").await.unwrap_err().to_string().contains("too often"));
    }
}
