//! The agent dies before each of its writes to the kernel, and comes back.
//!
//! A child of this process makes a change and is killed before its n-th write, for
//! every n there is. Real sockets then say who can still talk to whom: as before
//! the change, or as after it. The next agent brings the new state into force, or
//! the old one again, and leaves the kernel as one that was installed at once.
// Release builds have no crash points, and nothing to die of here.
#![cfg(debug_assertions)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

#[path = "support/content.rs"]
mod content;
#[path = "support/crash.rs"]
mod crash;
mod support;
#[path = "support/wires.rs"]
mod wires;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use datapath::{Config, Datapath, Desired, Endpoint};
use model::{Direction, IdentityBook, Reserved};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use policy::{Action, Peers, Ports, Rule};
use support::*;
use wires::{Probes, Who, Wires, every_probe, probes};

use Direction::{Egress, Ingress};

/// Numbers of tables by `app`: the same subject always has the same one.
const APPS: [&str; 8] = ["pay", "web", "dev", "ops", "red", "blue", "range-a", "range-b"];

/// What is desired, and who can then send to whom; written by hand.
#[derive(Clone)]
struct State {
    /// Pods of the node: endpoint number and `app`.
    pods: BTreeMap<Who, (u32, &'static str)>,
    /// `app` of the pod elsewhere.
    remote: &'static str,
    /// Ranges that policies name, each an identity of its own.
    ranges: Vec<(&'static str, &'static str)>,
    /// Rules by the `app` they are about.
    rules: BTreeMap<&'static str, Vec<Rule>>,
    arrives: Probes,
}

impl State {
    /// Three pods that no policy selects.
    fn open() -> Self {
        Self {
            pods: [(Who::A, (12, "pay")), (Who::B, (13, "web")), (Who::C, (14, "dev"))].into(),
            remote: "red",
            ranges: vec![],
            rules: BTreeMap::new(),
            arrives: every_probe(),
        }
    }

    /// `pay` may send to `web` only; `web` takes port 1 from `pay` only.
    fn guarded() -> Self {
        let mut state = Self::open();
        state.rules = [
            ("pay", vec![rule("out", Egress, Action::Allow, app("web"), Ports::All)]),
            ("web", vec![rule("in", Ingress, Action::Allow, app("pay"), udp(1))]),
        ]
        .into();
        state.arrives = probes(
            "A>B:1 B>A C>A R>A W>A
             B>C C>R C>W B>R B>W R>C W>C",
        );
        state
    }

    fn without(mut self, pod: Who) -> Self {
        self.pods.remove(&pod);
        self.arrives.retain(|probe| probe.from != pod && probe.to != pod);
        self
    }

    fn book(&self) -> IdentityBook {
        let pods = self.pods.values().map(|(_, app)| *app);
        let ranges = self.ranges.iter().map(|(_, app)| *app);
        IdentityBook::new(pods.chain([self.remote]).chain(ranges).map(labels))
    }

    fn desired(&self) -> Desired {
        let world = World { identities: self.book() };
        let table = |app: &str| APPS.iter().position(|name| *name == app).unwrap() as u32 + 1;
        let endpoints = self.pods.iter().map(|(pod, (id, app))| {
            let endpoint = Endpoint {
                id: *id,
                identity: world.id(app),
                table: table(app),
                mac: pod.mac(),
                ipv4: Some(pod.address()),
                ipv6: Some(pod.address6()),
                netns_id: -1,
            };
            (pod.ifindex(), endpoint)
        });
        let pods = self.pods.iter().map(|(pod, (_, app))| (*pod, world.id(app)));
        let known = pods.chain([(Who::R, world.id(self.remote))]);
        let known = known.flat_map(|(who, id)| who.addresses().map(|it| (it, id)));
        let host = ["10.1.0.1", "fd00:1::1"].map(|it| (it.parse().unwrap(), Reserved::Host.id()));
        let unmanaged = ["10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64", "fd00:2::/64"]
            .map(|range| (range.parse().unwrap(), Reserved::Unmanaged.id()));
        let named = self.ranges.iter().map(|(net, app)| (net.parse().unwrap(), world.id(app)));
        let apps: BTreeSet<&str> = self.pods.values().map(|(_, app)| *app).collect();
        let tables = apps.into_iter().map(|app| {
            let rules = self.rules.get(app).cloned().unwrap_or_default();
            (table(app), Arc::new(world.table_of(app, rules)))
        });
        Desired {
            endpoints: endpoints.collect(),
            addresses: known.chain(host).collect(),
            prefixes: unmanaged.into_iter().chain(named).collect(),
            tables: tables.collect(),
            ..Desired::default()
        }
    }
}

/// One of the two ports.
fn udp(number: usize) -> Ports {
    let port = wires::PORTS[number - 1];
    Ports::OneOf(vec![policy::PortMatch {
        transport: policy::Transport::Udp,
        port: policy::Port::Range(port, port),
    }])
}

/// Whether, in between, each packet alone must be as before or as after, or all of
/// them together: pods that come and go are published one by one.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    Together,
    Each,
}

