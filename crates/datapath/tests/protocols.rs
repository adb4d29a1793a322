//! Protocols beyond TCP and UDP, and headers before them: ICMP by type, SCTP,
//! extension headers, packets that carry packets.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Direction, IcmpMessage, IdentityId, Labels, Layer4, MatchType, Reserved};
use policy::{Action, Entity, Options, Peer, Peers, Ports, Probe, refuses_carrier};
use support::*;

use Direction::{Egress, Ingress};

const POLICY_DENIED: u8 = 133;
const BAD_EXTENSION: u8 = 156;
const ENCAPSULATION: u8 = 170;

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

fn message(direction: Direction, ends: (IpAddr, IpAddr), kind: u8) -> Vec<u8> {
    let protocol = if ends.0.is_ipv4() { ICMP } else { ICMPV6 };
    raw(direction, ends.0, ends.1, protocol, &[kind, 0, 0, 0, 0, 7, 0, 1])
}

const V4: (IpAddr, IpAddr) = (IpAddr::V4(POD), IpAddr::V4(PEER));
const V6: (IpAddr, IpAddr) = (IpAddr::V6(POD6), IpAddr::V6(PEER6));

fn back(ends: (IpAddr, IpAddr)) -> (IpAddr, IpAddr) {
    (ends.1, ends.0)
}

#[test]
fn a_rule_about_one_icmp_type_lets_that_one_pass_and_its_answer() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![
        rule("ping", Egress, Action::Allow, app("web"), numbered(ICMP, 8)),
        rule("ping6", Egress, Action::Allow, app("web"), numbered(ICMPV6, 128)),
        rule("closed", Ingress, Action::Allow, app("dev"), tcp(1)),
    ])));
    for (ends, request, reply, other) in [(V4, 8, 0, 13), (V6, 128, 129, 138)] {
        let sent = |kind| node.reason(Egress, &message(Egress, ends, kind));
        let comes = |kind| node.reason(Ingress, &message(Ingress, back(ends), kind));
        let stranger: IpAddr =
            if reply == 0 { WORLD.into() } else { "2001:db8::7".parse().unwrap() };
        let unasked = message(Ingress, (stranger, ends.0), reply);
        assert_eq!(node.reason(Ingress, &unasked), POLICY_DENIED, "of whom it may not ask");
        assert_eq!(sent(request), 0);
        assert_eq!(comes(reply), 0);
        assert_eq!(sent(other), POLICY_DENIED, "another type");
        assert_eq!(comes(request), POLICY_DENIED, "the other direction");
    }
    let denied = node.record(Egress, &message(Egress, V4, 13));
    assert_eq!(denied.l4, Some(Layer4::Icmpv4(IcmpMessage { kind: 13, code: 0 })));
}

#[test]
fn whom_a_rule_lets_ping_gets_an_answer() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let may = |peer| {
        vec![
            rule("in", Ingress, Action::Allow, app(peer), numbered(ICMP, 8)),
            rule("out", Egress, Action::Allow, app("dev"), tcp(1)),
        ]
    };
    node.apply(&world.desired(world.table(may("web"))));
    let request = message(Ingress, back(V4), 8);
    let reply = message(Egress, V4, 0);
    assert_eq!((node.reason(Ingress, &request), node.reason(Egress, &reply)), (0, 0));
    node.apply(&world.desired(world.table(may("dev"))));
    assert_eq!(node.reason(Egress, &reply), POLICY_DENIED, "the right to ask is gone");
    assert_eq!(node.reason(Ingress, &request), POLICY_DENIED);
}

#[test]
fn a_rule_that_denies_one_type_leaves_the_others() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![
        rule("all", Egress, Action::Allow, app("web"), Ports::All),
        rule("no-ping", Egress, Action::Deny, app("web"), numbered(ICMP, 8)),
    ])));
    assert_eq!(node.reason(Egress, &message(Egress, V4, 8)), 181);
    assert_eq!(node.reason(Egress, &message(Egress, V4, 13)), 0);
    assert_eq!(node.reason(Egress, &message(Egress, V6, 128)), 0);
}

