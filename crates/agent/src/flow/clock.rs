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
    fn the_kernels_now_is_the_wall_clocks_now() {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
        let boot_ns = boot.tv_sec() as u64 * 1_000_000_000 + boot.tv_nsec() as u64;
        let wall_ns = boot_ns.saturating_add_signed(Clock::new().offset_ns());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now_ns = u64::try_from(now.as_nanos()).unwrap();
        assert!(wall_ns.abs_diff(now_ns) < 100_000_000, "{wall_ns} {now_ns}");
    }
}