struct Sweep {
    wires: Wires,
    config: Config,
    folder: tempfile::TempDir,
}

impl Sweep {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let config = Config { pins: folder.path().join("node"), cgroup: None, limits: SMALL };
        Self { wires: Wires::new(), config, folder }
    }

    fn open(&self) -> Datapath {
        Datapath::open(&self.config).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// What the agent and the CNI plugin do, in their order.
    fn install(&self, datapath: &mut Datapath, state: &State) {
        for pod in state.pods.keys() {
            datapath::attach_pod(&self.config.pins, pod.interface(), pod.ifindex())
                .unwrap_or_else(|error| panic!("{}", chain(&error)));
            self.wires.set(*pod, "up");
        }
        datapath.apply(&state.desired()).unwrap_or_else(|error| panic!("{}", chain(&error)));
        for pod in Who::PODS.into_iter().filter(|pod| !state.pods.contains_key(pod)) {
            self.wires.set(pod, "down");
            datapath::detach_pod(&self.config.pins, pod.ifindex())
                .unwrap_or_else(|error| panic!("{}", chain(&error)));
        }
    }

    /// What the kernel holds once the state is installed on nothing.
    fn clean(&self, state: &State) -> BTreeSet<String> {
        let pins = self.folder.path().join("clean");
        let config = Config { pins: pins.clone(), ..self.config.clone() };
        let mut datapath = Datapath::open(&config).unwrap();
        datapath.apply(&state.desired()).unwrap();
        let content = content::of(&pins);
        drop(datapath);
        fs::remove_dir_all(pins).unwrap();
        content
    }

    #[track_caller]
    fn check_installed(&mut self, state: &State, clean: &BTreeSet<String>, when: &str) {
        self.check_arrivals(&[state], Between::Together, when);
        let present = content::of(&self.config.pins);
        let more: Vec<_> = present.difference(clean).collect();
        let less: Vec<_> = clean.difference(&present).collect();
        assert!(
            more.is_empty() && less.is_empty(),
            "{when}: left over {more:#?}, missing {less:#?}"
        );
        let pods = state.pods.keys().map(|pod| pod.ifindex());
        let links = pods.flat_map(|pod| ["ingress", "egress"].map(|hook| format!("{pod}_{hook}")));
        let links: BTreeSet<String> = links.collect();
        let pinned = names(&self.config.pins.join("links"));
        assert!(pinned == links || pinned.is_empty() && !has_tcx(), "{when}: {pinned:?}");
    }

    #[track_caller]
    fn check_arrivals(&mut self, states: &[&State], between: Between, when: &str) {
        let accepted: Vec<&Probes> = states.iter().map(|state| &state.arrives).collect();
        let patient = if between == Between::Together { &accepted[..] } else { &[] };
        let arrivals = self.wires.arrivals(patient);
        for (which, set) in [("old", &arrivals.old), ("new", &arrivals.new)] {
            let fits = match between {
                Between::Together => accepted.contains(&set),
                Between::Each => {
                    let someone = |probe: &wires::Probe| accepted.iter().any(|a| a.contains(probe));
                    let mut everyone = accepted[0].iter();
                    set.iter().all(someone)
                        && everyone.all(|probe| {
                            set.contains(probe) || accepted.iter().any(|a| !a.contains(probe))
                        })
                }
            };
            assert!(
                fits,
                "{when}, by {which} connections: {set:?} arrived, not one of {accepted:?}"
            );
        }
    }

    /// Makes a change in a child that dies before its n-th write. False: the change
    /// has fewer writes, and was made.
    fn change_and_die(&self, datapath: Option<Datapath>, state: &State, write: u64) -> bool {
        crash::is_killed_in(|| {
            datapath::crash::die_before(write);
            let mut datapath = datapath.unwrap_or_else(|| self.open());
            self.install(&mut datapath, state);
            std::mem::forget(datapath);
        })
    }

    /// Dies before each write of a change of state, twice: what was under way is
    /// brought to its end by the next agent, or taken back.
    fn run(self, name: &str, states: [&State; 2], between: Between) {
        self.run_by_way_of(name, states, between, &[]);
    }

    /// `more`: what may be seen in between besides.
    fn run_by_way_of(
        mut self,
        name: &str,
        [before, after]: [&State; 2],
        between: Between,
        more: &[&State],
    ) {
        let seen = [&[before, after], more].concat();
        let clean = [before, after].map(|state| self.clean(state));
        let mut datapath = self.open();
        self.install(&mut datapath, before);
        for (write, goes_on) in (1..).flat_map(|write| [(write, true), (write, false)]) {
            let when = |what: &str| format!("{name}, write {write}, {what}");
            self.check_installed(before, &clean[0], &when("before"));
            let died = self.change_and_die(Some(datapath), after, write);
            if died {
                self.check_arrivals(&seen, between, &when("dead"));
            } else {
                self.check_installed(after, &clean[1], &when("whole"));
            }
            datapath = self.open();
            if died {
                self.check_arrivals(&seen, between, &when("restarted"));
            } else {
                self.check_arrivals(&[after], between, &when("restarted"));
            }
            if goes_on {
                self.install(&mut datapath, after);
                self.check_installed(after, &clean[1], &when("gone on"));
            }
            self.install(&mut datapath, before);
            if !died {
                println!("{name}: {} crash points swept", write - 1);
                assert!(write > 3, "a change has writes");
                return;
            }
        }
    }

    /// Nothing of Signet on the node.
    fn clear(&self) {
        for pod in Who::PODS {
            self.wires.set(pod, "down");
            // Where there is no tcx, filters stay with the interface.
            let _ = std::process::Command::new("tc")
                .args(["qdisc", "del", "dev", pod.interface(), "clsact"])
                .stderr(std::process::Stdio::null())
                .status();
        }
        match fs::remove_dir_all(&self.config.pins) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.unwrap(),
        }
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn has_tcx() -> bool {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut parts = release.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap(), parts.next().unwrap()) >= (6, 6)
}

