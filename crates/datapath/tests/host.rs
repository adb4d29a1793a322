//! The node as an endpoint: what ends at it or comes from it is judged by its own
//! table, what is forwarded is not, and a table on trial ends by itself.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use datapath::{ApplyError, Desired, HostSubject, Record, TestRun, Trial};
use model::Direction::{Egress, Ingress};
use model::{Direction, Reserved, Verdict};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use policy::{
    Action, Entity, Mode, Options, Peer, Peers, Policy, Ports, Rule, Selector, Subject, Table,
};
use support::*;

const HOST: u32 = 1;
const HOST_TABLE: u32 = 500;
const FALLBACK: u32 = 501;
const POLICY_DENIED: u8 = 133;
const POLICY_DENY: u8 = 181;
const FORBIDDEN_ICMPV6: u8 = 176;
const UPLINK: u32 = 1;
const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x20, 0, 0, 0, 0, 0x11);

fn entity(entity: Entity) -> Peers {
    Peers::OneOf(vec![Peer::Entity(entity)])
}

/// A rule about the node.
fn about_the_node(path: &str, direction: Direction, peers: Peers, ports: Ports) -> Rule {
    let subject = Subject::Nodes(Selector::default());
    Rule { subject, ..rule(path, direction, Action::Allow, peers, ports) }
}

fn ssh() -> Rule {
    about_the_node("ssh", Ingress, entity(Entity::World), tcp(22))
}

/// Selects nobody, so denies everything in its direction.
fn nobody(direction: Direction) -> Rule {
    about_the_node("nobody", direction, Peers::OneOf(vec![]), Ports::All)
}

fn host_table(world: &World, rules: Vec<Rule>) -> Table {
    let policy = Policy { name: policy_name(), mode: Mode::Enforce, rules: rules.into() };
    let subject = Reserved::Host.identity().labels;
    let none = BTreeMap::new();
    let options = Options::default();
    policy::compile(&[policy], &subject, &none, &world.identities, &options).unwrap()
}

/// A pod that nobody selects, on a node with these rules.
fn node_with(world: &World, rules: Vec<Rule>) -> Desired {
    let mut desired = world.desired(world.table(vec![]));
    desired.host.addresses.insert(NODE6.into());
    desired.addresses.insert(NODE6.into(), Reserved::Host.id());
    desired.tables.insert(HOST_TABLE, Arc::new(host_table(world, rules)));
    desired.host.subject =
        Some(HostSubject { identity: Reserved::Host.id(), table: HOST_TABLE, trial: None });
    desired
}

/// The same on trial; these rules judge afterwards.
fn on_trial(world: &World, rules: Vec<Rule>, after: Vec<Rule>, confirm_by: u32) -> Desired {
    let mut desired = node_with(world, rules);
    desired.tables.insert(FALLBACK, Arc::new(host_table(world, after)));
    let trial = Some(Trial { fallback: FALLBACK, confirm_by });
    desired.host.subject = desired.host.subject.map(|subject| HostSubject { trial, ..subject });
    desired
}

/// Seconds of the clock that trials end by.
fn seconds() -> u32 {
    u32::try_from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().tv_sec()).unwrap()
}

/// Judges a frame on the uplink: what comes in comes from there, what goes out is
/// the node's own.
#[track_caller]
fn uplink(node: &Node, direction: Direction, frame: &[u8]) -> Verdict {
    let from = if direction == Ingress { UPLINK } else { 0 };
    let frame = for_us(frame.to_vec());
    TestRun::new(&node.datapath).run_uplink(direction, &frame, from, 1).unwrap().verdict
}

/// The frame, with the MAC of the interface that a test run stands for: of other
/// machines' frames the kernel makes nothing.
fn for_us(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].fill(0);
    frame
}

/// Judges a frame on the uplink and returns what was told about it.
#[track_caller]
fn told(node: &Node, direction: Direction, frame: &[u8]) -> (Verdict, Vec<Record>) {
    node.records();
    let verdict = uplink(node, direction, frame);
    (verdict, node.records())
}

#[test]
fn a_node_that_no_policy_selects_is_not_judged() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&world.desired(world.table(vec![])));
    let call = segment(Ingress, (WORLD, 40000), (NODE, 22), Tcp::Syn);
    assert_eq!(told(&node, Ingress, &call), (Verdict::Forwarded, vec![]));
    let answer = segment(Egress, (NODE, 22), (WORLD, 40000), Tcp::SynAck);
    assert_eq!(told(&node, Egress, &answer), (Verdict::Forwarded, vec![]));
}

