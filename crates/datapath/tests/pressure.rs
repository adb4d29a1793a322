//! Who floods takes from himself: an endpoint's room is shared out among those
//! who reach it, and what has ended makes room also while no agent lives.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use datapath::Limits;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::{Direction, Reserved};
use policy::{Action, Peers, Ports};
use support::site::*;
use support::*;
use zerocopy::{FromBytes, IntoBytes};

use Direction::{Egress, Ingress};

const FULL: u8 = 155;
const POLICY_DENIED: u8 = 133;
const ROOM: u16 = 64;

fn limits() -> Limits {
    Limits { connections_per_endpoint: ROOM.into(), ..SMALL }
}

/// Anybody may reach the pod; it may open what it likes.
fn open(world: &World) -> datapath::Desired {
    world.desired(world.table(vec![]))
}

#[test]
fn one_peer_s_datagrams_leave_room_for_the_others_and_for_the_pod() {
    let (mut node, world) = (Node::new(limits()), World::new());
    node.apply(&open(&world));
    let comes = |from, port| node.reason(Ingress, &datagram(Ingress, (from, port), (POD, 53)));
    let flood: Vec<u8> = (1000..2000).map(|port| comes(WORLD, port)).collect();
    let taken = flood.iter().filter(|reason| **reason == 0).count();
    assert_eq!(taken, usize::from(ROOM) / 2, "no more than half");
    assert!(flood.iter().all(|reason| matches!(*reason, 0 | FULL)));
    for port in 1000..1000 + ROOM / 8 {
        assert_eq!(comes(PEER, port), 0, "another peer's datagram from {port}");
    }
    // Whoever comes, a quarter is the pod's own.
    for last in 1..=200 {
        comes(std::net::Ipv4Addr::new(203, 0, 113, last), 7);
    }
    for port in 0..ROOM / 4 {
        let own = datagram(Egress, (POD, 2000 + port), (PEER, 53));
        assert_eq!(node.reason(Egress, &own), 0, "the pod's own {port}");
    }
}

