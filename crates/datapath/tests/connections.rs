//! How long a connection is remembered, and what an ICMP error may be about. Times
//! are those of SPECIFICATION.md.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::net::{IpAddr, Ipv6Addr};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::Direction;
use nix::time::{ClockId, clock_gettime};
use policy::{Action, Ports};
use support::*;
use zerocopy::{FromBytes, IntoBytes};

use Direction::{Egress, Ingress};

const POLICY_DENIED: u8 = 133;
const UNKNOWN_STATE: u8 = 163;
const WORLD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// The pod may ask the world on any port; nobody may ask the pod.
fn strict(world: &World) -> datapath::Desired {
    world.desired(world.table(vec![
        rule("out", Egress, Action::Allow, policy::Peers::Any, Ports::All),
        rule("in", Ingress, Action::Allow, app("dev"), tcp(1)),
    ]))
}

/// The pod may ask nobody, and nobody may ask the pod.
fn shut(world: &World) -> datapath::Desired {
    let nobody = [Egress, Ingress].map(|way| rule("no", way, Action::Allow, app("dev"), tcp(1)));
    world.desired(world.table(nobody.into()))
}

fn node() -> (Node, World) {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&strict(&world));
    (node, world)
}

struct Conntrack(MapHandle);

impl Conntrack {
    fn of(node: &Node) -> Self {
        Self(MapHandle::from_pinned_path(node.pins().join("maps/conntrack")).unwrap())
    }

    fn one(&self) -> (Vec<u8>, abi::Connection) {
        let keys: Vec<_> = self.0.keys().collect();
        assert_eq!(keys.len(), 1, "one connection");
        let value = self.0.lookup(&keys[0], MapFlags::ANY).unwrap().unwrap();
        (keys[0].clone(), abi::Connection::read_from_bytes(&value).unwrap())
    }

    /// Seconds that the one entry has left, rounded up.
    fn seconds(&self) -> u64 {
        self.one().1.expires_ns.saturating_sub(now_ns()).div_ceil(1_000_000_000)
    }

