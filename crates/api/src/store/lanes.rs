//! Who goes when a store is full: the oldest event of whoever has the most in it.
//!
//! Events are divided by their source, and those about drops from the others. Up to
//! an equal share of the store nobody can displace a lane's events but the lane
//! itself (longest-queue drop); what others do not use, one may. A source is what
//! cannot be chosen freely: an endpoint of this node, else an identity, never an
//! address, so that nobody becomes many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::proto::flow::{Flow, Verdict};

/// What events compete with first: those of the same lane.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Lane {
    /// Nobody did: events about what was lost.
    Lost,
    /// An endpoint of this node sent it.
    Endpoint { id: u32, dropped: bool },
    /// Somebody else did.
    Identity { id: u32, dropped: bool },
    /// Nobody knows who, but through which interface.
    Interface { index: u32, dropped: bool },
}

impl Lane {
    /// Of a flow; without one, of a loss.
    pub(super) fn of(flow: Option<&Flow>) -> Self {
        let Some(flow) = flow else { return Self::Lost };
        let dropped = flow.verdict == i32::from(Verdict::Dropped);
        let source = flow.source.as_ref().map(|end| (end.id, end.identity));
        match source {
            Some((id, _)) if id != 0 => Self::Endpoint { id, dropped },
            Some((_, id)) if id != 0 => Self::Identity { id, dropped },
            _ => {
                let index = flow.interface.as_ref().map_or(0, |interface| interface.index);
                Self::Interface { index, dropped }
            }
        }
    }
}

/// The largest first, and of equals the one with the oldest event.
type Rank = (usize, Reverse<u64>, Lane);

#[derive(Debug, Default)]
struct Queue {
    /// Number and length of its events, the oldest first.
    events: VecDeque<(u64, u32)>,
    bytes: usize,
}

impl Queue {
    fn rank(&self, lane: Lane) -> Option<Rank> {
        self.events.front().map(|(oldest, _)| (self.bytes, Reverse(*oldest), lane))
    }
}

/// All lanes of a store.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    queues: BTreeMap<Lane, Queue>,
    ranks: BTreeSet<Rank>,
}

impl Lanes {
    /// Enters an event.
    pub(super) fn push(&mut self, lane: Lane, number: u64, length: usize) {
        let queue = self.queues.entry(lane).or_default();
        if let Some(rank) = queue.rank(lane) {
            self.ranks.remove(&rank);
        }
        queue.events.push_back((number, u32::try_from(length).unwrap_or(u32::MAX)));
        queue.bytes += length;
        self.ranks.extend(queue.rank(lane));
    }

    /// Takes out the oldest event of the largest lane; its number and length.
    pub(super) fn pop_largest(&mut self) -> Option<(u64, usize)> {
        let (_, _, lane) = self.ranks.pop_last()?;
        let queue = self.queues.get_mut(&lane)?;
        let (number, length) = queue.events.pop_front()?;
        let length = length as usize;
        queue.bytes = queue.bytes.saturating_sub(length);
        match queue.rank(lane) {
            Some(rank) => {
                self.ranks.insert(rank);
                // A lane that was long gives back what it does not use any more.
                if queue.events.len() < queue.events.capacity() / 4 {
                    queue.events.shrink_to(queue.events.len() * 2);
                }
            }
            None => {
                self.queues.remove(&lane);
            }
        }
        Some((number, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::flow::{Endpoint, NetworkInterface};

    fn endpoint(id: u32) -> Lane {
        Lane::Endpoint { id, dropped: true }
    }

    #[test]
    fn the_largest_lane_gives_first_and_its_oldest_event() {
        let mut lanes = Lanes::default();
        lanes.push(endpoint(1), 0, 10);
        lanes.push(endpoint(2), 1, 10);
        lanes.push(endpoint(2), 2, 10);
        lanes.push(endpoint(2), 3, 10);
        let order: Vec<u64> =
            std::iter::from_fn(|| lanes.pop_largest()).map(|(number, _)| number).collect();
        // Of lanes of one size the one with the oldest event gives.
        assert_eq!(order, [1, 2, 0, 3]);
        assert!(lanes.queues.is_empty() && lanes.ranks.is_empty());
    }

    #[test]
    fn size_is_bytes_not_number() {
        let mut lanes = Lanes::default();
        lanes.push(endpoint(1), 0, 10);
        lanes.push(endpoint(1), 1, 10);
        lanes.push(endpoint(2), 2, 30);
        assert_eq!(lanes.pop_largest(), Some((2, 30)));
    }

    #[track_caller]
    fn check(id: u32, identity: u32, index: u32, want: Lane) {
        let flow = Flow {
            source: Some(Endpoint { id, identity, ..Endpoint::default() }),
            interface: Some(NetworkInterface { index, ..NetworkInterface::default() }),
            verdict: Verdict::Dropped.into(),
            ..Flow::default()
        };
        assert_eq!(Lane::of(Some(&flow)), want);
    }

    #[test]
    fn a_lane_is_whom_nobody_can_pretend_to_be() {
        check(7, 300, 5, Lane::Endpoint { id: 7, dropped: true });
        check(0, 300, 5, Lane::Identity { id: 300, dropped: true });
        check(0, 0, 5, Lane::Interface { index: 5, dropped: true });
        assert_eq!(Lane::of(None), Lane::Lost);
    }
}