#[test]
fn first_install_odd_writes() {
    first_install(1);
}

#[test]
fn first_install_even_writes() {
    first_install(2);
}

fn first_install(first: u64) {
    let mut sweep = Sweep::new();
    let after = State::guarded();
    let mut nothing = State::open();
    nothing.arrives.clear();
    let clean = sweep.clean(&after);
    for write in (first..).step_by(2) {
        let when = |what: &str| format!("first install, write {write}, {what}");
        sweep.clear();
        sweep.check_arrivals(&[&nothing], Between::Together, &when("before"));
        let died = sweep.change_and_die(None, &after, write);
        if died {
            sweep.check_arrivals(&[&nothing, &after], Between::Each, &when("dead"));
        }
        let mut datapath = sweep.open();
        if died {
            sweep.check_arrivals(&[&nothing, &after], Between::Each, &when("restarted"));
        }
        sweep.install(&mut datapath, &after);
        sweep.check_installed(&after, &clean, &when("gone on"));
        if !died {
            println!("first install: {} crash points swept", write / 2);
            assert!(write > 50, "maps, programs, links and their content");
            return;
        }
    }
}

#[test]
fn a_pod_comes() {
    let after = State::guarded();
    Sweep::new().run("a pod comes", [&after.clone().without(Who::C), &after], Between::Each);
}

#[test]
fn a_pod_goes() {
    let before = State::guarded();
    Sweep::new().run("a pod goes", [&before, &before.clone().without(Who::C)], Between::Each);
}

/// The new one has the address of the old one, and not its rights.
#[test]
fn a_pod_takes_anothers_place() {
    let mut before = State::open();
    before.rules =
        [("pay", vec![rule("in", Ingress, Action::Allow, app("dev"), Ports::All)])].into();
    before.arrives.retain(|probe| probe.to != Who::A || probe.from == Who::C);
    let mut after = before.clone();
    after.pods.insert(Who::C, (15, "ops"));
    after.arrives.retain(|probe| probe.to != Who::A);
    let neither = after.clone().without(Who::C);
    Sweep::new().run_by_way_of(
        "a pod takes another's place",
        [&before, &after],
        Between::Each,
        &[&neither],
    );
}

