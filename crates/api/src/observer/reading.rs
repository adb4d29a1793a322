//! One client's way through a store: where it starts, what it skips, where it
//! ends, and what it is told about what it missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::access::Scope;
use crate::filter::Filters;
use crate::mask::Mask;
use crate::proto::flow::{LostEvent, LostEventSource};
use crate::proto::observer::GetFlowsResponse;
use crate::proto::observer::get_flows_response::ResponseTypes;
use crate::store::{DISORDER_NS, FlowStore, Stored, owners_in_one};
use crate::time::{now_ns, timestamp};

/// Losses of one stream are reported at most this often.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// Events looked at before other tasks of the same thread get their turn.
const TURN: u32 = 256;

/// Which part of the store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    /// At most so many, or for a start in the past the last so many.
    pub(super) number: Option<u64>,
    pub(super) first: bool,
    pub(super) follow: bool,
    pub(super) since_ns: Option<u64>,
    pub(super) until_ns: Option<u64>,
}

/// What of it the client gets.
pub(super) struct Choice {
    pub(super) filters: Filters,
    pub(super) mask: Option<Mask>,
    pub(super) scope: Scope,
}

/// The state of one stream.
pub(super) struct Reading {
    store: Arc<FlowStore>,
    node: String,
    choice: Choice,
    plan: Plan,
    /// Numbers of the events of the past that are still to be read, the oldest
    /// last. Eight bytes for each; the events themselves stay in the store alone.
    past: Vec<u64>,
    /// Number of the first event that was not there at the start.
    position: u64,
    follow: bool,
    /// Flows it may still give.
    remaining: Option<u64>,
    since_ns: Option<u64>,
    until_ns: Option<u64>,
    losses: Losses,
    /// Of a reader that is limited: which flow comes next, by owners.
    own: BTreeMap<String, u64>,
    turn: u32,
    finished: bool,
}

impl Reading {
    /// From where the store stands now; [`Self::look_back`] comes next.
    pub(super) fn new(store: Arc<FlowStore>, node: String, plan: Plan, choice: Choice) -> Self {
        Self {
            plan,
            past: Vec::new(),
            position: store.next(),
            follow: plan.follow,
            remaining: plan.number.filter(|_| !plan.follow),
            since_ns: plan.since_ns,
            until_ns: plan.until_ns,
            losses: Losses::default(),
            own: BTreeMap::new(),
            turn: 0,
            finished: false,
            store,
            node,
            choice,
        }
    }

    /// Finds what it is to begin with.
    pub(super) async fn look_back(&mut self) {
        if self.follow && self.is_limited() {
            self.find_own().await;
        }
        let held = self.store.occupancy().events;
        self.past = match self.plan {
            Plan { since_ns: Some(since), .. } => {
                let too_old = since.saturating_sub(DISORDER_NS);
                let in_order = self.store.is_in_order();
                self.back_until(|_, event| in_order && event.time_ns < too_old).await
            }
            // More than there are is all of them, and nothing has to be counted.
            Plan { number: Some(number), first: false, .. } if number < held => {
                self.last(number).await
            }
            Plan { number: None, follow: true, first: false, .. } => Vec::new(),
            Plan { .. } => self.back_until(|_, _| false).await,
        };
    }

    /// The events from which on `number` flows pass.
    async fn last(&mut self, number: u64) -> Vec<u64> {
        let mut passed = 0;
        self.back_until(|reading, event| {
            let enough = passed >= number;
            let in_time = reading.until_ns.is_none_or(|until| event.time_ns <= until);
            if !enough && event.is_flow && in_time && reading.passes(event) {
                passed += 1;
            }
            enough
        })
        .await
    }

    /// Numbers of the events that are there, from the newest back to the one at
    /// which to stop, without it.
    async fn back_until(
        &mut self,
        mut stop: impl FnMut(&Self, &Stored) -> bool + Send,
    ) -> Vec<u64> {
        let mut numbers = Vec::new();
        let mut position = self.position;
        while let Some((number, event)) = self.store.before(position) {
            if stop(self, &event) {
                break;
            }
            // What a limited reader may not see it cannot miss.
            if !self.is_limited() || self.choice.scope.shown(event.decode()).is_some() {
                numbers.push(number);
            }
            position = number;
            self.take_turns().await;
        }
        numbers
    }

    fn is_limited(&self) -> bool {
        !self.choice.scope.is_everything()
    }

    /// Where the flows stand now that a limited reader may see. Of owners that have
    /// none in the store it is found with the first that comes.
    async fn find_own(&mut self) {
        let mut position = self.position;
        while let Some((number, event)) = self.store.before(position) {
            if let Some((owners, ordinal)) = self.owned(&event) {
                self.own.entry(owners).or_insert(ordinal + 1);
            }
            position = number;
            self.take_turns().await;
        }
    }

    /// Whose flow it is and its ordinal, if it may be seen.
    fn owned(&self, event: &Stored) -> Option<(String, u64)> {
        let ordinal = event.ordinal?;
        let event = event.decode();
        let owners = match &event.response_types {
            Some(ResponseTypes::Flow(flow)) => owners_in_one(flow)?.into_owned(),
            _ => return None,
        };
        self.choice.scope.shown(event).map(|_| (owners, ordinal))
    }

    /// Events that are gone before they were read. A limited reader is told of its
    /// own: their ordinals show how many are missing before this one.
    fn count_missed(&mut self, skipped: u64, event: Option<&Stored>) {
        let missed = if self.is_limited() {
            let owned = event.and_then(|event| self.owned(event));
            owned.map_or(0, |(owners, ordinal)| {
                let next = self.own.insert(owners, ordinal + 1);
                next.map_or(0, |next| ordinal.saturating_sub(next))
            })
        } else {
            skipped
        };
        if missed > 0 {
            self.miss(missed);
        }
    }

