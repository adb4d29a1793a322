//! What the pod programs do with one frame, or a few: each denied case has an
//! allowed twin. Expected results are written by hand from the policies.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use datapath::{Desired, Limits, TestRun};
use model::{Direction, MatchType, Reserved, Verdict};
use policy::{Action, Entity, Peer, Peers, Ports, Rule, Tier, Why};
use support::*;

use Direction::{Egress, Ingress};

const POLICY_DENIED: u8 = 133;
const POLICY_DENY: u8 = 181;
const INVALID_SOURCE: u8 = 132;
const FORBIDDEN: u8 = 176;
const UNKNOWN_TARGET: u8 = 150;

fn entity(entity: Entity) -> Peers {
    Peers::OneOf(vec![Peer::Entity(entity)])
}

/// web may open TCP 8080 on the pod; nothing else may come in. The pod may open
/// nothing but TCP 443 to web.
fn strict(world: &World) -> Desired {
    world.desired(world.table(vec![
        rule("in", Ingress, Action::Allow, app("web"), tcp(8080)),
        rule("out", Egress, Action::Allow, app("web"), tcp(443)),
    ]))
}

fn open(world: &World) -> Desired {
    world.desired(world.table(vec![]))
}

#[test]
fn a_rule_lets_its_port_in_and_default_deny_the_next_one_not() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let desired = strict(&world);
    node.apply(&desired);
    let allowed = node.record(Ingress, &segment(Ingress, (PEER, 40000), (POD, 8080), Tcp::Syn));
    assert_eq!((allowed.verdict, allowed.why), (Verdict::Forwarded, Why::Rule as u8));
    assert_eq!(allowed.match_type, MatchType::L3L4);
    let table = &desired.tables[&TABLE];
    assert_eq!(table.rule_set(allowed.rule_sets[0]), Some(&rule_set(&["in"], false)));

    let denied = node.record(Ingress, &segment(Ingress, (PEER, 40000), (POD, 8081), Tcp::Syn));
    assert_eq!((denied.verdict, denied.reason), (Verdict::Dropped, POLICY_DENIED));
    assert_eq!((denied.why, denied.match_type), (Why::DefaultDeny as u8, MatchType::None));
    assert_eq!(table.rule_set(denied.rule_sets[0]), Some(&rule_set(&[], true)));
    assert_eq!(denied.source_identity, u32::from(world.id("web")));
    assert_eq!(denied.destination_identity, u32::from(world.id("pay")));
    assert_eq!((denied.ifindex, denied.endpoint_id), (TestRun::ifindex(), ENDPOINT));
    assert_eq!(denied.source_mac, ROUTER_MAC);
}

#[test]
fn ipv6_is_judged_like_ipv4() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&strict(&world));
    let syn = |port| segment(Ingress, (PEER6, 40000), (POD6, port), Tcp::Syn);
    assert_eq!(node.reason(Ingress, &syn(8080)), 0);
    assert_eq!(node.reason(Ingress, &syn(8081)), POLICY_DENIED);
}

#[test]
fn a_deny_rule_beats_a_wider_allow() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![
        rule("all", Ingress, Action::Allow, Peers::Any, Ports::All),
        rule("not-web", Ingress, Action::Deny, app("web"), tcp(22)),
    ])));
    let denied = node.record(Ingress, &segment(Ingress, (PEER, 40000), (POD, 22), Tcp::Syn));
    assert_eq!((denied.reason, denied.why), (POLICY_DENY, Why::DenyRule as u8));
    assert_eq!(node.reason(Ingress, &segment(Ingress, (PEER, 40000), (POD, 23), Tcp::Syn)), 0);
}

/// What is said of the peer's port and what is said of anybody are two look-ups: tiers and
/// denials count across them, however closely one of them names the packet.
#[test]
fn what_is_said_of_anybody_may_win_over_what_is_said_of_the_peer() {
    use Action::{Allow, Deny};
    use Tier::{Admin, Baseline, Normal};
    let (mut node, world) = (Node::new(SMALL), World::new());
    let web = |tier, action| Rule { tier, ..rule("web", Egress, action, app("web"), tcp(443)) };
    let any = |tier, action| Rule { tier, ..rule("any", Egress, action, Peers::Any, Ports::All) };
    let cases = [
        (web(Normal, Allow), any(Normal, Deny), POLICY_DENY, "any"),
        (web(Normal, Deny), any(Normal, Allow), POLICY_DENY, "web"),
        (web(Normal, Allow), any(Admin, Deny), POLICY_DENY, "any"),
        (web(Admin, Allow), any(Normal, Deny), 0, "web"),
        (web(Normal, Deny), any(Admin, Allow), 0, "any"),
        (web(Admin, Deny), any(Normal, Allow), POLICY_DENY, "web"),
        (web(Baseline, Deny), any(Normal, Allow), 0, "any"),
        (web(Normal, Deny), any(Baseline, Allow), POLICY_DENY, "web"),
    ];
    for ((web, any, reason, decides), port) in cases.into_iter().zip(40000..) {
        let what =
            format!("web {:?} {:?}, any {:?} {:?}", web.tier, web.action, any.tier, any.action);
        let desired = world.desired(world.table(vec![web, any]));
        node.apply(&desired);
        let record = node.record(Egress, &segment(Egress, (POD, port), (PEER, 443), Tcp::Syn));
        assert_eq!(record.reason, reason, "{what}");
        let told = desired.tables[&TABLE].rule_set(record.rule_sets[0]).unwrap();
        let paths: Vec<_> = told.rules.iter().map(|rule| rule.path.as_str()).collect();
        assert_eq!(paths, [decides], "{what}");
    }
}

#[test]
fn an_interface_without_an_endpoint_drops_everything() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let syn = segment(Egress, (POD, 40000), (PEER, 443), Tcp::Syn);
    let drop = node.record(Egress, &syn);
    assert_eq!((drop.verdict, drop.reason, drop.endpoint_id), (Verdict::Dropped, 203, 0));
    assert_eq!(drop.addresses, Some((POD.into(), PEER.into())));
    assert_eq!(node.reason(Ingress, &segment(Ingress, (PEER, 1), (POD, 8080), Tcp::Syn)), 203);
    node.apply(&strict(&world));
    assert_eq!(node.reason(Egress, &syn), 0);
}

#[test]
fn an_endpoint_whose_table_is_missing_is_refused_whole() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let mut desired = strict(&world);
    desired.tables.clear();
    let error = node.datapath.apply(&desired).unwrap_err();
    assert_eq!(error.to_string(), "endpoint on interface 1 needs table 77, which is missing");
    let syn = segment(Egress, (POD, 40000), (PEER, 443), Tcp::Syn);
    assert_eq!(node.reason(Egress, &syn), 203, "nothing was written");
}

