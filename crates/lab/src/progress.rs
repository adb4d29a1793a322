//! What `up` says while it works: one line a step, with the time since the start.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::error::Error;

/// Tells how far a lab is.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    quiet: bool,
}

impl Progress {
    /// Starts the clock.
    pub fn start(quiet: bool) -> Self {
        Self { start: Instant::now(), quiet }
    }

    /// One step was done.
    pub fn say(&self, what: &str) {
        if !self.quiet {
            let seconds = self.start.elapsed().as_secs_f64();
            // Nobody may be listening: that is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{seconds:7.2}s  {what}");
        }
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM only set a mark, which [`check_interrupt`]
/// reports: what was begun can be undone before the process ends.
pub fn catch_interrupts() -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = || Error::file("watch for signals with", "a thread");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed())?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed())?,
            signal(SignalKind::terminate()).map_err(failed())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    });
    Ok(())
}

/// An error once a signal came.
pub fn check_interrupt() -> Result<(), Error> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}
