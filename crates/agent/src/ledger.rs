//! Accounts for every kernel record: delivered once, or reported as lost.
//!
//! Each CPU numbers its records for each ring. A number that comes again is a
//! duplicate, one that is skipped is a loss, and what the kernel counted beyond
//! the last number, once the ring is empty, is a loss at the tail. Pure: told
//! numbers and counters, it says what to report.

use std::collections::BTreeMap;

use datapath::{Counters, Ring, RingCounters};

/// What a record's number says about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// Not seen before; this many before it are lost.
    New {
        /// How many.
        lost: u64,
    },
    /// Seen before.
    Duplicate,
}

/// Sums of one ring over all CPUs, since this agent started: once the ring is
/// empty, `attempted` is `delivered` plus `lost`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Records that this agent has to account for.
    pub attempted: u64,
    /// Of these, handed over.
    pub delivered: u64,
    /// Of these, reported as lost.
    pub lost: u64,
}

/// The account of one CPU and ring.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Attempts before this agent; their records may still be in the ring.
    start: u64,
    /// Losses before this agent, as the kernel counted them.
    start_lost: u64,
    /// Number of the next record that is neither delivered nor lost.
    next: u64,
    /// Attempts at the last reading of the counters.
    attempts: u64,
    /// Delivered with a number below `start`.
    inherited: u64,
    delivered: u64,
    lost: u64,
    /// Losses of attempts before `start` that nobody had reported.
    before: u64,
}

impl Account {
    fn take(&mut self, sequence: u64) -> Arrival {
        if sequence < self.next {
            return Arrival::Duplicate;
        }
        // Gaps before this agent are in the kernel's own count of losses.
        let lost = sequence.saturating_sub(self.next.max(self.start));
        self.lost += lost;
        self.next = sequence.saturating_add(1);
        self.delivered += 1;
        if sequence < self.start {
            self.inherited += 1;
        }
        Arrival::New { lost }
    }

    /// The kernel's counts of a moment before the ring was last seen empty.
    fn settle(&mut self, attempts: u64, kernel_lost: u64) -> u64 {
        let tail = attempts.saturating_sub(self.next.max(self.start));
        if tail > 0 {
            self.next = attempts;
        }
        self.lost += tail;
        self.attempts = self.attempts.max(attempts);
        // The counters of another CPU are read while it counts: at the start an
        // attempt may have been read without its loss.
        let unseen = kernel_lost.saturating_sub(self.start_lost).saturating_sub(self.lost);
        self.start_lost += unseen;
        self.before += unseen;
        tail + unseen
    }

    fn totals(&self) -> Totals {
        let attempted = self.attempts.max(self.next).saturating_sub(self.start);
        Totals {
            attempted: attempted + self.inherited + self.before,
            delivered: self.delivered,
            lost: self.lost + self.before,
        }
    }
}

/// The accounts of all CPUs and rings.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<(Ring, u32), Account>,
}

/// Losses that were reported before, by ring and CPU, as the kernel counted them.
pub type Reported = BTreeMap<(Ring, u32), u64>;

impl Ledger {
    /// Starts from the kernel's counters; returns with it the losses that
    /// happened while no agent ran.
    pub fn start(counters: &Counters, reported: &Reported) -> (Self, BTreeMap<Ring, u64>) {
        let mut ledger = Self::default();
        let mut away: BTreeMap<Ring, u64> = BTreeMap::new();
        for (key, attempts, lost) in rows(counters) {
            let before = reported.get(&key).copied().unwrap_or(0);
            // More reported than there is: the maps are younger than the note.
            let unreported = if before > lost { lost } else { lost - before };
            *away.entry(key.0).or_default() += unreported;
            let account = Account {
                start: attempts,
                start_lost: lost,
                attempts,
                before: unreported,
                ..Account::default()
            };
            ledger.accounts.insert(key, account);
        }
        away.retain(|_, lost| *lost > 0);
        (ledger, away)
    }

    /// Enters a record.
    pub fn take(&mut self, ring: Ring, cpu: u32, sequence: u64) -> Arrival {
        self.accounts.entry((ring, cpu)).or_default().take(sequence)
    }

    /// Compares with counters that were read before the rings were last seen
    /// empty; says how many more are lost, by ring.
    pub fn settle(&mut self, counters: &Counters) -> BTreeMap<Ring, u64> {
        let mut found: BTreeMap<Ring, u64> = BTreeMap::new();
        for (key, attempts, lost) in rows(counters) {
            let more = self.accounts.entry(key).or_default().settle(attempts, lost);
            *found.entry(key.0).or_default() += more;
        }
        found.retain(|_, lost| *lost > 0);
        found
    }

    /// The sums of a ring.
    pub fn totals(&self, ring: Ring) -> Totals {
        let own = self.accounts.iter().filter(|((of, _), _)| *of == ring);
        own.fold(Totals::default(), |sum, (_, account)| {
            let Totals { attempted, delivered, lost } = account.totals();
            Totals {
                attempted: sum.attempted + attempted,
                delivered: sum.delivered + delivered,
                lost: sum.lost + lost,
            }
        })
    }
}

/// The kernel's losses so far, to be remembered as reported.
pub fn reported(counters: &Counters) -> Reported {
    rows(counters).map(|(key, _, lost)| (key, lost)).collect()
}

/// Ring, CPU, attempts and losses.
fn rows(counters: &Counters) -> impl Iterator<Item = ((Ring, u32), u64, u64)> {
    let rings = [(Ring::Traces, &counters.traces), (Ring::Drops, &counters.drops)];
    rings.into_iter().flat_map(|(ring, RingCounters { attempts, lost })| {
        (0u32..)
            .zip(attempts.iter().zip(lost))
            .map(move |(cpu, (attempts, lost))| ((ring, cpu), *attempts, *lost))
    })
}

#[cfg(test)]
mod tests;
