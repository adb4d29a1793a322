//! Many records of the same as one, with their number.
//!
//! The first of its kind is told at once; what is the same within a window is told
//! together when the window ends. Numbers are exact: what is told stands for every
//! record that was taken. Pure: given the clock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use datapath::{Record, Shadow};
use model::{Attribution, Direction, Layer4, RuleSetId, Trace, Verdict};

/// How long equal records are collected.
pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// Most kinds of one window; more end it early. One takes up to 700 bytes.
const KINDS: usize = 8192;

/// What makes two records the same: all that a flow tells, but for its moment, its
/// number and its length.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Kind {
    addresses: Option<(IpAddr, IpAddr)>,
    l4: Option<Layer4>,
    verdict: (Verdict, u8, u8),
    hook: Direction,
    direction: Option<Direction>,
    is_reply: Option<bool>,
    place: (u32, u32),
    judged: (u32, [RuleSetId; 2]),
    shadow: Option<Shadow>,
    trace: Option<Trace>,
    link: (u16, [u8; 6], [u8; 6]),
    identities: (u32, u32),
    sockets: (u64, u64),
    process: Option<(u32, u64)>,
}

impl Kind {
    fn of(record: &Record) -> Self {
        Self {
            addresses: record.addresses,
            l4: record.l4,
            verdict: (record.verdict, record.reason, record.why),
            hook: record.hook,
            direction: record.direction,
            is_reply: record.is_reply,
            place: (record.ifindex, record.endpoint_id),
            judged: (record.revision, record.rule_sets),
            shadow: record.shadow,
            trace: record.trace,
            link: (record.ether_type, record.source_mac, record.destination_mac),
            identities: (record.source_identity, record.destination_identity),
            sockets: (record.cookie, record.peer_cookie),
            process: match &record.process {
                Attribution::Known(process) => Some((process.pid, process.start_ns)),
                Attribution::Unknown(_) => None,
            },
        }
    }
}

/// What came again after it was told.
#[derive(Debug)]
pub(super) struct Again {
    /// The last of them.
    pub(super) last: Record,
    /// When the first of them was, in the kernel's clock.
    pub(super) first_ns: u64,
    /// How many.
    pub(super) count: u64,
    /// Bytes of all their frames.
    pub(super) bytes: u64,
}

/// The kinds of the present window.
#[derive(Debug)]
pub(super) struct Repeats {
    kinds: HashMap<Kind, Option<Box<Again>>>,
    began: Instant,
}

impl Repeats {
    pub(super) fn new(now: Instant) -> Self {
        Self { kinds: HashMap::new(), began: now }
    }

    /// Gives a record back that is the first of its kind, and keeps the others.
    pub(super) fn take(&mut self, record: Record) -> Option<Record> {
        let known = match self.kinds.entry(Kind::of(&record)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(None);
                return Some(record);
            }
        };
        let bytes = u64::from(record.length);
        match known {
            Some(again) => {
                again.count += 1;
                again.bytes += bytes;
                again.last = record;
            }
            None => {
                let first_ns = record.when_ns;
                *known = Some(Box::new(Again { last: record, first_ns, count: 1, bytes }));
            }
        }
        None
    }

    /// Whether it is time to tell what was kept.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_full() || now.duration_since(self.began) >= WINDOW
    }

    /// Whether there is room for no other kind.
    pub(super) fn is_full(&self) -> bool {
        self.kinds.len() >= KINDS
    }

    /// What was kept, in order of time; begins a new window.
    pub(super) fn drain(&mut self, now: Instant) -> Vec<Again> {
        self.began = now;
        let kept = self.kinds.drain().filter_map(|(_, again)| again.map(|again| *again));
        let mut kept: Vec<Again> = kept.collect();
        kept.sort_by_key(|again| again.last.when_ns);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::drop_record;
    use super::*;

    fn at(when_ns: u64) -> Record {
        Record { when_ns, sequence: when_ns, ..drop_record(0) }
    }

    #[test]
    fn the_first_is_given_back_and_the_rest_is_one() {
        let now = Instant::now();
        let mut repeats = Repeats::new(now);
        assert_eq!(repeats.take(at(1)), Some(at(1)));
        for when in 2..=41 {
            assert_eq!(repeats.take(at(when)), None);
        }
        let told = repeats.drain(now);
        let [again] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((again.count, again.bytes), (40, 40 * 42));
        assert_eq!((again.first_ns, again.last.when_ns), (2, 41));
        // Another window, another first.
        assert_eq!(repeats.take(at(50)), Some(at(50)));
        assert!(repeats.drain(now).is_empty());
    }

    #[track_caller]
    fn check_another(change: impl FnOnce(&mut Record)) {
        let mut repeats = Repeats::new(Instant::now());
        repeats.take(at(1));
        let mut other = at(2);
        change(&mut other);
        assert!(repeats.take(other).is_some());
    }

    #[test]
    fn what_differs_in_what_is_told_is_another() {
        check_another(|record| record.reason = 133);
        check_another(|record| record.revision = 2);
        check_another(|record| record.source_identity = 300);
        check_another(|record| record.ifindex = 2);
        check_another(|record| record.hook = Direction::Ingress);
        check_another(|record| record.l4 = Some(Layer4::Udp { source: 1, destination: 2 }));
        check_another(|record| record.cookie = 1);
        let rule_sets = [RuleSetId(0); 2];
        let shadow = Shadow { verdict: Verdict::Forwarded, why: 1, rule_sets };
        check_another(|record| record.shadow = Some(shadow));
        check_another(|record| record.trace = Some(Trace::End(None)));
    }

    #[test]
    fn it_is_due_when_the_window_ends_or_there_are_too_many_kinds() {
        let now = Instant::now();
        let mut repeats = Repeats::new(now);
        assert!(!repeats.is_due(now) && repeats.is_due(now + WINDOW));
        for ifindex in 0..u32::try_from(KINDS).unwrap() {
            repeats.take(Record { ifindex, ..at(1) });
        }
        assert!(repeats.is_due(now));
        repeats.drain(now);
        assert!(!repeats.is_due(now));
    }
}
