//! The kernel's clock in wall time.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// How long an offset holds: wall time is stepped, the kernel's clock is not.
const FRESH: Duration = Duration::from_secs(1);

/// CLOCK_REALTIME minus CLOCK_BOOTTIME, taken again every second.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset_ns: i64,
    taken: Instant,
}

impl Clock {
    /// Reads both clocks.
    pub fn new() -> Self {
        Self { offset_ns: offset_ns(), taken: Instant::now() }
    }

    /// What to add to nanoseconds of CLOCK_BOOTTIME.
    pub fn offset_ns(&mut self) -> i64 {
        if self.taken.elapsed() >= FRESH {
            *self = Self::new();
        }
        self.offset_ns
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// More than clocks that are only adjusted move in a second (half a millisecond).
const STEP_NS: i64 = 500_000_000;

/// Says when the wall clock was set, rather than adjusted little by little.
#[derive(Debug)]
pub struct Steps {
    offset_ns: i64,
}

impl Steps {
    /// From now on.
    pub fn new() -> Self {
        Self { offset_ns: offset_ns() }
    }

    /// By how many nanoseconds it was set since the last call, forward or back. To be
    /// asked every few seconds.
    pub fn last(&mut self) -> Option<i64> {
        self.note(offset_ns())
    }

    fn note(&mut self, offset_ns: i64) -> Option<i64> {
        let step = offset_ns.saturating_sub(self.offset_ns);
        self.offset_ns = offset_ns;
        (step.saturating_abs() >= STEP_NS).then_some(step)
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

fn offset_ns() -> i64 {
    let read = |clock| {
        clock_gettime(clock).map_or(0, |time| {
            time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec())
        })
    };
    read(ClockId::CLOCK_REALTIME).saturating_sub(read(ClockId::CLOCK_BOOTTIME))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_from_one_that_is_adjusted() {
        const DAY: i64 = 86_400_000_000_000;
        let mut steps = Steps { offset_ns: 7 * DAY };
        assert_eq!(steps.note(7 * DAY + 1_000_000), None, "a millisecond");
        assert_eq!(steps.note(8 * DAY + 1_000_000), Some(DAY), "forward");
        assert_eq!(steps.note(8 * DAY), None);
        assert_eq!(steps.note(7 * DAY), Some(-DAY), "back");
        assert_eq!(steps.note(7 * DAY), None, "once");
        assert_eq!(Steps::new().last(), None, "nobody has set it in this moment");
    }

    #[test]
    fn the_kernels_now_is_the_wall_clocks_now() {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
        let boot_ns = boot.tv_sec() as u64 * 1_000_000_000 + boot.tv_nsec() as u64;
        let wall_ns = boot_ns.saturating_add_signed(Clock::new().offset_ns());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now_ns = u64::try_from(now.as_nanos()).unwrap();
        assert!(wall_ns.abs_diff(now_ns) < 100_000_000, "{wall_ns} {now_ns}");
    }
}