    fn passes(&self, event: &Stored) -> bool {
        let Choice { filters, scope, .. } = &self.choice;
        filters.is_empty() && scope.is_everything() || self.matching(event).is_some()
    }

    /// The event, if the client wants it.
    fn matching(&self, event: &Stored) -> Option<GetFlowsResponse> {
        let event = self.choice.scope.shown(self.store.whole(event))?;
        match &event.response_types {
            Some(ResponseTypes::Flow(flow)) => self.choice.filters.matches(flow).then_some(event),
            _ => Some(event),
        }
    }

    async fn take_turns(&mut self) {
        self.turn += 1;
        if self.turn.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
    }

    /// All answers of the past, before those that come.
    pub(super) async fn past(&mut self) -> Vec<GetFlowsResponse> {
        let mut answers = Vec::new();
        while !self.finished && !self.past.is_empty() {
            self.take_turns().await;
            answers.extend(self.step().await);
        }
        answers
    }

    /// The next answer; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<GetFlowsResponse> {
        loop {
            if let Some(lost) = self.losses.due(self.finished) {
                return Some(self.lost(lost));
            }
            if self.finished {
                return None;
            }
            self.take_turns().await;
            if let Some(answer) = self.step().await {
                return Some(answer);
            }
        }
    }

    /// Looks at one event, or waits for it.
    async fn step(&mut self) -> Option<GetFlowsResponse> {
        if self.remaining == Some(0) {
            self.finished = true;
            return None;
        }
        let is_past = !self.past.is_empty();
        let event = self.take().await?;
        let over =
            self.until_ns.is_some_and(|until| event.time_ns > until.saturating_add(DISORDER_NS));
        if over && (!is_past || self.store.is_in_order()) {
            self.finished = true;
            return None;
        }
        // Of the past only: what comes is new, also when the clock was set back.
        let early =
            is_past && event.is_flow && self.since_ns.is_some_and(|since| event.time_ns < since);
        let late = self.until_ns.is_some_and(|until| event.time_ns > until);
        if early || late {
            return None;
        }
        let answer = self.matching(&event)?;
        if event.is_flow {
            self.remaining = self.remaining.map(|remaining| remaining - 1);
        }
        Some(self.masked(answer))
    }

    /// The next event, of the past or of what comes; `None` when there is none now.
    /// What was there and is not any more is counted.
    async fn take(&mut self) -> Option<Stored> {
        if let Some(number) = self.past.pop() {
            let event = self.store.get(number);
            if event.is_none() {
                self.miss(1);
            }
            return event;
        }
        if !self.follow {
            self.finished = true;
            return None;
        }
        // An event can be read a moment before it counts as written.
        let written = self.store.next().max(self.position);
        let found = self.store.at_or_after(self.position);
        let next = found.as_ref().map_or(written, |(number, _)| *number);
        self.count_missed(next - self.position, found.as_ref().map(|(_, event)| event));
        match found {
            Some((number, event)) => {
                self.position = number + 1;
                Some(event)
            }
            None => {
                self.position = next;
                self.wait().await;
                None
            }
        }
    }

    fn miss(&mut self, events: u64) {
        self.losses.add(events, now_ns());
        self.store.miss(events);
    }

    /// Until there is an event, or a loss to report.
    async fn wait(&self) {
        let written = self.store.wait(self.position);
        match self.losses.deadline() {
            Some(deadline) => {
                // Either way there is something to do.
                let _ = tokio::time::timeout_at(deadline, written).await;
            }
            None => written.await,
        }
    }

    fn masked(&self, answer: GetFlowsResponse) -> GetFlowsResponse {
        match &self.choice.mask {
            Some(mask) => mask.answer(answer),
            None => answer,
        }
    }

    fn lost(&self, lost: LostEvent) -> GetFlowsResponse {
        GetFlowsResponse {
            node_name: self.node.clone(),
            time: lost.last,
            response_types: Some(ResponseTypes::LostEvents(lost)),
        }
    }
}

/// What one stream missed and has not been told yet.
struct Losses {
    events: u64,
    first_ns: u64,
    last_ns: u64,
    /// Not before; the first loss is told at once.
    due: Instant,
}

impl Default for Losses {
    fn default() -> Self {
        Self { events: 0, first_ns: 0, last_ns: 0, due: Instant::now() }
    }
}

impl Losses {
    fn add(&mut self, events: u64, now_ns: u64) {
        if self.events == 0 {
            self.first_ns = now_ns;
        }
        self.last_ns = now_ns;
        self.events += events;
    }

    /// When the next report may go out, if there is anything to report.
    fn deadline(&self) -> Option<Instant> {
        (self.events > 0).then_some(self.due)
    }

    /// The report, if it is time for it, or if this is the last chance.
    fn due(&mut self, last_chance: bool) -> Option<LostEvent> {
        let now = Instant::now();
        self.deadline().filter(|deadline| last_chance || *deadline <= now)?;
        self.due = now + LOSS_INTERVAL;
        Some(LostEvent {
            source: LostEventSource::HubbleRingBuffer.into(),
            num_events_lost: std::mem::take(&mut self.events),
            cpu: None,
            first: Some(timestamp(self.first_ns)),
            last: Some(timestamp(self.last_ns)),
        })
    }
}

#[cfg(test)]
mod tests;