/// An SCTP packet with an INIT chunk (RFC 9260 section 3.3.2).
fn init(direction: Direction, ends: (IpAddr, IpAddr), port: u16) -> Vec<u8> {
    let mut packet = 40000u16.to_be_bytes().to_vec();
    packet.extend(port.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend([0; 16]);
    raw(direction, ends.0, ends.1, SCTP, &packet)
}

#[test]
fn sctp_is_judged_by_its_ports() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![
        rule("out", Egress, Action::Allow, app("web"), numbered(SCTP, 3868)),
        rule("in", Ingress, Action::Allow, app("web"), numbered(UDP, 3868)),
    ])));
    for ends in [V4, V6] {
        assert_eq!(node.reason(Egress, &init(Egress, ends, 3868)), 0);
        assert_eq!(node.reason(Egress, &init(Egress, ends, 3869)), POLICY_DENIED);
        let comes = init(Ingress, back(ends), 3868);
        assert_eq!(node.reason(Ingress, &comes), POLICY_DENIED, "a rule about UDP");
    }
}

/// Everything that IANA lists as carrying packets, and two that do not.
const CARRIERS: [u8; 12] = [4, 41, 47, 50, 51, 55, 94, 97, 98, 115, 137, 143];
const NO_CARRIERS: [u8; 2] = [103, 253];

fn carried(node: &Node, ends: (IpAddr, IpAddr), protocol: u8) -> u8 {
    // A packet from somebody else, for whoever unpacks it.
    let inner = datagram(Egress, (PEER, 1), (WORLD, 2))[14..].to_vec();
    node.reason(Egress, &raw(Egress, ends.0, ends.1, protocol, &inner))
}

#[test]
fn a_pod_that_nobody_restricts_sends_no_packets_in_packets() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![])));
    for ends in [V4, V6] {
        for protocol in CARRIERS {
            let in_ipv6 = ends == V6 && protocol == 51;
            let expected = if in_ipv6 { BAD_EXTENSION } else { ENCAPSULATION };
            assert_eq!(carried(&node, ends, protocol), expected, "protocol {protocol}");
        }
        for protocol in NO_CARRIERS {
            assert_eq!(carried(&node, ends, protocol), 0, "protocol {protocol}");
        }
    }
}

#[test]
fn packets_in_packets_need_a_rule_that_names_their_protocol() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    for number in [4, 47, 50] {
        let named = rule("named", Egress, Action::Allow, app("web"), protocol(number));
        node.apply(&world.desired(world.table(vec![named])));
        assert_eq!(carried(&node, V4, number), 0, "protocol {number}");
        assert_eq!(carried(&node, V4, 97), POLICY_DENIED);
        let all = rule("all", Egress, Action::Allow, app("web"), Ports::All);
        node.apply(&world.desired(world.table(vec![all])));
        assert_eq!(carried(&node, V4, number), ENCAPSULATION, "protocol {number}");
        assert_eq!(carried(&node, V4, 253), 0);
    }
}

#[test]
fn a_pod_does_not_reach_the_node_s_overlay() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let host = Ipv4Addr::new(10, 1, 0, 1);
    node.apply(&world.desired(world.table(vec![])));
    let sent = |to: Ipv4Addr, port| node.reason(Egress, &datagram(Egress, (POD, 999), (to, port)));
    for port in [4789, 8472, 6081] {
        assert_eq!(sent(host, port), ENCAPSULATION, "port {port}");
        assert_eq!(sent(host, port + 1), 0);
        assert_eq!(sent(PEER, port), 0, "a pod's own business");
    }
    // So is every other node, also one that serves the API or that policies tell apart
    // by its labels.
    let labelled = IdentityId::try_from(0x0200_0007).unwrap();
    let mut desired = world.desired(world.table(vec![]));
    let others = [Reserved::RemoteNode.id(), Reserved::KubeApiserver.id(), labelled];
    let others = others.into_iter().zip(77..).map(|(identity, last)| {
        let address = Ipv4Addr::new(192, 0, 2, last);
        desired.addresses.insert(address.into(), identity);
        address
    });
    let others: Vec<Ipv4Addr> = others.collect();
    node.apply(&desired);
    for other in others {
        let sent = |port| node.reason(Egress, &datagram(Egress, (POD, 999), (other, port)));
        assert_eq!((sent(4789), sent(4790)), (ENCAPSULATION, 0), "{other}");
    }
    let nobody = Ipv4Addr::new(192, 0, 2, 76);
    assert_eq!(node.reason(Egress, &datagram(Egress, (POD, 999), (nobody, 4789))), 0, "no node");
    let nodes = Peers::OneOf(vec![Peer::Entity(Entity::Host)]);
    let named = rule("vtep", Egress, Action::Allow, nodes, numbered(UDP, 4789));
    node.apply(&world.desired(world.table(vec![named])));
    let sent = |to: Ipv4Addr, port| node.reason(Egress, &datagram(Egress, (POD, 999), (to, port)));
    assert_eq!((sent(host, 4789), sent(host, 8472)), (0, POLICY_DENIED));
}

