//! The agent dies before each of its writes about the node itself: the hooks of its
//! sockets, its services, its uplink, its own policy. Real sockets then say that each
//! service is who it was or who it becomes, and that the node is reached as before or
//! as after; the next agent goes on from there.
// Release builds have no crash points, and nothing to die of here.
#![cfg(debug_assertions)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

#[path = "support/client.rs"]
mod client;
#[path = "support/crash.rs"]
mod crash;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use client::Client;
use datapath::{Backends, Datapath, Desired, Frontend, Host, HostSubject, Services};
use libbpf_rs::Link;
use model::Direction::Ingress;
use model::Reserved;
use nix::net::if_::if_nametoindex;
use policy::{Entity, Peer, Peers, Port, PortMatch, Ports, Transport};
use support::site::*;
use support::*;

const UDP: u8 = 17;
const TABLE: u32 = 1;

/// As in `wires`: what did not arrive after this long is not on its way.
const LATE: Duration = Duration::from_millis(8);
const LONG: Duration = Duration::from_secs(5);

/// Who serves.
const BACKENDS: [&str; 4] = ["10.1.0.2:53", "10.1.0.3:53", "[fd00:1::2]:53", "[fd00:1::3]:53"];

/// What a process of the node's cgroup asks for.
const SERVICES: [&str; 3] = ["10.96.0.7:80", "[fd00:10:96::7]:80", "10.96.0.8:80"];

/// What somebody outside sends to.
const OF_THE_NODE: [&str; 4] =
    ["172.20.0.1:7001", "172.20.0.1:7002", "[fd00:172:20::1]:7001", "[fd00:172:20::1]:7002"];

/// What was asked for, and who got it.
type Arrivals = BTreeSet<(&'static str, &'static str)>;

/// What is desired, and what then arrives; written by hand.
#[derive(Clone)]
struct State {
    /// Each with the one who serves it.
    services: Vec<(&'static str, &'static str)>,
    /// The port of the node that the world may send to; none: everybody may to all.
    port: Option<u16>,
    arrives: Arrivals,
}

impl State {
    fn first() -> Self {
        let services =
            vec![("10.96.0.7:80", "10.1.0.2:53"), ("[fd00:10:96::7]:80", "[fd00:1::2]:53")];
        let of_the_node = [
            ("172.20.0.1:7001", "172.20.0.1:7001"),
            ("[fd00:172:20::1]:7001", "[fd00:172:20::1]:7001"),
        ];
        let arrives = services.iter().copied().chain(of_the_node).collect();
        Self { services, port: Some(7001), arrives }
    }

    /// Others serve, one service more is there, and another port of the node is open.
    fn second() -> Self {
        let services = vec![
            ("10.96.0.7:80", "10.1.0.3:53"),
            ("[fd00:10:96::7]:80", "[fd00:1::3]:53"),
            ("10.96.0.8:80", "10.1.0.2:53"),
        ];
        let of_the_node = [
            ("172.20.0.1:7002", "172.20.0.1:7002"),
            ("[fd00:172:20::1]:7002", "[fd00:172:20::1]:7002"),
        ];
        let arrives = services.iter().copied().chain(of_the_node).collect();
        Self { services, port: Some(7002), arrives }
    }

    /// Before there is anything of Signet: nobody is a service, everybody reaches all.
    fn nothing() -> Self {
        let arrives = OF_THE_NODE.into_iter().map(|end| (end, end)).collect();
        Self { services: vec![], port: None, arrives }
    }

