//! What the kernel program reads out of a frame, against an independent packet
//! library: on honest frames, damaged ones and noise.
//!
//! Frames of an interface without an endpoint are dropped whatever they hold, and
//! their record says how far they parsed.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of a test are the test"
)]

mod support;

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::Record;
use etherparse::{
    EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket, LinkSlice, NetSlice, SlicedPacket,
    TcpHeader, TransportSlice, UdpHeader,
};
use model::{Direction, Layer4};
use support::*;

use Direction::Egress;

const FRAMES: usize = 20_000;
/// A test run takes no frame that is shorter than its headers should be.
const SHORTEST: usize = 54;
const FRAMES_FOR_LONG: usize = 1_000_000;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 33) as usize % bound
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// Ends, and what a transport header says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Reading {
    addresses: (IpAddr, IpAddr),
    /// Protocol, and ports or type and code; zeros where there are none.
    transport: (u8, u16, u16),
}

fn of_record(record: &Record) -> Option<Reading> {
    let transport = match record.l4? {
        Layer4::Tcp { source, destination, .. } => (6, source, destination),
        Layer4::Udp { source, destination } => (17, source, destination),
        Layer4::Sctp { source, destination } => (132, source, destination),
        Layer4::Icmpv4(message) => (1, message.kind.into(), message.code.into()),
        Layer4::Icmpv6(message) => (58, message.kind.into(), message.code.into()),
        Layer4::Other(protocol) => (protocol, 0, 0),
    };
    Some(Reading { addresses: record.addresses?, transport })
}

/// A protocol that the library does not read: its first bytes.
fn unread(protocol: IpNumber, payload: &[u8]) -> Option<(u8, u16, u16)> {
    let word = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
    match protocol.0 {
        132 => payload.get(..12).and(Some((132, word(0)?, word(2)?))),
        // The library reads ICMP only in its own family.
        1 | 58 if payload.len() >= 8 => Some((protocol.0, payload[0].into(), payload[1].into())),
        1 | 58 | 6 | 17 => None,
        other => Some((other, 0, 0)),
    }
}

fn transport(
    slice: Option<&TransportSlice>,
    protocol: IpNumber,
    payload: &[u8],
) -> Option<(u8, u16, u16)> {
    match slice {
        Some(TransportSlice::Tcp(tcp)) => Some((6, tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => Some((17, udp.source_port(), udp.destination_port())),
        Some(TransportSlice::Icmpv4(icmp)) => {
            Some((1, icmp.type_u8().into(), icmp.code_u8().into()))
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            Some((58, icmp.type_u8().into(), icmp.code_u8().into()))
        }
        Some(TransportSlice::Igmp(_)) => Some((2, 0, 0)),
        None => unread(protocol, payload),
    }
}

/// Every frame that the library finds whole and that asks for nothing that is
/// refused: tags, parts of datagrams, headers that hide something, long chains.
fn strict(frame: &[u8]) -> Option<Reading> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let plain = matches!(packet.link, Some(LinkSlice::Ethernet2(_))) && packet.link_exts.is_empty();
    let (addresses, payload) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let ends = (header.source_addr().into(), header.destination_addr().into());
            // Some options are refused; those with any are compared below only.
            if ip.extensions().auth.is_some() || header.ihl() > 5 {
                return None;
            }
            (ends, ip.payload())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let (source, destination) = (header.source_addr(), header.destination_addr());
            let mapped = [source, destination].iter().any(|it| it.to_ipv4_mapped().is_some());
            if mapped || header.payload_length() == 0 || !walkable(frame) {
                return None;
            }
            ((source.into(), destination.into()), ip.payload())
        }
        NetSlice::Arp(_) => return None,
    };
    if !plain || payload.fragmented {
        return None;
    }
    let transport = transport(packet.transport.as_ref(), payload.ip_number, payload.payload)?;
    Some(Reading { addresses, transport })
}

