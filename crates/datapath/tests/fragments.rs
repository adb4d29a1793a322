//! Datagrams in parts: a later part has no ports, so it is judged with those of
//! the first one, and only where nobody can write over what was judged.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::net::IpAddr;

use datapath::Desired;
use model::{Direction, Layer4, Verdict};
use policy::Action;
use support::*;

use Direction::{Egress, Ingress};

const FRAGMENT: u8 = 157;
const NOT_FOUND: u8 = 175;
const INVALID: u8 = 134;
const POLICY_DENIED: u8 = 133;

const UDP: u8 = 17;
const TCP: u8 = 6;

/// One part of a datagram.
#[derive(Clone, Copy)]
struct Part<'a> {
    ends: (IpAddr, IpAddr),
    protocol: u8,
    id: u16,
    offset: u16,
    more: bool,
    payload: &'a [u8],
}

impl Part<'_> {
    fn frame(&self, direction: Direction) -> Vec<u8> {
        let (source, destination) = self.ends;
        let more = u16::from(self.more);
        if source.is_ipv4() {
            let mut frame = raw(direction, source, destination, self.protocol, self.payload);
            frame[18..20].copy_from_slice(&self.id.to_be_bytes());
            frame[20..22].copy_from_slice(&((more << 13) | (self.offset / 8)).to_be_bytes());
            return frame;
        }
        let mut payload = vec![self.protocol, 0];
        payload.extend((self.offset | more).to_be_bytes());
        payload.extend([0, 0]);
        payload.extend(self.id.to_be_bytes());
        payload.extend(self.payload);
        raw(direction, source, destination, 44, &payload)
    }
}

fn ports(source: u16, destination: u16) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..2].copy_from_slice(&source.to_be_bytes());
    bytes[2..4].copy_from_slice(&destination.to_be_bytes());
    bytes[12] = 0x50;
    bytes[13] = 2;
    bytes
}

/// The pod may send UDP 53 and TCP 443 to web, and web UDP 53 to it; no more.
fn strict(world: &World) -> Desired {
    world.desired(world.table(vec![
        rule("names", Egress, Action::Allow, app("web"), numbered(UDP, 53)),
        rule("pages", Egress, Action::Allow, app("web"), tcp(443)),
        rule("in", Ingress, Action::Allow, app("web"), numbered(UDP, 53)),
    ]))
}

fn node() -> (Node, World) {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&strict(&world));
    (node, world)
}

/// Both families, seen from the pod.
const FAMILIES: [(IpAddr, IpAddr); 2] =
    [(IpAddr::V4(POD), IpAddr::V4(PEER)), (IpAddr::V6(POD6), IpAddr::V6(PEER6))];

#[test]
fn a_later_part_passes_after_an_allowed_first_one_and_not_before() {
    let (node, _) = node();
    for (pod, peer) in FAMILIES {
        for (direction, ends, id) in [(Egress, (pod, peer), 7), (Ingress, (peer, pod), 17)] {
            let head = ports(40000, 53);
            let first = Part { ends, protocol: UDP, id, offset: 0, more: true, payload: &head };
            let later = Part { offset: 24, payload: &[0; 16], ..first };
            let last = Part { offset: 40, more: false, payload: &[0; 3], ..first };
            let reason = |part: Part| node.reason(direction, &part.frame(direction));
            assert_eq!(reason(later), NOT_FOUND, "{direction} {ends:?}: before the first");
            assert_eq!(reason(first), 0);
            assert_eq!((reason(later), reason(last)), (0, 0), "{direction} {ends:?}");
            assert_eq!(reason(Part { id: 8, ..later }), NOT_FOUND, "of another datagram");
            assert_eq!(reason(Part { protocol: TCP, ..later }), NOT_FOUND, "another protocol");
            let back = Part { ends: (ends.1, ends.0), ..later };
            let other = if direction == Egress { Ingress } else { Egress };
            assert_eq!(node.reason(other, &back.frame(other)), NOT_FOUND, "the other way");
        }
    }
}

#[test]
fn a_denied_first_part_is_followed_by_nothing() {
    let (node, _) = node();
    for ends in FAMILIES {
        let head = ports(40000, 54);
        let first = Part { ends, protocol: UDP, id: 7, offset: 0, more: true, payload: &head };
        let later = Part { offset: 24, more: false, ..first };
        assert_eq!(node.reason(Egress, &first.frame(Egress)), POLICY_DENIED);
        assert_eq!(node.reason(Egress, &later.frame(Egress)), NOT_FOUND);
    }
}

#[test]
fn a_later_part_is_judged_by_the_policy_of_its_own_moment_and_tells_the_ports() {
    let (mut node, world) = node();
    for ends in FAMILIES {
        node.apply(&strict(&world));
        let head = ports(40000, 53);
        let first = Part { ends, protocol: UDP, id: 7, offset: 0, more: true, payload: &head };
        let later = Part { offset: 24, more: false, ..first };
        assert_eq!(node.reason(Egress, &first.frame(Egress)), 0);
        let closed = rule("other", Egress, Action::Allow, app("dev"), numbered(UDP, 53));
        node.apply(&world.desired(world.table(vec![closed])));
        let denied = node.record(Egress, &later.frame(Egress));
        assert_eq!((denied.verdict, denied.reason), (Verdict::Dropped, POLICY_DENIED));
        assert_eq!(denied.l4, Some(Layer4::Udp { source: 40000, destination: 53 }));
    }
}

