//! Somebody with root changes what the agent installed. It is found at the next
//! look but one, told, and put right; real sockets say what passes meanwhile.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

#[path = "support/content.rs"]
mod content;
mod support;
#[path = "support/wires.rs"]
mod wires;

use std::collections::BTreeSet;
use std::fs;
use std::mem::offset_of;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use datapath::{Config, Datapath, Desired, Endpoint, Fault, FaultKind};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::Direction;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use policy::{Action, Ports};
use support::*;
use wires::{Probes, Who, Wires, probes};
use zerocopy::{FromBytes, IntoBytes};

/// `web` takes what `pay` sends, and nothing else; written by hand.
const ALLOWED: &str = "A>B A>C A>R A>W B>A B>C B>R B>W C>A C>R C>W R>A R>C W>A W>C";

struct Bench {
    wires: Wires,
    datapath: Datapath,
    desired: Desired,
    config: Config,
    content: BTreeSet<String>,
    allowed: Probes,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let config = Config { pins: folder.path().join("node"), cgroup: None, limits: SMALL };
        let mut datapath =
            Datapath::open(&config).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let wires = Wires::new();
        for pod in Who::PODS {
            datapath::attach_pod(&config.pins, pod.interface(), pod.ifindex()).unwrap();
            wires.set(pod, "up");
        }
        let desired = desired();
        datapath.apply(&desired).unwrap();
        let content = content::of(&config.pins);
        let allowed = probes(ALLOWED);
        let mut bench = Self { wires, datapath, desired, config, content, allowed, folder };
        bench.check_quiet();
        bench
    }

    fn look(&mut self) -> Vec<Fault> {
        self.datapath.check(Some(&self.desired))
    }

    /// Nothing to tell, everything as installed, and the right packets pass.
    #[track_caller]
    fn check_quiet(&mut self) {
        assert_eq!(self.look(), []);
        assert_eq!(self.look(), []);
        assert_eq!(content::of(&self.config.pins), self.content);
        self.check_arrivals();
    }

    #[track_caller]
    fn check_arrivals(&mut self) {
        let arrivals = self.wires.arrivals(&[&self.allowed]);
        assert_eq!((&arrivals.old, &arrivals.new), (&self.allowed, &self.allowed));
    }

    /// Two looks find faults of this kind and put them right.
    #[track_caller]
    fn check_healed(&mut self, kind: FaultKind, words: &str) {
        let mut faults = self.look();
        faults.extend(self.look());
        assert!(!faults.is_empty(), "nothing was found");
        for fault in &faults {
            assert_eq!((fault.kind, &fault.left), (kind, &None), "{fault:?}");
        }
        assert!(faults.iter().any(|fault| fault.detail.contains(words)), "{words}: {faults:?}");
        self.check_quiet();
    }

    /// Another agent, on what this one leaves.
    fn restart(&mut self) {
        let opened = Datapath::open(&self.config);
        self.datapath = opened.unwrap_or_else(|error| panic!("{}", chain(&error)));
        self.datapath.apply(&self.desired).unwrap();
    }

    fn map(&self, name: &str) -> MapHandle {
        MapHandle::from_pinned_path(self.config.pins.join("maps").join(name)).unwrap()
    }
}

fn desired() -> Desired {
    let world = World::new();
    let rules = vec![rule("in", Direction::Ingress, Action::Allow, app("pay"), Ports::All)];
    let pods = [(Who::A, 2, "pay"), (Who::B, 3, "web"), (Who::C, 4, "dev")];
    let endpoint = |(pod, id, app): (Who, u32, &str)| Endpoint {
        id: id + 10,
        identity: world.id(app),
        table: id,
        mac: pod.mac(),
        ipv4: Some(pod.address()),
        ipv6: Some(pod.address6()),
        netns_id: -1,
    };
    Desired {
        endpoints: pods.into_iter().map(|pod| (pod.0.ifindex(), endpoint(pod))).collect(),
        addresses: pods
            .into_iter()
            .flat_map(|(pod, _, app)| pod.addresses().map(|it| (it, world.id(app))))
            .collect(),
        prefixes: ["10.2.0.0/16", "fd00:2::/64"]
            .map(|range| (range.parse().unwrap(), model::Reserved::Unmanaged.id()))
            .into(),
        tables: [
            (2, Arc::new(world.table_of("pay", vec![]))),
            (3, Arc::new(world.table_of("web", rules))),
            (4, Arc::new(world.table_of("dev", vec![]))),
        ]
        .into(),
        ..Desired::default()
    }
}