/// Whether the chain of IPv6 extension headers is one that is walked; by hand,
/// from RFC 8200 section 4.
fn walkable(frame: &[u8]) -> bool {
    let (mut next, mut at, mut divided) = (frame[20], 54, false);
    for turn in 0..6 {
        let bytes = match next {
            0 if turn == 0 => 8 * (1 + usize::from(frame[at + 1])),
            60 => 8 * (1 + usize::from(frame[at + 1])),
            44 if !divided => 8,
            0 | 43 | 44 | 51 => return false,
            // Known to the library as headers; here they are protocols.
            135 | 139 | 140 => return false,
            _ => return true,
        };
        divided |= next == 44;
        next = frame[at];
        at += bytes;
    }
    false
}

/// What the library makes of it, however damaged.
fn lax(frame: &[u8]) -> Option<Reading> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let (addresses, payload) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            // The library looks behind an authentication header (RFC 4302); here that is
            // a protocol, judged by its number.
            if ip.extensions().auth.is_some() {
                let addresses = (header.source_addr().into(), header.destination_addr().into());
                return Some(Reading { addresses, transport: (51, 0, 0) });
            }
            ((header.source_addr().into(), header.destination_addr().into()), ip.payload())
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            ((header.source_addr().into(), header.destination_addr().into()), ip.payload())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let transport = match packet.transport.as_ref() {
        None if payload.fragmented => first_fragment(payload.ip_number, payload.payload),
        slice => transport(slice, payload.ip_number, payload.payload),
    };
    Some(Reading { addresses, transport: transport? })
}

/// The library leaves fragments alone; of a first one it reads the headers by
/// themselves. A later one has none of which anybody would read ports here.
fn first_fragment(protocol: IpNumber, payload: &[u8]) -> Option<(u8, u16, u16)> {
    match protocol {
        IpNumber::TCP => {
            let (tcp, _) = TcpHeader::from_slice(payload).ok()?;
            Some((6, tcp.source_port, tcp.destination_port))
        }
        IpNumber::UDP => {
            let (udp, _) = UdpHeader::from_slice(payload).ok()?;
            Some((17, udp.source_port, udp.destination_port))
        }
        other => unread(other, payload),
    }
}

/// An honest frame of a random kind.
fn honest(dice: &mut Dice) -> Vec<u8> {
    let (source, destination) = (dice.below(65536) as u16, dice.below(65536) as u16);
    let v6 = dice.below(2) == 1;
    let ends: (IpAddr, IpAddr) =
        if v6 { (POD6.into(), PEER6.into()) } else { (POD.into(), PEER.into()) };
    let mut head = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    head.resize(8 + dice.below(40), 0x50);
    match dice.below(9) {
        0 => segment(Egress, (ends.0, source), (ends.1, destination), Tcp::Ack),
        1 => datagram(Egress, (ends.0, source), (ends.1, destination)),
        2 => echo(Egress, ends.0, ends.1, source, dice.below(2) == 1),
        3 => raw(Egress, ends.0, ends.1, 132, &head),
        4 => raw(Egress, ends.0, ends.1, dice.byte(), &head),
        5 if v6 => chain(dice, &head),
        6 => {
            let mut frame = datagram(Egress, (ends.0, source), (ends.1, destination));
            let tag = [0x81, 0, 0, dice.byte()];
            frame.splice(12..12, tag);
            frame
        }
        7 if !v6 => {
            let mut frame = datagram(Egress, (ends.0, source), (ends.1, destination));
            frame[20] = dice.byte() & 0x3f;
            frame
        }
        _ => {
            let mut frame = segment(Egress, (ends.0, source), (ends.1, destination), Tcp::Syn);
            frame.extend(std::iter::repeat_n(0xee, dice.below(30)));
            frame
        }
    }
}