#[test]
fn a_node_policy_says_who_reaches_the_node() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&node_with(&world, vec![ssh()]));
    for (source, own) in [
        (IpAddr::from(WORLD), IpAddr::from(NODE)),
        ("2001:db8::7".parse().unwrap(), IpAddr::from(NODE6)),
    ] {
        let call = |port| segment(Ingress, (source, 40000), (own, port), Tcp::Syn);
        let (verdict, records) = told(&node, Ingress, &call(22));
        assert_eq!((verdict, records.len()), (Verdict::Forwarded, 1), "{records:?}");
        assert_eq!((records[0].endpoint_id, records[0].destination_identity), (HOST, 1));
        assert_eq!((records[0].hook, records[0].direction), (Ingress, Some(Ingress)));
        assert_eq!(records[0].rule_sets[0], rule_set(&["ssh"], false).id(0));
        let answer = segment(Egress, (own, 22), (source, 40000), Tcp::SynAck);
        assert_eq!(told(&node, Egress, &answer), (Verdict::Forwarded, vec![]));

        let (verdict, records) = told(&node, Ingress, &call(23));
        assert_eq!((verdict, records.len()), (Verdict::Dropped, 1), "{records:?}");
        assert_eq!((records[0].endpoint_id, records[0].reason), (HOST, POLICY_DENIED));
        assert_eq!(records[0].rule_sets[0], rule_set(&[], true).id(0));
    }
}

#[test]
fn a_deny_rule_of_a_node_policy_wins() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let all = about_the_node("all", Ingress, Peers::Any, Ports::All);
    let deny = Rule {
        action: Action::Deny,
        ..about_the_node("deny", Ingress, entity(Entity::World), tcp(23))
    };
    node.apply(&node_with(&world, vec![all, deny]));
    let call = |port| segment(Ingress, (WORLD, 40000), (NODE, port), Tcp::Syn);
    assert_eq!(uplink(&node, Ingress, &call(22)), Verdict::Forwarded);
    let (verdict, records) = told(&node, Ingress, &call(23));
    assert_eq!((verdict, records[0].reason), (Verdict::Dropped, POLICY_DENY));
}

#[test]
fn what_is_forwarded_is_not_the_nodes() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&node_with(&world, vec![nobody(Ingress), nobody(Egress)]));
    let to_pod = segment(Ingress, (WORLD, 40000), (POD, 23), Tcp::Syn);
    assert_eq!(told(&node, Ingress, &to_pod), (Verdict::Forwarded, vec![]));
    let from_pod = segment(Egress, (POD, 40000), (WORLD, 443), Tcp::Syn);
    let run = TestRun::new(&node.datapath).run_uplink(Egress, &from_pod, 7, 1).unwrap();
    assert_eq!(run.verdict, Verdict::Forwarded);
    assert_eq!(node.records(), vec![]);
    // The twin that differs in who sends it: the node itself.
    let own = segment(Egress, (NODE, 40000), (WORLD, 443), Tcp::Syn);
    assert_eq!(uplink(&node, Egress, &own), Verdict::Dropped);
}

#[test]
fn what_is_for_everybody_on_the_link_is_for_the_node() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let dns = Ports::OneOf(vec![policy::PortMatch {
        transport: policy::Transport::Udp,
        port: policy::Port::Range(5353, 5353),
    }]);
    let names = about_the_node("names", Ingress, entity(Entity::World), dns);
    node.apply(&node_with(&world, vec![names]));
    let broadcast: std::net::Ipv4Addr = "255.255.255.255".parse().unwrap();
    let multicast: std::net::Ipv4Addr = "224.0.0.251".parse().unwrap();
    for everybody in [broadcast, multicast] {
        let call = |port| datagram(Ingress, (WORLD, 5000), (everybody, port));
        assert_eq!(uplink(&node, Ingress, &call(5353)), Verdict::Forwarded);
        assert_eq!(uplink(&node, Ingress, &call(5354)), Verdict::Dropped, "{everybody}");
    }
    let far: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let call = |port| datagram(Ingress, (far, 5000), (all_nodes, port));
    assert_eq!(uplink(&node, Ingress, &call(5353)), Verdict::Forwarded);
    assert_eq!(uplink(&node, Ingress, &call(5354)), Verdict::Dropped);
}

