//! The loop that turns kernel records into flows, on a thread of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api::flow::UuidKey;
use api::flow::detail::Repeated;
use api::metrics::FlowMetrics;
use api::proto::flow::{Flow, LostEvent, LostEventSource};
use api::proto::observer::GetFlowsResponse;
use api::proto::observer::get_flows_response::ResponseTypes;
use api::store::FlowStore;
use datapath::{Counters, DecodeError, Record, RecordReader, Ring};

use crate::chain::chain;
use crate::flow::{Clock, FlowBuilder, Names};
use crate::ledger::{Arrival, Ledger, reported};
use crate::losses;
use crate::state::{NodeState, RecordsView};
use repeats::{Again, Repeats};

mod repeats;

/// The longest the loop sleeps: how long a stop may take.
const WAIT: Duration = Duration::from_millis(200);

/// After an error of the rings, which does not go away by asking again at once.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// A record whose attempt was counted is in the ring after this long.
const IN_FLIGHT: Duration = Duration::from_millis(20);

/// Fewer records than this from one reading: the rings were empty after it.
const FULL_READING: usize = 1024;

/// Turns records into flows and accounts for each.
pub struct Records {
    state: Arc<NodeState>,
    store: Arc<FlowStore>,
    builder: FlowBuilder,
    clock: Clock,
    ledger: Ledger,
    losses_path: PathBuf,
    view: RecordsView,
    /// When the counters that were settled last were read.
    settled: Option<Instant>,
    /// Name of the node as flows carry it.
    node_name: String,
    metrics: Arc<FlowMetrics>,
    uuids: UuidKey,
    repeats: Repeats,
}

/// Where the accounts of records are kept, and what numbers their flows.
pub struct Books {
    /// The note of what was reported lost.
    pub losses: PathBuf,
    /// The counters that flows go to.
    pub metrics: Arc<FlowMetrics>,
    /// This agent's own.
    pub uuids: UuidKey,
}