    fn desired(&self) -> Desired {
        let mut services = Services::default();
        for (own, end) in &self.services {
            let (own, end) = (at(own), at(end));
            services.addresses.insert(own.ip());
            let frontend = Frontend { address: own.ip(), port: own.port(), protocol: UDP };
            let backends = Backends { ends: [end].into(), affinity_seconds: 0 };
            services.frontends.insert(frontend, backends);
        }
        let own = [IpAddr::from(NODE4), IpAddr::from(NODE6)];
        let world = World::new();
        let rules = self.port.map(|port| {
            let transport = Transport::Udp;
            let ports = Ports::OneOf(vec![PortMatch { transport, port: Port::Range(port, port) }]);
            about_the_node(Ingress, Peers::OneOf(vec![Peer::Entity(Entity::World)]), ports)
        });
        let table = world.table_of_the_node(rules.into_iter().collect());
        Desired {
            host: Host {
                addresses: own.into(),
                subject: Some(HostSubject {
                    identity: Reserved::Host.id(),
                    table: TABLE,
                    trial: None,
                }),
            },
            addresses: own.map(|address| (address, Reserved::Host.id())).into(),
            tables: [(TABLE, table)].into(),
            services,
            ..Desired::default()
        }
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A node with servers, and a machine on its uplink.
struct Node {
    site: Site,
    outside: Pod,
    receivers: BTreeMap<&'static str, UdpSocket>,
    batch: u64,
}

impl Node {
    /// With an agent, and nothing that it should enforce.
    fn new(name: &str) -> Self {
        let site = site(name);
        run("for n in 2 3; do
                 ip addr add 10.1.0.$n/32 dev lo
                 ip addr add fd00:1::$n/128 dev lo nodad
             done");
        let outside = outside();
        let bind = |end| {
            let socket = UdpSocket::bind(at(end)).unwrap();
            socket.set_nonblocking(true).unwrap();
            (end, socket)
        };
        let receivers = BACKENDS.into_iter().chain(OF_THE_NODE).map(bind).collect();
        let mut node = Self { site, outside, receivers, batch: 0 };
        node.clear();
        // The link comes up in its own time.
        node.check(&[&State::nothing()], "without an agent");
        node
    }

    /// What the agent does, in its order.
    fn install(datapath: &mut Datapath, state: &State) {
        let uplink = if_nametoindex("up0").unwrap();
        let states = datapath.guard_uplinks(&[(uplink, "up0".to_owned())].into());
        assert_eq!(states[0].missing, None, "{states:?}");
        datapath.apply(&state.desired()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    /// Nothing of Signet on the node.
    fn clear(&mut self) {
        self.site.kill_agent();
        let pins = &self.site.pins;
        for folder in ["uplinks", "hooks"] {
            let Ok(entries) = fs::read_dir(pins.join(folder)) else { continue };
            for entry in entries {
                // At once: without its pin a link goes in its own time.
                let _ = Link::open(entry.unwrap().path()).and_then(|link| link.detach());
            }
        }
        match fs::remove_dir_all(pins) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.unwrap(),
        }
    }

    /// Makes a change in a child that dies before its n-th write. False: the change
    /// has fewer writes, and was made.
    fn change_and_die(&mut self, state: &State, write: u64) -> bool {
        let site = &mut self.site;
        let died = crash::is_killed_in(|| {
            datapath::crash::die_before(write);
            let datapath = site.agent();
            Self::install(datapath, state);
            std::mem::forget(site.datapath.take());
        });
        self.site.kill_agent();
        died
    }

    /// What arrives is as in one of these states: of each service as in any of them,
    /// of the node all as in one.
    #[track_caller]
    fn check(&mut self, states: &[&State], when: &str) {
        let start = Instant::now();
        let arrived = loop {
            let arrived = self.arrivals();
            // A busy machine may be late, and a link may just have come up.
            if is_one_of(&arrived, states) || start.elapsed() > LONG {
                break arrived;
            }
        };
        let accepted: Vec<&Arrivals> = states.iter().map(|state| &state.arrives).collect();
        assert!(is_one_of(&arrived, states), "{when}: {arrived:?} is not one of {accepted:?}");
    }

    /// Sends to everybody once: to services from a process of the cgroup, by connected
    /// sockets and by others.
    fn arrivals(&mut self) -> Arrivals {
        self.batch += 1;
        let text = |number: usize| {
            let mut text = self.batch.to_be_bytes().to_vec();
            text.push(u8::try_from(number).unwrap());
            text
        };
        let socket = |target: &str| {
            let any = if at(target).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            UdpSocket::bind(any).unwrap()
        };
        let to_services = || {
            for (number, service) in SERVICES.into_iter().enumerate() {
                // Nobody is there while it is no service.
                let _ = socket(service).send_to(&text(number), service);
                let connected = socket(service);
                let _ = connected.connect(service).and_then(|()| connected.send(&text(number)));
            }
            String::new()
        };
        Client::start(&self.site.cgroup, to_services).answer();
        self.outside.inside(|| {
            for (number, end) in OF_THE_NODE.into_iter().enumerate() {
                let _ = socket(end).send_to(&text(SERVICES.len() + number), end);
            }
        });
        let mut arrived = Arrivals::new();
        let mut last = Instant::now();
        while last.elapsed() < LATE {
            if self.drain(&mut arrived) {
                last = Instant::now();
            }
            thread::sleep(Duration::from_millis(1));
        }
        arrived
    }

    fn drain(&self, arrived: &mut Arrivals) -> bool {
        let mut any = false;
        let mut text = [0; 32];
        for (receiver, socket) in &self.receivers {
            loop {
                match socket.recv_from(&mut text) {
                    Ok((9, _)) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    other => panic!("{other:?}"),
                }
                any = true;
                if text[..8] == self.batch.to_be_bytes() {
                    let asked = SERVICES.into_iter().chain(OF_THE_NODE).nth(text[8].into());
                    arrived.insert((asked.unwrap(), receiver));
                }
            }
        }
        any
    }

    /// An agent brings the state into force, and leaves nothing that is wrong: what died
    /// half made before is told once and put right.
    #[track_caller]
    fn go_on(&mut self, state: &State, when: &str) {
        let datapath = self.site.agent();
        Self::install(datapath, state);
        let desired = state.desired();
        let told = datapath.check(Some(&desired));
        assert!(told.iter().all(|fault| fault.left.is_none()), "{when}: {told:?}");
        assert_eq!(datapath.check(Some(&desired)), [], "{when}");
        self.site.kill_agent();
        self.check(&[state], when);
    }

    /// Dies before each write of a change: what was under way is brought to its end by
    /// the next agent, or taken back.
    fn sweep(mut self, name: &str, before: &State, after: &State, goes_on: bool) {
        self.go_on(before, "installed");
        for write in 1.. {
            let when = |what: &str| format!("{name}, write {write}, {what}");
            let died = self.change_and_die(after, write);
            let seen: &[&State] = if died { &[before, after] } else { &[after] };
            self.check(seen, &when("dead"));
            // A new one takes over, and is told nothing yet.
            self.site.agent();
            self.check(seen, &when("restarted"));
            self.site.kill_agent();
            if goes_on {
                self.go_on(after, &when("gone on"));
            }
            self.go_on(before, &when("taken back"));
            if !died {
                println!("{name}: {} crash points swept", write - 1);
                assert!(write > 10, "hooks, uplinks, services and a policy");
                return;
            }
        }
    }
}

/// Whether all of the node is as in one state, and each service as in any.
fn is_one_of(arrived: &Arrivals, states: &[&State]) -> bool {
    let of = |all: &Arrivals, asked: &[&str]| -> Arrivals {
        all.iter().filter(|(target, _)| asked.contains(target)).copied().collect()
    };
    let fits =
        |asked: &[&str]| states.iter().any(|state| of(&state.arrives, asked) == of(arrived, asked));
    fits(&OF_THE_NODE) && SERVICES.iter().all(|service| fits(&[service]))
}

#[test]
fn a_change_of_services_and_of_the_nodes_policy_is_brought_to_its_end() {
    Node::new("crash-on").sweep("a change", &State::first(), &State::second(), true);
}

#[test]
fn a_change_of_services_and_of_the_nodes_policy_is_taken_back() {
    Node::new("crash-back").sweep("a change", &State::first(), &State::second(), false);
}

#[test]
fn a_restart_that_changes_nothing() {
    let state = State::first();
    let mut node = Node::new("crash-restart");
    node.go_on(&state, "installed");
    for write in 1.. {
        let when = format!("a restart, write {write}");
        let died = node.change_and_die(&state, write);
        node.check(&[&state], &when);
        if !died {
            println!("a restart: {} crash points swept", write - 1);
            assert!(write > 10, "every hook gets its program again");
            return;
        }
    }
}

#[test]
fn first_install_odd_writes() {
    first_install("odd", 1);
}

#[test]
fn first_install_even_writes() {
    first_install("even", 2);
}

/// Nothing of Signet is there before: a node that nobody guards is reached by all.
fn first_install(name: &str, first: u64) {
    let (nothing, after) = (State::nothing(), State::first());
    let mut node = Node::new(&format!("crash-{name}"));
    for write in (first..).step_by(2) {
        let when = |what: &str| format!("first install, write {write}, {what}");
        let died = node.change_and_die(&after, write);
        if died {
            node.check(&[&nothing, &after], &when("dead"));
        }
        node.go_on(&after, &when("gone on"));
        if !died {
            println!("first install: {} crash points swept", write / 2);
            assert!(write > 100, "maps, programs, hooks, links and their content");
            return;
        }
        node.clear();
        node.check(&[&nothing], &when("cleared"));
    }
}
