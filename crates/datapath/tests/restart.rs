//! What outlives the agent, and what a new one makes of it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use datapath::{Config, Datapath, OpenError};
use model::{Direction, Verdict};
use policy::Action;
use support::*;

use Direction::Egress;

fn allow(world: &World, port: u16) -> datapath::Desired {
    let rules = vec![rule("out", Egress, Action::Allow, app("web"), tcp(port))];
    world.desired(world.table(rules))
}

fn syn(port: u16) -> Vec<u8> {
    segment(Egress, (POD, 40000), (PEER, port), Tcp::Syn)
}

#[test]
fn a_new_agent_finds_policy_connections_and_revision_as_they_were() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let revision = node.apply(&allow(&world, 443));
    assert_eq!(node.reason(Egress, &syn(443)), 0);
    let mut node = node.reopen();
    assert!(node.datapath.features().taken_over);
    assert_eq!(node.datapath.revision(), revision);
    assert_eq!(node.reason(Egress, &syn(444)), 133);
    let going = segment(Egress, (POD, 40000), (PEER, 443), Tcp::Ack);
    node.records();
    assert_eq!(node.judge(Egress, &going), Verdict::Forwarded);
    assert!(node.records().is_empty(), "still the same connection");
    assert_eq!(node.apply(&allow(&world, 443)), revision, "the same policy changes nothing");
    assert_eq!(node.apply(&allow(&world, 444)), revision + 1);
    assert_eq!(node.reason(Egress, &syn(444)), 0);
    assert_eq!(node.reason(Egress, &going), 133);
}

#[test]
fn a_start_that_died_half_way_is_begun_again() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&allow(&world, 443));
    // As if it had died before the programs were pinned, which is the last step.
    std::fs::remove_file(node.pins().join("programs/pod_ingress")).unwrap();
    let mut node = node.reopen();
    assert!(!node.datapath.features().taken_over);
    assert_eq!(node.reason(Egress, &syn(443)), 203);
    node.apply(&allow(&world, 443));
    assert_eq!(node.reason(Egress, &syn(443)), 0);
}

#[test]
fn records_written_while_nobody_reads_are_there_for_the_next_agent() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&allow(&world, 443));
    for port in 1..=20 {
        node.judge(Egress, &syn(port));
    }
    let node = node.reopen();
    assert_eq!(node.records().len(), 20);
}

#[test]
fn a_folder_outside_bpffs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { pins: folder.path().join("x"), cgroup: None, limits: SMALL };
    assert!(matches!(Datapath::open(&config), Err(OpenError::NotBpffs { .. })));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |limits, text: &str| {
        let config = Config { pins: folder.path().into(), cgroup: None, limits };
        assert_eq!(Datapath::open(&config).unwrap_err().to_string(), text);
    };
    check(
        datapath::Limits { ring_bytes: 5000, ..SMALL },
        "limit `ring_bytes` is 5000: it must be a power of two, at least 4096",
    );
    check(
        datapath::Limits { endpoints: 0, ..SMALL },
        "limit `endpoints` is 0: it must be at least 1",
    );
}