#[test]
fn a_pod_cannot_speak_for_another_address() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let from = |address| segment(Egress, (address, 40000), (WORLD, 443), Tcp::Syn);
    assert_eq!(node.reason(Egress, &from(POD)), 0);
    assert_eq!(node.reason(Egress, &from(PEER)), 132);
    let mut frame = from(POD);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    assert_eq!(node.reason(Egress, &frame), 130);
}

#[test]
fn frames_that_are_not_plain_ip_are_dropped_with_their_reason() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let good = segment(Egress, (POD, 40000), (WORLD, 443), Tcp::Syn);
    let check = |name: &str, change: &dyn Fn(&mut Vec<u8>), reason: u8| {
        let mut frame = good.clone();
        change(&mut frame);
        assert_eq!(node.reason(Egress, &frame), reason, "{name}");
    };
    check("as it is", &|_| {}, 0);
    check("VLAN", &|frame| frame[12..14].copy_from_slice(&[0x81, 0x00]), 182);
    check("LLDP", &|frame| frame[12..14].copy_from_slice(&[0x88, 0xcc]), 139);
    check("version 5", &|frame| frame[14] = 0x55, 134);
    check("header of 16 bytes", &|frame| frame[14] = 0x44, 134);
    check("longer than the frame", &|frame| frame[16..18].copy_from_slice(&[0xff, 0xff]), 134);
    check("first fragment of 20 bytes", &|frame| frame[20] = 0x20, 134);
    check("later fragment of nothing", &|frame| frame[21] = 0x05, 175);
    check("half a TCP header", &|frame| frame.truncate(14 + 20 + 10), 134);
}

#[test]
fn a_truncated_transport_header_is_dropped() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let mut header = [0; 20];
    header[12] = 0x50;
    assert_eq!(node.reason(Egress, &raw(Egress, POD, WORLD, 6, &header)), 0);
    assert_eq!(node.reason(Egress, &raw(Egress, POD, WORLD, 6, &header[..19])), 135);
    // What follows the packet in its frame is no part of it.
    let mut padded = raw(Egress, POD, WORLD, 6, &header[..10]);
    padded.extend(&header[10..]);
    assert_eq!(node.reason(Egress, &padded), 135);
    header[12] = 0x60;
    assert_eq!(node.reason(Egress, &raw(Egress, POD, WORLD, 6, &header)), 135, "options");
    header[12] = 0x40;
    assert_eq!(node.reason(Egress, &raw(Egress, POD, WORLD, 6, &header)), 135, "too short");
    for (protocol, bytes) in [(17, 8), (1, 8), (132, 12)] {
        assert_eq!(node.reason(Egress, &raw(Egress, POD, WORLD, protocol, &[9; 12][..bytes])), 0);
        let short = raw(Egress, POD, WORLD, protocol, &[9; 12][..bytes - 1]);
        assert_eq!(node.reason(Egress, &short), 135, "protocol {protocol}");
    }
}

#[test]
fn an_ipv6_packet_with_ipv4_addresses_in_it_is_malformed() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let mapped = WORLD.to_ipv6_mapped();
    assert_eq!(node.reason(Egress, &segment(Egress, (POD6, 1), (mapped, 443), Tcp::Syn)), 134);
    let plain: Ipv6Addr = "2001:db8::7".parse().unwrap();
    assert_eq!(node.reason(Egress, &segment(Egress, (POD6, 1), (plain, 443), Tcp::Syn)), 0);
    // The pod's own IPv4 address is no source of IPv6 either.
    let sent = |from| segment(Egress, (from, 2), (plain, 443), Tcp::Syn);
    assert_eq!(node.reason(Egress, &sent(POD.to_ipv6_mapped())), 134);
    assert_eq!(node.reason(Egress, &sent(POD6)), 0);
    // Nor does anybody come in as the IPv4 peer whom a rule lets in.
    node.apply(&strict(&world));
    let comes = |from| segment(Ingress, (from, 40000), (POD6, 8080), Tcp::Syn);
    assert_eq!(node.reason(Ingress, &comes(PEER.to_ipv6_mapped())), 134);
    assert_eq!(node.reason(Ingress, &comes(PEER6)), 0);
}

#[test]
fn a_pod_without_an_address_of_a_family_does_not_own_the_unspecified_one() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let world6: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let syn = |way, from: IpAddr, to: IpAddr| segment(way, (from, 40000), (to, 443), Tcp::Syn);
    let sent = |from| match from {
        IpAddr::V4(_) => syn(Egress, from, WORLD.into()),
        IpAddr::V6(_) => syn(Egress, from, world6.into()),
    };
    let comes = |to| match to {
        IpAddr::V4(_) => syn(Ingress, WORLD.into(), to),
        IpAddr::V6(_) => syn(Ingress, world6.into(), to),
    };
    let nobody = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    let cases = [(Some(POD), None), (None, Some(POD6)), (Some(POD), Some(POD6))];
    for ((ipv4, ipv6), id) in cases.into_iter().zip(ENDPOINT..) {
        let mut desired = open(&world);
        for endpoint in desired.endpoints.values_mut() {
            (endpoint.id, endpoint.ipv4, endpoint.ipv6) = (id, ipv4, ipv6);
        }
        node.apply(&desired);
        for own in ipv4.map(IpAddr::from).into_iter().chain(ipv6.map(IpAddr::from)) {
            assert_eq!(node.reason(Egress, &sent(own)), 0, "{own} of {ipv4:?} {ipv6:?}");
            assert_eq!(node.reason(Ingress, &comes(own)), 0, "{own} of {ipv4:?} {ipv6:?}");
        }
        for none in nobody {
            let what = format!("{none} of {ipv4:?} {ipv6:?}");
            assert_eq!(node.reason(Egress, &sent(none)), INVALID_SOURCE, "{what}");
            assert_eq!(node.reason(Ingress, &comes(none)), UNKNOWN_TARGET, "{what}");
        }
    }
}

#[test]
fn answers_come_back_and_strangers_do_not() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&strict(&world));
    assert_eq!(node.reason(Egress, &segment(Egress, (POD, 40000), (PEER, 443), Tcp::Syn)), 0);
    let answer = |port, flags| segment(Ingress, (PEER, 443), (POD, port), flags);
    assert_eq!(node.reason(Ingress, &answer(40000, Tcp::SynAck)), 0);
    assert_eq!(node.reason(Ingress, &answer(40000, Tcp::Ack)), 0);
    // The same answers from somebody who may not be asked.
    let stranger = |flags| segment(Ingress, (WORLD, 443), (POD, 40001), flags);
    assert_eq!(node.reason(Ingress, &stranger(Tcp::SynAck)), POLICY_DENIED);
    assert_eq!(node.reason(Ingress, &stranger(Tcp::Ack)), POLICY_DENIED);
    assert_eq!(node.reason(Ingress, &stranger(Tcp::Rst)), POLICY_DENIED);
    // And a SYN in the clothes of an answer.
    assert_eq!(node.reason(Ingress, &answer(40000, Tcp::Syn)), POLICY_DENIED);
}

