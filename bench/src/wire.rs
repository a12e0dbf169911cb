//! What this tool's clients have said and heard over all their connections: bytes, and how often they waited for an answer.
//!
//! One count for the process, which has one thread: whoever measures takes the difference.

use std::cell::{Cell, RefCell};

/// Longest dialogue that is kept to find out how small it would be.
const KEPT_BYTES_MAX: usize = 4 << 20;

thread_local! {
    static COUNT: Cell<Wire> = const { Cell::new(Wire { sent: 0, received: 0, turns: 0 }) };
    static SPEAKS: Cell<bool> = const { Cell::new(false) };
    static KEPT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Bytes, and turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wire {
    /// Bytes to servers, those of TCP and IP apart.
    pub sent: u64,
    /// Bytes from servers.
    pub received: u64,
    /// How often something was heard after something was said. With one client at a time these are round trips.
    pub turns: u64,
}

impl Wire {
    /// Everything so far.
    pub fn now() -> Self {
        COUNT.get()
    }

    /// What came since.
    pub fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            received: self.received - before.received,
            turns: self.turns - before.turns,
        }
    }
}

/// A client says this.
pub fn say(bytes: &[u8]) {
    SPEAKS.set(true);
    COUNT.set(Wire { sent: COUNT.get().sent + bytes.len() as u64, ..COUNT.get() });
    keep(bytes);
}

/// A client hears this.
pub fn hear(bytes: &[u8]) {
    let turn = u64::from(SPEAKS.replace(false) && !bytes.is_empty());
    let before = COUNT.get();
    COUNT.set(Wire { received: before.received + bytes.len() as u64, turns: before.turns + turn, ..before });
    keep(bytes);
}

fn keep(bytes: &[u8]) {
    KEPT.with_borrow_mut(|kept| {
        if let Some(kept) = kept.as_mut().filter(|kept| kept.len() + bytes.len() <= KEPT_BYTES_MAX) {
            kept.extend_from_slice(bytes);
        }
    });
}

/// Keeps what is said and heard from now on.
pub fn listen() {
    KEPT.set(Some(Vec::new()));
}

/// What was said and heard since, in its order.
pub fn heard() -> Vec<u8> {
    KEPT.take().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_heard_after_something_was_said() {
        let before = Wire::now();
        listen();
        say(b"question");
        say(b"!");
        hear(b"ans");
        hear(b"wer");
        say(b"thanks");
        assert_eq!(Wire::now().since(before), Wire { sent: 15, received: 6, turns: 1 });
        assert_eq!(heard(), b"question!answerthanks");
    }
}
