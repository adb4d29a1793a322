//! What the agent itself did lately, in memory.
//!
//! A log of its own, so that no flood of flows can drown the news that a policy
//! changed. Bounded by number; the oldest go first. A reader that falls behind is
//! told so, never silently served less.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::proto::flow::AgentEvent;
use crate::proto::observer::GetAgentEventsResponse;
use crate::time::{nanoseconds, timestamp};

/// Events kept; Hubble keeps as many of all kinds together.
pub const KEPT: usize = 4095;

/// Events that are gone before they were read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Missed {
    /// How many.
    pub events: u64,
    /// Where to go on.
    pub oldest: u64,
}

#[derive(Default)]
struct Log {
    /// Number of the first that is left.
    oldest: u64,
    events: VecDeque<GetAgentEventsResponse>,
}

/// The last events of a node's agent.
#[derive(Default)]
pub struct AgentEvents {
    log: Mutex<Log>,
    written: Notify,
}

impl std::fmt::Debug for AgentEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentEvents").field("next", &self.next()).finish_non_exhaustive()
    }
}

impl AgentEvents {
    fn log(&self) -> MutexGuard<'_, Log> {
        // Whoever died while holding it had pushed whole values only.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event of this node and moment.
    pub fn push(&self, node_name: &str, time_ns: u64, event: AgentEvent) {
        let mut log = self.log();
        if log.events.len() == KEPT {
            log.events.pop_front();
            log.oldest += 1;
        }
        log.events.push_back(GetAgentEventsResponse {
            node_name: node_name.to_owned(),
            time: Some(timestamp(time_ns)),
            agent_event: Some(event),
        });
        drop(log);
        self.written.notify_waiters();
    }

    /// Number of the oldest event that is left.
    pub fn oldest(&self) -> u64 {
        self.log().oldest
    }

    /// Number the next event will get.
    pub fn next(&self) -> u64 {
        let log = self.log();
        log.oldest + log.events.len() as u64
    }

    /// Number of the first event of this moment or later. After the clock was set back
    /// there may be earlier ones behind it.
    pub fn since(&self, since_ns: u64) -> u64 {
        let log = self.log();
        let earlier =
            |event: &&GetAgentEventsResponse| event.time.as_ref().map_or(0, nanoseconds) < since_ns;
        log.oldest + log.events.iter().take_while(earlier).count() as u64
    }

    /// The event of this number; `None` when it is still to come.
    pub fn read(&self, number: u64) -> Result<Option<GetAgentEventsResponse>, Missed> {
        let log = self.log();
        match number.checked_sub(log.oldest) {
            Some(at) => Ok(usize::try_from(at).ok().and_then(|at| log.events.get(at).cloned())),
            None => Err(Missed { events: log.oldest - number, oldest: log.oldest }),
        }
    }

    /// Waits until the event of this number is written.
    pub async fn wait(&self, number: u64) {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            // Registered before the look: what is written after it wakes us.
            written.as_mut().enable();
            if number < self.next() {
                return;
            }
            written.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(events: usize) -> AgentEvents {
        let log = AgentEvents::default();
        (0..events).for_each(|n| log.push("a", n as u64 * 10, AgentEvent::default()));
        log
    }

    #[test]
    fn the_oldest_go_first_and_who_wants_them_is_told() {
        let log = filled(KEPT + 3);
        assert_eq!((log.oldest(), log.next()), (3, KEPT as u64 + 3));
        assert_eq!(log.read(1), Err(Missed { events: 2, oldest: 3 }));
        assert!(log.read(3).unwrap().is_some());
        assert_eq!(log.read(KEPT as u64 + 3), Ok(None));
    }

    #[test]
    fn a_moment_finds_the_first_event_that_is_not_earlier() {
        let log = filled(5);
        assert_eq!([0, 10, 11, 40, 41].map(|ns| log.since(ns)), [0, 1, 2, 4, 5]);
    }

    #[test]
    fn a_clock_that_was_set_back_hides_none() {
        let log = AgentEvents::default();
        [10, 90, 20].into_iter().for_each(|ns| log.push("a", ns, AgentEvent::default()));
        assert_eq!([15, 50, 91].map(|ns| log.since(ns)), [1, 1, 3]);
    }
}
