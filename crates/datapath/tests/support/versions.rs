//! A node whose agents are of several versions: this one, and two that exist only
//! for tests.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use datapath::{Config, Datapath, Desired, Endpoint, Limits};
use model::{Direction, Reserved};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use policy::{Action, Ports};

use super::support::*;
use super::wires::{Probes, Who, Wires, probes};

/// `web` takes what `pay` sends, `pay` what `dev` sends, and nothing else; written by
/// hand.
pub const ALLOWED: &str = "A>B A>C A>R A>W B>C B>R B>W C>A C>R C>W R>C W>C";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    This,
    Next,
    Other,
}

/// So much traffic is more than a small node's pods may have.
const ROOMY: Limits = Limits { connections_per_endpoint: 32_768, ..SMALL };

/// An agent of one version, on the node.
pub enum Agent {
    This(Datapath),
    Next(datapath_next::Datapath),
    Other(datapath_other::Datapath),
}

/// The same values in another version's types.
macro_rules! in_version {
    ($krate:ident, $desired:expr) => {{
        let desired: &Desired = $desired;
        let endpoints = desired.endpoints.iter().map(|(ifindex, endpoint)| {
            let Endpoint { id, identity, table, mac, ipv4, ipv6, netns_id } = endpoint.clone();
            (*ifindex, $krate::Endpoint { id, identity, table, mac, ipv4, ipv6, netns_id })
        });
        $krate::Desired {
            endpoints: endpoints.collect(),
            addresses: desired.addresses.clone(),
            prefixes: desired.prefixes.clone(),
            tables: desired.tables.clone(),
            ..$krate::Desired::default()
        }
    }};
}

macro_rules! open_version {
    ($krate:ident, $config:expr) => {{
        let Config { pins, cgroup, limits } = $config.clone();
        let datapath::Limits {
            endpoints,
            connections_per_endpoint,
            addresses,
            table_entries,
            services,
            backends,
            ring_bytes,
            drop_records,
            traces,
        } = limits;
        let traces = match traces {
            datapath::Traces::None => $krate::Traces::None,
            datapath::Traces::End => $krate::Traces::End,
            datapath::Traces::All => $krate::Traces::All,
        };
        let limits = $krate::Limits {
            endpoints,
            connections_per_endpoint,
            addresses,
            table_entries,
            services,
            backends,
            ring_bytes,
            drop_records,
            traces,
        };
        $krate::Datapath::open(&$krate::Config { pins, cgroup, limits })
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    }};
}

impl Agent {
    pub fn open(version: Version, config: &Config) -> Self {
        match version {
            Version::This => Self::This(open_version!(datapath, config)),
            Version::Next => Self::Next(open_version!(datapath_next, config)),
            Version::Other => Self::Other(open_version!(datapath_other, config)),
        }
    }

    pub fn try_apply(&mut self, desired: &Desired) -> Result<(), String> {
        match self {
            Self::This(it) => it.apply(desired).map(|_| ()).map_err(|e| chain(&e)),
            Self::Next(it) => {
                it.apply(&in_version!(datapath_next, desired)).map(|_| ()).map_err(|e| chain(&e))
            }
            Self::Other(it) => {
                it.apply(&in_version!(datapath_other, desired)).map(|_| ()).map_err(|e| chain(&e))
            }
        }
    }

    #[track_caller]
    pub fn apply(&mut self, desired: &Desired) {
        self.try_apply(desired).unwrap_or_else(|error| panic!("{error}"));
    }

    /// What the next look tells, a line each.
    pub fn check(&mut self, desired: &Desired) -> Vec<String> {
        match self {
            Self::This(it) => lines(&it.check(Some(desired))),
            Self::Next(it) => lines(&it.check(Some(&in_version!(datapath_next, desired)))),
            Self::Other(it) => lines(&it.check(Some(&in_version!(datapath_other, desired)))),
        }
    }

    pub fn revision(&self) -> u32 {
        match self {
            Self::This(it) => it.revision(),
            Self::Next(it) => it.revision(),
            Self::Other(it) => it.revision(),
        }
    }
}

fn lines<T: std::fmt::Debug>(faults: &[T]) -> Vec<String> {
    faults.iter().map(|fault| format!("{fault:?}")).collect()
}

/// Three pods, a policy, and somebody who enforces it.
pub struct Scene {
    pub wires: Wires,
    /// None: dead.
    pub agent: Option<Agent>,
    pub config: Config,
    /// Who `web` takes from.
    pub sender: &'static str,
    pub allowed: Probes,
    _folder: tempfile::TempDir,
}

impl Scene {
    pub fn new(version: Version) -> Self {
        let folder = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let config = Config { pins: folder.path().join("node"), cgroup: None, limits: ROOMY };
        let wires = Wires::new();
        let mut scene = Self {
            wires,
            agent: None,
            config,
            sender: "pay",
            allowed: probes(ALLOWED),
            _folder: folder,
        };
        scene.agent = Some(Agent::open(version, &scene.config));
        for pod in Who::PODS {
            datapath::attach_pod(&scene.pins(), pod.interface(), pod.ifindex()).unwrap();
            scene.wires.set(pod, "up");
        }
        let desired = scene.desired();
        scene.agent.as_mut().unwrap().apply(&desired);
        scene.check_arrivals("installed");
        scene
    }

    pub fn pins(&self) -> PathBuf {
        self.config.pins.clone()
    }

    pub fn revision(&self) -> u32 {
        self.agent.as_ref().unwrap().revision()
    }

    /// The old one is dead before the new one begins.
    #[track_caller]
    pub fn replace_agent(&mut self, version: Version) {
        self.agent = None;
        let mut agent = Agent::open(version, &self.config);
        agent.apply(&self.desired());
        self.agent = Some(agent);
    }

    #[track_caller]
    pub fn check_arrivals(&mut self, when: &str) {
        let arrivals = self.wires.arrivals(&[&self.allowed]);
        assert_eq!((&arrivals.old, &arrivals.new), (&self.allowed, &self.allowed), "{when}");
    }

    /// Names below the node's folder that do not belong to one version in force.
    pub fn left_over(&self) -> Vec<String> {
        let names = fs::read_dir(self.pins()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let known = ["hooks", "links", "maps", "programs", "uplinks"];
        names.filter(|name| !known.contains(&name.as_str())).collect()
    }

    pub fn desired(&self) -> Desired {
        let world = World::new();
        let from = |app| vec![rule("in", Direction::Ingress, Action::Allow, app, Ports::All)];
        let rules = from(app(self.sender));
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
                .map(|range| (range.parse().unwrap(), Reserved::Unmanaged.id()))
                .into(),
            tables: [
                (2, Arc::new(world.table_of("pay", from(app("dev"))))),
                (3, Arc::new(world.table_of("web", rules))),
                (4, Arc::new(world.table_of("dev", vec![]))),
            ]
            .into(),
            ..Desired::default()
        }
    }
}

/// This process ends before the write of that version's that is so many away.
#[cfg(debug_assertions)]
pub fn die_before(version: Version, write: u64) {
    match version {
        Version::This => datapath::crash::die_before(write),
        Version::Next => datapath_next::crash::die_before(write),
        Version::Other => datapath_other::crash::die_before(write),
    }
}

/// That version's writes in this process so far.
#[cfg(debug_assertions)]
pub fn writes(version: Version) -> u64 {
    match version {
        Version::This => datapath::crash::writes(),
        Version::Next => datapath_next::crash::writes(),
        Version::Other => datapath_other::crash::writes(),
    }
}
