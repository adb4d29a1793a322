//! Why a packet was allowed or dropped: one list from the kernel to the screen.
//!
//! Drop codes, their names and their texts are those of Hubble's API, so that
//! the tools people have print them.

use std::fmt;

/// Code, name in Hubble's `DropReason`, text in Hubble's `observe`.
const DROP_REASONS: &[(u8, &str, &str)] = &[
    (130, "INVALID_SOURCE_MAC", "Invalid source mac"),
    (131, "INVALID_DESTINATION_MAC", "Invalid destination mac"),
    (132, "INVALID_SOURCE_IP", "Invalid source ip"),
    (133, "POLICY_DENIED", "Policy denied"),
    (134, "INVALID_PACKET_DROPPED", "Invalid packet"),
    (135, "CT_TRUNCATED_OR_INVALID_HEADER", "CT: Truncated or invalid header"),
    (136, "CT_MISSING_TCP_ACK_FLAG", "Fragmentation needed"),
    (137, "CT_UNKNOWN_L4_PROTOCOL", "CT: Unknown L4 protocol"),
    (138, "CT_CANNOT_CREATE_ENTRY_FROM_PACKET", "CT: Can't create entry from packet"),
    (139, "UNSUPPORTED_L3_PROTOCOL", "Unsupported L3 protocol"),
    (140, "MISSED_TAIL_CALL", "Missed tail call"),
    (141, "ERROR_WRITING_TO_PACKET", "Error writing to packet"),
    (142, "UNKNOWN_L4_PROTOCOL", "Unknown L4 protocol"),
    (143, "UNKNOWN_ICMPV4_CODE", "Unknown ICMPv4 code"),
    (144, "UNKNOWN_ICMPV4_TYPE", "Unknown ICMPv4 type"),
    (145, "UNKNOWN_ICMPV6_CODE", "Unknown ICMPv6 code"),
    (146, "UNKNOWN_ICMPV6_TYPE", "Unknown ICMPv6 type"),
    (147, "ERROR_RETRIEVING_TUNNEL_KEY", "Error retrieving tunnel key"),
    (148, "ERROR_RETRIEVING_TUNNEL_OPTIONS", "Error retrieving tunnel options"),
    (149, "INVALID_GENEVE_OPTION", "Invalid Geneve option"),
    (150, "UNKNOWN_L3_TARGET_ADDRESS", "Unknown L3 target address"),
    (151, "STALE_OR_UNROUTABLE_IP", "Stale or unroutable IP"),
    (152, "NO_MATCHING_LOCAL_CONTAINER_FOUND", "No matching local container found"),
    (153, "ERROR_WHILE_CORRECTING_L3_CHECKSUM", "Error while correcting L3 checksum"),
    (154, "ERROR_WHILE_CORRECTING_L4_CHECKSUM", "Error while correcting L4 checksum"),
    (155, "CT_MAP_INSERTION_FAILED", "CT: Map insertion failed"),
    (156, "INVALID_IPV6_EXTENSION_HEADER", "Invalid IPv6 extension header"),
    (157, "IP_FRAGMENTATION_NOT_SUPPORTED", "IP fragmentation not supported"),
    (158, "SERVICE_BACKEND_NOT_FOUND", "Service backend not found"),
    (160, "NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT", "No tunnel/encapsulation endpoint"),
    (161, "FAILED_TO_INSERT_INTO_PROXYMAP", "NAT 46/64 not enabled"),
    (162, "REACHED_EDT_RATE_LIMITING_DROP_HORIZON", "Reached EDT rate-limiting drop horizon"),
    (163, "UNKNOWN_CONNECTION_TRACKING_STATE", "Unknown connection tracking state"),
    (164, "LOCAL_HOST_IS_UNREACHABLE", "Local host is unreachable"),
    (
        165,
        "NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION",
        "No configuration available to perform policy decision",
    ),
    (166, "UNSUPPORTED_L2_PROTOCOL", "Unsupported L2 protocol"),
    (167, "NO_MAPPING_FOR_NAT_MASQUERADE", "No mapping for NAT masquerade"),
    (168, "UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE", "Unsupported protocol for NAT masquerade"),
    (169, "FIB_LOOKUP_FAILED", "FIB lookup failed"),
    (170, "ENCAPSULATION_TRAFFIC_IS_PROHIBITED", "Encapsulation traffic is prohibited"),
    (171, "INVALID_IDENTITY", "Invalid identity"),
    (172, "UNKNOWN_SENDER", "Unknown sender"),
    (173, "NAT_NOT_NEEDED", "NAT not needed"),
    (174, "IS_A_CLUSTERIP", "Is a ClusterIP"),
    (175, "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND", "First logical datagram fragment not found"),
    (176, "FORBIDDEN_ICMPV6_MESSAGE", "Forbidden ICMPv6 message"),
    (177, "DENIED_BY_LB_SRC_RANGE_CHECK", "Denied by LB src range check"),
    (178, "SOCKET_LOOKUP_FAILED", "Socket lookup failed"),
    (179, "SOCKET_ASSIGN_FAILED", "Socket assign failed"),
    (
        180,
        "PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL",
        "Proxy redirection not supported for protocol",
    ),
    (181, "POLICY_DENY", "Policy denied by denylist"),
    (182, "VLAN_FILTERED", "VLAN traffic disallowed by VLAN filter"),
    (183, "INVALID_VNI", "Incorrect VNI from VTEP"),
    (184, "INVALID_TC_BUFFER", "Failed to update or lookup TC buffer"),
    (185, "NO_SID", "No SID was found for the IP address"),
    (186, "MISSING_SRV6_STATE", "SRv6 state was removed during tail call"),
    (187, "NAT46", "L3 translation from IPv4 to IPv6 failed (NAT46)"),
    (188, "NAT64", "L3 translation from IPv6 to IPv4 failed (NAT64)"),
    (189, "AUTH_REQUIRED", "Authentication required"),
    (190, "CT_NO_MAP_FOUND", "No conntrack map found"),
    (191, "SNAT_NO_MAP_FOUND", "No nat map found"),
    (192, "INVALID_CLUSTER_ID", "Invalid ClusterID"),
    (
        193,
        "UNSUPPORTED_PROTOCOL_FOR_DSR_ENCAP",
        "Unsupported packet protocol for DSR encapsulation",
    ),
    (194, "NO_EGRESS_GATEWAY", "No egress gateway found"),
    (195, "UNENCRYPTED_TRAFFIC", "Traffic is unencrypted"),
    (196, "TTL_EXCEEDED", "TTL exceeded"),
    (197, "NO_NODE_ID", "No node ID found"),
    (198, "DROP_RATE_LIMITED", "Rate limited"),
    (199, "IGMP_HANDLED", "IGMP handled"),
    (200, "IGMP_SUBSCRIBED", "IGMP subscribed"),
    (201, "MULTICAST_HANDLED", "Multicast handled"),
    (202, "DROP_HOST_NOT_READY", "Host datapath not ready"),
    (203, "DROP_EP_NOT_READY", "Endpoint policy program not available"),
    (204, "DROP_NO_EGRESS_IP", "No Egress IP configured"),
    (205, "DROP_PUNT_PROXY", "Punt to proxy"),
];

