//! How much memory the last flows really take. A program of its own, so that
//! nothing else allocates meanwhile.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;

use api::proto::flow::{Endpoint, Flow};
use api::store::{FlowStore, Limits, OVERHEAD};

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

const LIMITS: Limits = Limits { events: 16_383, bytes: 16_383 << 10 };

/// What the allocator may keep of what was given back, and this test's own.
const SLACK: usize = 4 << 20;

/// A flow of about `length` bytes from one of `sources`.
fn flow(n: u64, sources: u64, length: usize) -> Flow {
    let identity = u32::try_from(256 + n % sources).unwrap();
    let source = Some(Endpoint { identity, ..Endpoint::default() });
    Flow { source, summary: "x".repeat(length), ..Flow::default() }
}

/// Fills a store ten times over; the bytes that it then takes.
fn filled(sources: u64, length: usize) -> (FlowStore, usize) {
    let before = resident();
    let store = FlowStore::new(LIMITS);
    for n in 0..10 * LIMITS.events as u64 {
        assert!(store.push(&api::flow::to_response(flow(n, sources, length))));
    }
    let taken = resident().saturating_sub(before);
    (store, taken)
}

#[test]
fn a_full_store_takes_what_its_limits_say() {
    // Ordinary flows; tiny ones, where what is beside them counts most; each from
    // a source of its own, which has a lane of its own; and large ones, of which
    // few fit.
    let mut stores = Vec::new();
    for (sources, length) in [(50, 900), (50, 10), (20_000, 10), (50, 4000)] {
        let (store, taken) = filled(sources, length);
        let held = store.occupancy().events;
        // Kept: what one gave back, the next would take unseen.
        stores.push(store);
        let bound = LIMITS.bytes.min(LIMITS.events * (length + 40)) + LIMITS.events * OVERHEAD;
        println!("{sources} sources, {length} bytes: {held} flows, {taken} of {bound} bytes");
        assert!(taken <= bound + SLACK, "{sources}, {length}: {taken} of {bound}");
    }
}