/// Whether the evaluator refuses what an unrestricted pod sends to a peer with these labels.
fn evaluator_refuses(peer: &Labels, protocol: u8, port: u16) -> bool {
    let (subject, ports) = (labels("pay"), BTreeMap::new());
    let probe = Probe { direction: Egress, peer, protocol, port };
    refuses_carrier(&[], &subject, &ports, &probe, &Options::default()) == Some(true)
}

#[test]
fn the_kernel_and_the_evaluator_have_the_same_carriers() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let peers = [Reserved::RemoteNode, Reserved::KubeApiserver, Reserved::Unmanaged];
    let peers: Vec<_> =
        (77..).zip(peers).map(|(last, peer)| (ip([192, 0, 2, last]), peer)).collect();
    let mut desired = world.desired(world.table(vec![]));
    desired.addresses.extend(peers.iter().map(|(address, peer)| (*address, peer.id())));
    node.apply(&desired);
    let mut peers: Vec<_> =
        peers.into_iter().map(|(address, peer)| (address, peer.identity().labels)).collect();
    peers.push((NODE.into(), Reserved::Host.identity().labels));
    peers.push((PEER.into(), labels("web")));

    let (mut refused, mut judged) = (0, 0);
    for (address, peer) in &peers {
        for protocol in 0..=u8::MAX {
            let reason = carried(&node, (POD.into(), *address), protocol);
            let evaluator = evaluator_refuses(peer, protocol, 0);
            assert_eq!(reason == ENCAPSULATION, evaluator, "protocol {protocol} to {address}");
            refused += u32::from(evaluator);
        }
        // Each port that could be one by mistake: a bit or a byte away, or the other way round.
        let overlays = [4789, 8472, 6081u16];
        let beside = overlays.into_iter().flat_map(|port| (0..16).map(move |bit| port ^ 1 << bit));
        let turned = overlays.map(u16::swap_bytes);
        for port in beside.chain(turned).chain(overlays) {
            let reason = node.reason(Egress, &carrying(*address, port));
            let evaluator = evaluator_refuses(peer, UDP, port);
            assert_eq!(reason == ENCAPSULATION, evaluator, "port {port} to {address}");
            judged += u32::from(evaluator);
        }
    }
    // Twelve protocols to each of five peers; three ports to each of three that are nodes.
    assert_eq!((refused, judged), (60, 9));
}

fn carrying(to: IpAddr, port: u16) -> Vec<u8> {
    datagram(Egress, (IpAddr::V4(POD), 999), (to, port))
}

fn ip(bytes: [u8; 4]) -> IpAddr {
    Ipv4Addr::from(bytes).into()
}

#[test]
fn a_rule_about_udp_without_a_port_is_no_way_into_an_overlay() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let host = || Peers::OneOf(vec![Peer::Entity(Entity::Host)]);
    let mut own = 999..;
    let mut record = |node: &Node, port| {
        node.record(Egress, &datagram(Egress, (POD, own.next().unwrap()), (NODE, port)))
    };
    for (peers, kind) in [(host(), MatchType::L3Proto), (Peers::Any, MatchType::ProtoOnly)] {
        let all = rule("udp", Egress, Action::Allow, peers, protocol(UDP));
        node.apply(&world.desired(world.table(vec![all.clone()])));
        for port in [4789, 8472, 6081] {
            let refused = record(&node, port);
            assert_eq!((refused.reason, refused.match_type), (ENCAPSULATION, kind), "{port}");
            assert_eq!(refused.rule_sets[0], rule_set(&["udp"], false).id(0));
            assert_eq!(record(&node, port + 1).reason, 0);
        }
        // A rule that names the port is one, beside it as well.
        let named = rule("named", Egress, Action::Allow, host(), numbered(UDP, 8472));
        node.apply(&world.desired(world.table(vec![all, named])));
        let reasons = [4789, 8472, 6081].map(|port| record(&node, port).reason);
        assert_eq!(reasons, [ENCAPSULATION, 0, ENCAPSULATION], "{kind:?}");
    }
}

