//! Where the agent can die: before each of its writes to the kernel.
//!
//! Every write of a map, a pin, a link, a program or the control word passes
//! [`point`]. In debug builds a test can end the process before any of them;
//! release builds have nothing of it.

#[cfg(debug_assertions)]
pub use armed::{die_before, writes};

/// A write follows.
#[inline]
pub(crate) fn point() {
    #[cfg(debug_assertions)]
    armed::point();
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::Once;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// Number of the write before which the process dies, counted from its start.
    const VARIABLE: &str = "SIGNET_CRASH_BEFORE_WRITE";

    static WRITES: AtomicU64 = AtomicU64::new(0);
    static LAST: AtomicU64 = AtomicU64::new(u64::MAX);
    static ENVIRONMENT: Once = Once::new();

    /// Writes of this process so far.
    pub fn writes() -> u64 {
        WRITES.load(Ordering::Relaxed)
    }

    /// Ends the process, as SIGKILL does, before the write that is this many
    /// writes away: 1 is the next one.
    pub fn die_before(write: u64) {
        LAST.store(writes().saturating_add(write), Ordering::Relaxed);
    }

    pub(super) fn point() {
        ENVIRONMENT.call_once(|| {
            let number = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
            number.into_iter().for_each(die_before);
        });
        if WRITES.fetch_add(1, Ordering::Relaxed) + 1 < LAST.load(Ordering::Relaxed) {
            return;
        }
        // Nothing of this process runs on: no destructor, no other thread.
        let _ = kill(Pid::this(), Signal::SIGKILL);
        loop {
            std::thread::park();
        }
    }
}
