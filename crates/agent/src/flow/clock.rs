//! The kernel's clock in wall time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// How long an offset holds: wall time is stepped, the kernel's clock is not.
const FRESH: Duration = Duration::from_secs(1);

/// Steps that are remembered: for records that are read later than they were written.
const REMEMBERED: usize = 8;

/// CLOCK_REALTIME minus CLOCK_BOOTTIME, taken again every second.
#[derive(Clone, Debug)]
pub struct Clock {
    now: Reading,
    taken: Instant,
    /// The last readings before each step, the newest last.
    before: VecDeque<Reading>,
}

/// Both clocks in one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Reading {
    /// CLOCK_BOOTTIME.
    boot_ns: i64,
    /// What to add to it.
    offset_ns: i64,
}

impl Reading {
    fn take() -> Self {
        let read = |clock| {
            clock_gettime(clock).map_or(0, |time| {
                time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec())
            })
        };
        let (wall_ns, boot_ns) = (read(ClockId::CLOCK_REALTIME), read(ClockId::CLOCK_BOOTTIME));
        Self { boot_ns, offset_ns: wall_ns.saturating_sub(boot_ns) }
    }

    /// By how much the wall clock was set between the two.
    fn step_to(self, later: Self) -> Option<i64> {
        let step = later.offset_ns.saturating_sub(self.offset_ns);
        (step.saturating_abs() >= STEP_NS).then_some(step)
    }
}

impl Clock {
    /// Reads both clocks.
    pub fn new() -> Self {
        Self { now: Reading::take(), taken: Instant::now(), before: VecDeque::new() }
    }

    /// What to add to this time of CLOCK_BOOTTIME, in nanoseconds: what was right then,
    /// as far as the clock has been read since.
    pub fn offset_ns(&mut self, boot_ns: u64) -> i64 {
        if self.taken.elapsed() >= FRESH {
            self.taken = Instant::now();
            self.note(Reading::take());
        }
        let boot_ns = i64::try_from(boot_ns).unwrap_or(i64::MAX);
        let then = self.before.iter().find(|reading| boot_ns <= reading.boot_ns);
        then.unwrap_or(&self.now).offset_ns
    }

    fn note(&mut self, now: Reading) {
        if self.now.step_to(now).is_some() {
            if self.before.len() == REMEMBERED {
                self.before.pop_front();
            }
            self.before.push_back(self.now);
        }
        self.now = now;
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
    last: Reading,
}

impl Steps {
    /// From now on.
    pub fn new() -> Self {
        Self { last: Reading::take() }
    }

    /// By how many nanoseconds it was set since the last call, forward or back. To be
    /// asked every few seconds.
    pub fn last(&mut self) -> Option<i64> {
        self.note(Reading::take())
    }

    fn note(&mut self, now: Reading) -> Option<i64> {
        std::mem::replace(&mut self.last, now).step_to(now)
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const DAY: i64 = 86_400_000_000_000;

    /// As a flood's are, or those that no agent was there to read.
    #[test]
    fn a_record_that_is_read_late_keeps_the_time_it_was_written() {
        const SECOND: i64 = 1_000_000_000;
        let mut clock = Clock::new();
        let at = |second, offset_ns| Reading { boot_ns: second * SECOND, offset_ns };
        // Not read anew meanwhile, however slow the machine.
        clock.taken = Instant::now() + Duration::from_secs(3600);
        clock.now = at(100, 7 * DAY);
        clock.note(at(101, 7 * DAY + 5));
        clock.note(at(102, 8 * DAY));
        clock.note(at(110, 8 * DAY));
        clock.note(at(111, 6 * DAY));
        let offsets =
            [90, 101, 102, 110, 111, 999].map(|second| clock.offset_ns(second * SECOND as u64));
        let (first, forward, back) = (7 * DAY + 5, 8 * DAY, 6 * DAY);
        assert_eq!(offsets, [first, first, forward, forward, back, back]);
        (0..20).for_each(|day| clock.note(at(200 + day, day * DAY)));
        assert_eq!(clock.before.len(), REMEMBERED);
    }

    #[test]
    fn a_clock_that_is_set_is_told_from_one_that_is_adjusted() {
        let at = |offset_ns| Reading { boot_ns: 0, offset_ns };
        let mut steps = Steps { last: at(7 * DAY) };
        assert_eq!(steps.note(at(7 * DAY + 1_000_000)), None, "a millisecond");
        assert_eq!(steps.note(at(8 * DAY + 1_000_000)), Some(DAY), "forward");
        assert_eq!(steps.note(at(8 * DAY)), None);
        assert_eq!(steps.note(at(7 * DAY)), Some(-DAY), "back");
        assert_eq!(steps.note(at(7 * DAY)), None, "once");
        assert_eq!(Steps::new().last(), None, "nobody has set it in this moment");
    }

    #[test]
    fn the_kernels_now_is_the_wall_clocks_now() {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
        let boot_ns = boot.tv_sec() as u64 * 1_000_000_000 + boot.tv_nsec() as u64;
        let wall_ns = boot_ns.saturating_add_signed(Clock::new().offset_ns(boot_ns));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now_ns = u64::try_from(now.as_nanos()).unwrap();
        assert!(wall_ns.abs_diff(now_ns) < 100_000_000, "{wall_ns} {now_ns}");
    }
}
