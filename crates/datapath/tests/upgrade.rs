//! From the layout of this version to others and back, while real sockets go on:
//! crate `datapath` is built three times, each with its own kernel programs and
//! types. `next` has another layout of what is desired, `other` of connections,
//! counters and records, too.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;
#[path = "support/traffic.rs"]
mod traffic;
#[path = "support/versions.rs"]
mod versions;
#[path = "support/wires.rs"]
mod wires;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use support::*;
use traffic::Traffic;
use versions::{Agent, Scene, Version};
use wires::{Who, probes};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

fn map_id(scene: &Scene, name: &str) -> u32 {
    let path = scene.pins().join("maps").join(name);
    MapHandle::from_pinned_path(path).unwrap().info().unwrap().info.id
}

#[test]
fn to_the_next_version_and_back_nothing_is_lost_and_nothing_slips() {
    let mut scene = Scene::new(Version::This);
    let conntrack = map_id(&scene, "conntrack");
    let control = map_id(&scene, "control");
    let rings = map_id(&scene, "drops");
    let traffic = Traffic::start(&scene.wires);
    for version in [Version::Next, Version::This, Version::Next, Version::This] {
        traffic.go_on();
        let before = scene.revision();
        scene.replace_agent(version);
        assert!(scene.revision() >= before, "a revision never goes back");
        assert_eq!(scene.left_over(), Vec::<String>::new());
        scene.check_arrivals(&format!("{version:?}"));
    }
    traffic.go_on();
    assert_eq!(map_id(&scene, "conntrack"), conntrack, "the very same connections");
    assert_eq!(map_id(&scene, "drops"), rings, "and records");
    assert_ne!(map_id(&scene, "control"), control, "but another policy's maps");
    traffic.end().check_nothing_lost();
}

#[test]
fn connections_of_another_layout_are_carried_over_and_back() {
    let mut scene = Scene::new(Version::This);
    let conntrack = map_id(&scene, "conntrack");
    let traffic = Traffic::start(&scene.wires);
    for version in [Version::Other, Version::Next, Version::Other, Version::This] {
        traffic.go_on();
        scene.replace_agent(version);
        assert_eq!(scene.left_over(), Vec::<String>::new());
        scene.check_arrivals(&format!("{version:?}"));
    }
    traffic.go_on();
    assert_ne!(map_id(&scene, "conntrack"), conntrack);
    traffic.end().check_no_connection_lost();
}

/// A policy that changes with the version: each packet is judged by one of the two.
#[test]
fn a_new_version_brings_its_own_policy() {
    let mut scene = Scene::new(Version::This);
    scene.allowed = probes("A>C A>R A>W B>C B>R B>W C>A C>B C>R C>W R>C W>C");
    scene.sender = "dev";
    scene.replace_agent(Version::Other);
    scene.check_arrivals("another policy");
    scene.allowed = probes(versions::ALLOWED);
    scene.sender = "pay";
    scene.replace_agent(Version::This);
    scene.check_arrivals("the first policy");
}

/// What cannot be installed leaves the other version in force; the same agent goes
/// on from there once it can.
#[test]
fn a_policy_that_does_not_fit_leaves_the_other_version_in_force() {
    let mut scene = Scene::new(Version::This);
    scene.agent = None;
    let mut agent = Agent::open(Version::Next, &scene.config);
    let mut many = scene.desired();
    let world = World::new();
    for number in 0..=SMALL.addresses {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 + number);
        many.addresses.insert(address.into(), world.id("dev"));
    }
    let refused = agent.try_apply(&many).unwrap_err();
    assert!(refused.contains("addresses do not fit"), "{refused}");
    scene.check_arrivals("refused");
    agent.apply(&scene.desired());
    scene.agent = Some(agent);
    scene.check_arrivals("accepted");
    assert_eq!(scene.left_over(), Vec::<String>::new());
}

