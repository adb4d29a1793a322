//! Nanoseconds since the Unix epoch, as the model counts, and protobuf's
//! timestamps. Reads no clock but in [`now_ns`].

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A timestamp for a number of nanoseconds.
pub fn timestamp(ns: u64) -> Timestamp {
    Timestamp {
        // At most 2^64 / 10^9: fits both.
        seconds: (ns / NANOS_PER_SECOND) as i64,
        nanos: (ns % NANOS_PER_SECOND) as i32,
    }
}

/// Nanoseconds of a timestamp; what lies before the epoch counts as the epoch,
/// what does not fit as the last moment that does.
pub fn nanoseconds(timestamp: &Timestamp) -> u64 {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    let nanos = u64::try_from(timestamp.nanos).unwrap_or(0);
    seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos)
}

/// The present moment; 0 on a clock set before the epoch.
pub fn now_ns() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_way_there_and_back() {
        for ns in [0, 1, 1_767_323_045_001_000_000, u64::MAX] {
            assert_eq!(nanoseconds(&timestamp(ns)), ns);
        }
    }

    #[test]
    fn a_moment_before_the_epoch_is_the_epoch() {
        assert_eq!(nanoseconds(&Timestamp { seconds: -5, nanos: -1 }), 0);
    }
}