fn mapped(who: Who) -> abi::Address {
    abi::Address { bytes: who.address().to_ipv6_mapped().octets() }
}

#[test]
fn an_identity_that_was_given_by_hand_is_taken_away() {
    let mut bench = Bench::new();
    let addresses = bench.map("addresses");
    let pay = addresses.lookup(mapped(Who::A).as_bytes(), MapFlags::ANY).unwrap().unwrap();
    // The stranger becomes `pay`, and is let in until the next look.
    let mut peer = abi::Peer::read_from_bytes(&pay).unwrap();
    peer.after.endpoint = 0;
    addresses.update(mapped(Who::W).as_bytes(), peer.as_bytes(), MapFlags::ANY).unwrap();
    // The IPv4 one of its two addresses.
    let everybody = probes(&format!("{ALLOWED} W>B:1"));
    assert_eq!(bench.wires.arrivals(&[&everybody]).new, everybody, "or nothing is tested");
    bench.check_healed(FaultKind::Content, "addresses");
}

#[test]
fn a_table_that_was_opened_by_hand_is_closed() {
    let mut bench = Bench::new();
    let tables = bench.map("tables");
    let number = 3u32.to_ne_bytes();
    let id = tables.lookup(&number, MapFlags::ANY).unwrap().unwrap();
    let table = MapHandle::from_map_id(u32::from_ne_bytes(id.try_into().unwrap())).unwrap();
    for key in table.keys().collect::<Vec<_>>() {
        let value = table.lookup(&key, MapFlags::ANY).unwrap().unwrap();
        let mut entry = abi::PolicyEntry::read_from_bytes(&value).unwrap();
        entry.before.live.verdict = abi::verdict::ALLOW as u8;
        entry.after.live.verdict = abi::verdict::ALLOW as u8;
        table.update(&key, entry.as_bytes(), MapFlags::ANY).unwrap();
    }
    bench.check_healed(FaultKind::Content, "table 3");
}

#[test]
fn elements_that_were_removed_by_hand_are_put_back() {
    for map in ["endpoints", "usage", "addresses", "prefixes", "tables"] {
        let mut bench = Bench::new();
        let handle = bench.map(map);
        for key in handle.keys().collect::<Vec<_>>() {
            if key != 0u32.to_ne_bytes() {
                handle.delete(&key).unwrap();
            }
        }
        bench.check_healed(FaultKind::Content, map);
    }
}

#[test]
fn words_that_were_moved_by_hand_are_moved_back() {
    let mut bench = Bench::new();
    let control = bench.map("control");
    let zero = 0u32.to_ne_bytes();
    let value = control.lookup(&zero, MapFlags::ANY).unwrap().unwrap();
    let good = abi::Control::read_from_bytes(&value).unwrap();
    for bad in [
        abi::Control { revision: 0, ..good },
        abi::Control { revision: u32::MAX, ..good },
        abi::Control { abi_version: 77, ..good },
        abi::Control { connections: 0, ..good },
        abi::Control { world_ipv4: 1, ..good },
    ] {
        control.update(&zero, bad.as_bytes(), MapFlags::ANY).unwrap();
        bench.check_healed(FaultKind::Control, "control words");
    }
}

#[test]
fn a_connection_that_a_word_written_by_hand_let_in_ends_when_the_word_is_put_right() {
    let mut bench = Bench::new();
    let control = bench.map("control");
    let zero = 0u32.to_ne_bytes();
    let value = control.lookup(&zero, MapFlags::ANY).unwrap().unwrap();
    let good = abi::Control::read_from_bytes(&value).unwrap();
    // The whole world becomes `pay`, and is let in until the next look.
    let pay = u32::from(World::new().id("pay"));
    let bad = abi::Control { world_ipv4: pay, world_ipv6: pay, ..good };
    control.update(&zero, bad.as_bytes(), MapFlags::ANY).unwrap();
    let everybody = probes(&format!("{ALLOWED} W>B"));
    let arrivals = bench.wires.arrivals(&[&everybody]);
    assert_eq!((&arrivals.old, &arrivals.new), (&everybody, &everybody), "or nothing is tested");
    bench.check_healed(FaultKind::Control, "control words");
    let value = control.lookup(&zero, MapFlags::ANY).unwrap().unwrap();
    let healed = abi::Control::read_from_bytes(&value).unwrap();
    assert_eq!(healed.revision, good.revision, "no change of policy has ended it");
}