#[test]
fn what_the_node_asks_is_answered() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&node_with(&world, vec![nobody(Ingress)]));
    let answer = |port| segment(Ingress, (WORLD, 443), (NODE, port), Tcp::SynAck);
    assert_eq!(uplink(&node, Ingress, &answer(40000)), Verdict::Dropped);
    let ask = segment(Egress, (NODE, 40000), (WORLD, 443), Tcp::Syn);
    assert_eq!(uplink(&node, Egress, &ask), Verdict::Forwarded);
    assert_eq!(uplink(&node, Ingress, &answer(40000)), Verdict::Forwarded);
    assert_eq!(uplink(&node, Ingress, &answer(40001)), Verdict::Dropped);
    let query = datagram(Egress, (NODE, 40000), (WORLD, 53));
    let reply = |from| datagram(Ingress, (from, 53), (NODE, 40000));
    assert_eq!(uplink(&node, Egress, &query), Verdict::Forwarded);
    assert_eq!(uplink(&node, Ingress, &reply(WORLD)), Verdict::Forwarded);
    assert_eq!(uplink(&node, Ingress, &reply(PEER)), Verdict::Dropped);
}

#[test]
fn who_leaves_with_the_nodes_address_is_answered_and_lets_nobody_in() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&node_with(&world, vec![nobody(Ingress), nobody(Egress)]));
    let masqueraded = segment(Egress, (NODE, 40000), (WORLD, 443), Tcp::Syn);
    let run = TestRun::new(&node.datapath).run_uplink(Egress, &masqueraded, 7, 1).unwrap();
    assert_eq!(run.verdict, Verdict::Forwarded);
    let back = |port, flags| segment(Ingress, (WORLD, 443), (NODE, port), flags);
    assert_eq!(uplink(&node, Ingress, &back(40000, Tcp::SynAck)), Verdict::Forwarded);
    assert_eq!(uplink(&node, Ingress, &back(40001, Tcp::SynAck)), Verdict::Dropped);
    assert_eq!(uplink(&node, Ingress, &back(40000, Tcp::Syn)), Verdict::Dropped);
    // The node's own packet on the same way is not let out by it.
    assert_eq!(uplink(&node, Egress, &masqueraded), Verdict::Dropped);
}

#[test]
fn a_pod_and_its_node_are_judged_at_both_ends() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let kubelet = about_the_node("kubelet", Egress, app("pay"), tcp(8080));
    let dns = about_the_node("dns", Ingress, app("pay"), tcp(53));
    node.apply(&node_with(&world, vec![dns, kubelet]));
    let test = TestRun::new(&node.datapath);
    // From the pod, which nobody selects, to the node.
    let to_node = |port| for_us(segment(Egress, (POD, 40000), (NODE, port), Tcp::Syn));
    let sent = |port| test.run_from(Egress, &to_node(port), UPLINK, 1).unwrap().verdict;
    assert_eq!(sent(53), Verdict::Forwarded);
    let records = node.records();
    let ends: Vec<_> = records.iter().map(|one| (one.endpoint_id, one.direction)).collect();
    assert_eq!(ends, [(ENDPOINT, Some(Egress)), (HOST, Some(Ingress))]);
    assert_eq!(sent(54), Verdict::Dropped);
    let records = node.records();
    let ends: Vec<_> = records.iter().map(|one| (one.endpoint_id, one.verdict)).collect();
    assert_eq!(ends, [(ENDPOINT, Verdict::Forwarded), (HOST, Verdict::Dropped)]);
    assert_eq!(u32::from(world.id("pay")), records[1].source_identity);
    // From the node to the pod.
    let to_pod = |port| segment(Ingress, (NODE, 40001), (POD, port), Tcp::Syn);
    let got = |port| test.run_from(Ingress, &to_pod(port), 0, 1).unwrap().verdict;
    assert_eq!(got(8080), Verdict::Forwarded);
    let records = node.records();
    let ends: Vec<_> = records.iter().map(|one| (one.endpoint_id, one.direction)).collect();
    assert_eq!(ends, [(HOST, Some(Egress)), (ENDPOINT, Some(Ingress))]);
    assert_eq!(got(8081), Verdict::Dropped);
    let records = node.records();
    assert_eq!((records.len(), records[0].endpoint_id), (1, HOST), "{records:?}");
    // Somebody who is forwarded with the node's address is not the node.
    assert_eq!(test.run_from(Ingress, &to_pod(8082), 7, 1).unwrap().verdict, Verdict::Forwarded);
}