/// Pods come and go by the plugin of the other version.
#[test]
fn the_plugin_of_one_version_works_beside_the_agent_of_another() {
    let mut scene = Scene::new(Version::This);
    scene.replace_agent(Version::Next);
    let index = Who::C.ifindex();
    // Its agent would hold the links, as it should those of pods that stay.
    scene.agent = None;
    datapath::detach_pod(&scene.pins(), index).unwrap();
    assert!(!datapath_next::is_enforced(&scene.pins(), index).unwrap());
    // The kernel takes the old programs off a while after their last pin.
    let attach = || datapath::attach_pod(&scene.pins(), Who::C.interface(), index);
    let attached = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        attach().is_ok()
    });
    assert!(attached);
    assert!(datapath_next::is_attached(&scene.pins(), index).unwrap());
    // Attached and not installed: nothing of it passes, to anybody.
    scene.allowed = probes("A>B A>R A>W B>R B>W");
    scene.check_arrivals("attached by the other version's plugin");
}

/// Connections of `A` to peers elsewhere, as the kernel of this version writes them.
fn put_connections(scene: &Scene, number: u16) {
    let path = scene.pins().join("maps/conntrack");
    let conntrack = MapHandle::from_pinned_path(path).unwrap();
    let mapped =
        |address: std::net::Ipv4Addr| abi::Address { bytes: address.to_ipv6_mapped().octets() };
    for port in 1..=number {
        let mut key = abi::ConnectionKey::new_zeroed();
        key.local = mapped(Who::A.address());
        key.remote = mapped(Who::R.address());
        (key.local_port, key.remote_port) = (port.to_be(), 53u16.to_be());
        (key.endpoint, key.protocol) = (12, 17);
        let mut value = abi::Connection::new_zeroed();
        value.expires_ns = u64::MAX / 2 + u64::from(port);
        value.direction = abi::direction::EGRESS as u8;
        value.flags = abi::connection_flag::ESTABLISHED as u8;
        value.cookie = u64::from(port) << 20;
        value.peer_ifindex = 7;
        value.began_ns = 1;
        conntrack.update(key.as_bytes(), value.as_bytes(), MapFlags::ANY).unwrap();
    }
}

/// Each is there once, with what it says, and is counted once.
#[test]
fn every_connection_is_carried_over_and_counted() {
    const MANY: u16 = 30_000;
    let mut scene = Scene::new(Version::This);
    put_connections(&scene, MANY);
    let start = std::time::Instant::now();
    scene.replace_agent(Version::Other);
    let took = start.elapsed();
    scene.replace_agent(Version::This);
    println!("{MANY} connections: {took:?} with them");

    let open = |name: &str| MapHandle::from_pinned_path(scene.pins().join("maps").join(name));
    let conntrack = open("conntrack").unwrap();
    let (mut put, mut of_a) = (0, 0);
    for key in conntrack.keys() {
        let value = conntrack.lookup(&key, MapFlags::ANY).unwrap().unwrap();
        let key = abi::ConnectionKey::read_from_bytes(&key).unwrap();
        let value = abi::Connection::read_from_bytes(&value).unwrap();
        of_a += u64::from(key.endpoint == 12);
        let port = u16::from_be(key.local_port);
        if value.peer_ifindex == 7 {
            put += 1;
            assert_eq!(value.cookie, u64::from(port) << 20);
            assert_eq!(value.expires_ns, u64::MAX / 2 + u64::from(port));
            assert_eq!((u32::from(value.direction), u32::from(value.flags)), (1, 1));
            assert_eq!((value.revision, key.remote_port), (0, 53u16.to_be()));
            assert_eq!(value.began_ns, 0, "two versions have counted");
        }
    }
    assert_eq!(put, MANY);
    let usage = open("usage").unwrap().lookup(&12u32.to_ne_bytes(), MapFlags::ANY);
    let usage = abi::Usage::read_from_bytes(&usage.unwrap().unwrap()).unwrap();
    assert_eq!(usage.connections, of_a, "as many as there are");
}
