//! The node's uplink with real sockets at both ends: a node, a machine outside on
//! the same link, and programs attached as the agent attaches them.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use datapath::{Desired, Host, HostSubject, Trial};
use model::Direction::{Egress, Ingress};
use model::Reserved;
use nix::net::if_::if_nametoindex;
use nix::time::{ClockId, clock_gettime};
use policy::{Entity, Peer, Peers, Ports, Rule};
use support::site::*;
use support::*;

const TABLE: u32 = 1;
const FALLBACK: u32 = 2;

/// A second SYN falls within.
const PATIENCE: Duration = Duration::from_millis(2500);

/// A node with an uplink, and who is at its other end.
struct Scene {
    site: Site,
    outside: Pod,
    world: World,
}

impl Scene {
    fn new(name: &str) -> Self {
        let mut site = site(name);
        let outside = outside();
        let uplink = if_nametoindex("up0").unwrap();
        let states = site.agent().guard_uplinks(&[(uplink, "up0".to_owned())].into());
        assert_eq!(states.len(), 1);
        assert_eq!(states[0].missing, None, "{states:?}");
        let scene = Self { site, outside, world: World::new() };
        eventually("the link", || scene.reaches(IpAddr::from(NODE4), 1).is_some().then_some(()));
        scene
    }

    /// Puts these rules about the node in force; with `confirm_by` until then only.
    fn enforce(&mut self, rules: Vec<Rule>, confirm_by: Option<u32>) {
        let own = [IpAddr::from(NODE4), IpAddr::from(NODE6)];
        let trial = confirm_by.map(|confirm_by| Trial { fallback: FALLBACK, confirm_by });
        let subject = HostSubject { identity: Reserved::Host.id(), table: TABLE, trial };
        let desired = Desired {
            host: Host { addresses: own.into(), subject: Some(subject) },
            addresses: own.map(|address| (address, Reserved::Host.id())).into(),
            tables: [
                (TABLE, self.world.table_of_the_node(rules)),
                (FALLBACK, self.world.table_of_the_node(vec![])),
            ]
            .into(),
            ..Desired::default()
        };
        self.site.agent().apply(&desired).unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    /// Whether somebody outside reaches a port of the node: `None` where nobody
    /// answers at all, `Some(false)` where somebody answers that nobody listens.
    fn reaches(&self, address: IpAddr, port: u16) -> Option<bool> {
        let target = SocketAddr::new(address, port);
        match self.outside.inside(|| TcpStream::connect_timeout(&target, PATIENCE)) {
            Ok(_) => Some(true),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Some(false),
            Err(_) => None,
        }
    }
}

fn seconds() -> u32 {
    u32::try_from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().tv_sec()).unwrap()
}

#[test]
fn sockets_of_the_node_are_reached_as_its_policy_says() {
    let mut scene = Scene::new("uplink-in");
    let listen = |port| {
        [IpAddr::from(NODE4), IpAddr::from(NODE6)]
            .map(|own| TcpListener::bind((own, port)).unwrap())
    };
    let _listeners = [listen(22), listen(23)];
    for address in [IpAddr::from(NODE4), IpAddr::from(NODE6)] {
        assert_eq!([22, 23].map(|port| scene.reaches(address, port)), [Some(true); 2]);
    }
    scene.enforce(vec![world(22)], None);
    for address in [IpAddr::from(NODE4), IpAddr::from(NODE6)] {
        let reached = [22, 23].map(|port| scene.reaches(address, port));
        assert_eq!(reached, [Some(true), None], "{address}");
    }
    let dropped = of(&scene.site.records(), Ingress, 23);
    assert_eq!((dropped.endpoint_id, dropped.destination_identity, dropped.reason), (1, 1, 133));
}

#[test]
fn sockets_of_the_node_reach_whom_its_policy_says() {
    let mut scene = Scene::new("uplink-out");
    let listen = |port| {
        let bind = || TcpListener::bind(("::", port)).unwrap();
        scene.outside.inside(bind)
    };
    let _listeners = [listen(80), listen(81)];
    let connect = |address: IpAddr, port: u16| {
        TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE).is_ok()
    };
    for address in [IpAddr::from(OUT4), IpAddr::from(OUT6)] {
        assert_eq!([80, 81].map(|port| connect(address, port)), [true; 2]);
    }
    let web = about_the_node(Egress, Peers::OneOf(vec![Peer::Entity(Entity::World)]), tcp(80));
    scene.enforce(vec![web, nobody(Ingress)], None);
    for address in [IpAddr::from(OUT4), IpAddr::from(OUT6)] {
        assert_eq!([80, 81].map(|port| connect(address, port)), [true, false], "{address}");
    }
}

