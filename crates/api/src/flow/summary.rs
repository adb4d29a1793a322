//! The text in brackets at the end of a line of `observe`. Clients print it as
//! it comes, so it has Hubble's wording.

use model::{IcmpMessage, Layer4, TcpFlags};

/// Names of the flags in the order Hubble prints them, with their bits.
const FLAGS: [(&str, u8); 8] = [
    ("SYN", 1),
    ("ACK", 4),
    ("RST", 2),
    ("FIN", 0),
    ("PSH", 3),
    ("URG", 5),
    ("ECE", 6),
    ("CWR", 7),
];

/// ICMP types (RFC 792 and later) with the names of their codes.
const ICMPV4: &[(u8, &str, &[&str])] = &[
    (0, "EchoReply", &[]),
    (
        3,
        "DestinationUnreachable",
        &[
            "Net",
            "Host",
            "Protocol",
            "Port",
            "FragmentationNeeded",
            "SourceRoutingFailed",
            "NetUnknown",
            "HostUnknown",
            "SourceIsolated",
            "NetAdminProhibited",
            "HostAdminProhibited",
            "NetTOS",
            "HostTOS",
            "CommAdminProhibited",
            "HostPrecedence",
            "PrecedenceCutoff",
        ],
    ),
    (4, "SourceQuench", &[]),
    (5, "Redirect", &["Net", "Host", "TOS+Net", "TOS+Host"]),
    (8, "EchoRequest", &[]),
    (9, "RouterAdvertisement", &[]),
    (10, "RouterSolicitation", &[]),
    (11, "TimeExceeded", &["TTLExceeded", "FragmentReassemblyTimeExceeded"]),
    (12, "ParameterProblem", &["PointerIndicatesError", "MissingOption", "BadLength"]),
    (13, "TimestampRequest", &[]),
    (14, "TimestampReply", &[]),
];

/// ICMPv6 types (RFC 4443, 4861, 2710, 3810) with the names of their codes.
const ICMPV6: &[(u8, &str, &[&str])] = &[
    (
        1,
        "DestinationUnreachable",
        &[
            "NoRouteToDst",
            "AdminProhibited",
            "BeyondScopeOfSrc",
            "Address",
            "Port",
            "SrcAddressFailedPolicy",
            "RejectRouteToDst",
        ],
    ),
    (2, "PacketTooBig", &[]),
    (3, "TimeExceeded", &["HopLimitExceeded", "FragmentReassemblyTimeExceeded"]),
    (
        4,
        "ParameterProblem",
        &["ErroneousHeader", "UnrecognizedNextHeader", "UnrecognizedIPv6Option"],
    ),
    (128, "EchoRequest", &[]),
    (129, "EchoReply", &[]),
    (130, "MLDv1MulticastListenerQueryMessage", &[]),
    (131, "MLDv1MulticastListenerReportMessage", &[]),
    (132, "MLDv1MulticastListenerDoneMessage", &[]),
    (133, "RouterSolicitation", &[]),
    (134, "RouterAdvertisement", &[]),
    (135, "NeighborSolicitation", &[]),
    (136, "NeighborAdvertisement", &[]),
    (137, "Redirect", &[]),
    (143, "MLDv2MulticastListenerReportMessageV2", &[]),
];

/// What travelled, in a few words.
pub(super) fn of(flow: &model::Flow) -> String {
    match (flow.l4, flow.addresses) {
        (Some(Layer4::Tcp { flags, .. }), _) => tcp(flags),
        (Some(Layer4::Udp { .. }), _) => "UDP".to_owned(),
        (Some(Layer4::Sctp { .. }), _) => "SCTP".to_owned(),
        (Some(Layer4::Icmpv4(message)), _) => format!("ICMPv4 {}", icmp(ICMPV4, message)),
        (Some(Layer4::Icmpv6(message)), _) => format!("ICMPv6 {}", icmp(ICMPV6, message)),
        (Some(Layer4::Other(protocol)), _) => format!("IP protocol {protocol}"),
        (None, Some((source, _))) if source.is_ipv4() => "IPv4".to_owned(),
        (None, Some(_)) => "IPv6".to_owned(),
        (None, None) => frame(flow.ether_type),
    }
}

fn tcp(flags: TcpFlags) -> String {
    let set: Vec<&str> =
        FLAGS.iter().filter(|(_, bit)| flags.0 & 1 << bit != 0).map(|(name, _)| *name).collect();
    if set.is_empty() {
        "TCP Flags: none".to_owned()
    } else {
        format!("TCP Flags: {}", set.join(", "))
    }
}

fn icmp(types: &[(u8, &str, &[&str])], message: IcmpMessage) -> String {
    let IcmpMessage { kind, code } = message;
    let Some((_, name, codes)) = types.iter().find(|(number, _, _)| *number == kind) else {
        return format!("{kind}({code})");
    };
    match (codes.get(usize::from(code)), code) {
        (Some(text), _) => format!("{name}({text})"),
        (None, 0) => (*name).to_owned(),
        (None, code) => format!("{name}(Code: {code})"),
    }
}

fn frame(ether_type: u16) -> String {
    match ether_type {
        0x0800 => "IPv4".to_owned(),
        0x0806 => "ARP".to_owned(),
        0x86dd => "IPv6".to_owned(),
        other => format!("EtherType 0x{other:04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_flags_come_in_hubbles_order() {
        assert_eq!(tcp(TcpFlags(0b0000_0010)), "TCP Flags: SYN");
        assert_eq!(tcp(TcpFlags(0b0001_0010)), "TCP Flags: SYN, ACK");
        assert_eq!(tcp(TcpFlags(0xff)), "TCP Flags: SYN, ACK, RST, FIN, PSH, URG, ECE, CWR");
        assert_eq!(tcp(TcpFlags(0)), "TCP Flags: none");
    }

    #[track_caller]
    fn check(types: &[(u8, &str, &[&str])], kind: u8, code: u8, want: &str) {
        assert_eq!(icmp(types, IcmpMessage { kind, code }), want);
    }

    #[test]
    fn icmp_messages_have_names() {
        check(ICMPV4, 8, 0, "EchoRequest");
        check(ICMPV4, 3, 3, "DestinationUnreachable(Port)");
        check(ICMPV6, 128, 0, "EchoRequest");
        check(ICMPV6, 135, 0, "NeighborSolicitation");
    }

    #[test]
    fn icmp_messages_without_a_name_show_their_numbers() {
        check(ICMPV4, 250, 7, "250(7)");
        check(ICMPV4, 3, 99, "DestinationUnreachable(Code: 99)");
    }
}