/// A UDP datagram to a port behind these extension headers, each of eight bytes.
fn behind(headers: &[u8], port: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    for at in 0..headers.len() {
        payload.extend([headers.get(at + 1).copied().unwrap_or(UDP), 0, 1, 4, 0, 0, 0, 0]);
    }
    payload.extend(999u16.to_be_bytes());
    payload.extend(port.to_be_bytes());
    payload.extend([0, 8, 0, 0]);
    raw(Egress, POD6, PEER6, headers.first().copied().unwrap_or(UDP), &payload)
}

#[test]
fn extension_headers_are_walked_to_the_ports_behind_them() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let out = rule("out", Egress, Action::Allow, app("web"), numbered(UDP, 53));
    node.apply(&world.desired(world.table(vec![out])));
    for chain in [&[][..], &[0], &[60], &[0, 60], &[60, 60], &[0, 60, 60, 60, 60]] {
        assert_eq!(node.reason(Egress, &behind(chain, 53)), 0, "{chain:?}");
        assert_eq!(node.reason(Egress, &behind(chain, 54)), POLICY_DENIED, "{chain:?}");
    }
}

#[test]
fn chains_that_no_honest_sender_builds_are_dropped() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![])));
    assert_eq!(node.reason(Egress, &behind(&[60], 53)), 0);
    let refused: [&[u8]; 6] = [
        &[0, 60, 60, 60, 60, 60], // longer than what is walked
        &[60, 0],                 // hop-by-hop options not in front (RFC 8200 section 4.1)
        &[0, 0],
        &[43],     // a routing header: segment routing, and type 0 (RFC 5095)
        &[60, 43], // behind another one
        &[51],     // authentication: what it covers is judged, but not what it hides
    ];
    for chain in refused {
        assert_eq!(node.reason(Egress, &behind(chain, 53)), BAD_EXTENSION, "{chain:?}");
    }
    // Options that reach beyond the packet.
    let mut long = behind(&[60], 53);
    long[14 + 40 + 1] = 200;
    assert_eq!(node.reason(Egress, &long), BAD_EXTENSION);
    // "No next header" (RFC 8200 section 4.7) carries nothing.
    let nothing = raw(Egress, POD6, PEER6, 59, &[]);
    assert_eq!(node.reason(Egress, &nothing), 0);
}

#[test]
fn a_routing_header_does_not_come_in_either() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![])));
    let world6: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let with = |next: u8| {
        let mut payload = vec![UDP, 0, 4, 0, 0, 0, 0, 0];
        payload.extend([0, 1, 0, 53, 0, 8, 0, 0]);
        raw(Ingress, world6, POD6, next, &payload)
    };
    assert_eq!(node.reason(Ingress, &with(60)), 0);
    assert_eq!(node.reason(Ingress, &with(43)), BAD_EXTENSION);
}

#[test]
fn an_ipv4_source_route_is_dropped_and_other_options_are_not() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![])));
    let with = |options: &[u8]| {
        let mut frame = datagram(Egress, (POD, 1), (PEER, 53));
        frame.splice(34..34, options.iter().copied());
        frame[14] = 0x45 + (options.len() / 4) as u8;
        let length = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        node.reason(Egress, &frame)
    };
    let route = |kind| [1, kind, 7, 4, 203, 0, 113, 9];
    assert_eq!(with(&[148, 4, 0, 0]), 0, "router alert");
    assert_eq!(with(&[1, 1, 1, 1]), 0, "no operation");
    assert_eq!(with(&[0, 131, 7, 4]), 0, "behind the end of the list");
    assert_eq!(with(&route(131)), 134, "loose");
    assert_eq!(with(&route(137)), 134, "strict");
    assert_eq!(with(&[1, 1, 1, 137]), 134, "cut off");
    assert_eq!(with(&[7, 0, 0, 0]), 134, "an option without a length");
    assert_eq!(with(&[vec![1; 32], route(131).to_vec()].concat()), 134, "at the very end");
}
