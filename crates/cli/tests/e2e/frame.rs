//! Frames as a hostile pod makes them, byte by byte, and their recognition where
//! they arrive. Knows no policy: a kind says what is wrong with a frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const FIRST_PORT: u16 = 40_000;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
/// Length of an Ethernet header.
const LINK: usize = 14;

/// What tells a frame from the allowed one: exactly one field.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Nothing: the policy lets it pass.
    Allowed,
    /// A port that the policy does not open.
    OtherPort,
    /// The address of a neighbour who may send this.
    StolenAddress,
    /// A MAC that is not the pod's.
    StolenMac,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Allowed, Self::OtherPort, Self::StolenAddress, Self::StolenMac];

    /// The source port that says which kind a frame is of.
    fn mark(self) -> u16 {
        FIRST_PORT + self as u16
    }
}

/// Between whom a frame travels.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source and destination on the link.
    pub macs: ([u8; 6], [u8; 6]),
    /// Source and destination, of one family.
    pub addresses: (IpAddr, IpAddr),
    /// Destination port.
    pub port: u16,
}

/// A TCP segment that opens a connection, in a frame.
pub fn build(kind: Kind, ends: &Ends) -> Vec<u8> {
    let tcp = segment(kind.mark(), ends);
    let mut frame = [ends.macs.1, ends.macs.0].concat();
    let length = u16::try_from(tcp.len()).unwrap();
    match ends.addresses {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend(IPV4.to_be_bytes());
            let mut ip = vec![0x45, 0];
            ip.extend((20 + length).to_be_bytes());
            ip.extend([0, 0, 0x40, 0, 64, TCP, 0, 0]);
            ip.extend(source.octets());
            ip.extend(destination.octets());
            let sum = checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(ip);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend(IPV6.to_be_bytes());
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([TCP, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => panic!("{source} and {destination} are of different families"),
    }
    frame.extend(tcp);
    frame
}

/// RFC 9293 section 3.1: no options, SYN alone, over the pseudo header's checksum.
fn segment(source_port: u16, ends: &Ends) -> Vec<u8> {
    let mut tcp = [source_port.to_be_bytes(), ends.port.to_be_bytes()].concat();
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = u16::try_from(tcp.len()).unwrap().to_be_bytes();
    let pseudo = [octets(ends.addresses.0), octets(ends.addresses.1)].concat();
    let sum = checksum(&[&pseudo, &[0, TCP], &length, &tcp]);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    tcp
}

/// RFC 1071, over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Kind and source of a frame of ours; `None` for any other.
pub fn read(frame: &[u8]) -> Option<(Kind, IpAddr)> {
    let bytes = |at: usize, length: usize| frame.get(at..at + length);
    let number = |at: usize| Some(u16::from_be_bytes(bytes(at, 2)?.try_into().ok()?));
    let (source, protocol, transport) = match number(12)? {
        IPV4 => {
            let octets: [u8; 4] = bytes(LINK + 12, 4)?.try_into().ok()?;
            let header = usize::from(frame.get(LINK)? & 0xf) * 4;
            (IpAddr::V4(Ipv4Addr::from(octets)), *frame.get(LINK + 9)?, LINK + header)
        }
        IPV6 => {
            let octets: [u8; 16] = bytes(LINK + 8, 16)?.try_into().ok()?;
            (IpAddr::V6(Ipv6Addr::from(octets)), *frame.get(LINK + 6)?, LINK + 40)
        }
        _ => return None,
    };
    let mark = number(transport)?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.mark() == mark)?;
    (protocol == TCP).then_some((kind, source))
}
