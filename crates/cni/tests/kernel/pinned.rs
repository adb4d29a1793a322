//! The plugin with the real programs: without an agent they deny; with one that
//! installs the pod from its record, it is reached as soon as ADD returns.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cni::programs::{Pinned, Programs};
use datapath::{Config, Datapath, Desired, Endpoint, Limits};
use model::{EndpointRecord, IdentityBook, Labels, Reserved};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::node::{Node, Pod};

/// A bpffs of one test, gone with it.
struct Bpffs(PathBuf);

impl Bpffs {
    fn mount(at: &Path) -> Self {
        fs::create_dir(at).unwrap();
        let none: Option<&str> = None;
        mount(none, at, Some("bpf"), MsFlags::empty(), none).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Nothing is asserted here: a second panic would hide the first.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A node with a bpffs of its own, and what an agent opens on it.
fn node() -> (Node, Bpffs, Config) {
    let mut node = Node::new();
    let bpffs = Bpffs::mount(&node.state().with_file_name("bpffs"));
    let pins = bpffs.0.join("signet/test/node");
    node.config["pins"] = json!(pins);
    let limits = Limits { endpoints: 4, connections_per_endpoint: 16, ..Limits::default() };
    (node, bpffs, Config { pins, cgroup: None, limits })
}

/// A pod that no policy selects, as its record tells of it.
fn unenforced(record: &EndpointRecord) -> Desired {
    let (subject, identity) = (Labels::default(), Reserved::Unmanaged.id());
    let table = policy::compile(
        &[],
        &subject,
        &BTreeMap::new(),
        &IdentityBook::new([]),
        &policy::Options::default(),
    );
    let addresses = || record.addresses.iter().copied();
    let endpoint = Endpoint {
        id: 11,
        identity,
        table: 1,
        mac: record.mac,
        ipv4: addresses().find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }),
        ipv6: addresses().find_map(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }),
        netns_id: record.netns_id,
    };
    Desired {
        endpoints: [(record.ifindex, endpoint)].into(),
        host: Default::default(),
        addresses: addresses().map(|address| (address, identity)).collect(),
        prefixes: BTreeMap::new(),
        tables: [(1, Arc::new(table.unwrap()))].into(),
        ..Desired::default()
    }
}

#[test]
fn a_pod_is_reached_as_soon_as_add_returns_when_an_agent_runs() {
    let (mut node, _bpffs, config) = node();
    let pod = Pod::new("a");
    node.config["enforceTimeoutMs"] = json!(5000);
    let _lock = node.hold_agent_lock();
    let mut datapath = Datapath::open(&config).unwrap();
    thread::scope(|scope| {
        let adding = scope.spawn(|| node.add(&pod, &Pinned));
        // The agent: it learns of the pod from the record alone.
        let record = loop {
            match node.records().pop() {
                Some(record) => break record,
                None => thread::sleep(Duration::from_millis(1)),
            }
            assert!(!adding.is_finished(), "ADD waits for the agent");
        };
        thread::sleep(Duration::from_millis(50));
        assert!(!adding.is_finished(), "ADD waits for the agent");
        datapath.apply(&unenforced(&record)).unwrap();
        adding.join().unwrap();
    });
    for address in ["10.1.0.2", "fd00:1::2"] {
        assert!(node.namespace.pings(address), "{address}");
    }
    for address in ["10.1.0.1", "fd00:1::1"] {
        assert!(pod.namespace.pings(address), "{address}");
    }
    let ifindex = node.records()[0].ifindex;
    assert!(node.call("DEL", &pod, &Pinned).succeeded);
    assert!(!Pinned.is_enforced(&config.pins, ifindex).unwrap());
    node.assert_clean();
}

#[test]
fn a_pod_that_no_agent_has_installed_is_denied() {
    let (node, _bpffs, config) = node();
    let pod = Pod::new("a");
    // An agent that ran and went: its programs stay.
    drop(Datapath::open(&config).unwrap());
    let pins = &config.pins;

    let previous = node.add(&pod, &Pinned);
    let ifindex = node.records()[0].ifindex;
    assert!(node.namespace.run(|| Pinned.is_attached(pins, ifindex)).unwrap());
    assert!(!Pinned.is_enforced(pins, ifindex).unwrap());
    assert!(!node.namespace.pings("10.1.0.2"));
    assert!(!pod.namespace.pings("10.1.0.1"));
    assert!(node.call_with("CHECK", &pod, &node.config_with(&previous), &Pinned).succeeded);

    assert!(node.call("DEL", &pod, &Pinned).succeeded);
    node.assert_clean();
    assert!(!node.namespace.run(|| Pinned.is_attached(pins, ifindex)).unwrap());
}

#[test]
fn programs_that_are_not_pinned_yet_are_a_reason_to_try_later() {
    let (node, pod) = (Node::new(), Pod::new("a"));
    // The folder is there, as while an agent starts, but not the programs.
    let answer = node.call("ADD", &pod, &Pinned).answer.unwrap();
    assert_eq!(answer["code"], 11, "{answer}");
    node.assert_clean();
}
