//! Gaps, duplicates and tails of the record streams.

use std::time::Duration;

use api::flow::detail::Detail;
use api::store::Limits;
use datapath::{AttachKind, Features, RingCounters};
use model::{Attribution, Direction, MatchType, RuleSetId, UnknownProcess, Verdict};

use super::*;
use crate::flow::Containers;
use crate::ledger::Totals;
use crate::state::Facts;

fn state() -> Arc<NodeState> {
    Arc::new(NodeState::new(Facts {
        node: "node-1".into(),
        cluster: "default".into(),
        kernel_release: "6.18".into(),
        features: Features { attach: AttachKind::Tcx, hooks: vec![], taken_over: false },
        started: Instant::now(),
    }))
}

fn counters(attempts: u64, lost: u64) -> Counters {
    Counters {
        traces: RingCounters { attempts: vec![0], lost: vec![0] },
        drops: RingCounters { attempts: vec![attempts], lost: vec![lost] },
        ..Counters::default()
    }
}

fn books(losses: PathBuf) -> Books {
    let metrics = Arc::new(FlowMetrics::new(api::metrics::Settings::default()));
    Books { losses, metrics, uuids: UuidKey::new(b"of this test") }
}

struct Bench {
    records: Records,
    folder: tempfile::TempDir,
}

fn bench(at_start: &Counters) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FlowStore::new(Limits::default()));
    let builder = FlowBuilder::new("node-1", Containers::of(None));
    let path = folder.path().join("losses.json");
    Bench { records: Records::new(state(), store, builder, at_start, books(path)), folder }
}

impl Bench {
    /// A record like no other.
    fn take(&mut self, sequence: u64) {
        let ifindex = u32::try_from(sequence).unwrap();
        let record = Record { ifindex, ..drop_record(sequence) };
        self.records.take(Ok(record), &Names::default());
    }

    /// What the API would tell: a flow as 1, a loss of N as -N.
    fn told(&self) -> Vec<i64> {
        let event = |number| Some(self.records.store.get(number)?.decode().response_types);
        (0..)
            .map_while(event)
            .map(|event| match event.unwrap() {
                ResponseTypes::LostEvents(lost) => -i64::try_from(lost.num_events_lost).unwrap(),
                ResponseTypes::Flow(_) => 1,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Counters are read, time passes, the rings are seen empty.
    fn settle(&mut self, counters: Counters) {
        let read = Instant::now();
        self.records.state.set_counters(read, counters);
        self.records.settle(read + Duration::from_secs(1));
    }
}

pub(super) fn drop_record(sequence: u64) -> Record {
    Record {
        cpu: 0,
        sequence,
        ring: Ring::Drops,
        when_ns: 1,
        verdict: Verdict::Dropped,
        reason: 203,
        why: 0,
        hook: Direction::Egress,
        direction: None,
        is_reply: None,
        ifindex: 1,
        endpoint_id: 0,
        revision: 0,
        ether_type: 0x0806,
        source_mac: [2; 6],
        destination_mac: [3; 6],
        addresses: None,
        l4: None,
        source_identity: 0,
        destination_identity: 0,
        rule_sets: [RuleSetId(0); 2],
        shadow: None,
        trace: None,
        match_type: MatchType::None,
        length: 42,
        cookie: 0,
        peer_cookie: 0,
        process: Attribution::Unknown(UnknownProcess::NoSocket),
    }
}

#[test]
fn each_record_is_one_flow_and_a_duplicate_is_none() {
    let mut bench = bench(&counters(0, 0));
    bench.take(0);
    bench.take(1);
    bench.take(1);
    assert_eq!(bench.told(), [1, 1]);
    assert_eq!(bench.records.view.flows, 2);
}

#[test]
fn a_gap_is_told_before_the_flow_that_shows_it() {
    let mut bench = bench(&counters(0, 0));
    bench.take(0);
    bench.take(5);
    assert_eq!(bench.told(), [1, -4, 1]);
}

#[test]
fn what_is_lost_at_the_tail_is_told_and_the_sums_agree() {
    let mut bench = bench(&counters(0, 0));
    bench.take(0);
    bench.settle(counters(10, 9));
    assert_eq!(bench.told(), [1, -9]);
    bench.records.publish();
    let totals = bench.records.state.records().drops;
    assert_eq!(totals, Totals { attempted: 10, delivered: 1, lost: 9 });
    bench.take(10);
    assert_eq!(bench.told(), [1, -9, 1]);
}

#[test]
fn counters_too_young_for_what_is_in_flight_are_not_settled() {
    let mut bench = bench(&counters(0, 0));
    let read = Instant::now();
    bench.records.state.set_counters(read, counters(1, 0));
    bench.records.settle(read + Duration::from_millis(1));
    assert_eq!(bench.told(), Vec::<i64>::new());
}

#[test]
fn what_was_lost_while_no_agent_ran_is_told_once() {
    let first = bench(&counters(100, 40));
    assert_eq!(first.told(), [-40]);
    let note = losses::load(&first.folder.path().join("losses.json")).unwrap();
    assert_eq!(note.get(&(Ring::Drops, 0)), Some(&40));
    let store = Arc::new(FlowStore::new(Limits::default()));
    let builder = FlowBuilder::new("node-1", Containers::of(None));
    let path = first.folder.path().join("losses.json");
    let records = Records::new(state(), store, builder, &counters(120, 45), books(path));
    let second = Bench { records, folder: first.folder };
    assert_eq!(second.told(), [-5]);
}

#[test]
fn bytes_that_are_no_record_are_counted_and_show_as_a_gap() {
    let mut bench = bench(&counters(0, 0));
    bench.take(0);
    bench.records.take(Err(DecodeError::Short(3)), &Names::default());
    bench.take(2);
    assert_eq!(bench.told(), [1, -1, 1]);
    assert_eq!(bench.records.view.undecodable, 1);
}

#[test]
fn equal_records_are_one_flow_at_once_and_one_with_their_number_later() {
    let mut bench = bench(&counters(0, 0));
    for sequence in 0..100 {
        bench.records.take(Ok(drop_record(sequence)), &Names::default());
    }
    assert_eq!(bench.told(), [1]);
    bench.records.tell_repeats(Instant::now());
    assert_eq!(bench.told(), [1, 1]);
    let Some(ResponseTypes::Flow(flow)) =
        bench.records.store.get(1).unwrap().decode().response_types
    else {
        panic!()
    };
    let detail = Detail::from_any(&flow.extensions.unwrap()).unwrap();
    assert_eq!((detail.count, detail.bytes), (99, 99 * 42));
    assert_eq!(flow.aggregate.unwrap().egress_flow_count, 99);
    assert!(flow.summary.ends_with("; 99 times"), "{}", flow.summary);
    assert_eq!(bench.records.view.flows, 100);
    assert_eq!(bench.records.store.occupancy().seen, 100);
}