/// Peers are counted by hashes of their addresses, with a secret: one of 65,536 shares
/// its room with him who floods, and nobody can choose who.
#[test]
fn hardly_anybody_pays_for_another_peer_s_flood() {
    let limits = Limits { connections_per_endpoint: 4096, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    node.apply(&open(&world));
    let comes = |from, port| node.reason(Ingress, &datagram(Ingress, (from, port), (POD, 53)));
    let flood: Vec<u8> = (1000..4000).map(|port| comes(WORLD, port)).collect();
    assert_eq!(flood.iter().filter(|reason| **reason == FULL).count(), 952, "half is his");
    let others = (0..1000u16).map(|number| {
        let [high, low] = number.to_be_bytes();
        comes(std::net::Ipv4Addr::new(203, 0, high, low), 7)
    });
    let refused = others.filter(|reason| *reason != 0).count();
    assert!(refused <= 1, "{refused} of 1,000");
}

/// Ends what there is, and frees it.
fn forget_connections(node: &Node) {
    let conntrack = MapHandle::from_pinned_path(node.pins().join("maps/conntrack")).unwrap();
    for key in conntrack.keys().collect::<Vec<_>>() {
        let value = conntrack.lookup(&key, MapFlags::ANY).unwrap().unwrap();
        let mut connection = abi::Connection::read_from_bytes(&value).unwrap();
        connection.expires_ns = 1;
        conntrack.update(&key, connection.as_bytes(), MapFlags::EXIST).unwrap();
    }
    node.datapath.expire_connections().unwrap();
    assert_eq!(conntrack.keys().count(), 0);
}

#[test]
fn what_a_peer_was_refused_counts_for_nothing_once_its_connections_have_ended() {
    let (mut node, world) = (Node::new(limits()), World::new());
    node.apply(&open(&world));
    let comes = |port| node.reason(Ingress, &datagram(Ingress, (WORLD, port), (POD, 53)));
    let refused = (1000..2000).filter(|port| comes(*port) == FULL).count();
    assert_eq!(refused, 1000 - usize::from(ROOM) / 2);
    forget_connections(&node);
    // The pod itself takes half of its room, so that each peer's share counts.
    for port in 0..ROOM / 2 {
        let own = datagram(Egress, (POD, 2000 + port), (PEER, 53));
        assert_eq!(node.reason(Egress, &own), 0, "the pod's own {port}");
    }
    for port in 0..ROOM / 4 {
        assert_eq!(comes(3000 + port), 0, "a quarter is the peer's: {port}");
    }
    assert_eq!(comes(4000), FULL, "and no more");
}

#[test]
fn a_flood_of_syns_keeps_nobody_out() {
    let (mut node, world) = (Node::new(limits()), World::new());
    // The pod may open nothing: answers pass because a rule let somebody in.
    node.apply(&world.desired(world.table(vec![
        rule("in", Ingress, Action::Allow, Peers::Any, tcp(80)),
        rule("out", Egress, Action::Allow, app("dev"), tcp(1)),
    ])));
    for port in 1000..3000 {
        let syn = segment(Ingress, (WORLD, port), (POD, 80), Tcp::Syn);
        assert_eq!(node.reason(Ingress, &syn), 0);
    }
    for round in 0..3 {
        for last in 1..=250 {
            let from = std::net::Ipv4Addr::new(203, 0, 113, last);
            let comes = |flags| segment(Ingress, (from, 4000 + round), (POD, 80), flags);
            let goes = |flags| segment(Egress, (POD, 80), (from, 4000 + round), flags);
            assert_eq!(node.reason(Ingress, &comes(Tcp::Syn)), 0, "{from} round {round}");
            assert_eq!(node.reason(Egress, &goes(Tcp::SynAck)), 0, "{from} round {round}");
            assert_eq!(node.reason(Ingress, &comes(Tcp::Ack)), 0);
            assert_eq!(node.reason(Egress, &goes(Tcp::Ack)), 0);
        }
    }
    // Without an entry each packet is judged: what is not allowed does not pass.
    let closed = segment(Ingress, (PEER, 1), (POD, 81), Tcp::Syn);
    assert_eq!(node.reason(Ingress, &closed), POLICY_DENIED);
    let forged = segment(Egress, (POD, 81), (PEER, 1), Tcp::SynAck);
    assert_eq!(node.reason(Egress, &forged), POLICY_DENIED);
}

#[test]
fn where_answers_need_an_entry_a_flood_is_refused_at_the_door() {
    let (mut node, world) = (Node::new(limits()), World::new());
    // Nobody restricts who comes in, but the pod may open nothing to the world.
    let out = rule("out", Egress, Action::Allow, app("web"), tcp(1));
    node.apply(&world.desired(world.table(vec![out])));
    let reasons: Vec<u8> = (1000..2000)
        .map(|port| node.reason(Ingress, &segment(Ingress, (WORLD, port), (POD, 80), Tcp::Syn)))
        .collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == 0).count(), usize::from(ROOM) / 2);
    let other = segment(Ingress, (PEER, 1), (POD, 80), Tcp::Syn);
    assert_eq!(node.reason(Ingress, &other), 0, "another peer is let in");
    assert_eq!(node.reason(Egress, &segment(Egress, (POD, 80), (PEER, 1), Tcp::SynAck)), 0);
}

#[test]
fn the_node_s_own_checks_come_in_whoever_floods() {
    let (mut node, world) = (Node::new(limits()), World::new());
    let mut desired = open(&world);
    let host: std::net::Ipv4Addr = "10.1.0.1".parse().unwrap();
    assert_eq!(desired.addresses[&host.into()], Reserved::Host.id());
    desired.addresses.remove(&PEER.into());
    node.apply(&desired);
    for last in 1..=250 {
        let from = std::net::Ipv4Addr::new(203, 0, 113, last);
        node.judge(Ingress, &datagram(Ingress, (from, 1), (POD, 53)));
    }
    for port in 0..ROOM / 4 {
        let check = datagram(Ingress, (host, 3000 + port), (POD, 53));
        assert_eq!(node.reason(Ingress, &check), 0, "check {port}");
    }
}

/// Client, neighbour and server with real sockets; the server takes TCP and UDP
/// 7000 from both.
struct Scene {
    site: Site,
    flooder: Pod,
    neighbour: Pod,
    server: Pod,
}

fn scene(name: &str) -> Scene {
    let mut site = site_with(name, limits());
    let (flooder, neighbour, server) = (site.pod(2), site.pod(3), site.pod(4));
    let world = World::new();
    let rules = |peer: &str| {
        [tcp(7000), numbered(17, 7000)]
            .map(|ports| rule(peer, Ingress, Action::Allow, app(peer), ports))
    };
    let ingress = [rules("web"), rules("dev")].concat();
    site.enforce_all(
        &world,
        &[(&flooder, "web", vec![]), (&neighbour, "dev", vec![]), (&server, "pay", ingress)],
    );
    Scene { site, flooder, neighbour, server }
}

