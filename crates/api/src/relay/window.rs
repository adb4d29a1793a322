//! Puts answers of several nodes in order of time. Given the clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::proto::observer::GetFlowsResponse;
use crate::store::DISORDER_NS;
use crate::time::nanoseconds;

/// How long an answer waits for earlier ones of nodes that are silent.
const WINDOW: Duration = Duration::from_millis(200);
/// How long it waits at most while earlier ones go on to come.
const LONGEST: Duration = Duration::from_secs(1);
/// Answers that may wait; beyond, the earliest goes out at once.
const WAITING: usize = 4096;

/// Name of the node that an answer is from.
pub(super) type NodeName = Arc<str>;

/// A time, and how many arrived before.
type Place = (u64, u64);

/// The answers that wait, and how far each node is.
#[derive(Default)]
pub(super) struct Window {
    /// With the moment of each one's arrival.
    waiting: BTreeMap<Place, (Instant, GetFlowsResponse)>,
    /// As they arrived; the first of them still waits.
    arrivals: VecDeque<Place>,
    arrived: u64,
    /// Time of the newest answer of each node that may still say something earlier.
    newest: BTreeMap<NodeName, u64>,
}

impl Window {
    /// This node may say something from now on.
    pub(super) fn expect(&mut self, from: &NodeName) {
        self.newest.entry(NodeName::clone(from)).or_insert(0);
    }

    /// Nobody waits for this node.
    pub(super) fn leave(&mut self, from: &NodeName) {
        self.newest.remove(from);
    }

    pub(super) fn push(&mut self, from: &NodeName, answer: GetFlowsResponse, now: Instant) {
        self.arrived += 1;
        let time_ns = answer.time.as_ref().map_or(0, nanoseconds);
        if let Some(newest) = self.newest.get_mut(from) {
            *newest = latest(*newest, time_ns);
        }
        let place = (time_ns, self.arrived);
        self.waiting.insert(place, (now, answer));
        self.arrivals.push_back(place);
    }

    /// When the earliest has waited long enough, or another too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, (arrived, _)) = self.waiting.first_key_value()?;
        let first = self.arrivals.front().and_then(|place| self.waiting.get(place));
        let too_long = first.map_or(*arrived, |(arrived, _)| *arrived) + LONGEST;
        Some((*arrived + WINDOW).min(too_long))
    }

    /// The earliest, if every node is as far, if it has waited long enough or if too many
    /// wait; before it whoever has waited too long, because his clock is ahead of the
    /// others.
    pub(super) fn pop(&mut self, now: Instant) -> Option<GetFlowsResponse> {
        let is_over = |place: &Place, limit| {
            self.waiting.get(place).is_some_and(|(arrived, _)| *arrived + limit <= now)
        };
        if let Some(place) = self.arrivals.front().copied().filter(|place| is_over(place, LONGEST))
        {
            return self.take(place);
        }
        let earliest = *self.waiting.first_key_value()?.0;
        let passed = self.newest.values().all(|newest| *newest >= earliest.0);
        let goes = passed || is_over(&earliest, WINDOW) || self.waiting.len() > WAITING;
        if goes { self.take(earliest) } else { None }
    }

    pub(super) fn pop_any(&mut self) -> Option<GetFlowsResponse> {
        let earliest = *self.waiting.first_key_value()?.0;
        self.take(earliest)
    }

    fn take(&mut self, place: Place) -> Option<GetFlowsResponse> {
        let (_, answer) = self.waiting.remove(&place)?;
        while self.arrivals.front().is_some_and(|place| !self.waiting.contains_key(place)) {
            self.arrivals.pop_front();
        }
        Some(answer)
    }
}

/// How far a node is that says this: as far as it was where it is told late, and here
/// where its clock was set back.
pub(super) fn latest(known_ns: u64, time_ns: u64) -> u64 {
    if time_ns.saturating_add(DISORDER_NS) < known_ns { time_ns } else { known_ns.max(time_ns) }
}