#[test]
fn a_first_part_without_its_whole_header_is_dropped() {
    let (node, _) = node();
    for ends in FAMILIES {
        let head = ports(40000, 443);
        let part = |protocol, bytes: usize| {
            let payload = &head[..bytes];
            Part { ends, protocol, id: 9, offset: 0, more: true, payload }.frame(Egress)
        };
        assert_eq!(node.reason(Egress, &part(TCP, 24)), 0);
        assert_eq!(node.reason(Egress, &part(TCP, 16)), FRAGMENT, "flags, but no end");
        assert_eq!(node.reason(Egress, &part(TCP, 8)), FRAGMENT, "ports only (RFC 3128)");
    }
}

#[test]
fn a_later_part_cannot_write_over_the_header_that_was_judged() {
    let (node, _) = node();
    for ends in FAMILIES {
        let head = ports(40000, 443);
        let first = Part { ends, protocol: TCP, id: 3, offset: 0, more: true, payload: &head };
        assert_eq!(node.reason(Egress, &first.frame(Egress)), 0);
        for (offset, expected) in [(8, FRAGMENT), (16, FRAGMENT), (24, 0), (32, 0)] {
            let later = Part { offset, more: false, ..first };
            assert_eq!(node.reason(Egress, &later.frame(Egress)), expected, "at {offset}");
        }
        // Another first part of the same datagram, with other ports: judged itself.
        let other = ports(40000, 22);
        let again = Part { payload: &other, ..first };
        assert_eq!(node.reason(Egress, &again.frame(Egress)), POLICY_DENIED);
    }
}

#[test]
fn of_two_first_parts_the_longer_header_counts() {
    let (node, _) = node();
    let ends = FAMILIES[1];
    let head = ports(40000, 443);
    let plain = Part { ends, protocol: 60, id: 5, offset: 0, more: true, payload: &[] };
    // Destination options of eight and of sixteen bytes, then TCP.
    let mut short = vec![TCP, 0, 1, 4, 0, 0, 0, 0];
    short.extend(head);
    let mut long = vec![TCP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    long.extend(head);
    let reason = |part: Part| node.reason(Egress, &part.frame(Egress));
    assert_eq!(reason(Part { payload: &long, ..plain }), 0);
    assert_eq!(reason(Part { payload: &short, ..plain }), 0);
    assert_eq!(reason(Part { offset: 32, payload: &[0; 8], ..plain }), FRAGMENT);
    assert_eq!(reason(Part { offset: 40, payload: &[0; 8], ..plain }), 0);
    // The headers must all be in the first part (RFC 7112).
    assert_eq!(reason(Part { id: 6, payload: &long[..8], ..plain }), FRAGMENT);
}

#[test]
fn parts_that_cannot_be_put_together_are_malformed() {
    let (node, _) = node();
    for ends in FAMILIES {
        let head = ports(40000, 53);
        let first = Part { ends, protocol: UDP, id: 7, offset: 0, more: true, payload: &head };
        assert_eq!(node.reason(Egress, &first.frame(Egress)), 0);
        let later = Part { offset: 24, payload: &[0; 16], ..first };
        let reason = |part: Part| node.reason(Egress, &part.frame(Egress));
        assert_eq!(reason(later), 0);
        assert_eq!(reason(Part { payload: &[0; 15], ..later }), INVALID, "not a multiple of 8");
        assert_eq!(reason(Part { payload: &[], ..later }), INVALID, "empty");
        assert_eq!(reason(Part { offset: 65528, payload: &[0; 16], ..later }), INVALID, "beyond");
    }
}

#[test]
fn a_whole_datagram_with_a_fragment_header_stands_for_itself() {
    let (node, _) = node();
    let ends = FAMILIES[1];
    let whole = |port| {
        let head = ports(40000, port);
        Part { ends, protocol: UDP, id: 7, offset: 0, more: false, payload: &head }.frame(Egress)
    };
    assert_eq!(node.reason(Egress, &whole(53)), 0);
    assert_eq!(node.reason(Egress, &whole(54)), POLICY_DENIED);
    let later = Part { ends, protocol: UDP, id: 7, offset: 24, more: false, payload: &[0; 8] };
    assert_eq!(node.reason(Egress, &later.frame(Egress)), NOT_FOUND, "it has no later parts");
    // A fragment of a fragment.
    let mut inner = vec![UDP, 0, 0, 1, 0, 0, 0, 7];
    inner.extend(ports(40000, 53));
    let nested = Part { protocol: 44, offset: 0, more: false, payload: &inner, ..later };
    assert_eq!(node.reason(Egress, &nested.frame(Egress)), 156);
}

#[test]
fn messages_that_nobody_divides_are_dropped_in_parts() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![])));
    let cases =
        [(FAMILIES[0], 1, [(8, 0), (3, FRAGMENT)]), (FAMILIES[1], 58, [(128, 0), (136, FRAGMENT)])];
    for (ends, protocol, kinds) in cases {
        for (kind, expected) in kinds {
            let message = [kind, 0, 0, 0, 0, 9, 0, 1];
            let part = Part { ends, protocol, id: 2, offset: 0, more: true, payload: &message };
            assert_eq!(node.reason(Egress, &part.frame(Egress)), expected, "{protocol} {kind}");
        }
    }
}

#[test]
fn what_follows_is_dropped_when_the_endpoint_has_gone() {
    let (mut node, world) = node();
    let head = ports(40000, 53);
    let first =
        Part { ends: FAMILIES[0], protocol: UDP, id: 7, offset: 0, more: true, payload: &head };
    let later = Part { offset: 24, more: false, ..first };
    assert_eq!(node.reason(Egress, &first.frame(Egress)), 0);
    node.apply(&Desired::default());
    node.apply(&strict(&world));
    assert_eq!(node.reason(Egress, &later.frame(Egress)), NOT_FOUND);
}
