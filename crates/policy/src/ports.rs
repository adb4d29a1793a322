//! Transport protocols and ports of rules.

use std::collections::BTreeMap;

/// Which transport protocols an entry of `ports` names.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Transport {
    /// TCP, UDP and SCTP; nothing else, so never ICMP.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// The protocol with this IANA number. ICMP and ICMPv6 have types where
    /// others have ports.
    Number(u8),
}

/// The IANA number of ICMP.
pub(crate) const ICMP: u8 = 1;
/// The IANA number of ICMPv6.
pub(crate) const ICMPV6: u8 = 58;

/// Every number, so that one of them can be lent out as a slice.
static NUMBERS: [u8; 256] = {
    let mut numbers = [0; 256];
    let mut at = 0;
    while at < 256 {
        numbers[at] = at as u8;
        at += 1;
    }
    numbers
};

impl Transport {
    /// The IANA protocol numbers it stands for.
    pub fn numbers(self) -> &'static [u8] {
        match self {
            Self::Any => &[6, 17, 132],
            Self::Tcp => &[6],
            Self::Udp => &[17],
            Self::Sctp => &[132],
            Self::Number(number) => {
                NUMBERS.get(usize::from(number)..=usize::from(number)).unwrap_or_default()
            }
        }
    }
}

/// Which ports an entry of `ports` names.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Port {
    /// Every port.
    Any,
    /// First to last, both included.
    Range(u16, u16),
    /// The container port of this name, in lower case, of the packet's
    /// destination: the subject's own in ingress rules, the peer's in egress
    /// rules. A destination without one is not matched.
    Named(String),
}

/// One entry of `ports`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortMatch {
    /// Protocols.
    pub transport: Transport,
    /// Ports of these protocols.
    pub port: Port,
}

impl PortMatch {
    /// Whether a packet to this port matches. `named` holds the destination's
    /// container ports.
    pub(crate) fn matches(
        &self,
        named: &BTreeMap<String, (u8, u16)>,
        protocol: u8,
        port: u16,
        icmp_types: bool,
    ) -> bool {
        self.transport.numbers().contains(&protocol)
            && match &self.port {
                // Whoever cannot tell types apart takes one for all of them.
                Port::Range(..) if !icmp_types && matches!(protocol, ICMP | ICMPV6) => true,
                Port::Any => true,
                Port::Range(first, last) => (*first..=*last).contains(&port),
                Port::Named(name) => named.get(name) == Some(&(protocol, port)),
            }
    }
}

/// The ports of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ports {
    /// Every protocol, ICMP and unknown ones included.
    All,
    /// These; none, if the list is empty.
    OneOf(Vec<PortMatch>),
}

impl Ports {
    /// Whether a packet of this protocol to this port matches.
    pub(crate) fn matches(
        &self,
        named: &BTreeMap<String, (u8, u16)>,
        protocol: u8,
        port: u16,
        icmp_types: bool,
    ) -> bool {
        match self {
            Self::All => true,
            Self::OneOf(list) => {
                list.iter().any(|entry| entry.matches(named, protocol, port, icmp_types))
            }
        }
    }

    /// The names of ports in it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let list = match self {
            Self::All => &[][..],
            Self::OneOf(list) => list,
        };
        list.iter().filter_map(|entry| match &entry.port {
            Port::Named(name) => Some(name.as_str()),
            Port::Any | Port::Range(..) => None,
        })
    }

    /// Whether it tells ICMP types apart.
    pub(crate) fn has_icmp_types(&self) -> bool {
        let Self::OneOf(list) = self else { return false };
        list.iter().any(|entry| {
            matches!(entry.transport, Transport::Number(ICMP | ICMPV6))
                && matches!(entry.port, Port::Range(..))
        })
    }

    /// Whether it names the packet's port alone.
    pub(crate) fn names_exactly(
        &self,
        named: &BTreeMap<String, (u8, u16)>,
        protocol: u8,
        port: u16,
    ) -> bool {
        let Self::OneOf(list) = self else { return false };
        list.iter().filter(|entry| entry.matches(named, protocol, port, true)).any(|entry| {
            match entry.port {
                Port::Any => false,
                Port::Range(first, last) => first == last,
                Port::Named(_) => true,
            }
        })
    }
}