#[test]
fn a_pod_without_ingress_policy_cannot_send_past_its_egress_policy() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let out = rule("out", Egress, Action::Allow, app("web"), tcp(443));
    node.apply(&world.desired(world.table(vec![out.clone()])));
    let sent = |flags| node.reason(Egress, &segment(Egress, (POD, 8080), (WORLD, 40000), flags));
    for flags in [Tcp::Syn, Tcp::SynAck, Tcp::Ack, Tcp::Rst, Tcp::Fin] {
        assert_eq!(sent(flags), POLICY_DENIED);
    }
    assert_eq!(node.reason(Egress, &echo(Egress, POD, WORLD, 7, true)), POLICY_DENIED);
    // It may answer whom a rule lets in, also when nobody saw the beginning.
    let in_ = rule("in", Ingress, Action::Allow, entity(Entity::World), tcp(8080));
    node.apply(&world.desired(world.table(vec![out, in_])));
    let sent =
        |port, flags| node.reason(Egress, &segment(Egress, (POD, port), (WORLD, 40000), flags));
    assert_eq!(sent(8080, Tcp::Ack), 0);
    assert_eq!(sent(8081, Tcp::Ack), POLICY_DENIED);
}

#[test]
fn what_came_to_a_pod_without_ingress_policy_opens_no_way_past_its_egress_policy() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let out = rule("out", Egress, Action::Allow, app("web"), tcp(443));
    node.apply(&world.desired(world.table(vec![out])));
    let comes = |port, flags| segment(Ingress, (WORLD, 40000), (POD, port), flags);
    let sent =
        |port, flags| node.reason(Egress, &segment(Egress, (POD, port), (WORLD, 40000), flags));
    // From a connection whose beginning nobody saw: the pod may have opened it.
    for (port, flags) in [(8080, Tcp::Ack), (8081, Tcp::Fin)] {
        node.records();
        assert_eq!(node.judge(Ingress, &comes(port, flags)), Verdict::Forwarded);
        assert!(node.records().is_empty(), "nobody knows what it belongs to");
        assert_eq!(sent(port, Tcp::Ack), POLICY_DENIED);
        assert_eq!(sent(port, Tcp::SynAck), POLICY_DENIED);
    }
    // From one that the peer was seen to open.
    let opens = node.record(Ingress, &comes(8082, Tcp::Syn));
    assert_eq!((opens.verdict, opens.why), (Verdict::Forwarded, Why::Unenforced as u8));
    assert_eq!((sent(8082, Tcp::SynAck), sent(8082, Tcp::Ack)), (0, 0));
}

/// Both questions are asked about such a packet: whether its sender may open the
/// connection, and whether its receiver may.
#[test]
fn a_packet_of_no_known_connection_is_told_by_the_rules_that_decided_it() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let desired = world.desired(world.table(vec![
        rule("in", Ingress, Action::Allow, app("web"), tcp(8080)),
        rule("not-in", Ingress, Action::Deny, app("web"), tcp(22)),
        rule("out", Egress, Action::Allow, app("web"), tcp(443)),
        rule("not-out", Egress, Action::Deny, app("web"), tcp(23)),
    ]));
    node.apply(&desired);
    let told = |hook, own: u16, peers: u16| {
        let (pod, peer) = ((POD, own), (PEER, peers));
        let record = match hook {
            Ingress => node.record(hook, &segment(hook, peer, pod, Tcp::Ack)),
            Egress => node.record(hook, &segment(hook, pod, peer, Tcp::Ack)),
        };
        let rules = desired.tables[&TABLE].rule_set(record.rule_sets[0]).unwrap().clone();
        let how = (record.direction, record.is_reply);
        (record.reason, (record.why, record.match_type), rules, how)
    };
    let rules = |path| rule_set(&[path], false);
    let by_rule = (Why::Rule as u8, MatchType::L3L4);
    let by_deny = (Why::DenyRule as u8, MatchType::L3L4);
    let by_default = (Why::DefaultDeny as u8, MatchType::None);
    let (nobody, sender, receiver) = (None, Some(false), Some(true));
    for (hook, reverse, port, may, may_not) in
        [(Ingress, Egress, 8080, "in", "not-in"), (Egress, Ingress, 443, "out", "not-out")]
    {
        let (own, peers) = if hook == Ingress { (port, 40000) } else { (40000, port) };
        let sends = told(hook, own, peers);
        assert_eq!(sends, (0, by_rule, rules(may), (Some(hook), sender)), "{hook} to {port}");
        // Denied by a rule; the other direction by the absence of one.
        let (own, peers) = if hook == Ingress { (22, 40000) } else { (40000, 23) };
        let denied = told(hook, own, peers);
        assert_eq!(denied, (POLICY_DENY, by_deny, rules(may_not), (Some(hook), nobody)));
        // The other way round.
        let (own, peers) = if hook == Ingress { (40001, 23) } else { (22, 40001) };
        let denied = told(hook, own, peers);
        let set = rule_set(&[], true);
        assert_eq!(denied, (POLICY_DENIED, by_default, set, (Some(hook), nobody)));
        // An answer: what decided is the right to ask.
        let (own, peers, asks) =
            if hook == Ingress { (40002, 443, "out") } else { (8080, 40002, "in") };
        let answers = told(hook, own, peers);
        assert_eq!(answers, (0, by_rule, rules(asks), (Some(reverse), receiver)));
    }
}

#[test]
fn an_established_connection_leaves_one_record() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&strict(&world));
    node.record(Egress, &segment(Egress, (POD, 40000), (PEER, 443), Tcp::Syn));
    for _ in 0..5 {
        assert_eq!(
            node.judge(Ingress, &segment(Ingress, (PEER, 443), (POD, 40000), Tcp::Ack)),
            Verdict::Forwarded
        );
    }
    assert!(node.records().is_empty());
}

#[test]
fn a_connection_is_judged_again_when_the_policy_changes() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let before = node.apply(&strict(&world));
    let out = segment(Egress, (POD, 40000), (PEER, 443), Tcp::Ack);
    let back = segment(Ingress, (PEER, 443), (POD, 40000), Tcp::Ack);
    assert_eq!(node.reason(Egress, &segment(Egress, (POD, 40000), (PEER, 443), Tcp::Syn)), 0);
    assert_eq!((node.reason(Egress, &out), node.reason(Ingress, &back)), (0, 0));
    let closed =
        world.desired(world.table(vec![rule("none", Egress, Action::Allow, app("dev"), tcp(443))]));
    let after = node.apply(&closed);
    assert!(after > before);
    let cut = node.record(Ingress, &back);
    assert_eq!((cut.verdict, cut.reason), (Verdict::Dropped, POLICY_DENIED));
    assert_eq!(cut.direction, Some(Egress), "an answer is judged by the right to ask");
    assert_eq!((cut.is_reply, cut.revision), (Some(true), after));
    assert_eq!(node.reason(Egress, &out), POLICY_DENIED);
    assert_eq!(node.reason(Egress, &out), POLICY_DENIED, "and it stays cut");
    node.apply(&strict(&world));
    assert_eq!(node.reason(Egress, &out), 0, "until it is allowed again");
    // A change that leaves it allowed: an answer may be the first to come after it,
    // although nobody may open anything to that port.
    node.apply(&world.desired(world.table(vec![
        rule("in", Ingress, Action::Allow, app("dev"), tcp(1)),
        rule("out", Egress, Action::Allow, app("web"), tcp(443)),
    ])));
    node.records();
    assert_eq!(node.judge(Ingress, &back), Verdict::Forwarded);
    assert!(node.records().is_empty(), "it is still the same connection");
}