#[test]
fn a_policy_comes() {
    Sweep::new().run("a policy comes", [&State::open(), &State::guarded()], Between::Together);
}

#[test]
fn a_policy_changes() {
    let mut after = State::guarded();
    after.rules = [
        (
            "pay",
            vec![
                rule("out", Egress, Action::Allow, app("web"), udp(2)),
                rule("far", Egress, Action::Allow, app("red"), udp(1)),
            ],
        ),
        ("web", vec![rule("in", Ingress, Action::Allow, app("pay"), udp(2))]),
        ("dev", vec![rule("in", Ingress, Action::Deny, app("web"), udp(1))]),
    ]
    .into();
    after.arrives = probes(
        "A>B:2 A>R:1 B>A C>A R>A W>A
         C>R C>W B>R B>W",
    );
    Sweep::new().run("a policy changes", [&State::guarded(), &after], Between::Together);
}

#[test]
fn a_policy_goes() {
    Sweep::new().run("a policy goes", [&State::guarded(), &State::open()], Between::Together);
}

/// As `pay` it may not send to `web`'s port 1, as `ops` it is not let in there: at
/// no time may it be half of each.
#[test]
fn a_pod_is_relabelled() {
    let mut before = State::open();
    before.rules = [
        ("pay", vec![rule("out", Egress, Action::Allow, app("web"), udp(2))]),
        ("web", vec![rule("in", Ingress, Action::Allow, app("pay"), Ports::All)]),
    ]
    .into();
    before.pods.insert(Who::C, (14, "pay"));
    before.arrives = probes("A>B:2 C>B:2 B>A R>A W>A B>C R>C W>C B>R B>W");
    let mut after = before.clone();
    after.pods.insert(Who::A, (12, "ops"));
    after.arrives = probes("A>C A>R A>W C>B:2 B>A R>A W>A B>C R>C W>C B>R B>W");
    Sweep::new().run("a pod is relabelled", [&before, &after], Between::Together);
}

/// Denied as what it was and as what it becomes; but for that, everybody may.
#[test]
fn a_pod_elsewhere_is_relabelled() {
    let mut before = State::open();
    before.rules = [(
        "pay",
        vec![
            rule("red", Ingress, Action::Deny, app("red"), Ports::All),
            rule("blue", Ingress, Action::Deny, app("blue"), Ports::All),
            rule("in", Ingress, Action::Allow, Peers::Any, Ports::All),
        ],
    )]
    .into();
    before.arrives.retain(|probe| (probe.from, probe.to) != (Who::R, Who::A));
    let after = State { remote: "blue", ..before.clone() };
    Sweep::new().run("a pod elsewhere is relabelled", [&before, &after], Between::Together);
}

/// A range that is denied is split: both halves stay denied.
#[test]
fn a_range_is_split() {
    let denied = |range: &str| {
        vec![
            rule("range", Ingress, Action::Deny, app(range), Ports::All),
            rule("in", Ingress, Action::Allow, Peers::Any, Ports::All),
        ]
    };
    let mut before = State::open();
    before.ranges = vec![("198.51.100.0/24", "range-a"), ("2001:db8::/32", "range-a")];
    before.rules = [("pay", denied("range-a"))].into();
    before.arrives.retain(|probe| (probe.from, probe.to) != (Who::W, Who::A));
    let mut after = before.clone();
    after.ranges = vec![("198.51.100.0/25", "range-b"), ("2001:db8::/33", "range-b")];
    after.rules = [("pay", denied("range-b"))].into();
    Sweep::new().run("a range is split", [&before, &after], Between::Together);
}

#[test]
fn a_restart_that_changes_nothing() {
    let mut sweep = Sweep::new();
    let state = State::guarded();
    let clean = sweep.clean(&state);
    let mut datapath = sweep.open();
    sweep.install(&mut datapath, &state);
    drop(datapath);
    for write in 1.. {
        let when = format!("a restart, write {write}");
        let died = sweep.change_and_die(None, &state, write);
        sweep.check_arrivals(&[&state], Between::Together, &when);
        if !died {
            sweep.check_installed(&state, &clean, &when);
            println!("a restart: {} crash points swept", write - 1);
            assert!(write > 3, "a restart has writes");
            return;
        }
    }
}