#[test]
fn an_account_that_was_filled_by_hand_is_counted_again() {
    let mut bench = Bench::new();
    let usage = bench.map("usage");
    let server = 13u32.to_ne_bytes();
    let value = usage.lookup(&server, MapFlags::ANY).unwrap().unwrap();
    let counted = abi::Usage::read_from_bytes(&value).unwrap();
    assert!(counted.connections > 2, "{}", counted.connections);
    let more = |mut peers: [u32; 256]| {
        peers[7] += SMALL.connections_per_endpoint;
        peers
    };
    let (peers, peers_again) = (more(counted.peers), more(counted.peers_again));
    for wrong in [
        abi::Usage { connections: SMALL.connections_per_endpoint.into(), ..counted },
        abi::Usage { connections: u64::MAX, ..counted },
        abi::Usage { peers, ..counted },
        abi::Usage { peers_again, ..counted },
    ] {
        usage.update(&server, wrong.as_bytes(), MapFlags::ANY).unwrap();
        if wrong.connections != counted.connections {
            let arrivals = bench.wires.arrivals(&[]).new;
            assert!(!arrivals.iter().any(|probe| probe.to == Who::B), "or nothing is tested");
        }
        bench.check_healed(FaultKind::Content, "usage");
    }
}

/// A revision above all others, as one may be, in the first element of a map.
fn raise(map: &MapHandle, at: usize, revision: u32) {
    let key = map.keys().next().unwrap();
    let mut value = map.lookup(&key, MapFlags::ANY).unwrap().unwrap();
    value[at..at + 4].copy_from_slice(&revision.to_ne_bytes());
    map.update(&key, &value, MapFlags::ANY).unwrap();
}

/// Maps with revisions in their elements, and where these are.
fn with_revisions(bench: &Bench) -> [(&'static str, MapHandle, usize); 4] {
    let tables = bench.map("tables");
    let id = tables.lookup(&3u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    let table = MapHandle::from_map_id(u32::from_ne_bytes(id.try_into().unwrap())).unwrap();
    [
        ("endpoints", bench.map("endpoints"), offset_of!(abi::Endpoint, from_revision)),
        ("addresses", bench.map("addresses"), offset_of!(abi::Peer, from_revision)),
        ("prefixes", bench.map("prefixes"), offset_of!(abi::Range, from_revision)),
        ("table 3", table, offset_of!(abi::PolicyEntry, from_revision)),
    ]
}

#[test]
fn a_revision_that_was_written_by_hand_is_no_count_to_go_on_from() {
    let mut bench = Bench::new();
    for revision in [0x7fff_ffff, 0x8000_0000, u32::MAX] {
        for (name, map, at) in with_revisions(&bench) {
            raise(&map, at, revision);
            bench.check_healed(FaultKind::Content, name);
        }
    }
    // Twelve edits, each put right by a change or two.
    assert!(bench.datapath.revision() < 40, "{}", bench.datapath.revision());
}

#[test]
fn a_revision_that_was_written_while_no_agent_ran_is_none_either() {
    let mut bench = Bench::new();
    for (_, map, at) in with_revisions(&bench) {
        raise(&map, at, u32::MAX);
    }
    bench.restart();
    bench.check_quiet();
    assert!(bench.datapath.revision() < 40, "{}", bench.datapath.revision());
    let zero = 0u32.to_ne_bytes();
    for revision in [0, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let control = bench.map("control");
        let value = control.lookup(&zero, MapFlags::ANY).unwrap().unwrap();
        let mut words = abi::Control::read_from_bytes(&value).unwrap();
        words.revision = revision;
        control.update(&zero, words.as_bytes(), MapFlags::ANY).unwrap();
        bench.restart();
        let told = bench.look();
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].detail.contains(&format!("the revision was {revision}")), "{told:#?}");
        bench.check_quiet();
        assert!(bench.datapath.revision() < 40, "{}", bench.datapath.revision());
    }
}

#[test]
fn a_program_that_was_detached_is_attached_again() {
    let mut bench = Bench::new();
    let index = Who::B.ifindex();
    if bench.datapath.features().attach == datapath::AttachKind::Tcx {
        for hook in ["ingress", "egress"] {
            let path = bench.config.pins.join(format!("links/{index}_{hook}"));
            libbpf_rs::Link::open(path).unwrap().detach().unwrap();
        }
    } else {
        let arguments = ["qdisc", "del", "dev", Who::B.interface(), "clsact"];
        assert!(Command::new("tc").args(arguments).status().unwrap().success());
    }
    bench.check_healed(FaultKind::Program, Who::B.interface());
}

