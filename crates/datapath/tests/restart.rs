//! What outlives the agent, and what a new one makes of it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use datapath::{Config, Datapath, OpenError};
use libbpf_rs::{MapCore, MapFlags};
use model::{Direction, Verdict};
use policy::Action;
use support::*;
use zerocopy::{FromBytes, IntoBytes};

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

/// Programs never act on maps whose version is not their own.
#[test]
fn a_program_that_finds_another_versions_word_lets_nothing_through() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&allow(&world, 443));
    let pin = node.pins().join("maps/control");
    let control = libbpf_rs::MapHandle::from_pinned_path(pin).unwrap();
    let zero = 0u32.to_ne_bytes();
    let known = control.lookup(&zero, MapFlags::ANY).unwrap().unwrap();
    let mut control_of_next = abi::Control::read_from_bytes(&known).unwrap();
    control_of_next.abi_version += 1;
    control.update(&zero, control_of_next.as_bytes(), MapFlags::ANY).unwrap();
    assert_eq!(node.reason(Egress, &syn(443)), 165, "no configuration");
    control.update(&zero, &known, MapFlags::ANY).unwrap();
    let node = node.reopen();
    assert!(node.datapath.features().taken_over);
    assert_eq!(node.reason(Egress, &syn(443)), 0);
    assert_eq!(node.reason(Egress, &syn(444)), 133);
}

#[test]
fn a_start_that_died_half_way_is_begun_again() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&allow(&world, 443));
    // As if it had died among the maps: before the version, and so the programs.
    std::fs::remove_dir_all(node.pins().join("programs")).unwrap();
    std::fs::remove_file(node.pins().join("maps/control")).unwrap();
    let mut node = node.reopen();
    assert!(!node.datapath.features().taken_over);
    assert_eq!(node.reason(Egress, &syn(443)), 203);
    node.apply(&allow(&world, 443));
    assert_eq!(node.reason(Egress, &syn(443)), 0);
}

#[test]
fn a_pin_that_somebody_removed_is_put_back_without_a_gap() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&allow(&world, 443));
    let pin = node.pins().join("programs/pod_ingress");
    std::fs::remove_file(&pin).unwrap();
    let node = node.reopen();
    assert!(node.datapath.features().taken_over && pin.exists());
    assert_eq!(node.reason(Egress, &syn(443)), 0);
    assert_eq!(node.reason(Egress, &syn(444)), 133);
}

#[test]
fn a_quota_that_was_raised_counts_as_far_as_there_is_room() {
    let mut node = Node::new(datapath::Limits { connections_per_endpoint: 64, ..SMALL });
    node.config.limits.connections_per_endpoint = 8;
    let node = node.reopen();
    assert_eq!(node.datapath.limits().connections_per_endpoint, 8);
    let mut node = node;
    node.config.limits.connections_per_endpoint = 100_000;
    assert_eq!(node.reopen().datapath.limits().connections_per_endpoint, 64);
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
