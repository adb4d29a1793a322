//! What is told of connections after their first packet. Frames have known lengths;
//! what they come to is written by hand.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::time::Instant;

use datapath::{Desired, Limits, Record, Ring, Traces};
use model::{Direction, Trace, Traffic, Verdict};
use policy::{Action, Peers};
use support::*;

use Direction::{Egress, Ingress};

/// Ethernet, IPv4 and TCP headers without options.
const BARE: usize = 54;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 0x04;

/// web may open TCP 8080 on the pod, and anybody UDP 53. The pod may open TCP 443 to web.
fn strict(world: &World) -> Desired {
    world.desired(world.table(vec![
        rule("in", Ingress, Action::Allow, app("web"), tcp(8080)),
        rule("dns", Ingress, Action::Allow, Peers::Any, numbered(17, 53)),
        rule("out", Egress, Action::Allow, app("web"), tcp(443)),
    ]))
}

fn node(limits: Limits) -> (Node, World) {
    let (mut node, world) = (Node::new(limits), World::new());
    node.apply(&strict(&world));
    (node, world)
}

/// A connection that the pod opens to its peer, from this port.
#[derive(Clone, Copy)]
struct Opened(u16);

/// The same frame with so many bytes behind its headers.
fn with(mut frame: Vec<u8>, payload: usize) -> Vec<u8> {
    frame.resize(frame.len() + payload, 7);
    let length = u16::try_from(frame.len() - 14).unwrap();
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame
}

impl Opened {
    fn sends(self, node: &Node, flags: Tcp, payload: usize) {
        let frame = segment(Egress, (POD, self.0), (PEER, 443), flags);
        assert_eq!(frame.len(), BARE);
        assert_eq!(node.judge(Egress, &with(frame, payload)), Verdict::Forwarded);
    }

    fn gets(self, node: &Node, flags: Tcp, payload: usize) {
        let frame = segment(Ingress, (PEER, 443), (POD, self.0), flags);
        assert_eq!(node.judge(Ingress, &with(frame, payload)), Verdict::Forwarded);
    }

    fn opens(self, node: &Node) {
        self.sends(node, Tcp::Syn, 0);
        self.gets(node, Tcp::SynAck, 0);
    }
}

/// Of the records, those that tell of connections after their first packet.
fn traces(node: &Node) -> Vec<Record> {
    node.records().into_iter().filter(|record| record.trace.is_some()).collect()
}

#[track_caller]
fn one(records: Vec<Record>) -> Record {
    let [record] = records.as_slice() else { panic!("one trace: {records:?}") };
    record.clone()
}

/// Packets and bytes of both ends, if somebody has counted.
fn carried(record: &Record) -> Option<(Traffic, Traffic)> {
    let Some(Trace::End(carried)) = record.trace else { panic!("no end: {record:?}") };
    carried.map(|carried| (carried.initiator, carried.responder))
}

fn traffic(packets: u64, bytes: usize) -> Traffic {
    Traffic { packets, bytes: bytes as u64 }
}

