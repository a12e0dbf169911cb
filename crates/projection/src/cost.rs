//! What reading a text costs, counted in tests: those who look for an end far behind say how far they looked, so that a test
//! can hold that against the length of what strangers sent. Without tests nothing is counted.

#[cfg(not(test))]
pub(crate) fn looked(_steps: usize) {}

#[cfg(test)]
pub(crate) use counted::{looked, steps};

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    /// So many characters were looked at.
    pub(crate) fn looked(steps: usize) {
        STEPS.set(STEPS.get() + steps);
    }

    /// What something comes to, and how many characters were looked at for it.
    pub(crate) fn steps<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = STEPS.get();
        let made = work();
        (made, STEPS.get() - before)
    }
}