#[test]
fn a_connection_is_judged_again_when_an_address_changes_hands() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let mut desired = strict(&world);
    node.apply(&desired);
    assert_eq!(node.reason(Egress, &segment(Egress, (POD, 40000), (PEER, 443), Tcp::Syn)), 0);
    let out = segment(Egress, (POD, 40000), (PEER, 443), Tcp::Ack);
    assert_eq!(node.reason(Egress, &out), 0);
    desired.addresses.insert(PEER.into(), world.id("dev"));
    node.apply(&desired);
    assert_eq!(node.reason(Egress, &out), POLICY_DENIED);
    desired.addresses.insert(PEER.into(), world.id("web"));
    node.apply(&desired);
    assert_eq!(node.reason(Egress, &out), 0);
}

#[test]
fn an_address_nobody_knows_is_world_outside_and_unmanaged_inside() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![rule(
        "out",
        Egress,
        Action::Allow,
        entity(Entity::World),
        Ports::All,
    )])));
    let to = |address: Ipv4Addr| {
        node.record(Egress, &segment(Egress, (POD, 40000), (address, 443), Tcp::Syn))
    };
    let outside = to(WORLD);
    assert_eq!(outside.verdict, Verdict::Forwarded);
    assert_eq!(outside.destination_identity, u32::from(Reserved::WorldIpv4.id()));
    let inside = to("10.1.7.7".parse().unwrap());
    assert_eq!(inside.verdict, Verdict::Dropped);
    assert_eq!(inside.destination_identity, u32::from(Reserved::Unmanaged.id()));
}

#[test]
fn of_the_ranges_that_hold_an_address_the_narrowest_counts_down_to_one_address() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let (web, dev) = (world.id("web"), world.id("dev"));
    let mut desired = world.desired(world.table(vec![
        rule("ranges", Egress, Action::Allow, app("web"), Ports::All),
        rule("but", Egress, Action::Deny, app("dev"), Ports::All),
    ]));
    for (range, identity) in [
        ("203.0.113.0/24", web),
        ("203.0.113.9/32", dev),
        ("203.0.113.16/31", dev),
        ("2001:db8:9::/48", web),
        ("2001:db8:9::9/128", dev),
        ("2001:db8:9::10/127", dev),
        // One address that an allowed range does not hold.
        ("192.0.2.9/32", web),
        ("2001:db8:5::9/128", web),
    ] {
        desired.prefixes.insert(range.parse().unwrap(), identity);
    }
    node.apply(&desired);
    let outside = [Reserved::WorldIpv4, Reserved::WorldIpv6].map(Reserved::id);
    for (address, identity, reason) in [
        ("203.0.113.8", web, 0),
        ("203.0.113.9", dev, POLICY_DENY),
        ("203.0.113.10", web, 0),
        ("203.0.113.15", web, 0),
        ("203.0.113.16", dev, POLICY_DENY),
        ("203.0.113.17", dev, POLICY_DENY),
        ("203.0.113.18", web, 0),
        ("2001:db8:9::8", web, 0),
        ("2001:db8:9::9", dev, POLICY_DENY),
        ("2001:db8:9::a", web, 0),
        ("2001:db8:9::10", dev, POLICY_DENY),
        ("2001:db8:9::11", dev, POLICY_DENY),
        ("2001:db8:9::12", web, 0),
        ("192.0.2.9", web, 0),
        ("192.0.2.8", outside[0], POLICY_DENIED),
        ("2001:db8:5::9", web, 0),
        ("2001:db8:5::8", outside[1], POLICY_DENIED),
    ] {
        let to: IpAddr = address.parse().unwrap();
        let own = if to.is_ipv4() { IpAddr::from(POD) } else { POD6.into() };
        let record = node.record(Egress, &segment(Egress, (own, 40000), (to, 443), Tcp::Syn));
        let told = (record.destination_identity, record.reason);
        assert_eq!(told, (u32::from(identity), reason), "{address}");
    }
}

#[test]
fn a_record_says_how_closely_its_rule_names_the_packet() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    const UDP: u8 = 17;
    let cases = [
        (app("web"), numbered(UDP, 53), MatchType::L3L4),
        (Peers::Any, numbered(UDP, 53), MatchType::L4Only),
        (app("web"), protocol(UDP), MatchType::L3Proto),
        (Peers::Any, protocol(UDP), MatchType::ProtoOnly),
        (app("web"), Ports::All, MatchType::L3Only),
        (Peers::Any, Ports::All, MatchType::All),
    ];
    for ((peers, ports, expected), port) in cases.into_iter().zip(40000..) {
        for (action, reason) in [(Action::Allow, 0), (Action::Deny, POLICY_DENY)] {
            let one = rule("one", Egress, action, peers.clone(), ports.clone());
            let desired = world.desired(world.table(vec![one]));
            node.apply(&desired);
            // No connection of another case: each has a port of its own.
            let question = datagram(Egress, (POD, port), (PEER, 53));
            let record = node.record(Egress, &question);
            assert_eq!((record.reason, record.match_type), (reason, expected), "{action:?}");
            let told = desired.tables[&TABLE].rule_set(record.rule_sets[0]);
            assert_eq!(told.map(|set| set.rules.len()), Some(1), "{expected:?}");
        }
    }
}

#[test]
fn the_own_node_may_enter_a_closed_pod_unless_a_rule_denies_it() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let host: Ipv4Addr = "10.1.0.1".parse().unwrap();
    let probe = segment(Ingress, (host, 40000), (POD, 9000), Tcp::Syn);
    node.apply(&strict(&world));
    let record = node.record(Ingress, &probe);
    assert_eq!((record.verdict, record.why), (Verdict::Forwarded, Why::LocalHost as u8));
    node.apply(&world.desired(world.table(vec![rule(
        "no-host",
        Ingress,
        Action::Deny,
        entity(Entity::Host),
        Ports::All,
    )])));
    assert_eq!(node.reason(Ingress, &probe), POLICY_DENY);
}

