//! Packets that carry packets: whoever unpacks one sends what is inside, which nobody
//! has judged. A pod may send them only where a rule names their protocol or, for those
//! that a node's overlay would unpack, their port.

use model::Direction;

use crate::evaluate::Probe;
use crate::ports::{Port, Ports};
use crate::rule::Rule;

/// Protocols that carry packets, by their IANA numbers: IPv4, IPv6, GRE, ESP, AH,
/// minimal encapsulation, IPIP, EtherIP, ENCAP, L2TP, MPLS and Ethernet.
const CARRIERS: [u8; 12] = [4, 41, 47, 50, 51, 55, 94, 97, 98, 115, 137, 143];

/// UDP ports of overlays: VXLAN (RFC 7348) and where Linux has it, Geneve (RFC 8926).
const OVERLAYS: [u16; 3] = [4789, 8472, 6081];

const UDP: u8 = 17;

/// Whether more is asked of a rule that lets a pod's packet out than to match.
pub(crate) fn carries(probe: &Probe<'_>) -> bool {
    probe.direction == Direction::Egress
        && (CARRIERS.contains(&probe.protocol) || enters_overlay(probe))
}

fn enters_overlay(probe: &Probe<'_>) -> bool {
    let to_node = ["host", "remote-node"].iter().any(|name| probe.peer.has_reserved(name));
    probe.protocol == UDP && OVERLAYS.contains(&probe.port) && to_node
}

/// Whether one of the rules that let such a packet through names what has to be named.
pub(crate) fn is_named(deciding: &[&Rule], probe: &Probe<'_>) -> bool {
    deciding.iter().any(|rule| match &rule.ports {
        Ports::All => false,
        Ports::OneOf(_) if probe.protocol != UDP => true,
        // Who lets every port through as well names none.
        Ports::OneOf(list) => {
            let mut about = list.iter().filter(|one| one.transport.numbers().contains(&UDP));
            about.all(|one| !matches!(one.port, Port::Any | Port::Range(0, u16::MAX)))
        }
    })
}