    /// Lets the one entry's time run out.
    fn expire(&self) {
        let (key, mut connection) = self.one();
        connection.expires_ns = 1;
        self.0.update(&key, connection.as_bytes(), MapFlags::EXIST).unwrap();
    }
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

/// Ends of the tests' connections, by family.
const ENDS: [(IpAddr, IpAddr); 2] =
    [(IpAddr::V4(POD), IpAddr::V4(WORLD)), (IpAddr::V6(POD6), IpAddr::V6(WORLD6))];

#[test]
fn a_tcp_connection_is_remembered_as_long_as_its_state_says() {
    for (pod, world) in ENDS {
        let (node, _) = node();
        let goes = |flags| segment(Egress, (pod, 40000), (world, 443), flags);
        let comes = |flags| segment(Ingress, (world, 443), (pod, 40000), flags);
        // After each packet: seconds that the entry has.
        let steps = [
            (Egress, goes(Tcp::Syn), 10),
            (Ingress, comes(Tcp::SynAck), 6 * 3600),
            (Egress, goes(Tcp::Ack), 6 * 3600),
            (Egress, goes(Tcp::Fin), 600),
            (Ingress, comes(Tcp::Ack), 600),
            (Ingress, comes(Tcp::Fin), 2),
            (Egress, goes(Tcp::Ack), 2),
        ];
        for (number, (direction, frame, seconds)) in steps.iter().enumerate() {
            assert_eq!(node.reason(*direction, frame), 0, "step {number}");
            assert_eq!(Conntrack::of(&node).seconds(), *seconds, "step {number}");
        }
    }
}

#[test]
fn a_tcp_connection_that_its_responder_closes_first_is_half_closed_as_well() {
    for (pod, world) in ENDS {
        let (node, _) = node();
        let goes = |flags| segment(Egress, (pod, 40000), (world, 443), flags);
        let comes = |flags| segment(Ingress, (world, 443), (pod, 40000), flags);
        // After each packet: seconds that the entry has.
        let steps = [
            (Egress, goes(Tcp::Syn), 10),
            (Ingress, comes(Tcp::SynAck), 6 * 3600),
            (Egress, goes(Tcp::Ack), 6 * 3600),
            (Ingress, comes(Tcp::Fin), 600),
            (Egress, goes(Tcp::Ack), 600),
            (Egress, goes(Tcp::Fin), 2),
            (Ingress, comes(Tcp::Ack), 2),
        ];
        for (number, (direction, frame, seconds)) in steps.iter().enumerate() {
            assert_eq!(node.reason(*direction, frame), 0, "step {number}");
            assert_eq!(Conntrack::of(&node).seconds(), *seconds, "step {number}");
        }
    }
}

#[test]
fn a_reset_ends_a_tcp_connection_from_either_side() {
    for from in [Egress, Ingress] {
        let (node, _) = node();
        let frame = |direction, flags| match direction {
            Egress => segment(Egress, (POD, 40000), (WORLD, 443), flags),
            Ingress => segment(Ingress, (WORLD, 443), (POD, 40000), flags),
        };
        for (direction, flags) in [(Egress, Tcp::Syn), (Ingress, Tcp::SynAck), (from, Tcp::Rst)] {
            assert_eq!(node.reason(direction, &frame(direction, flags)), 0);
        }
        assert_eq!(Conntrack::of(&node).seconds(), 2, "{from:?}");
    }
}

#[test]
fn an_exchange_without_states_is_remembered_for_a_minute_once_it_is_answered() {
    for (pod, world) in ENDS {
        let exchanges = [
            (
                datagram(Egress, (pod, 5353), (world, 53)),
                datagram(Ingress, (world, 53), (pod, 5353)),
            ),
            (echo(Egress, pod, world, 7, false), echo(Ingress, world, pod, 7, true)),
        ];
        for (asks, answers) in exchanges {
            let (node, _) = node();
            assert_eq!(node.reason(Egress, &asks), 0);
            assert_eq!(Conntrack::of(&node).seconds(), 10, "until it is answered");
            assert_eq!(node.reason(Ingress, &answers), 0);
            assert_eq!(Conntrack::of(&node).seconds(), 60);
        }
    }
}

#[test]
fn what_was_cut_is_remembered_for_a_quarter_of_an_hour() {
    let (mut node, world) = node();
    let asks = datagram(Egress, (POD, 5353), (WORLD, 53));
    assert_eq!(node.reason(Egress, &asks), 0);
    node.apply(&shut(&world));
    assert_eq!(node.reason(Egress, &asks), POLICY_DENIED);
    assert_eq!(Conntrack::of(&node).seconds(), 900);
}

#[test]
fn an_exchange_that_was_cut_goes_on_both_ways_once_it_is_allowed_again() {
    for (pod, peer) in ENDS {
        let (mut node, world) = node();
        let asks = datagram(Egress, (pod, 5353), (peer, 53));
        let answers = datagram(Ingress, (peer, 53), (pod, 5353));
        let too_big = error(&asks, if pod.is_ipv4() { (3, 4) } else { (2, 0) }, pod);
        assert_eq!(node.reason(Egress, &asks), 0);
        assert_eq!(node.reason(Ingress, &answers), 0);
        node.apply(&shut(&world));
        assert_eq!(node.reason(Egress, &asks), POLICY_DENIED);
        assert_eq!(node.reason(Ingress, &answers), POLICY_DENIED);
        assert_eq!(node.reason(Ingress, &too_big), UNKNOWN_STATE);
        node.apply(&strict(&world));
        assert_eq!(node.reason(Ingress, &answers), POLICY_DENIED, "nobody has asked again");
        assert_eq!(node.reason(Egress, &asks), 0);
        assert_eq!(Conntrack::of(&node).seconds(), 60, "as if nothing had been");
        assert_eq!(node.reason(Ingress, &answers), 0);
        assert_eq!(node.reason(Ingress, &too_big), 0);
    }
}

#[test]
fn an_answer_that_comes_when_its_time_is_over_is_judged_by_itself() {
    let (node, _) = node();
    let answer = datagram(Ingress, (WORLD, 53), (POD, 5353));
    assert_eq!(node.reason(Egress, &datagram(Egress, (POD, 5353), (WORLD, 53))), 0);
    assert_eq!(node.reason(Ingress, &answer), 0);
    Conntrack::of(&node).expire();
    assert_eq!(node.reason(Ingress, &answer), POLICY_DENIED);
}

/// What is quoted, and by an error of which type and code.
fn error(about: &[u8], (kind, code): (u8, u8), to: IpAddr) -> Vec<u8> {
    let from = if to.is_ipv4() { IpAddr::V4(WORLD) } else { WORLD6.into() };
    let payload = [&[kind, code, 0, 0, 0, 0, 5, 0], &about[14..]].concat();
    raw(Ingress, from, to, if to.is_ipv4() { 1 } else { 58 }, &payload)
}

/// RFC 792 and RFC 4443: unreachable, too big, time exceeded, bad parameter.
const ERRORS4: [(u8, u8); 4] = [(3, 3), (3, 4), (11, 0), (12, 0)];
const ERRORS6: [(u8, u8); 4] = [(1, 4), (2, 0), (3, 0), (4, 0)];

#[test]
fn an_error_about_any_kind_of_connection_reaches_the_pod_and_about_none_does_not() {
    for (pod, world) in ENDS {
        let sctp = |from: u16, to: u16| {
            let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
            raw(Egress, pod, world, 132, &[&ports[..], &[0; 8], &[1, 0, 0, 4]].concat())
        };
        let sent = [
            (datagram(Egress, (pod, 1), (world, 53)), datagram(Egress, (pod, 2), (world, 53))),
            (
                segment(Egress, (pod, 1), (world, 443), Tcp::Syn),
                segment(Egress, (pod, 2), (world, 443), Tcp::Syn),
            ),
            (sctp(1, 9), sctp(2, 9)),
            (echo(Egress, pod, world, 1, false), echo(Egress, pod, world, 2, false)),
        ];
        let (node, _) = node();
        for (sent, never) in &sent {
            assert_eq!(node.reason(Egress, sent), 0);
            for kind in if pod.is_ipv4() { ERRORS4 } else { ERRORS6 } {
                assert_eq!(node.reason(Ingress, &error(sent, kind, pod)), 0, "{kind:?} {sent:?}");
                let reason = node.reason(Ingress, &error(never, kind, pod));
                assert_eq!(reason, UNKNOWN_STATE, "{kind:?} {never:?}");
            }
        }
    }
}

/// The first part of a datagram is quoted with its fragment header.
#[test]
fn an_ipv6_error_may_quote_a_fragment_but_not_one_without_ports() {
    let (node, _) = node();
    let whole = datagram(Egress, (POD6, 5353), (WORLD6, 53));
    assert_eq!(node.reason(Egress, &whole), 0);
    let part = |offset_more: u16| {
        let header = [&[17, 0][..], &offset_more.to_be_bytes(), &[0, 0, 0, 9]].concat();
        raw(Egress, POD6, WORLD6, 44, &[&header, &whole[14 + 40..]].concat())
    };
    let about = |offset_more| error(&part(offset_more), (2, 0), POD6.into());
    assert_eq!(node.reason(Ingress, &about(1)), 0, "the first");
    assert_eq!(node.reason(Ingress, &about(1 << 3 | 1)), UNKNOWN_STATE, "a later one");
    assert_eq!(node.reason(Ingress, &about(1 << 3)), UNKNOWN_STATE, "the last");
}

/// What stands where the ports of a whole datagram are is text in a later part, and
/// whoever writes the text would choose the connection.
#[test]
fn an_ipv4_error_may_quote_the_first_part_but_not_one_without_ports() {
    let (node, _) = node();
    let whole = datagram(Egress, (POD, 5353), (WORLD, 53));
    assert_eq!(node.reason(Egress, &whole), 0);
    let about = |flags_offset: u16| {
        let mut quoted = whole.clone();
        quoted[20..22].copy_from_slice(&flags_offset.to_be_bytes());
        error(&quoted, (3, 4), POD.into())
    };
    assert_eq!(node.reason(Ingress, &about(0)), 0, "a whole one");
    assert_eq!(node.reason(Ingress, &about(0x4000)), 0, "that nobody may divide");
    assert_eq!(node.reason(Ingress, &about(0x2000)), 0, "the first part");
    assert_eq!(node.reason(Ingress, &about(0x2001)), UNKNOWN_STATE, "a later one");
    assert_eq!(node.reason(Ingress, &about(0x0001)), UNKNOWN_STATE, "the last");
}

/// Too short to say which connection it is about.
#[test]
fn an_error_that_quotes_too_little_is_dropped() {
    let (node, _) = node();
    let sent = datagram(Egress, (POD, 5353), (WORLD, 53));
    assert_eq!(node.reason(Egress, &sent), 0);
    let whole = error(&sent, (3, 3), POD.into());
    // Ethernet, IP, ICMP, quoted IP and the ports with what follows them.
    let needed = 14 + 20 + 8 + 20 + 8;
    for length in 14 + 20 + 8..needed {
        let mut cut = whole[..length].to_vec();
        let total = u16::try_from(length - 14).unwrap();
        cut[16..18].copy_from_slice(&total.to_be_bytes());
        assert_ne!(node.reason(Ingress, &cut), 0, "{length} bytes");
    }
    assert_eq!(node.reason(Ingress, &whole), 0);
}

/// The connection is judged first, by its next packet; then errors about it pass.
#[test]
fn after_a_change_an_error_waits_for_a_packet_of_its_connection() {
    let (mut node, world) = node();
    let sent = datagram(Egress, (POD, 5353), (WORLD, 53));
    let too_big = error(&sent, (3, 4), POD.into());
    assert_eq!(node.reason(Egress, &sent), 0);
    let mut other = strict(&world);
    let more = rule("more", Ingress, Action::Allow, app("web"), tcp(2));
    let out = rule("out", Egress, Action::Allow, policy::Peers::Any, Ports::All);
    other.tables = world.desired(world.table(vec![out, more])).tables;
    node.apply(&other);
    assert_eq!(node.reason(Ingress, &too_big), UNKNOWN_STATE);
    assert_eq!(node.reason(Egress, &sent), 0);
    assert_eq!(node.reason(Ingress, &too_big), 0);
    // And not at all once the connection is denied.
    let nobody = rule("no", Egress, Action::Allow, app("dev"), tcp(1));
    node.apply(&world.desired(world.table(vec![nobody])));
    assert_eq!(node.reason(Egress, &sent), POLICY_DENIED);
    assert_eq!(node.reason(Ingress, &too_big), UNKNOWN_STATE);
}