#[test]
fn who_is_behind_the_node_s_address_never_becomes_the_node() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let host: Ipv4Addr = "10.1.0.1".parse().unwrap();
    let client = |flags| segment(Ingress, (host, 40000), (POD, 9000), flags);
    let answer = segment(Egress, (POD, 9000), (host, 40000), Tcp::Ack);
    let comes_in = |node: &Node, flags, from: u32| {
        let run = TestRun::new(&node.datapath).run_from(Ingress, &client(flags), from, 1);
        run.unwrap().verdict
    };
    node.apply(&strict(&world));
    assert_eq!(comes_in(&node, Tcp::Syn, 1), Verdict::Dropped, "masqueraded");
    assert_eq!(comes_in(&node, Tcp::Syn, 0), Verdict::Forwarded, "the node itself");
    // A masqueraded connection from before the policy: the pod's answer, which
    // goes to the node's address, does not make it the node's.
    let mut other = open(&world);
    for endpoint in other.endpoints.values_mut() {
        endpoint.id += 1;
    }
    node.apply(&other);
    assert_eq!(comes_in(&node, Tcp::Syn, 1), Verdict::Forwarded);
    assert_eq!(node.reason(Egress, &answer), 0);
    let mut closed = strict(&world);
    closed.endpoints = other.endpoints;
    node.apply(&closed);
    assert_eq!(node.reason(Egress, &answer), POLICY_DENIED);
    assert_eq!(comes_in(&node, Tcp::Ack, 1), Verdict::Dropped);
}

#[test]
fn ping_needs_a_rule_without_ports_and_its_answer_needs_none() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![
        rule("web", Egress, Action::Allow, app("web"), Ports::All),
        rule("dev", Egress, Action::Allow, entity(Entity::World), tcp(443)),
        rule("nobody", Ingress, Action::Allow, app("dev"), tcp(1)),
    ])));
    assert_eq!(node.reason(Egress, &echo(Egress, POD, PEER, 7, false)), 0);
    assert_eq!(node.reason(Ingress, &echo(Ingress, PEER, POD, 7, true)), 0);
    assert_eq!(node.reason(Egress, &echo(Egress, POD6, PEER6, 7, false)), 0);
    assert_eq!(node.reason(Ingress, &echo(Ingress, PEER6, POD6, 7, true)), 0);
    assert_eq!(node.reason(Egress, &echo(Egress, POD, WORLD, 7, false)), POLICY_DENIED);
    // The same id asked from the other side is another exchange.
    assert_eq!(node.reason(Ingress, &echo(Ingress, PEER, POD, 7, false)), POLICY_DENIED);
    assert_eq!(node.reason(Ingress, &echo(Ingress, WORLD, POD, 9, true)), POLICY_DENIED);
}

/// An ICMP "port unreachable" about a UDP datagram, whose header it quotes.
fn unreachable(quoted: &[u8]) -> Vec<u8> {
    let mut payload = vec![3, 3, 0, 0, 0, 0, 0, 0];
    payload.extend(&quoted[14..14 + 28]);
    raw(Ingress, WORLD, POD, 1, &payload)
}

#[test]
fn an_icmp_error_passes_only_about_a_packet_that_was_sent() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let sent = datagram(Egress, (POD, 5353), (WORLD, 53));
    assert_eq!(node.reason(Ingress, &unreachable(&sent)), 163, "before it was sent");
    assert_eq!(node.reason(Egress, &sent), 0);
    assert_eq!(node.reason(Ingress, &unreachable(&sent)), 0);
    // The pod's own error about what it received goes to who sent that.
    let asked = datagram(Ingress, (WORLD, 99), (POD, 7));
    assert_eq!(node.reason(Ingress, &asked), 0);
    let error_to = |to: Ipv4Addr| {
        let mut payload = vec![3, 3, 0, 0, 0, 0, 0, 0];
        payload.extend(&asked[14..14 + 28]);
        raw(Egress, POD, to, 1, &payload)
    };
    assert_eq!(node.reason(Egress, &error_to(WORLD)), 0);
    assert_eq!(node.reason(Egress, &error_to(PEER)), 163, "and to nobody else");
    let never = datagram(Egress, (POD, 5354), (WORLD, 53));
    assert_eq!(node.reason(Ingress, &unreachable(&never)), 163);
}

#[test]
fn one_endpoint_cannot_use_up_the_connections_of_all() {
    let limits = Limits { connections_per_endpoint: 8, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    node.apply(&open(&world));
    let sent = |port: u16| datagram(Egress, (POD, port), (WORLD, 443));
    for port in 0..8 {
        assert_eq!(node.reason(Egress, &sent(40000 + port)), 0);
    }
    assert_eq!(node.reason(Egress, &sent(40008)), 155);
    assert_eq!(node.reason(Egress, &sent(40000)), 0, "those that it has go on");
    let mut other = open(&world);
    for endpoint in other.endpoints.values_mut() {
        endpoint.id += 1;
    }
    node.apply(&other);
    assert_eq!(node.reason(Egress, &sent(40008)), 0, "another endpoint has its own room");
    let pin = node.pins().join("maps/conntrack");
    let left = libbpf_rs::MapHandle::from_pinned_path(pin).unwrap();
    assert_eq!(libbpf_rs::MapCore::keys(&left).count(), 1, "and the first one's is freed");
}

#[test]
fn a_pod_asks_and_answers_arp_for_itself_only() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let arp = |mac: [u8; 6], sender: Ipv4Addr| {
        let mut frame = ROUTER_MAC.to_vec();
        frame.extend(MAC);
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend(mac);
        frame.extend(sender.octets());
        frame.extend(ROUTER_MAC);
        frame.extend([10, 1, 0, 1]);
        frame
    };
    assert_eq!(node.reason(Egress, &arp(MAC, POD)), 0);
    assert_eq!(node.reason(Egress, &arp(MAC, PEER)), 132);
    assert_eq!(node.reason(Egress, &arp([2, 0, 0, 0, 0, 9], POD)), 130);
    // An honest message in another sender's frame: a bridge would learn that one's place.
    let mut foreign = arp(MAC, POD);
    foreign[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    assert_eq!(node.reason(Egress, &foreign), 130);
}

#[test]
fn a_pod_is_neither_a_router_nor_another_neighbour() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let message = |kind: u8, target: Ipv6Addr, to: Ipv6Addr| {
        let mut payload = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        payload.extend(target.octets());
        let mut frame = raw(Egress, POD6, to, 58, &payload);
        frame[14 + 7] = 255;
        frame
    };
    let reason = |kind, target, to| node.reason(Egress, &message(kind, target, to));
    assert_eq!(reason(136, POD6, all_nodes), 0, "an advertisement of itself");
    assert_eq!(reason(136, PEER6, all_nodes), 132);
    assert_eq!(reason(134, POD6, all_nodes), 176, "a router advertisement");
    assert_eq!(reason(137, POD6, all_nodes), 176, "a redirect");
    // Nobody beyond the link, whatever the message carries.
    let world6: Ipv6Addr = "2001:db8::7".parse().unwrap();
    for kind in [131, 132, 135, 136, 143] {
        assert_eq!(reason(kind, POD6, world6), 176, "type {kind} to the world");
        assert_eq!(reason(kind, POD6, PEER6), 176, "type {kind} to a pod");
    }
}