/// Why a packet was dropped: a code of Hubble's `DropReason`, 130 to 255.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DropReason(pub u8);

impl DropReason {
    /// The source MAC is not the endpoint's.
    pub const INVALID_SOURCE_MAC: Self = Self(130);
    /// The source address is not the endpoint's.
    pub const INVALID_SOURCE_IP: Self = Self(132);
    /// No rule allows it, and default deny is on.
    pub const POLICY_DENIED: Self = Self(133);
    /// The headers do not parse.
    pub const INVALID_PACKET: Self = Self(134);
    /// The endpoint's connection quota is used up, or the table is full.
    pub const CT_MAP_INSERTION_FAILED: Self = Self(155);
    /// The endpoint has no complete policy table.
    pub const NO_CONFIGURATION: Self = Self(165);
    /// It carries packets that nobody has judged.
    pub const ENCAPSULATION: Self = Self(170);
    /// A deny rule matched.
    pub const POLICY_DENY: Self = Self(181);
    /// The interface has no endpoint yet.
    pub const EP_NOT_READY: Self = Self(203);

    /// Name in Hubble's `DropReason` enum; `None` for a code it does not have.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|(_, name, _)| *name)
    }

    /// The text Hubble's `observe` prints; an unknown code prints as `N, 0`.
    pub fn text(self) -> String {
        self.row().map_or_else(|| format!("{}, 0", self.0), |(_, _, text)| (*text).to_owned())
    }

    fn row(self) -> Option<&'static (u8, &'static str, &'static str)> {
        DROP_REASONS.iter().find(|(code, _, _)| *code == self.0)
    }
}

/// Why a decision came out as it did (DESIGN section 5, `reason`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// No policy selects the end in this direction.
    Unenforced,
    /// An allow rule matched.
    Rule,
    /// Default deny is on and no rule allows it.
    DefaultDeny,
    /// A deny rule matched.
    DenyRule,
    /// A rule would allow it under a condition that cannot be enforced yet.
    Unsupported,
    /// Part of a connection that was allowed.
    Established,
    /// The packet path alone decided: malformed, spoofed, not ready, quota.
    Datapath(DropReason),
}

impl Reason {
    /// Hubble's drop code, for denials.
    pub fn drop_reason(self) -> Option<DropReason> {
        match self {
            Self::Unenforced | Self::Rule | Self::Established => None,
            Self::DefaultDeny | Self::Unsupported => Some(DropReason::POLICY_DENIED),
            Self::DenyRule => Some(DropReason::POLICY_DENY),
            Self::Datapath(reason) => Some(reason),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unenforced => f.write_str("unenforced"),
            Self::Rule => f.write_str("rule"),
            Self::DefaultDeny => f.write_str("default-deny"),
            Self::DenyRule => f.write_str("deny-rule"),
            Self::Unsupported => f.write_str("unsupported"),
            Self::Established => f.write_str("established"),
            Self::Datapath(reason) => match reason.name() {
                Some(name) => f.write_str(&name.to_ascii_lowercase()),
                None => write!(f, "drop_{}", reason.0),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_by_default_and_by_rule_have_different_codes() {
        assert_eq!(Reason::DefaultDeny.drop_reason(), Some(DropReason(133)));
        assert_eq!(Reason::DenyRule.drop_reason(), Some(DropReason(181)));
        assert_eq!(Reason::Rule.drop_reason(), None);
    }

    #[test]
    fn codes_print_as_hubble_prints_them() {
        assert_eq!(DropReason(133).text(), "Policy denied");
        assert_eq!(DropReason(181).text(), "Policy denied by denylist");
        assert_eq!(DropReason(250).text(), "250, 0");
        assert_eq!(DropReason(132).name(), Some("INVALID_SOURCE_IP"));
        assert_eq!(Reason::Datapath(DropReason(132)).to_string(), "invalid_source_ip");
    }
}