#[test]
fn pins_that_were_removed_are_put_back_and_nothing_passes_meanwhile() {
    let mut bench = Bench::new();
    for folder in ["maps", "programs", "links"] {
        let folder = bench.config.pins.join(folder);
        for entry in fs::read_dir(folder).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    bench.check_arrivals();
    let mut faults = bench.look();
    faults.extend(bench.look());
    assert!(faults.iter().all(|it| it.kind == FaultKind::Pin && it.left.is_none()), "{faults:?}");
    bench.check_quiet();
    assert!(bench.config.pins.join("programs/pod_egress").exists());
}

/// The plugin takes a pod's element away before its interface.
#[test]
fn an_endpoint_that_is_missing_is_looked_at_again_before_it_is_told() {
    let mut bench = Bench::new();
    let endpoints = bench.map("endpoints");
    endpoints.delete(&Who::B.ifindex().to_ne_bytes()).unwrap();
    assert_eq!((bench.look(), bench.datapath.is_unsure()), (vec![], true));
    let told = bench.look();
    assert_eq!((told.len(), bench.datapath.is_unsure()), (1, false), "{told:?}");
    assert!(told[0].left.is_none() && told[0].detail.contains("endpoints"), "{told:?}");
    bench.check_quiet();
}

/// Everything that is pinned goes with the file system; what the agent holds stays.
#[test]
fn a_bpffs_that_was_unmounted_is_told_and_filled_when_it_is_back() {
    let mut bench = Bench::new();
    umount2(bench.folder.path(), MntFlags::MNT_DETACH).unwrap();
    bench.check_arrivals();
    let faults = bench.look();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].kind, FaultKind::Pin);
    let left = faults[0].left.clone().unwrap();
    assert!(left.contains("mount -t bpf"), "{left}");
    bench.check_arrivals();
    let target = bench.folder.path();
    mount(Some("bpf"), target, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    bench.check_healed(FaultKind::Pin, "was not pinned");
}

/// The CNI plugin takes an interface away: nobody's fault.
#[test]
fn a_pod_that_goes_is_no_fault() {
    let mut bench = Bench::new();
    wires::ip(&format!("link del {}", Who::C.interface()));
    let index: Vec<u32> = bench.desired.endpoints.keys().copied().collect();
    let gone = index[2];
    assert_eq!(bench.look(), []);
    assert!(!bench.datapath.is_unsure());
    datapath::detach_pod(&bench.config.pins, gone).unwrap();
    assert_eq!(bench.look(), []);
    bench.desired.endpoints.remove(&gone);
    bench.desired.tables.remove(&4);
    bench.desired.addresses.remove(&IpAddr::from(Who::C.address()));
    bench.datapath.apply(&bench.desired.clone()).unwrap();
    assert_eq!((bench.look(), bench.look()), (vec![], vec![]));
}

#[test]
fn fill_and_memory_are_known() {
    let bench = Bench::new();
    let fill = bench.datapath.fill().unwrap();
    let of = |what: &str| {
        let found = fill.iter().find(|it| it.what == what).unwrap();
        (found.used, found.limit)
    };
    assert_eq!(of("endpoints"), (3, 16));
    assert_eq!(of("addresses"), (6, 4096));
    assert_eq!(of("ranges"), (2, 4096));
    // Before and after a change that replaces all: of 16 pods and of the node, which
    // has one on trial besides.
    assert_eq!(of("tables"), (3, 36));
    // The defaults of both directions, the node itself, and one rule.
    assert_eq!(of("entries of the largest table"), (4, 65_536));
    // Each probe that went on is one for its sender and one for its receiver.
    assert_eq!(of("addresses and ports of services"), (0, 256));
    assert_eq!(of("backends of services"), (0, 256));
    // Nobody reads the rings here, and every first packet and drop leaves a record.
    for ring in ["bytes of the ring of traces", "bytes of the ring of drops"] {
        let (used, limit) = of(ring);
        assert!(used >= 320 && used <= limit && limit == 1 << 20, "{ring}: {used}");
    }
    let (used, limit) = of("drop records of the busiest endpoint in a second");
    assert!(used <= limit && limit == 1_000_000, "{used} of {limit}");
    let (used, limit) = of("connections");
    assert!(used > 60, "{used}");
    assert_eq!(limit, 16 * 4096);
    assert!(bench.datapath.memory() > 2 << 20, "two rings of a MiB");
}