/// A message of neighbour discovery or multicast listening about an address.
fn link_message(kind: u8, about: Ipv6Addr, (from, to): (Ipv6Addr, Ipv6Addr)) -> Vec<u8> {
    let mut payload = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(about.octets());
    let mut frame = raw(Egress, from, to, 58, &payload);
    frame[14 + 7] = 255;
    frame
}

/// The second byte of a group is its flags and its scope: 1 the interface, 2 the
/// link, all others more (RFC 4291 section 2.7).
#[test]
fn what_concerns_the_link_goes_to_groups_of_the_link_only() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    for kind in [131, 132, 135, 136, 143] {
        let to = |group: &str| {
            let group = group.parse().unwrap();
            node.reason(Egress, &link_message(kind, POD6, (POD6, group)))
        };
        for link in ["ff01::1", "ff02::1", "ff02::1:ff00:3", "ff12::1"] {
            assert_eq!(to(link), 0, "type {kind} to {link}");
        }
        for beyond in ["ff03::1", "ff04::1", "ff05::1", "ff08::1", "ff0e::1", "ff15::1"] {
            assert_eq!(to(beyond), FORBIDDEN, "type {kind} to {beyond}");
        }
    }
}

#[test]
fn a_pod_asks_for_neighbours_as_itself_only() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let everybody: Ipv6Addr = "ff02::1".parse().unwrap();
    let asks = |from| link_message(135, PEER6, (from, everybody));
    assert_eq!(node.reason(Egress, &asks(POD6)), 0);
    assert_eq!(node.reason(Egress, &asks(PEER6)), INVALID_SOURCE, "a neighbour");
    let stranger: Ipv6Addr = "2001:db8::7".parse().unwrap();
    assert_eq!(node.reason(Egress, &asks(stranger)), INVALID_SOURCE, "nobody it knows");
    let mut routed = asks(POD6);
    routed[14 + 7] = 254;
    assert_eq!(node.reason(Egress, &routed), INVALID_SOURCE, "not of this link");
    // What it listens to it says as itself, or before it has an address.
    for kind in [131, 132, 143] {
        let says = |from| link_message(kind, everybody, (from, everybody));
        assert_eq!(node.reason(Egress, &says(POD6)), 0, "type {kind}");
        assert_eq!(node.reason(Egress, &says(Ipv6Addr::UNSPECIFIED)), 0, "type {kind}");
        assert_eq!(node.reason(Egress, &says(PEER6)), INVALID_SOURCE, "type {kind}");
    }
}