#[test]
fn one_pod_s_connections_do_not_keep_its_neighbour_s_out() {
    let scene = scene("crowd");
    let target = SocketAddr::from((scene.server.address(), 7000));
    let listener = scene.server.inside(|| TcpListener::bind(target).unwrap());
    thread::spawn(move || {
        let mut accepted = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            accepted.push(stream);
        }
    });
    let connect = || TcpStream::connect_timeout(&target, Duration::from_secs(2));
    // Far more than the server's pod has room for, all held open.
    let _crowd: Vec<TcpStream> =
        scene.flooder.inside(|| (0..3 * ROOM).map_while(|_| connect().ok()).collect());
    for turn in 0..ROOM / 2 {
        scene.neighbour.inside(|| connect().unwrap_or_else(|error| panic!("{turn}: {error}")));
    }
}

/// Whether a datagram reaches the server.
fn arrives(from: &UdpSocket, server: &UdpSocket) -> bool {
    let text = format!("{:?}", from.local_addr().unwrap());
    from.send_to(text.as_bytes(), server.local_addr().unwrap()).unwrap();
    let mut got = [0; 64];
    while let Ok((length, _)) = server.recv_from(&mut got) {
        if &got[..length] == text.as_bytes() {
            return true;
        }
    }
    false
}

#[test]
fn one_pod_s_datagrams_do_not_keep_its_neighbour_s_out() {
    let scene = scene("rain");
    let server = scene.server.udp(7000);
    for port in 0..4 * ROOM {
        let drop = scene.flooder.udp(10_000 + port);
        drop.send_to(b"rain", server.local_addr().unwrap()).unwrap();
    }
    for port in 0..ROOM / 8 {
        assert!(arrives(&scene.neighbour.udp(20_000 + port), &server), "from {port}");
    }
}

#[test]
fn what_has_ended_makes_room_while_no_agent_lives() {
    let mut scene = scene("orphan");
    let server = scene.server.udp(7000);
    let others: Vec<UdpSocket> = (0..ROOM).map(|port| scene.flooder.udp(10_000 + port)).collect();
    for socket in &others {
        socket.send_to(b"x", server.local_addr().unwrap()).unwrap();
    }
    scene.site.kill_agent();
    let late = scene.flooder.udp(30_000);
    assert!(!arrives(&late, &server), "there is no room for one more");
    let start = Instant::now();
    while !arrives(&late, &server) {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody made room");
    }
    let sweeps = scene.site.agent().counters().unwrap().sweeps;
    assert!(sweeps.runs > 0 && sweeps.freed >= u64::from(ROOM), "{sweeps:?}");
    println!("{sweeps:?}");
}

#[test]
fn what_has_ended_makes_room_while_agents_only_start() {
    let mut scene = scene("loop");
    let server = scene.server.udp(7000);
    let others: Vec<UdpSocket> = (0..ROOM).map(|port| scene.flooder.udp(10_000 + port)).collect();
    for socket in &others {
        socket.send_to(b"x", server.local_addr().unwrap()).unwrap();
    }
    let late = scene.flooder.udp(30_000);
    assert!(!arrives(&late, &server), "there is no room for one more");
    let start = Instant::now();
    while !arrives(&late, &server) {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody made room");
        scene.site.kill_agent();
        scene.site.agent();
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn exchanges_that_are_idle_make_room_where_it_is_short() {
    let scene = scene("idle");
    let server = scene.server.udp(7000);
    let start = Instant::now();
    let mut others = Vec::new();
    let mut answered = |port| {
        let socket = scene.flooder.udp(10_000 + port);
        let comes = arrives(&socket, &server);
        if comes {
            server.send_to(b"answer", socket.local_addr().unwrap()).unwrap();
        }
        others.push(socket);
        comes
    };
    let filled = (0..ROOM).take_while(|port| answered(*port)).count();
    assert_eq!(filled, usize::from(ROOM) / 2, "one peer takes half");
    let late = scene.flooder.udp(30_000);
    while !arrives(&late, &server) {
        assert!(start.elapsed() < Duration::from_secs(45), "they keep it for a minute");
        thread::sleep(Duration::from_millis(300));
    }
    assert!(start.elapsed() > Duration::from_secs(15), "they were not idle for long");
}

#[test]
fn rules_and_ports_do_not_matter_to_what_a_pod_may_hold() {
    let (mut node, world) = (Node::new(limits()), World::new());
    let rules = vec![rule("all", Egress, Action::Allow, app("web"), Ports::All)];
    node.apply(&world.desired(world.table(rules)));
    let sent = |port| node.reason(Egress, &datagram(Egress, (POD, port), (PEER, 53)));
    assert!((0..ROOM).all(|port| sent(1000 + port) == 0), "all of its room");
    assert_eq!(sent(2000), FULL);
}