impl Records {
    /// Starts the accounts from `counters`; what was lost while no agent ran is
    /// reported at once.
    pub fn new(
        state: Arc<NodeState>,
        store: Arc<FlowStore>,
        builder: FlowBuilder,
        counters: &Counters,
        books: Books,
    ) -> Self {
        let Books { losses: losses_path, metrics, uuids } = books;
        let before = losses::load(&losses_path).unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "losses of before are reported again");
            Default::default()
        });
        let (ledger, away) = Ledger::start(counters, &before);
        let node_name = api::flow::node_name(&state.facts.cluster, &state.facts.node);
        let mut records = Self {
            state,
            store,
            builder,
            clock: Clock::new(),
            ledger,
            losses_path,
            view: RecordsView::default(),
            settled: None,
            node_name,
            metrics,
            uuids,
            repeats: Repeats::new(Instant::now()),
        };
        records.report(&away, counters);
        records.publish();
        records
    }

    /// Reads until `stop` is set.
    pub fn run(
        &mut self,
        open: impl Fn() -> Result<RecordReader, datapath::MapError>,
        stop: &AtomicBool,
    ) {
        while !stop.load(Ordering::Relaxed) {
            let result = open().and_then(|reader| self.read(&reader, stop));
            if let Err(error) = result {
                tracing::error!(error = chain(&error), "flows are not read");
                std::thread::sleep(AFTER_ERROR);
            }
        }
        self.tell_repeats(Instant::now());
    }

    fn read(&mut self, reader: &RecordReader, stop: &AtomicBool) -> Result<(), datapath::MapError> {
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            // Taken with the first record, so that what was published before the
            // record was written is known.
            let mut names: Option<Arc<Names>> = None;
            let count = reader.read(WAIT, &mut |record| {
                let names = names.get_or_insert_with(|| self.state.names()).clone();
                self.take(record, &names);
            })?;
            if count < FULL_READING {
                self.settle(started);
            }
            let now = Instant::now();
            if self.repeats.is_due(now) {
                self.tell_repeats(now);
            }
            self.publish();
        }
        Ok(())
    }

    /// One record, or bytes that are none.
    pub fn take(&mut self, record: Result<Record, DecodeError>, names: &Names) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                // Its number is unknown, so it shows as a gap and is counted lost.
                if self.view.undecodable.is_multiple_of(1024) {
                    tracing::warn!(%error, "undecodable record");
                }
                self.view.undecodable += 1;
                return;
            }
        };
        match self.ledger.take(record.ring, record.cpu, record.sequence) {
            Arrival::Duplicate => return,
            Arrival::New { lost: 0 } => {}
            Arrival::New { lost } => self.push_lost(lost, Some(record.cpu)),
        }
        self.view.flows += 1;
        if let Some(record) = self.repeats.take(record) {
            let flow = self.flow(&record, names);
            self.count(&record, &flow, 1);
            self.store.push(&api::flow::to_response(flow));
        }
        if self.repeats.is_full() {
            self.tell_repeats(Instant::now());
        }
    }

    fn flow(&mut self, record: &Record, names: &Names) -> Flow {
        let offset_ns = self.clock.offset_ns(record.when_ns);
        let flow = self.builder.build(record, names, offset_ns);
        api::flow::to_proto(&flow, &self.state.facts.cluster, &self.uuids)
    }

    fn count(&self, record: &Record, flow: &Flow, times: u64) {
        self.metrics.flow(flow, times);
        let differs = record.shadow.filter(|shadow| shadow.verdict != record.verdict);
        if let (Some(shadow), Some(direction)) = (differs, record.direction) {
            self.metrics.shadow_differs(direction, shadow.verdict, times);
        }
    }

    /// What was told once and came again.
    fn tell_repeats(&mut self, now: Instant) {
        let names = self.state.names();
        for Again { last, first_ns, count, bytes } in self.repeats.drain(now) {
            let flow = self.flow(&last, &names);
            self.count(&last, &flow, count);
            let first_ns = first_ns.saturating_add_signed(self.clock.offset_ns(first_ns));
            let flow = api::flow::repeated(flow, Repeated { count, bytes, first_ns });
            self.store.push_times(&api::flow::to_response(flow), count);
        }
    }

    /// Compares with the kernel's counters, if there are new ones that were read
    /// long enough before the rings were seen empty.
    fn settle(&mut self, reading_started: Instant) {
        let Some((read, counters)) = self.state.counters() else { return };
        let old_enough = read + IN_FLIGHT <= reading_started;
        if self.settled == Some(read) || !old_enough {
            return;
        }
        self.settled = Some(read);
        let lost = self.ledger.settle(&counters);
        self.report(&lost, &counters);
    }

    /// Says what is lost, and remembers on disk that it was said.
    fn report(&mut self, lost: &BTreeMap<Ring, u64>, counters: &Counters) {
        for count in lost.values() {
            self.push_lost(*count, None);
        }
        if let Err(error) = losses::save(&self.losses_path, &reported(counters)) {
            tracing::warn!(error = chain(&error), "losses may be reported again after a restart");
        }
    }

    fn push_lost(&mut self, count: u64, cpu: Option<u32>) {
        let now = api::time::timestamp(api::time::now_ns());
        let event = LostEvent {
            source: LostEventSource::PerfEventRingBuffer.into(),
            num_events_lost: count,
            cpu: cpu.and_then(|cpu| i32::try_from(cpu).ok()),
            first: Some(now),
            last: Some(now),
        };
        self.metrics.lost(&event);
        self.store.push(&GetFlowsResponse {
            node_name: self.node_name.clone(),
            time: Some(now),
            response_types: Some(ResponseTypes::LostEvents(event)),
        });
    }

    fn publish(&mut self) {
        self.view.traces = self.ledger.totals(Ring::Traces);
        self.view.drops = self.ledger.totals(Ring::Drops);
        self.store.set_node_labels(self.state.names().node_labels());
        self.state.set_records(self.view.clone());
    }
}

#[cfg(test)]
mod tests;