#[test]
fn pods_of_one_bridge_ask_for_each_other_and_say_nothing_else() {
    const INTERFACE: u32 = 7;
    const NEIGHBOUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
    let neighbour: Ipv6Addr = "fd00:1::7".parse().unwrap();
    let group: Ipv6Addr = "ff02::1:ff00:2".parse().unwrap();
    let (mut node, world) = (Node::new(SMALL), World::new());
    // Default deny both ways: these are no policy's business.
    let mut desired = strict(&world);
    let pod = desired.endpoints[&TestRun::ifindex()].clone();
    let other = datapath::Endpoint {
        id: ENDPOINT + 1,
        mac: NEIGHBOUR_MAC,
        ipv4: None,
        ipv6: Some(neighbour),
        ..pod
    };
    desired.endpoints.insert(INTERFACE, other);
    desired.addresses.insert(neighbour.into(), world.id("pay"));
    node.apply(&desired);

    let message = |kind: u8, target: Ipv6Addr, mac: [u8; 6]| {
        let mut bytes = vec![kind, 0, 0, 0, if kind == 136 { 0x60 } else { 0 }, 0, 0, 0];
        bytes.extend(target.octets());
        bytes.extend([if kind == 136 { 2 } else { 1 }, 1]);
        bytes.extend(mac);
        bytes
    };
    let frame = |hop_limit: u8, from: Ipv6Addr, to: Ipv6Addr, bytes: &[u8]| {
        let mut frame = raw(Ingress, from, to, 58, bytes);
        frame[14 + 7] = hop_limit;
        frame
    };
    let through = |interface: u32, frame: &[u8]| {
        node.records();
        let run = TestRun::new(&node.datapath).run_from(Ingress, frame, interface, 1).unwrap();
        match run.verdict {
            Verdict::Forwarded => 0,
            _ => node.records().pop().expect("a drop leaves a record").reason,
        }
    };
    let got = |from, to, bytes: &[u8]| through(INTERFACE, &frame(255, from, to, bytes));
    let asks = |target| message(135, target, NEIGHBOUR_MAC);
    let answers = |target| message(136, target, NEIGHBOUR_MAC);

    assert_eq!(got(neighbour, group, &asks(POD6)), 0);
    assert_eq!(got(neighbour, POD6, &asks(POD6)), 0, "whether it is still there");
    assert_eq!(got(neighbour, POD6, &asks(POD6)[..24]), 0, "without an address of the link");
    assert_eq!(got(neighbour, POD6, &answers(neighbour)), 0);
    assert_eq!(got(neighbour, POD6, &answers(neighbour)[..24]), 0);
    // What is not for the pod, or not about it.
    assert_eq!(got(neighbour, group, &asks(PEER6)), UNKNOWN_TARGET);
    let site: Ipv6Addr = "ff05::1:ff00:2".parse().unwrap();
    assert_eq!(got(neighbour, site, &asks(POD6)), UNKNOWN_TARGET);
    assert_eq!(got(neighbour, PEER6, &asks(POD6)), UNKNOWN_TARGET);
    assert_eq!(got(neighbour, "ff02::1".parse().unwrap(), &answers(neighbour)), UNKNOWN_TARGET);
    // Nobody answers for somebody else, or as somebody else.
    assert_eq!(got(neighbour, POD6, &answers(PEER6)), INVALID_SOURCE);
    assert_eq!(got(neighbour, POD6, &answers(POD6)), INVALID_SOURCE);
    assert_eq!(got(PEER6, POD6, &answers(PEER6)), INVALID_SOURCE);
    assert_eq!(got(PEER6, group, &asks(POD6)), INVALID_SOURCE);
    assert_eq!(got(neighbour, POD6, &message(136, neighbour, MAC)), FORBIDDEN);
    assert_eq!(got(neighbour, group, &message(135, POD6, MAC)), FORBIDDEN);
    // Nothing that came through a router, and nothing from where no pod is.
    let routed = frame(254, neighbour, POD6, &answers(neighbour));
    assert_eq!(through(INTERFACE, &routed), INVALID_SOURCE);
    assert_eq!(through(9, &frame(255, neighbour, group, &asks(POD6))), UNKNOWN_TARGET);
    // No room for anything that is not the question: flags, more options, padding.
    let changed = |at: usize, byte| {
        let mut bytes = answers(neighbour);
        bytes[at] = byte;
        bytes
    };
    for (at, byte) in [(1, 1), (4, 0xe0), (4, 0x61), (5, 1), (7, 1), (24, 14), (25, 2)] {
        assert_eq!(got(neighbour, POD6, &changed(at, byte)), FORBIDDEN, "{byte} at {at}");
    }
    let mut longer = answers(neighbour);
    longer.extend([14, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(got(neighbour, POD6, &longer), FORBIDDEN);
    let mut padded = frame(255, neighbour, POD6, &answers(neighbour));
    padded.push(0);
    assert_eq!(through(INTERFACE, &padded), FORBIDDEN);

    // The other end: the pod asks and answers its neighbour, and nobody behind a router.
    let sent = |to: Ipv6Addr, bytes: &[u8]| {
        let mut frame = raw(Egress, POD6, to, 58, bytes);
        frame[14 + 7] = 255;
        node.reason(Egress, &frame)
    };
    assert_eq!(sent(neighbour, &message(136, POD6, MAC)), 0);
    assert_eq!(sent(neighbour, &message(135, neighbour, MAC)), 0);
    assert_eq!(sent(neighbour, &message(136, neighbour, MAC)), INVALID_SOURCE);
    assert_eq!(sent(PEER6, &message(136, POD6, MAC)), FORBIDDEN);
    assert_eq!(sent(neighbour, &message(143, POD6, MAC)), FORBIDDEN);
}

#[test]
fn an_endpoint_that_becomes_somebody_else_is_judged_as_that_from_one_revision_on() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let mut desired = strict(&world);
    let before = node.apply(&desired);
    let syn = |port| segment(Egress, (POD, 40000), (PEER, port), Tcp::Syn);
    assert_eq!(node.reason(Egress, &syn(443)), 0);
    const OTHER: u32 = 78;
    let table = world.table_of("dev", vec![rule("x", Egress, Action::Allow, app("web"), tcp(444))]);
    desired.tables = [(OTHER, Arc::new(table))].into();
    for endpoint in desired.endpoints.values_mut() {
        endpoint.identity = world.id("dev");
        endpoint.table = OTHER;
    }
    let after = node.apply(&desired);
    assert_eq!(after, before + 1);
    let record = node.record(Egress, &syn(444));
    assert_eq!((record.verdict, record.revision), (Verdict::Forwarded, after));
    assert_eq!(record.source_identity, u32::from(world.id("dev")));
    assert_eq!(node.reason(Egress, &syn(443)), POLICY_DENIED, "the old connection ends too");
}

#[test]
fn what_does_not_fit_is_refused_whole_with_the_numbers() {
    let limits = Limits { table_entries: 4, addresses: 5, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    node.apply(&open(&world));
    let revision = node.datapath.revision();
    let mut desired = open(&world);
    desired.addresses.insert("10.1.0.9".parse().unwrap(), world.id("dev"));
    let error = node.datapath.apply(&desired).unwrap_err();
    assert_eq!(
        error.to_string(),
        "addresses do not fit: 6 needed, 5 is the limit (raise `addresses`)"
    );
    let rules = (1..9)
        .map(|port| rule(&format!("r{port}"), Ingress, Action::Allow, Peers::Any, tcp(port)))
        .collect();
    let error = node.datapath.apply(&world.desired(world.table(rules))).unwrap_err();
    assert!(error.to_string().starts_with("entries of policy table 77 do not fit: "), "{error}");
    assert_eq!(node.datapath.revision(), revision);
    let syn = segment(Ingress, (PEER, 40000), (POD, 99), Tcp::Syn);
    assert_eq!(node.reason(Ingress, &syn), 0, "the last good one is in force");
}

#[test]
fn a_full_node_can_exchange_its_pods() {
    let limits = Limits { endpoints: 1, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    node.apply(&strict(&world));
    let mut other = strict(&world);
    let endpoint = other.endpoints.remove(&TestRun::ifindex()).unwrap();
    let elsewhere = datapath::Endpoint { id: endpoint.id + 1, table: TABLE + 1, ..endpoint };
    other.endpoints.insert(2, elsewhere);
    other.tables = [(TABLE + 1, Arc::new(world.table(vec![])))].into();
    node.apply(&other);
    let syn = segment(Egress, (POD, 40000), (PEER, 443), Tcp::Syn);
    assert_eq!(node.reason(Egress, &syn), 203, "the first one is gone");
    node.apply(&strict(&world));
    assert_eq!(node.reason(Egress, &syn), 0);
}

#[test]
fn a_routing_header_cannot_name_a_destination_behind_the_one_that_is_judged() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&open(&world));
    let world6: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let with_header = |kind: u8| {
        // Next header UDP, eight bytes long.
        let mut payload = vec![17, 0, 0, 0, 0, 0, 0, 0];
        payload.extend([0, 1, 0, 53, 0, 8, 0, 0]);
        raw(Egress, POD6, world6, kind, &payload)
    };
    assert_eq!(node.reason(Egress, &with_header(60)), 0, "destination options");
    assert_eq!(node.reason(Egress, &with_header(43)), 156, "routing");
}

#[test]
fn an_endpoint_that_goes_and_comes_back_has_all_its_room() {
    let limits = Limits { connections_per_endpoint: 8, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    let sent = |port: u16| datagram(Egress, (POD, port), (WORLD, 443));
    for round in 0..3 {
        node.apply(&open(&world));
        for port in 0..8 {
            assert_eq!(node.reason(Egress, &sent(40000 + port)), 0, "round {round}");
        }
        assert_eq!(node.reason(Egress, &sent(50000)), 155, "round {round}");
        node.apply(&Desired::default());
        node.datapath.expire_connections().unwrap();
    }
}

#[test]
fn connections_that_end_make_room_for_new_ones_without_anybody_s_help() {
    let limits = Limits { connections_per_endpoint: 8, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    node.apply(&open(&world));
    for port in 40000..40100 {
        let out = |flags| segment(Egress, (POD, port), (WORLD, 443), flags);
        let back = |flags| segment(Ingress, (WORLD, 443), (POD, port), flags);
        assert_eq!(node.reason(Egress, &out(Tcp::Syn)), 0, "connection {port}");
        assert_eq!(node.reason(Ingress, &back(Tcp::SynAck)), 0);
        assert_eq!(node.reason(Egress, &out(Tcp::Fin)), 0);
        assert_eq!(node.reason(Ingress, &back(Tcp::Fin)), 0);
    }
}

#[test]
fn a_denied_syn_does_not_end_the_connection_that_it_collides_with() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&strict(&world));
    let out = |flags| segment(Egress, (POD, 40000), (PEER, 443), flags);
    let back = |flags| segment(Ingress, (PEER, 443), (POD, 40000), flags);
    assert_eq!(node.reason(Egress, &out(Tcp::Syn)), 0);
    assert_eq!(node.reason(Ingress, &back(Tcp::SynAck)), 0);
    assert_eq!(node.reason(Ingress, &back(Tcp::Syn)), POLICY_DENIED);
    node.records();
    assert_eq!(node.judge(Ingress, &back(Tcp::Ack)), Verdict::Forwarded);
    assert!(node.records().is_empty(), "it is still the same connection");
}

#[test]
fn a_connection_is_judged_again_when_somebody_becomes_known_at_its_other_end() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let rules = vec![rule("out", Egress, Action::Allow, entity(Entity::World), Ports::All)];
    let mut desired = world.desired(world.table(rules));
    node.apply(&desired);
    let out = |flags| segment(Egress, (POD, 40000), (WORLD, 443), flags);
    assert_eq!(node.reason(Egress, &out(Tcp::Syn)), 0);
    assert_eq!(node.reason(Egress, &out(Tcp::Ack)), 0);
    desired.addresses.insert(WORLD.into(), world.id("dev"));
    node.apply(&desired);
    assert_eq!(node.reason(Egress, &out(Tcp::Ack)), POLICY_DENIED);
}

