//! An agent on a real kernel that is offered more than it can tell. The long form, with
//! rates, is `examples/flood`.
//!
//! Needs root, a kernel with BTF, and iproute2.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]

#[path = "../examples/flood/world.rs"]
mod world;

use std::time::Duration;

use api::proto::flow::FlowFilter;
use world::{Flood, World, resident};

/// As in the long form; a debug build is larger by some.
const MEMORY: usize = 160 << 20;

#[test]
fn a_flood_is_counted_exactly_and_drowns_neither_a_neighbour_nor_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(folder.path());
    world.receive();
    let neighbour = FlowFilter { source_ip: vec!["198.51.100.9".into()], ..FlowFilter::default() };
    let before = world.client.settled();
    assert_eq!(world.client.flows(&neighbour), 1);

    let mut offered = 0;
    let mut slowest = Duration::ZERO;
    let mut accounts = before;
    for equal in [1, 64] {
        // More than the memory of flows holds, however slow this machine is.
        let full = accounts.delivered + 2 * accounts.capacity;
        while accounts.delivered < full {
            let flood = Flood { per_second: 1_000_000, equal };
            let seen = world.flood(flood, Duration::from_secs(2));
            offered += seen.offered;
            slowest = slowest.max(seen.answers.last().copied().unwrap());
            accounts = world.client.settled();
        }
    }
    assert_eq!(accounts.attempted - before.attempted, offered, "the kernel counts every packet");
    let (told, lost) = (accounts.delivered - before.delivered, accounts.lost - before.lost);
    assert_eq!(told + lost, offered, "every packet is told or told as lost");
    assert_eq!(accounts.flows, accounts.seen, "what was told together counts as many");
    assert_eq!(accounts.held, accounts.capacity);
    assert!(slowest < Duration::from_secs(5), "an answer took {slowest:?}");
    assert!(resident() < MEMORY, "{} bytes", resident());
    assert_eq!(world.client.flows(&neighbour), 1, "the neighbour's flow is still there");
    world.stop();
}