#[test]
fn a_link_goes_on_working_under_a_policy_that_admits_nobody() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&node_with(&world, vec![nobody(Ingress), nobody(Egress)]));
    let both = |frame: &[u8]| [Ingress, Egress].map(|way| uplink(&node, way, frame));
    let ethernet = |kind: [u8; 2]| {
        let mut frame = [MAC, ROUTER_MAC].concat();
        frame.extend(kind);
        frame.extend([0; 46]);
        frame
    };
    // ARP, LLDP, a VLAN's frame: the VLAN's own device is an uplink of its own.
    for kind in [[0x08, 0x06], [0x88, 0xcc], [0x81, 0x00]] {
        assert_eq!(both(&ethernet(kind)), [Verdict::Forwarded; 2], "{kind:?}");
    }
    let icmpv6 = |kind: u8| raw(Ingress, IpAddr::from(NODE6), NODE6, 58, &[kind; 24]);
    for passes in [1, 2, 130, 134, 135, 136, 143] {
        assert_eq!(uplink(&node, Ingress, &icmpv6(passes)), Verdict::Forwarded, "{passes}");
    }
    node.records();
    assert_eq!(uplink(&node, Ingress, &icmpv6(137)), Verdict::Dropped);
    assert_eq!(node.records()[0].reason, FORBIDDEN_ICMPV6);
    let ping = echo(Ingress, IpAddr::from(Ipv6Addr::LOCALHOST), NODE6, 1, false);
    assert_eq!(uplink(&node, Ingress, &ping), Verdict::Dropped);
    let everybody: std::net::Ipv4Addr = "255.255.255.255".parse().unwrap();
    let nobody: std::net::Ipv4Addr = "0.0.0.0".parse().unwrap();
    let dhcp = |port| datagram(Egress, (nobody, 68), (everybody, port));
    assert_eq!(uplink(&node, Egress, &dhcp(67)), Verdict::Forwarded);
    assert_eq!(uplink(&node, Egress, &dhcp(69)), Verdict::Dropped);
}

/// RFC 8415: servers answer from port 547 to 546, by addresses of the link alone.
#[test]
fn an_address_is_asked_of_the_link_and_given_by_it() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let address = |text: &str| -> Ipv6Addr { text.parse().unwrap() };
    let (own, server, far) = (address("fe80::11"), address("fe80::1"), address("2001:db8::7"));
    let mut desired = node_with(&world, vec![nobody(Ingress), nobody(Egress)]);
    desired.host.addresses.insert(own.into());
    desired.addresses.insert(own.into(), Reserved::Host.id());
    node.apply(&desired);
    let check = |way, from: (IpAddr, u16), to: (IpAddr, u16), expected: u8| {
        let (verdict, records) = told(&node, way, &datagram(way, from, to));
        let reasons: Vec<_> = records.iter().map(|one| (one.endpoint_id, one.reason)).collect();
        let (means, tells) = match expected {
            0 => (Verdict::Forwarded, vec![]),
            reason => (Verdict::Dropped, vec![(HOST, reason)]),
        };
        assert_eq!((verdict, reasons), (means, tells), "{way} {from:?} to {to:?}");
    };
    check(Ingress, (server.into(), 547), (own.into(), 546), 0);
    check(Ingress, (far.into(), 547), (own.into(), 546), POLICY_DENIED);
    check(Ingress, (server.into(), 547), (NODE6.into(), 546), POLICY_DENIED);
    check(Ingress, (far.into(), 547), (NODE6.into(), 546), POLICY_DENIED);
    check(Ingress, (WORLD.into(), 547), (NODE.into(), 546), POLICY_DENIED);
    check(Ingress, (server.into(), 546), (own.into(), 546), POLICY_DENIED);
    check(Ingress, (server.into(), 547), (own.into(), 547), POLICY_DENIED);
    let servers = address("ff02::1:2");
    check(Egress, (own.into(), 546), (servers.into(), 547), 0);
    check(Egress, (own.into(), 546), (address("ff05::1:3").into(), 547), POLICY_DENIED);
    check(Egress, (own.into(), 546), (far.into(), 547), POLICY_DENIED);
    check(Egress, (own.into(), 546), (servers.into(), 546), POLICY_DENIED);
    check(Egress, (own.into(), 547), (servers.into(), 547), POLICY_DENIED);
}