#[test]
fn a_full_address_book_can_exchange_its_addresses_and_forgets_no_change() {
    let limits = Limits { addresses: 5, ..SMALL };
    let (mut node, world) = (Node::new(limits), World::new());
    let mut desired = strict(&world);
    node.apply(&desired);
    let out = |flags| segment(Egress, (POD, 40000), (PEER, 443), flags);
    assert_eq!(node.reason(Egress, &out(Tcp::Syn)), 0);
    // Five wanted, five fit: one goes, one comes, one changes hands.
    desired.addresses.remove(&PEER6.into());
    desired.addresses.insert("10.1.0.9".parse().unwrap(), world.id("dev"));
    desired.addresses.insert(PEER.into(), world.id("dev"));
    node.apply(&desired);
    assert_eq!(node.reason(Egress, &out(Tcp::Ack)), POLICY_DENIED);
}

#[test]
fn a_pod_of_this_node_speaks_through_its_own_interface_only() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let mut desired = strict(&world);
    let syn = segment(Ingress, (PEER, 40000), (POD, 8080), Tcp::Syn);
    node.apply(&desired);
    assert_eq!(node.reason(Ingress, &syn), 0, "a pod of another node comes from anywhere");
    // Now web is a pod of this node, on interface 4242; a test run has none.
    let pay = desired.endpoints[&TestRun::ifindex()].clone();
    let web = datapath::Endpoint {
        id: ENDPOINT + 1,
        identity: world.id("web"),
        ipv4: Some(PEER),
        ipv6: Some(PEER6),
        ..pay
    };
    desired.endpoints.insert(4242, web);
    node.apply(&desired);
    let again = segment(Ingress, (PEER, 40001), (POD, 8080), Tcp::Syn);
    assert_eq!(node.reason(Ingress, &again), 132);
}

#[test]
fn a_connection_of_a_pod_of_this_node_goes_on_through_its_own_interface_only() {
    const INTERFACE: u32 = 4242;
    let (mut node, world) = (Node::new(SMALL), World::new());
    let mut desired = strict(&world);
    let pay = desired.endpoints[&TestRun::ifindex()].clone();
    let web = datapath::Endpoint {
        id: ENDPOINT + 1,
        identity: world.id("web"),
        ipv4: Some(PEER),
        ipv6: Some(PEER6),
        ..pay
    };
    desired.endpoints.insert(INTERFACE, web);
    node.apply(&desired);
    let through = |interface, flags| {
        node.records();
        let frame = segment(Ingress, (PEER, 40000), (POD, 8080), flags);
        let run = TestRun::new(&node.datapath).run_from(Ingress, &frame, interface, 1).unwrap();
        match run.verdict {
            Verdict::Forwarded => 0,
            _ => node.records().pop().expect("a drop leaves a record").reason,
        }
    };
    assert_eq!(through(INTERFACE, Tcp::Syn), 0);
    let answer = segment(Egress, (POD, 8080), (PEER, 40000), Tcp::SynAck);
    assert_eq!(node.reason(Egress, &answer), 0);
    assert_eq!(through(INTERFACE, Tcp::Ack), 0);
    // From the uplink, from another pod, and from the node with the pod's address.
    for elsewhere in [2, 4243, 0] {
        for flags in [Tcp::Ack, Tcp::Fin, Tcp::Rst] {
            assert_eq!(through(elsewhere, flags), INVALID_SOURCE, "{elsewhere}");
        }
    }
    assert_eq!(through(INTERFACE, Tcp::Ack), 0, "nobody else has ended it");
}

/// Somebody with a pod's address on the wire cannot speak into what another pod has
/// asked it.
#[test]
fn an_answer_of_a_pod_of_this_node_comes_through_its_own_interface_only() {
    const INTERFACE: u32 = 4242;
    let (mut node, world) = (Node::new(SMALL), World::new());
    let rules = vec![rule("out", Egress, Action::Allow, app("web"), Ports::All)];
    let mut desired = world.desired(world.table(rules));
    let pay = desired.endpoints[&TestRun::ifindex()].clone();
    let web = datapath::Endpoint {
        id: ENDPOINT + 1,
        identity: world.id("web"),
        ipv4: Some(PEER),
        ipv6: Some(PEER6),
        ..pay
    };
    desired.endpoints.insert(INTERFACE, web);
    node.apply(&desired);
    let through = |interface, frame: &[u8]| {
        node.records();
        let run = TestRun::new(&node.datapath).run_from(Ingress, frame, interface, 1).unwrap();
        match run.verdict {
            Verdict::Forwarded => 0,
            _ => node.records().pop().expect("a drop leaves a record").reason,
        }
    };
    let elsewhere = [2, 4243, 0];
    let question = |flags| segment(Egress, (POD, 40000), (PEER, 8080), flags);
    let answer = |flags| segment(Ingress, (PEER, 8080), (POD, 40000), flags);
    assert_eq!(node.reason(Egress, &question(Tcp::Syn)), 0);
    for interface in elsewhere {
        for flags in [Tcp::SynAck, Tcp::Rst] {
            assert_eq!(through(interface, &answer(flags)), INVALID_SOURCE, "{interface}");
        }
    }
    assert_eq!(through(INTERFACE, &answer(Tcp::SynAck)), 0);
    assert_eq!(node.reason(Egress, &question(Tcp::Ack)), 0);
    for interface in elsewhere {
        for flags in [Tcp::Ack, Tcp::Fin, Tcp::Rst] {
            assert_eq!(through(interface, &answer(flags)), INVALID_SOURCE, "{interface}");
        }
    }
    assert_eq!(through(INTERFACE, &answer(Tcp::Ack)), 0, "nobody else has ended it");

    let asks = datagram(Egress, (POD, 5000), (PEER, 53));
    let answers = datagram(Ingress, (PEER, 53), (POD, 5000));
    assert_eq!(node.reason(Egress, &asks), 0);
    for _ in 0..2 {
        for interface in elsewhere {
            assert_eq!(through(interface, &answers), INVALID_SOURCE, "{interface}");
        }
        assert_eq!(through(INTERFACE, &answers), 0);
    }
}
