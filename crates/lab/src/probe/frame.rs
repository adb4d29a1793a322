//! Whether a packet is the one a probe sent: read from its headers, nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What tells a probe's packets from all others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// Source and destination port.
    Tcp(u16, u16),
    /// Source and destination port.
    Udp(u16, u16),
    /// Source and destination port.
    Sctp(u16, u16),
    /// Identifier of an echo request or reply.
    Echo(u16),
}

/// A probe's packets, in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Which of the packets between them.
    pub mark: Mark,
}

impl Tuple {
    /// The packets that answer.
    pub fn reversed(self) -> Self {
        let mark = match self.mark {
            Mark::Tcp(source, destination) => Mark::Tcp(destination, source),
            Mark::Udp(source, destination) => Mark::Udp(destination, source),
            Mark::Sctp(source, destination) => Mark::Sctp(destination, source),
            Mark::Echo(identifier) => Mark::Echo(identifier),
        };
        Self { source: self.destination, destination: self.source, mark }
    }

    /// Whether a packet, from its network header on, is one of these.
    pub fn matches(&self, ethertype: u16, packet: &[u8]) -> bool {
        let parsed = match ethertype {
            ETHERTYPE_IPV4 => ipv4(packet),
            ETHERTYPE_IPV6 => ipv6(packet),
            _ => None,
        };
        parsed.is_some_and(|(source, destination, protocol, transport)| {
            source == self.source
                && destination == self.destination
                && self.mark.matches(protocol, transport)
        })
    }
}

impl Mark {
    /// Source and destination port of what has ports.
    pub fn ports(self) -> Option<(u16, u16)> {
        match self {
            Self::Tcp(source, destination)
            | Self::Udp(source, destination)
            | Self::Sctp(source, destination) => Some((source, destination)),
            Self::Echo(_) => None,
        }
    }

    fn matches(self, protocol: u8, transport: &[u8]) -> bool {
        match (self, protocol) {
            (Self::Tcp(source, destination), TCP)
            | (Self::Udp(source, destination), UDP)
            | (Self::Sctp(source, destination), SCTP) => {
                number(transport, 0) == Some(source) && number(transport, 2) == Some(destination)
            }
            (Self::Echo(identifier), ICMP) => {
                matches!(transport.first(), Some(0 | 8)) && number(transport, 4) == Some(identifier)
            }
            (Self::Echo(identifier), ICMPV6) => {
                matches!(transport.first(), Some(128 | 129))
                    && number(transport, 4) == Some(identifier)
            }
            _ => false,
        }
    }
}

type Parsed<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn ipv4(packet: &[u8]) -> Option<Parsed<'_>> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let address = |at: usize| {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    Some((address(12)?, address(16)?, *packet.get(9)?, packet.get(header..)?))
}

/// Clients of probes send no extension headers.
fn ipv6(packet: &[u8]) -> Option<Parsed<'_>> {
    let address = |at: usize| {
        let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    Some((address(8)?, address(24)?, *packet.get(6)?, packet.get(40..)?))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.1:1000 to 10.0.0.2:80, TCP.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0x03, 0xe8, 0, 80]);
        packet
    }

    fn tuple(source_port: u16) -> Tuple {
        Tuple {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            mark: Mark::Tcp(source_port, 80),
        }
    }

    #[test]
    fn a_packet_of_another_connection_does_not_count() {
        assert!(tuple(1000).matches(ETHERTYPE_IPV4, &packet()));
        assert!(!tuple(1001).matches(ETHERTYPE_IPV4, &packet()));
        assert!(!tuple(1000).matches(ETHERTYPE_IPV6, &packet()));
    }

    #[test]
    fn a_port_of_another_protocol_does_not_count() {
        let datagrams = Tuple { mark: Mark::Udp(1000, 80), ..tuple(1000) };
        assert!(!datagrams.matches(ETHERTYPE_IPV4, &packet()));
        let mut packet = packet();
        packet[9] = UDP;
        assert!(datagrams.matches(ETHERTYPE_IPV4, &packet));
        assert!(!tuple(1000).matches(ETHERTYPE_IPV4, &packet));
        let associations = Tuple { mark: Mark::Sctp(1000, 80), ..tuple(1000) };
        assert!(!associations.matches(ETHERTYPE_IPV4, &packet));
        packet[9] = SCTP;
        assert!(associations.matches(ETHERTYPE_IPV4, &packet));
        assert!(!datagrams.matches(ETHERTYPE_IPV4, &packet));
    }

    #[test]
    fn an_answer_is_not_taken_for_the_question() {
        assert!(!tuple(1000).reversed().matches(ETHERTYPE_IPV4, &packet()));
        assert_eq!(tuple(1000).reversed().reversed(), tuple(1000));
    }

    #[test]
    fn an_echo_is_known_by_its_identifier() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 58, 64];
        packet.extend([0; 15]);
        packet.push(1);
        packet.extend([0; 15]);
        packet.push(2);
        packet.extend([128, 0, 0, 0, 0x12, 0x34, 0, 1]);
        let tuple = |identifier| Tuple {
            source: "::1".parse().unwrap(),
            destination: "::2".parse().unwrap(),
            mark: Mark::Echo(identifier),
        };
        assert!(tuple(0x1234).matches(ETHERTYPE_IPV6, &packet));
        assert!(!tuple(0x1235).matches(ETHERTYPE_IPV6, &packet));
    }

    #[test]
    fn a_truncated_packet_matches_nothing() {
        for length in 0..packet().len() {
            assert!(!tuple(1000).matches(ETHERTYPE_IPV4, &packet()[..length]));
        }
    }
}
