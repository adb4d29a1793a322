//! The kernel's counters equal what was read plus what was lost, whatever the
//! reader does; and the gaps in the numbers say exactly what was lost.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;

use datapath::{Limits, Record, Ring, RingCounters};
use model::Direction::Egress;
use policy::Action;
use support::*;

/// Records that are missing between those that were read, by ring and CPU.
fn gaps(records: &[Record]) -> u64 {
    let mut next: BTreeMap<(Ring, u32), u64> = BTreeMap::new();
    let mut missing = 0;
    for record in records {
        let expected = next.entry((record.ring, record.cpu)).or_insert(0);
        assert!(record.sequence >= *expected, "read twice: {record:?}");
        missing += record.sequence - *expected;
        *expected = record.sequence + 1;
    }
    missing
}

fn total(counters: &RingCounters) -> (u64, u64) {
    (counters.attempts.iter().sum(), counters.lost.iter().sum())
}

#[test]
fn records_read_and_records_lost_add_up_to_the_kernel_s_count() {
    let limits = Limits { ring_bytes: 16_384, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    let rules = vec![rule("out", Egress, Action::Allow, app("web"), tcp(443))];
    node.apply(&world.desired(world.table(rules)));
    let mut read = Vec::new();
    let (mut allowed, mut denied) = (0u64, 0u64);
    // The reader keeps up, is paused while both rings overflow, and resumes.
    for (round, paused) in [false, true, false, true, false].into_iter().enumerate() {
        for turn in 0..200u16 {
            let source = 20_000 + round as u16 * 200 + turn;
            node.judge(Egress, &segment(Egress, (POD, source), (PEER, 443), Tcp::Syn));
            node.judge(Egress, &segment(Egress, (POD, source), (PEER, 444), Tcp::Syn));
            allowed += 1;
            denied += 1;
            if !paused {
                read.extend(node.records());
            }
        }
    }
    // One more of each: a loss at the very end shows as a gap before it.
    read.extend(node.records());
    node.judge(Egress, &segment(Egress, (POD, 19_999), (PEER, 443), Tcp::Syn));
    node.judge(Egress, &segment(Egress, (POD, 19_999), (PEER, 444), Tcp::Syn));
    read.extend(node.records());
    let counters = node.datapath.counters().unwrap();
    let (traces, traces_lost) = total(&counters.traces);
    let (drops, drops_lost) = total(&counters.drops);
    assert_eq!((traces, drops), (allowed + 1, denied + 1));
    assert!(traces_lost > 100 && drops_lost > 100, "the pause was long enough");
    assert_eq!(read.len() as u64 + traces_lost + drops_lost, traces + drops);
    assert_eq!(gaps(&read), traces_lost + drops_lost);
    assert_eq!(counters.dropped_by_reason, [(133, denied + 1)].into());
}

#[test]
fn a_flood_of_allowed_connections_loses_no_drop() {
    let limits = Limits { ring_bytes: 16_384, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    let rules = vec![rule("out", Egress, Action::Allow, app("web"), tcp(443))];
    node.apply(&world.desired(world.table(rules)));
    for source in 0..500 {
        node.judge(Egress, &segment(Egress, (POD, 20_000 + source), (PEER, 443), Tcp::Syn));
    }
    node.judge(Egress, &segment(Egress, (POD, 1), (PEER, 444), Tcp::Syn));
    let counters = node.datapath.counters().unwrap();
    assert!(total(&counters.traces).1 > 0);
    assert_eq!(total(&counters.drops), (1, 0));
}
