//! The loop's look at itself and at what it installed.

use std::time::{Duration, Instant};

use datapath::Fault;

use super::{Control, Kernel};
use crate::chain::chain;
use crate::events;
use crate::health::{memory, resident_bytes};

/// Between two looks; somebody else's change is told within five seconds.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(2);

/// However long a look takes, as in a large cluster.
const CHECK_AT_LEAST_EVERY: Duration = Duration::from_secs(3);

/// From a look that could not be sure to the one that is.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// A look may take this share of the time.
const SHARE: u32 = 20;

/// From the beginning of a look to that of the next.
fn pause(took: Duration, is_unsure: bool) -> Duration {
    if is_unsure {
        return CHECK_AGAIN;
    }
    (took * SHARE).clamp(CHECK_EVERY, CHECK_AT_LEAST_EVERY)
}

impl<K: Kernel> Control<K> {
    /// Compares the kernel with what is in force, and tells; returns when to look
    /// again.
    pub(super) fn check(&mut self) -> Duration {
        let started = Instant::now();
        let desired = self.view.enforced.plan().map(|plan| &plan.desired);
        let faults = self.kernel.check(desired);
        let now_ns = api::time::now_ns();
        if !faults.is_empty() {
            // Putting things right may have moved it.
            self.view.enforced.inherit(self.kernel.revision());
        }
        for fault in self.health.note_faults(faults, now_ns) {
            let Fault { kind, detail, left } = fault;
            let kind = kind.as_str();
            let outcome = match &left {
                None => "it was put right".to_owned(),
                Some(reason) => format!("it stays so: {reason}"),
            };
            tracing::error!(kind, detail, outcome, "somebody else changed what was installed");
            let text = format!("{detail}; {outcome}");
            self.state.note(events::other("fault", text.clone()));
            self.view.last_error = Some((text, now_ns));
        }
        // Not while a change waits: what a plan was made from is freed by now.
        if std::mem::take(&mut self.untrimmed) {
            datapath::trim_heap();
        }
        self.measure();
        self.state.set_control(self.view.clone());
        pause(started.elapsed(), self.kernel.is_unsure())
    }

    /// Nothing is enforced by the wall clock, but people compare times.
    pub(super) fn look_at_the_clock(&mut self) {
        let Some(step) = self.clock.last() else { return };
        let way = if step > 0 { "forward" } else { "back" };
        let by = Duration::from_nanos(step.unsigned_abs()).as_millis();
        self.health.clock_steps += 1;
        self.state.set_health(self.health.clone());
        self.tell(
            "clock",
            format!(
                "the wall clock was set {way} by {by} ms: times from before it do not compare \
                 with later ones; verdicts, lifetimes and trials do not depend on it"
            ),
        );
    }

    fn measure(&mut self) {
        let mut fill = match self.kernel.fill() {
            Ok(fill) => fill,
            Err(error) => return self.report(chain(&error)),
        };
        let plan = self.view.enforced.plan();
        let identities = plan.map_or(0, |plan| plan.desired.addresses.len());
        fill.push(memory(resident_bytes(), identities));
        self.health.kernel_bytes = self.kernel.memory();
        for full in self.health.note_fill(fill) {
            let datapath::Fill { what, used, limit } = full;
            tracing::warn!(what, used, limit, "nearly full");
            self.state.note(events::other("limit", format!("{what}: {used} of {limit}")));
        }
        self.state.set_health(self.health.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::WAIT;

    #[test]
    fn what_a_second_look_confirms_is_told_within_five_seconds() {
        for millis in 0..500 {
            let took = Duration::from_millis(millis);
            // The change comes just after a look; the loop is late each time.
            let told = pause(took, false) + WAIT + pause(took, true) + WAIT + took;
            assert!(told < Duration::from_secs(5), "{told:?}, when a look takes {took:?}");
        }
    }
}
