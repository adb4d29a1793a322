//! A flow: one decision about one packet, with all that an operator asks about it.

use std::net::IpAddr;
use std::time::Duration;

use crate::identity::IdentityId;
use crate::label::Labels;
use crate::process::Attribution;
use crate::reason::Reason;
use crate::rule::{Direction, PolicyName, RuleId};

/// The decision.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// The packet went on.
    Forwarded,
    /// The packet was dropped.
    Dropped,
}

/// TCP flags as the header carries them: bit 0 FIN, 1 SYN, 2 RST, 3 PSH, 4 ACK,
/// 5 URG, 6 ECE, 7 CWR (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct TcpFlags(pub u8);

/// Type and code of an ICMP message (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct IcmpMessage {
    /// Message type.
    pub kind: u8,
    /// Message code.
    pub code: u8,
}

/// The transport header.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Layer4 {
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags of this packet.
        flags: TcpFlags,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// SCTP.
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP for IPv4.
    Icmpv4(IcmpMessage),
    /// ICMP for IPv6.
    Icmpv6(IcmpMessage),
    /// Another protocol, by its IANA number.
    Other(u8),
}

impl Layer4 {
    /// Source port, for protocols that have one.
    pub fn source_port(self) -> Option<u16> {
        match self {
            Self::Tcp { source, .. } | Self::Udp { source, .. } | Self::Sctp { source, .. } => {
                Some(source)
            }
            Self::Icmpv4(_) | Self::Icmpv6(_) | Self::Other(_) => None,
        }
    }

    /// Destination port, for protocols that have one.
    pub fn destination_port(self) -> Option<u16> {
        match self {
            Self::Tcp { destination, .. }
            | Self::Udp { destination, .. }
            | Self::Sctp { destination, .. } => Some(destination),
            Self::Icmpv4(_) | Self::Icmpv6(_) | Self::Other(_) => None,
        }
    }
}

/// How specific the matching table entry was, with Hubble's numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MatchType {
    /// Nothing matched.
    None,
    /// Peer only.
    L3Only,
    /// Peer, protocol and port.
    L3L4,
    /// Protocol and port, any peer.
    L4Only,
    /// Everything.
    All,
    /// Peer and protocol.
    L3Proto,
    /// Protocol, any peer.
    ProtoOnly,
}

impl MatchType {
    /// The number in Hubble's `policy_match_type`.
    pub fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::L3Only => 1,
            Self::L3L4 => 2,
            Self::L4Only => 3,
            Self::All => 4,
            Self::L3Proto => 5,
            Self::ProtoOnly => 6,
        }
    }
}

/// The policy side of a decision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyMatch {
    /// How specific the match was.
    pub match_type: MatchType,
    /// All rules that decided at that precedence, sorted.
    pub rules: Vec<RuleId>,
    /// For a default deny: the policies that switched it on.
    pub because: Vec<PolicyName>,
    /// The one revision the packet was judged by.
    pub revision: u32,
    /// Texts that these rules want their flows to carry, each once, sorted.
    pub log: Vec<String>,
}

/// What would have been decided if policies in shadow mode were in force, and
/// retired ones away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shadow {
    /// The decision.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// All rules that would have decided, sorted.
    pub rules: Vec<RuleId>,
    /// For a default deny: the policies that would have switched it on.
    pub because: Vec<PolicyName>,
}

/// Frames of one end of a connection that passed, as an interface hands them over.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Traffic {
    /// How many; with segmentation offload one is many segments.
    pub packets: u64,
    /// Their bytes, link layer included.
    pub bytes: u64,
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Carried {
    /// From its first packet to its end, as exact as the kernel's tick.
    pub lived: Duration,
    /// From who opened it.
    pub initiator: Traffic,
    /// From the other end.
    pub responder: Traffic,
}

/// What is told of a connection after its first packet.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Trace {
    /// Its first answer.
    Answer,
    /// Its end; `None`: nobody has counted from its beginning.
    End(Option<Carried>),
}

/// One end of a flow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    /// `None`: not resolved, as for a packet that did not parse.
    pub identity: Option<IdentityId>,
    /// What the identity stands for.
    pub labels: Labels,
    /// Namespace of the pod; empty when the end is no pod.
    pub namespace: String,
    /// Name of the pod; empty when the end is no pod.
    pub pod: String,
    /// Kind and name of the owner (`Deployment`, `web`), if known.
    pub workload: Option<(String, String)>,
    /// Namespace and name of the service whose own address this end's is.
    pub service: Option<(String, String)>,
    /// Local endpoint number; 0 when the end is not on this node.
    pub endpoint_id: u32,
    /// Its process.
    pub process: Attribution,
}

/// One decision about one packet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flow {
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The decision.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Which of the endpoint's directions was judged; for replies still that of
    /// the connection's first packet. `None` when the packet did not get that far.
    pub direction: Option<Direction>,
    /// Which way the packet crossed the interface on which it was judged: `Egress`
    /// when its source is behind that interface.
    pub hook: Direction,
    /// Whether the packet answers an earlier one; `None` when nobody can say.
    pub is_reply: Option<bool>,
    /// Source address and destination address, as travelled; `None` for frames
    /// that are not IP.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Source and destination MAC, as travelled.
    pub ethernet: ([u8; 6], [u8; 6]),
    /// EtherType of the frame.
    pub ether_type: u16,
    /// Transport; `None` when it was not reached.
    pub l4: Option<Layer4>,
    /// Length of the packet in bytes, link layer included.
    pub length: u32,
    /// Where it came from.
    pub source: End,
    /// Where it went.
    pub destination: End,
    /// Which policy decided; `None` when no policy was asked.
    pub policy: Option<PolicyMatch>,
    /// What would have been decided; `None`: nobody in shadow mode is concerned, or it
    /// is not known.
    pub shadow: Option<Shadow>,
    /// What this tells of a connection that was allowed before; `None`: the flow is a
    /// decision.
    pub trace: Option<Trace>,
    /// Name of the node that judged.
    pub node: String,
    /// Name of the interface on which it was judged.
    pub interface: (u32, String),
    /// CPU and number of the kernel's record: unique on a node since boot.
    pub record: (u32, u64),
}
