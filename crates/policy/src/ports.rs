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
}

impl Transport {
    /// The IANA protocol numbers it stands for.
    pub fn numbers(self) -> &'static [u8] {
        match self {
            Self::Any => &[6, 17, 132],
            Self::Tcp => &[6],
            Self::Udp => &[17],
            Self::Sctp => &[132],
        }
    }
}

/// Which ports an entry of `ports` names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Port {
    /// Every port.
    Any,
    /// First to last, both included.
    Range(u16, u16),
    /// The subject's own container port of this name, in lower case; a subject
    /// without one is not matched. Means something for ingress only: what an
    /// egress rule would need is the *peer's* ports.
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
    /// Whether a packet to this port matches. `named` holds the subject's
    /// container ports.
    pub(crate) fn matches(
        &self,
        named: &BTreeMap<String, (u8, u16)>,
        protocol: u8,
        port: u16,
    ) -> bool {
        self.transport.numbers().contains(&protocol)
            && match &self.port {
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
    ) -> bool {
        match self {
            Self::All => true,
            Self::OneOf(list) => list.iter().any(|entry| entry.matches(named, protocol, port)),
        }
    }
}