#[test]
fn an_address_that_nobody_listed_is_the_node_s_whether_it_forwards_or_not() {
    unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
    site::run(
        "ip link set lo up && ip addr add 192.0.2.9/32 dev lo && \
         ip addr add 2001:db8:5::9/128 dev lo && ip link add up0 type veth peer name up1 && \
         ip link set up0 up && ip link set up1 up && \
         ip route add 203.0.113.0/24 dev up0 && ip route add 2001:db8:9::/48 dev up0",
    );
    let (mut node, world) = (Node::new(SMALL), World::new());
    node.apply(&node_with(&world, vec![ssh()]));
    let ends = [
        (IpAddr::from(WORLD), "192.0.2.9", "203.0.113.9"),
        ("2001:db8::7".parse().unwrap(), "2001:db8:5::9", "2001:db8:9::9"),
    ];
    // A connection of an earlier turn leaves no record: each turn has a port of its own.
    for (forwards, port) in [("1", 40000), ("0", 40001)] {
        for family in ["ipv4", "ipv6"] {
            let file = format!("/proc/sys/net/{family}/conf/lo/forwarding");
            std::fs::write(file, forwards).unwrap();
        }
        for (source, own, other) in ends {
            let call = |to: &str, service| {
                let to: IpAddr = to.parse().unwrap();
                let syn = segment(Ingress, (source, port), (to, service), Tcp::Syn);
                let (verdict, records) = told(&node, Ingress, &syn);
                let of = |one: &Record| (one.endpoint_id, one.reason);
                (verdict, records.iter().map(of).collect::<Vec<_>>())
            };
            let what = format!("{own}, forwarding {forwards}");
            assert_eq!(call(own, 22), (Verdict::Forwarded, vec![(HOST, 0)]), "{what}");
            let denied = (Verdict::Dropped, vec![(HOST, POLICY_DENIED)]);
            assert_eq!(call(own, 23), denied, "{what}");
            // What is for somebody else is that one's where it is forwarded, and where
            // nothing is it comes to its end here.
            let elsewhere = if forwards == "1" { (Verdict::Forwarded, vec![]) } else { denied };
            assert_eq!(call(other, 23), elsewhere, "{what}");
        }
    }
}

/// Seconds in which also a machine that is very busy comes from one line to the next.
const TRIAL: u32 = 6;

/// Within half a minute, or the test fails.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_table_on_trial_is_undone_by_the_kernel_alone() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let web = about_the_node("web", Ingress, entity(Entity::World), tcp(80));
    let until = seconds() + TRIAL;
    node.apply(&on_trial(&world, vec![web.clone()], vec![ssh()], until));
    let call = |port| segment(Ingress, (WORLD, 40000), (NODE, port), Tcp::Syn);
    let more = |port| segment(Ingress, (WORLD, 40000), (NODE, port), Tcp::Ack);
    assert_eq!(uplink(&node, Ingress, &call(22)), Verdict::Dropped);
    assert_eq!(uplink(&node, Ingress, &call(80)), Verdict::Forwarded);
    assert_eq!(uplink(&node, Ingress, &more(80)), Verdict::Forwarded);
    // Nobody does anything from here on.
    eventually("the end of the trial", || uplink(&node, Ingress, &call(22)) == Verdict::Forwarded);
    assert!(seconds() >= until);
    assert_eq!(uplink(&node, Ingress, &more(80)), Verdict::Dropped, "what the trial let in is cut");
    assert_eq!(uplink(&node, Ingress, &call(80)), Verdict::Dropped);
    // And it stays so for the agent that comes after.
    let node = node.reopen();
    assert_eq!(uplink(&node, Ingress, &call(22)), Verdict::Forwarded);
    assert_eq!(uplink(&node, Ingress, &call(80)), Verdict::Dropped);
}

#[test]
fn a_confirmed_table_outlives_the_time_of_its_trial() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let until = seconds() + TRIAL;
    node.apply(&on_trial(&world, vec![nobody(Ingress)], vec![ssh()], until));
    let call = segment(Ingress, (WORLD, 40000), (NODE, 22), Tcp::Syn);
    assert_eq!(uplink(&node, Ingress, &call), Verdict::Dropped);
    node.apply(&node_with(&world, vec![nobody(Ingress)]));
    eventually("the time of the trial", || seconds() > until);
    assert_eq!(uplink(&node, Ingress, &call), Verdict::Dropped);
    // A policy that goes away leaves a node that nobody judges.
    node.apply(&world.desired(world.table(vec![])));
    assert_eq!(told(&node, Ingress, &call), (Verdict::Forwarded, vec![]));
}

#[test]
fn a_trial_without_a_way_back_is_refused_whole() {
    let (mut node, world) = (Node::new(SMALL), World::new());
    let mut desired = on_trial(&world, vec![nobody(Ingress)], vec![], seconds() + 60);
    desired.tables.remove(&FALLBACK);
    let refused = node.datapath.apply(&desired);
    assert!(matches!(refused, Err(ApplyError::NoTable { ifindex: 0, table: FALLBACK })));
    let call = segment(Ingress, (WORLD, 40000), (NODE, 22), Tcp::Syn);
    assert_eq!(uplink(&node, Ingress, &call), Verdict::Forwarded);
}