#[test]
fn datagrams_larger_than_the_link_arrive_whole_or_not_at_all() {
    let mut scene = Scene::new("uplink-udp");
    let bind = |port| {
        let socket = UdpSocket::bind((NODE4, port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (open, closed) = (bind(5000), bind(5001));
    let udp = Ports::OneOf(vec![policy::PortMatch {
        transport: policy::Transport::Udp,
        port: policy::Port::Range(5000, 5000),
    }]);
    let rule = about_the_node(Ingress, Peers::OneOf(vec![Peer::Entity(Entity::World)]), udp);
    scene.enforce(vec![rule], None);
    let large = vec![7; 8192];
    let client = scene.outside.inside(|| UdpSocket::bind((OUT4, 6000)).unwrap());
    for port in [5000, 5001] {
        client.send_to(&large, (NODE4, port)).unwrap();
    }
    let mut got = vec![0; 9000];
    assert_eq!(open.recv(&mut got).unwrap(), large.len());
    assert!(closed.recv(&mut got).is_err());
}

/// Whether what one end writes comes to the other.
fn carries(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"signet").unwrap();
    let mut got = [0; 6];
    to.read_exact(&mut got).is_ok()
}

#[test]
fn what_the_node_opened_before_its_first_policy_goes_on() {
    let mut scene = Scene::new("uplink-first");
    let open = |listener: TcpListener, connect: &dyn Fn() -> TcpStream| {
        let client = connect();
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        // It stays: who is called at a port has somebody listening there.
        (client, server, listener)
    };
    let far = scene.outside.inside(|| TcpListener::bind((OUT4, 6443)).unwrap());
    let to_far = || TcpStream::connect((OUT4, 6443)).unwrap();
    let (mut own, mut api, _far) = open(far, &to_far);
    let near = TcpListener::bind((NODE4, 22)).unwrap();
    let to_near = || scene.outside.inside(|| TcpStream::connect((NODE4, 22)).unwrap());
    let (mut caller, mut sshd, _near) = open(near, &to_near);
    let resolver = scene.outside.inside(|| UdpSocket::bind((OUT4, 53)).unwrap());
    let stub = UdpSocket::bind((NODE4, 0)).unwrap();
    stub.connect((OUT4, 53)).unwrap();
    stub.set_read_timeout(Some(PATIENCE)).unwrap();
    let stranger = scene.outside.inside(|| UdpSocket::bind((OUT4, 54)).unwrap());
    let unconnected = UdpSocket::bind((NODE4, 0)).unwrap();
    unconnected.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(carries(&mut own, &mut api) && carries(&mut caller, &mut sshd));

    scene.enforce(vec![nobody(Ingress)], None);
    assert!(carries(&mut api, &mut own), "the node opened it");
    assert!(carries(&mut own, &mut api));
    assert!(!carries(&mut caller, &mut sshd), "somebody else opened it");
    let mut got = [0; 16];
    resolver.send_to(b"answer", stub.local_addr().unwrap()).unwrap();
    assert_eq!(stub.recv(&mut got).unwrap(), 6);
    stranger.send_to(b"answer", unconnected.local_addr().unwrap()).unwrap();
    assert!(unconnected.recv(&mut got).is_err());
}

#[test]
fn a_lock_out_ends_although_the_agent_is_dead() {
    let mut scene = Scene::new("uplink-trial");
    let _listener = TcpListener::bind((NODE4, 22)).unwrap();
    let until = seconds() + 8;
    scene.enforce(vec![nobody(Ingress)], Some(until));
    scene.site.kill_agent();
    let address = IpAddr::from(NODE4);
    assert_eq!(scene.reaches(address, 22), None);
    while scene.reaches(address, 22).is_none() {
        assert!(seconds() < until + 20, "the trial has no end");
    }
    assert!(seconds() >= until);
}

#[test]
fn a_device_that_is_no_uplink_any_more_is_released() {
    let mut scene = Scene::new("uplink-gone");
    let _listener = TcpListener::bind((NODE4, 22)).unwrap();
    scene.enforce(vec![nobody(Ingress)], None);
    assert_eq!(scene.reaches(NODE4.into(), 22), None);
    assert_eq!(scene.site.agent().guard_uplinks(&BTreeMap::new()), []);
    assert_eq!(scene.reaches(NODE4.into(), 22), Some(true));
    let uplink = if_nametoindex("up0").unwrap();
    // An agent that comes after one that died finds it guarded, or guards it.
    for _ in 0..2 {
        let uplinks = [(uplink, "up0".to_owned())].into();
        let states = scene.site.agent().guard_uplinks(&uplinks);
        assert_eq!(states[0].missing, None, "{states:?}");
        assert_eq!(scene.reaches(NODE4.into(), 22), None);
        scene.site.kill_agent();
    }
}