/// A datagram behind up to seven extension headers.
fn chain(dice: &mut Dice, head: &[u8]) -> Vec<u8> {
    const KINDS: [u8; 7] = [60, 60, 60, 0, 44, 43, 51];
    let kinds: Vec<u8> = (0..dice.below(8))
        .map(|at| if at == 0 && dice.below(3) == 0 { 0 } else { KINDS[dice.below(7)] })
        .collect();
    let mut payload = Vec::new();
    for at in 0..kinds.len() {
        let next = kinds.get(at + 1).copied().unwrap_or(17);
        let words = if kinds[at] == 44 { 0 } else { dice.below(3) as u8 };
        // A fragment header has two bytes of flags here: mostly none is set.
        let flags = if kinds[at] == 44 && dice.below(2) == 0 { dice.byte() } else { 0 };
        payload.extend([next, words, 0, flags, 0, 0, 0, 0]);
        payload.extend(vec![0; 8 * usize::from(words)]);
    }
    let mut head = head.to_vec();
    let length = u16::try_from(head.len()).unwrap();
    head[4..8].copy_from_slice(&[length.to_be_bytes(), [0, 0]].concat());
    payload.extend(head);
    raw(Egress, POD6, PEER6, kinds.first().copied().unwrap_or(17), &payload)
}

fn damaged(dice: &mut Dice) -> Vec<u8> {
    let mut frame = honest(dice);
    for _ in 0..dice.below(6) {
        // Headers are where damage counts.
        let at = dice.below(frame.len().min(70));
        frame[at] = dice.byte();
    }
    match dice.below(5) {
        0 => frame.truncate(SHORTEST + dice.below(frame.len())),
        1 => frame.extend((0..dice.below(20)).map(|_| dice.byte())),
        _ => {}
    }
    frame
}

fn noise(dice: &mut Dice) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..SHORTEST + dice.below(90)).map(|_| dice.byte()).collect();
    let kind = [EtherType::IPV4, EtherType::IPV6, EtherType::ARP][dice.below(3)];
    frame[12..14].copy_from_slice(&kind.0.to_be_bytes());
    if dice.below(2) == 0 && frame.len() > 20 {
        frame[14] = if kind == EtherType::IPV4 { 0x45 } else { 0x60 };
    }
    frame
}

/// Both readings of so many frames; counts what there was to compare.
fn compare(seed: u64, frames: usize) -> BTreeMap<&'static str, usize> {
    let node = Node::new(SMALL);
    let mut dice = Dice(seed);
    let mut counts = BTreeMap::new();
    for _ in 0..frames {
        let mut frame = match dice.below(10) {
            0..=2 => honest(&mut dice),
            3..=8 => damaged(&mut dice),
            _ => noise(&mut dice),
        };
        frame.resize(frame.len().max(SHORTEST), 0);
        let record = node.record(Egress, &frame);
        assert_eq!(record.reason, 203);
        let ours = of_record(&record);
        let count = match (ours, strict(&frame)) {
            (Some(ours), Some(theirs)) => {
                assert_eq!(ours, theirs, "{frame:02x?}");
                "both"
            }
            (None, Some(theirs)) => {
                panic!("refused, although it is whole: {theirs:?} {record:?} {frame:02x?}")
            }
            (Some(ours), None) => {
                assert_eq!(Some(ours), lax(&frame), "{frame:02x?}");
                "only ours"
            }
            (None, None) => "neither",
        };
        *counts.entry(count).or_insert(0) += 1;
    }
    counts
}

#[test]
fn frames_are_read_as_an_independent_library_reads_them() {
    let counts = compare(1, FRAMES);
    for kind in ["both", "neither"] {
        let share = counts.get(kind).copied().unwrap_or(0);
        assert!(share * 100 >= FRAMES * 15, "{kind}: {counts:?}");
    }
}

#[test]
#[ignore = "soak: a million frames"]
fn frames_are_read_as_an_independent_library_reads_them_for_long() {
    println!("{:?}", compare(2, FRAMES_FOR_LONG));
}