fn flags(record: &Record) -> u8 {
    match record.l4 {
        Some(model::Layer4::Tcp { flags, .. }) => flags.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_end_tells_once_what_both_sides_sent_until_then() {
    let (node, world) = node(SMALL);
    let connection = Opened(40000);
    connection.opens(&node);
    connection.sends(&node, Tcp::Ack, 100);
    connection.gets(&node, Tcp::Ack, 1000);
    connection.gets(&node, Tcp::Ack, 1400);
    connection.sends(&node, Tcp::Fin, 0);
    assert_eq!(traces(&node), vec![], "one end can still send");
    connection.gets(&node, Tcp::Fin, 20);
    let end = one(traces(&node));
    // SYN, data, FIN; SYN and ACK, data twice, data with FIN.
    let (sent, answered) = (traffic(3, 3 * BARE + 100), traffic(4, 4 * BARE + 2420));
    assert_eq!(carried(&end), Some((sent, answered)));
    assert_eq!((end.ring, end.verdict, end.reason), (Ring::Traces, Verdict::Forwarded, 0));
    assert_eq!((end.hook, end.direction), (Ingress, Some(Egress)));
    assert_eq!((end.is_reply, flags(&end)), (Some(true), FIN_ACK));
    assert_eq!(end.addresses, Some((PEER.into(), POD.into())));
    assert_eq!(end.source_identity, u32::from(world.id("web")));
    assert_eq!(end.destination_identity, u32::from(world.id("pay")));
    assert_eq!((end.endpoint_id, end.length as usize), (ENDPOINT, BARE + 20));

    connection.sends(&node, Tcp::Ack, 0);
    connection.gets(&node, Tcp::Fin, 20);
    connection.gets(&node, Tcp::Rst, 0);
    assert_eq!(traces(&node), vec![], "it was told");
}

#[test]
fn a_reset_from_either_side_is_an_end() {
    let (node, _) = node(SMALL);
    let connection = Opened(40000);
    connection.opens(&node);
    connection.gets(&node, Tcp::Rst, 0);
    let end = one(traces(&node));
    assert_eq!(carried(&end), Some((traffic(1, BARE), traffic(2, 2 * BARE))));
    assert_eq!((end.hook, end.is_reply, flags(&end)), (Ingress, Some(true), RST));

    let connection = Opened(40001);
    connection.opens(&node);
    connection.sends(&node, Tcp::Rst, 0);
    let end = one(traces(&node));
    assert_eq!(carried(&end), Some((traffic(2, 2 * BARE), traffic(1, BARE))));
    assert_eq!((end.hook, end.is_reply, flags(&end)), (Egress, Some(false), RST));

    // Refused: nobody listens.
    let connection = Opened(40002);
    connection.sends(&node, Tcp::Syn, 0);
    connection.gets(&node, Tcp::Rst, 0);
    assert_eq!(carried(&one(traces(&node))), Some((traffic(1, BARE), traffic(1, BARE))));
}

#[test]
fn what_the_peer_opened_is_told_from_its_side() {
    let (node, world) = node(SMALL);
    let gets = |flags, payload| {
        let frame = with(segment(Ingress, (PEER, 40000), (POD, 8080), flags), payload);
        assert_eq!(node.judge(Ingress, &frame), Verdict::Forwarded);
    };
    let sends = |flags, payload| {
        let frame = with(segment(Egress, (POD, 8080), (PEER, 40000), flags), payload);
        assert_eq!(node.judge(Egress, &frame), Verdict::Forwarded);
    };
    gets(Tcp::Syn, 0);
    sends(Tcp::SynAck, 0);
    gets(Tcp::Ack, 0);
    // Both at the same time.
    sends(Tcp::Fin, 300);
    gets(Tcp::Fin, 0);
    let end = one(traces(&node));
    assert_eq!(carried(&end), Some((traffic(3, 3 * BARE), traffic(2, 2 * BARE + 300))));
    assert_eq!((end.hook, end.direction), (Ingress, Some(Ingress)));
    assert_eq!(end.is_reply, Some(false));
    assert_eq!(end.source_identity, u32::from(world.id("web")));
    sends(Tcp::Ack, 0);
    gets(Tcp::Ack, 0);
    assert_eq!(traces(&node), vec![]);
}

#[test]
fn a_connection_that_was_denied_has_no_end() {
    let (node, _) = node(SMALL);
    let denied = |flags| segment(Ingress, (PEER, 40000), (POD, 8081), flags);
    for flags in [Tcp::Syn, Tcp::Ack, Tcp::Fin, Tcp::Rst] {
        assert_eq!(node.judge(Ingress, &denied(flags)), Verdict::Dropped);
    }
    let answers = |flags| segment(Egress, (POD, 8081), (PEER, 40000), flags);
    assert_eq!(node.judge(Egress, &answers(Tcp::Rst)), Verdict::Dropped);
    assert_eq!(traces(&node), vec![]);
}

#[test]
fn a_port_that_is_used_again_begins_at_nothing() {
    let (node, _) = node(SMALL);
    let connection = Opened(40000);
    connection.opens(&node);
    connection.gets(&node, Tcp::Ack, 1000);
    connection.gets(&node, Tcp::Rst, 0);
    let first = one(traces(&node));
    assert_eq!(carried(&first), Some((traffic(1, BARE), traffic(3, 3 * BARE + 1000))));
    connection.opens(&node);
    connection.sends(&node, Tcp::Rst, 0);
    let second = one(traces(&node));
    assert_eq!(carried(&second), Some((traffic(2, 2 * BARE), traffic(1, BARE))));
}

#[test]
fn what_nobody_saw_from_its_beginning_has_no_figures() {
    let (node, _) = node(SMALL);
    let connection = Opened(40000);
    connection.sends(&node, Tcp::Ack, 100);
    connection.gets(&node, Tcp::Ack, 100);
    connection.gets(&node, Tcp::Rst, 0);
    assert_eq!(carried(&one(traces(&node))), None);
}

fn question(port: u16) -> Vec<u8> {
    datagram(Ingress, (WORLD, port), (POD, 53))
}

fn answer(port: u16) -> Vec<u8> {
    datagram(Egress, (POD, 53), (WORLD, port))
}

#[test]
fn datagrams_have_no_end_and_an_answer_only_where_it_is_asked_for() {
    let exchange = |node: &Node| {
        node.judge(Ingress, &question(40000));
        node.judge(Egress, &answer(40000));
        node.judge(Egress, &answer(40000));
        traces(node)
    };
    let (quiet, _) = node(SMALL);
    assert_eq!(exchange(&quiet), vec![]);
    let (all, _) = node(Limits { traces: Traces::All, ..SMALL });
    let told = one(exchange(&all));
    assert_eq!((told.trace, told.hook), (Some(Trace::Answer), Egress));
    assert_eq!((told.direction, told.is_reply), (Some(Ingress), Some(true)));
}

#[test]
fn as_much_is_told_as_is_asked_for() {
    let connection = Opened(40000);
    let live = |node: &Node| {
        connection.opens(node);
        connection.sends(node, Tcp::Ack, 0);
        connection.sends(node, Tcp::Rst, 0);
        traces(node)
    };
    let (none, _) = node(Limits { traces: Traces::None, ..SMALL });
    assert_eq!(live(&none), vec![]);
    let attempts: u64 = none.datapath.counters().unwrap().traces.attempts.iter().sum();
    assert_eq!(attempts, 1, "the first packet");
    let (all, _) = node(Limits { traces: Traces::All, ..SMALL });
    let told = live(&all);
    let [answer, end] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((answer.trace, flags(answer)), (Some(Trace::Answer), 0x12));
    assert_eq!(carried(end), Some((traffic(3, 3 * BARE), traffic(1, BARE))));
}

#[test]
fn ends_are_told_also_where_room_is_short_and_entries_go_at_once() {
    let (node, _) = node(Limits { connections_per_endpoint: 8, ..SMALL });
    for port in 0..5 {
        Opened(41000 + port).opens(&node);
    }
    for port in 0..50 {
        let connection = Opened(42000 + port);
        connection.opens(&node);
        connection.sends(&node, Tcp::Rst, 0);
        let end = one(traces(&node));
        assert_eq!(carried(&end), Some((traffic(2, 2 * BARE), traffic(1, BARE))));
    }
}

/// Opens a connection and ends it, as often as that.
fn many(node: &Node, count: u16) {
    for port in 0..count {
        Opened(20000 + port).sends(node, Tcp::Syn, 0);
        Opened(20000 + port).sends(node, Tcp::Rst, 0);
    }
}

/// Records that were due, and those that were lost.
fn due(node: &Node) -> (u64, u64) {
    let counters = node.datapath.counters().unwrap().traces;
    (counters.attempts.iter().sum(), counters.lost.iter().sum())
}

/// A ring of 16 KiB: a decision takes 328 bytes with its head, an end 368. Ends stop
/// when more than 12,288 are taken, which is after the 18th; decisions go on to the
/// 29th, at 16,136.
#[test]
fn ends_leave_a_quarter_of_the_ring_to_first_packets() {
    let (node, _) = node(Limits { ring_bytes: 16_384, ..SMALL });
    many(&node, 200);
    let told = node.records();
    let ends = told.iter().filter(|record| record.trace.is_some()).count();
    assert_eq!((told.len() - ends, ends), (29, 18));
    assert_eq!(due(&node), (400, 400 - 47), "every loss is counted");
    // Once there is room, they are told again.
    Opened(40000).opens(&node);
    Opened(40000).gets(&node, Tcp::Rst, 0);
    one(traces(&node));
}

#[test]
fn an_endpoint_has_a_share_of_the_ends_that_are_told() {
    let (mut node, world) = node(Limits { drop_records: 20, ..SMALL });
    let start = Instant::now();
    many(&node, 400);
    let seconds = start.elapsed().as_secs() + 2;
    let told = traces(&node).len() as u64;
    // As many for each second that was begun, and not all.
    assert!((20..=20 * seconds).contains(&told) && told < 400, "{told} in {seconds} s");
    assert_eq!(due(&node), (800, 400 - told));
    // Another endpoint, in the same second.
    let mut desired = strict(&world);
    for endpoint in desired.endpoints.values_mut() {
        endpoint.id += 1;
    }
    node.apply(&desired);
    node.records();
    Opened(50000).sends(&node, Tcp::Syn, 0);
    Opened(50000).sends(&node, Tcp::Rst, 0);
    one(traces(&node));
}
