//! Types that the kernel programs and user space share.
//!
//! Generated from the BTF of `bpf/abi/anchor.bpf.c` by `cargo xtask codegen`; do
//! not edit. Any bytes are a valid value of every struct, so none is ever trusted
//! to hold a known constant.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Raised whenever the layout of a shared type or the meaning of a field changes. What another version pinned is taken over by the names of its fields: a field whose meaning changes gets another name, a bit of `flags` is not used again.
///
/// Values of `enum sg_abi`.
pub mod abi {
    /// `SG_ABI_VERSION`.
    pub const VERSION: u32 = 6;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("VERSION", 6)];
}

/// Values of `enum sg_connection_flag`.
pub mod connection_flag {
    /// Both ends have sent.
    pub const ESTABLISHED: u32 = 1;
    /// RST, or FIN from both ends.
    pub const CLOSED: u32 = 2;
    /// Was allowed, is denied: kept, so that it cannot come back as an answer to a connection nobody saw.
    pub const CUT: u32 = 4;
    /// From the initiator.
    pub const FIN: u32 = 8;
    /// From the other end.
    pub const FIN_REPLY: u32 = 16;
    /// The node itself opened it.
    pub const NODE: u32 = 32;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[
        ("ESTABLISHED", 1),
        ("CLOSED", 2),
        ("CUT", 4),
        ("FIN", 8),
        ("FIN_REPLY", 16),
        ("NODE", 32),
    ];
}

/// Values of `enum sg_direction`.
pub mod direction {
    /// Towards the endpoint.
    pub const INGRESS: u32 = 0;
    /// From the endpoint.
    pub const EGRESS: u32 = 1;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("INGRESS", 0), ("EGRESS", 1)];
}

/// Numbers of endpoints that are no pods; no pod has one of them.
///
/// Values of `enum sg_endpoint_id`.
pub mod endpoint_id {
    /// `SG_ENDPOINT_NONE`.
    pub const NONE: u32 = 0;
    /// The node itself.
    pub const HOST: u32 = 1;
    /// Whoever leaves the node with its address.
    pub const BEHIND: u32 = 2;
    /// `SG_ENDPOINT_FIRST_POD`.
    pub const FIRST_POD: u32 = 3;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("NONE", 0), ("HOST", 1), ("BEHIND", 2), ("FIRST_POD", 3)];
}

/// What a record tells.
///
/// Values of `enum sg_kind`.
pub mod kind {
    /// About a packet that was dropped, or opened a connection.
    pub const DECISION: u32 = 0;
    /// The first answer of a connection.
    pub const ANSWER: u32 = 1;
    /// Of a connection: RST, or FIN from both ends.
    pub const END: u32 = 2;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("DECISION", 0), ("ANSWER", 1), ("END", 2)];
}

/// Values of `enum sg_layer`.
pub mod layer {
    /// Only the Ethernet header was understood.
    pub const LINK: u32 = 2;
    /// Addresses and protocol too.
    pub const NETWORK: u32 = 3;
    /// Ports, or type and code, too.
    pub const TRANSPORT: u32 = 4;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("LINK", 2), ("NETWORK", 3), ("TRANSPORT", 4)];
}

/// Values of `enum sg_mark`.
pub mod mark {
    /// `SG_MARK_MASK`.
    pub const MASK: u32 = 12288;
    /// `SG_MARK_TO_PROXY`.
    pub const TO_PROXY: u32 = 4096;
    /// `SG_MARK_FROM_PROXY`.
    pub const FROM_PROXY: u32 = 8192;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("MASK", 12288), ("TO_PROXY", 4096), ("FROM_PROXY", 8192)];
}

/// How a process is known, or why it is not.
///
/// Values of `enum sg_origin`.
pub mod origin {
    /// `SG_ORIGIN_KNOWN`.
    pub const KNOWN: u32 = 1;
    /// The packet carries none: AF_PACKET, forwarded.
    pub const NO_SOCKET: u32 = 2;
    /// Not a full socket: the kernel's own.
    pub const KERNEL: u32 = 3;
    /// Older than the hooks that would have named it.
    pub const OLD_SOCKET: u32 = 4;
    /// Nobody would have received it.
    pub const NO_LISTENER: u32 = 5;
    /// The process has let go of the connection's socket.
    pub const CLOSED: u32 = 6;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[
        ("KNOWN", 1),
        ("NO_SOCKET", 2),
        ("KERNEL", 3),
        ("OLD_SOCKET", 4),
        ("NO_LISTENER", 5),
        ("CLOSED", 6),
    ];
}

/// Drop codes are those of Hubble's DropReason; 0 is no drop.
///
/// Values of `enum sg_reason`.
pub mod reason {
    /// `SG_REASON_NONE`.
    pub const NONE: u32 = 0;
    /// `SG_REASON_INVALID_SOURCE_MAC`.
    pub const INVALID_SOURCE_MAC: u32 = 130;
    /// `SG_REASON_INVALID_SOURCE_IP`.
    pub const INVALID_SOURCE_IP: u32 = 132;
    /// `SG_REASON_POLICY_DENIED`.
    pub const POLICY_DENIED: u32 = 133;
    /// `SG_REASON_INVALID_PACKET`.
    pub const INVALID_PACKET: u32 = 134;
    /// `SG_REASON_CT_TRUNCATED`.
    pub const CT_TRUNCATED: u32 = 135;
    /// `SG_REASON_UNSUPPORTED_L3`.
    pub const UNSUPPORTED_L3: u32 = 139;
    /// `SG_REASON_UNKNOWN_TARGET`.
    pub const UNKNOWN_TARGET: u32 = 150;
    /// `SG_REASON_CT_FULL`.
    pub const CT_FULL: u32 = 155;
    /// `SG_REASON_INVALID_EXTENSION`.
    pub const INVALID_EXTENSION: u32 = 156;
    /// `SG_REASON_FRAGMENT`.
    pub const FRAGMENT: u32 = 157;
    /// `SG_REASON_UNKNOWN_STATE`.
    pub const UNKNOWN_STATE: u32 = 163;
    /// `SG_REASON_NO_CONFIGURATION`.
    pub const NO_CONFIGURATION: u32 = 165;
    /// `SG_REASON_UNSUPPORTED_L2`.
    pub const UNSUPPORTED_L2: u32 = 166;
    /// `SG_REASON_ENCAPSULATION`.
    pub const ENCAPSULATION: u32 = 170;
    /// `SG_REASON_CLUSTER_IP`.
    pub const CLUSTER_IP: u32 = 174;
    /// `SG_REASON_FRAGMENT_NOT_FOUND`.
    pub const FRAGMENT_NOT_FOUND: u32 = 175;
    /// `SG_REASON_FORBIDDEN_ICMPV6`.
    pub const FORBIDDEN_ICMPV6: u32 = 176;
    /// `SG_REASON_POLICY_DENY`.
    pub const POLICY_DENY: u32 = 181;
    /// `SG_REASON_VLAN`.
    pub const VLAN: u32 = 182;
    /// `SG_REASON_EP_NOT_READY`.
    pub const EP_NOT_READY: u32 = 203;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[
        ("NONE", 0),
        ("INVALID_SOURCE_MAC", 130),
        ("INVALID_SOURCE_IP", 132),
        ("POLICY_DENIED", 133),
        ("INVALID_PACKET", 134),
        ("CT_TRUNCATED", 135),
        ("UNSUPPORTED_L3", 139),
        ("UNKNOWN_TARGET", 150),
        ("CT_FULL", 155),
        ("INVALID_EXTENSION", 156),
        ("FRAGMENT", 157),
        ("UNKNOWN_STATE", 163),
        ("NO_CONFIGURATION", 165),
        ("UNSUPPORTED_L2", 166),
        ("ENCAPSULATION", 170),
        ("CLUSTER_IP", 174),
        ("FRAGMENT_NOT_FOUND", 175),
        ("FORBIDDEN_ICMPV6", 176),
        ("POLICY_DENY", 181),
        ("VLAN", 182),
        ("EP_NOT_READY", 203),
    ];
}

/// Values of `enum sg_reply`.
pub mod reply {
    /// `SG_REPLY_UNKNOWN`.
    pub const UNKNOWN: u32 = 0;
    /// `SG_REPLY_NO`.
    pub const NO: u32 = 1;
    /// `SG_REPLY_YES`.
    pub const YES: u32 = 2;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("UNKNOWN", 0), ("NO", 1), ("YES", 2)];
}

/// Values of `enum sg_ring`.
pub mod ring {
    /// Allowed connections: their first packet, their end.
    pub const TRACES: u32 = 0;
    /// Every dropped packet.
    pub const DROPS: u32 = 1;
    /// `SG_RINGS`.
    pub const RINGS: u32 = 2;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("TRACES", 0), ("DROPS", 1), ("RINGS", 2)];
}

/// Per-CPU counters of map `service_counters`.
///
/// Values of `enum sg_service_count`.
pub mod service_count {
    /// `SG_SERVICE_TRANSLATED`.
    pub const TRANSLATED: u32 = 0;
    /// refused: nobody serves it.
    pub const NO_BACKEND: u32 = 1;
    /// refused: no memory to find the way back.
    pub const NO_ROOM: u32 = 2;
    /// `SG_SERVICE_COUNTS`.
    pub const COUNTS: u32 = 3;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] =
        &[("TRANSLATED", 0), ("NO_BACKEND", 1), ("NO_ROOM", 2), ("COUNTS", 3)];
}

/// What is told of connections after their first packet.
///
/// Values of `enum sg_trace`.
pub mod trace {
    /// `SG_TRACE_NONE`.
    pub const NONE: u32 = 0;
    /// The end of TCP connections.
    pub const END: u32 = 1;
    /// The first answer, too.
    pub const ANSWERS: u32 = 2;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("NONE", 0), ("END", 1), ("ANSWERS", 2)];
}

/// Values of `enum sg_verdict`.
pub mod verdict {
    /// No decision at this revision.
    pub const NONE: u32 = 0;
    /// `SG_VERDICT_ALLOW`.
    pub const ALLOW: u32 = 1;
    /// `SG_VERDICT_DENY`.
    pub const DENY: u32 = 2;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[("NONE", 0), ("ALLOW", 1), ("DENY", 2)];
}

/// Which kind of rule decided; crate policy has the same numbers.
///
/// Values of `enum sg_why`.
pub mod why {
    /// `SG_WHY_NONE`.
    pub const NONE: u32 = 0;
    /// `SG_WHY_UNENFORCED`.
    pub const UNENFORCED: u32 = 1;
    /// `SG_WHY_RULE`.
    pub const RULE: u32 = 2;
    /// `SG_WHY_DEFAULT_DENY`.
    pub const DEFAULT_DENY: u32 = 3;
    /// `SG_WHY_DENY_RULE`.
    pub const DENY_RULE: u32 = 4;
    /// `SG_WHY_LOCAL_HOST`.
    pub const LOCAL_HOST: u32 = 5;
    /// A rule that cannot be enforced yet: denied.
    pub const UNSUPPORTED: u32 = 6;
    /// Every name with its value.
    pub const ALL: &[(&str, u32)] = &[
        ("NONE", 0),
        ("UNENFORCED", 1),
        ("RULE", 2),
        ("DEFAULT_DENY", 3),
        ("DENY_RULE", 4),
        ("LOCAL_HOST", 5),
        ("UNSUPPORTED", 6),
    ];
}

/// An IPv6 address, or an IPv4 address mapped into ::ffff:0:0/96 (RFC 4291 2.5.5.2).
///
/// `struct sg_address`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Address {
    /// Field `bytes`.
    pub bytes: [u8; 16],
}

const _: () = assert!(size_of::<Address>() == 16);

/// Value of map `backends`.
///
/// `struct sg_backend`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Backend {
    /// Field `address`.
    pub address: Address,
    /// Network byte order.
    pub port: u16,
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<Backend>() == 20);

/// Key of map `backends`.
///
/// `struct sg_backend_key`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct BackendKey {
    /// Field `set`.
    pub set: u32,
    /// Field `slot`.
    pub slot: u32,
}

const _: () = assert!(size_of::<BackendKey>() == 8);

/// `struct sg_connection`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Connection {
    /// CLOCK_MONOTONIC, coarse.
    pub expires_ns: u64,
    /// Socket of the initiator, when it is on this node; else 0.
    pub cookie: u64,
    /// That last judged it, with SG_REVISION_UNDONE.
    pub revision: u32,
    /// Of the address book then.
    pub epoch: u32,
    /// Identity then.
    pub peer: u32,
    /// Field `rule_set`.
    pub rule_set: u32,
    /// Enum sg_direction of the first packet.
    pub direction: u8,
    /// Enum sg_connection_flag.
    pub flags: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Of the peer, once it has sent, when it is a pod of this node; else 0.
    pub peer_ifindex: u32,
    /// CLOCK_MONOTONIC, coarse, of the packet that opened it. 0: nobody here saw that one, or another version counted since: then `initiator` and `responder` are not all that it carried.
    pub began_ns: u64,
    /// Field `initiator`.
    pub initiator: Traffic,
    /// Field `responder`.
    pub responder: Traffic,
    /// Enum sg_kind by bit: what was told of it already.
    pub told: u32,
    /// Zero.
    pub padding: [u8; 4],
}

const _: () = assert!(size_of::<Connection>() == 88);

/// The tuple from the endpoint's point of view, the same for both directions. ICMP echo: local_port is the id, remote_port 0 when the endpoint asks, 1 when it is asked. Protocols without ports: both 0.
///
/// `struct sg_connection_key`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct ConnectionKey {
    /// Field `local`.
    pub local: Address,
    /// Field `remote`.
    pub remote: Address,
    /// Network byte order.
    pub local_port: u16,
    /// Network byte order.
    pub remote_port: u16,
    /// sg_endpoint.id.
    pub endpoint: u32,
    /// Field `protocol`.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<ConnectionKey>() == 44);

/// The one element of map `control`.
///
/// `struct sg_control`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// SG_ABI_VERSION of who wrote the maps; always first.
    pub abi_version: u32,
    /// Of the policy in force.
    pub revision: u32,
    /// Moves when a known address changes its identity or goes.
    pub epoch: u32,
    /// Identity of unmapped IPv4 addresses.
    pub world_ipv4: u32,
    /// Identity of unmapped IPv6 addresses.
    pub world_ipv6: u32,
    /// Quota of an endpoint.
    pub connections: u32,
    /// That an endpoint may cause in a second.
    pub drop_records: u32,
    /// Enum sg_trace.
    pub trace: u32,
    /// 1: the node itself is an endpoint; 0: nobody judges it.
    pub host: u32,
}

const _: () = assert!(size_of::<Control>() == 36);

/// `struct sg_decision`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Decision {
    /// The higher one wins.
    pub precedence: u32,
    /// Names are joined in user space.
    pub rule_set: u32,
    /// Enum sg_verdict.
    pub verdict: u8,
    /// Enum sg_why.
    pub why: u8,
    /// Prefix bits beyond direction and identity: 0, 8, 9 to 24.
    pub specificity: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<Decision>() == 12);

/// What decides, and what would if policies in shadow mode were in force. Each is what its own table would find at this key, inherited from a shorter key or not. Where nobody in shadow mode concerns the endpoint, every `shadow` is NONE.
///
/// `struct sg_decisions`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Decisions {
    /// Field `live`.
    pub live: Decision,
    /// Field `shadow`.
    pub shadow: Decision,
}

const _: () = assert!(size_of::<Decisions>() == 24);

/// A record of SG_KIND_END: `cookie` and `peer_cookie` are those of the initiator, at whichever end it is.
///
/// `struct sg_end_record`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct EndRecord {
    /// Field `record`.
    pub record: Record,
    /// 0: not known, and what it carried neither.
    pub lived_ns: u64,
    /// Field `initiator`.
    pub initiator: Traffic,
    /// Field `responder`.
    pub responder: Traffic,
}

const _: () = assert!(size_of::<EndRecord>() == 360);

/// Value of map `endpoints`; the key is the index of the host-side interface, 0 for the node itself.
///
/// `struct sg_endpoint`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    /// Unique on the node, never used twice.
    pub id: u32,
    /// `after` counts from here on.
    pub from_revision: u32,
    /// Field `before`.
    pub before: Subject,
    /// Field `after`.
    pub after: Subject,
    /// Mapped; all zero: none.
    pub ipv4: Address,
    /// All zero: none.
    pub ipv6: Address,
    /// Of the pod, as its node sees it; -1: unknown, -2: the node's.
    pub netns_id: i32,
    /// Field `mac`.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<Endpoint>() == 84);

/// `struct sg_holder`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Holder {
    /// 0: nobody.
    pub identity: u32,
    /// sg_endpoint.id when it is on this node, else 0.
    pub endpoint: u32,
}

const _: () = assert!(size_of::<Holder>() == 8);

/// One connection of a map of another layout, given to inherit_connection.
///
/// `struct sg_inherited`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Inherited {
    /// Field `key`.
    pub key: ConnectionKey,
    /// Zero.
    pub pad: [u8; 4],
    /// Field `connection`.
    pub connection: Connection,
}

const _: () = assert!(size_of::<Inherited>() == 136);

/// Key of map `members`, whose value is nothing: who is in a set.
///
/// `struct sg_member_key`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct MemberKey {
    /// Field `set`.
    pub set: u32,
    /// Field `backend`.
    pub backend: Backend,
}

const _: () = assert!(size_of::<MemberKey>() == 24);

/// Value of map `addresses`.
///
/// `struct sg_peer`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Peer {
    /// `after` counts from here on.
    pub from_revision: u32,
    /// Field `before`.
    pub before: Holder,
    /// Field `after`.
    pub after: Holder,
}

const _: () = assert!(size_of::<Peer>() == 20);

/// `struct sg_policy_entry`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct PolicyEntry {
    /// `after` counts from here on.
    pub from_revision: u32,
    /// Field `before`.
    pub before: Decisions,
    /// Field `after`.
    pub after: Decisions,
}

const _: () = assert!(size_of::<PolicyEntry>() == 52);

/// Key of a policy table, a longest-prefix trie. Direction and identity always count in full: a prefix is 40 bits (any protocol), 48 (one protocol) or 49 to 64 (one port or an aligned block of them). Identity 0 is any peer.
///
/// `struct sg_policy_key`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct PolicyKey {
    /// Field `prefix_bits`.
    pub prefix_bits: u32,
    /// Enum sg_direction.
    pub direction: u8,
    /// Big endian.
    pub identity: [u8; 4],
    /// IANA number.
    pub protocol: u8,
    /// Big endian.
    pub port: [u8; 2],
}

const _: () = assert!(size_of::<PolicyKey>() == 12);

/// Key of map `prefixes`, a longest-prefix trie over mapped addresses.
///
/// `struct sg_prefix_key`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct PrefixKey {
    /// Field `prefix_bits`.
    pub prefix_bits: u32,
    /// Field `address`.
    pub address: Address,
}

const _: () = assert!(size_of::<PrefixKey>() == 20);

/// The last process to connect, send or bind with a socket, else its creator.
///
/// `struct sg_process`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// CLOCK_BOOTTIME.
    pub start_ns: u64,
    /// Cgroup v2.
    pub cgroup_id: u64,
    /// Thread group, initial PID namespace.
    pub pid: u32,
    /// Initial user namespace.
    pub uid: u32,
    /// Enum sg_origin; what follows counts only if KNOWN.
    pub origin: u8,
    /// 1: leading directories of the path are missing.
    pub truncated: u8,
    /// The path is binary\[binary_start..\].
    pub binary_start: u8,
    /// Zero.
    pub pad: [u8; 5],
    /// NUL-terminated.
    pub comm: [u8; 16],
    /// Path in its mount namespace, written from the end.
    pub binary: [u8; 128],
}

const _: () = assert!(size_of::<Process>() == 176);

/// Value of map `prefixes`: identities.
///
/// `struct sg_range`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Range {
    /// `after` counts from here on.
    pub from_revision: u32,
    /// 0: as if the prefix were not there.
    pub before: u32,
    /// Field `after`.
    pub after: u32,
}

const _: () = assert!(size_of::<Range>() == 12);

/// `struct sg_record`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// CLOCK_BOOTTIME.
    pub when_ns: u64,
    /// Attempts before this one on this CPU and ring.
    pub sequence: u64,
    /// Socket of this endpoint, 0: unknown.
    pub cookie: u64,
    /// Socket of the initiator, when it is on this node.
    pub peer_cookie: u64,
    /// Field `cpu`.
    pub cpu: u32,
    /// Field `ifindex`.
    pub ifindex: u32,
    /// sg_endpoint.id, 0: none.
    pub endpoint: u32,
    /// The one this packet was judged by.
    pub revision: u32,
    /// 0: not resolved.
    pub source_identity: u32,
    /// Field `destination_identity`.
    pub destination_identity: u32,
    /// The winner, and one of equal precedence; 0: none.
    pub rule_sets: [u32; 2],
    /// Field `shadow_rule_sets`.
    pub shadow_rule_sets: [u32; 2],
    /// Of the frame.
    pub length: u32,
    /// Network byte order.
    pub ether_type: u16,
    /// Network byte order.
    pub source_port: u16,
    /// Network byte order.
    pub destination_port: u16,
    /// Enum sg_ring.
    pub ring: u8,
    /// Enum sg_direction: EGRESS, a frame the endpoint sent.
    pub hook: u8,
    /// Enum sg_direction that was judged.
    pub direction: u8,
    /// Enum sg_verdict.
    pub verdict: u8,
    /// Enum sg_reason.
    pub reason: u8,
    /// Enum sg_why.
    pub why: u8,
    /// Hubble's policy_match_type.
    pub match_type: u8,
    /// Enum sg_layer.
    pub layer: u8,
    /// Enum sg_reply.
    pub reply: u8,
    /// Field `protocol`.
    pub protocol: u8,
    /// Field `tcp_flags`.
    pub tcp_flags: u8,
    /// Field `icmp_type`.
    pub icmp_type: u8,
    /// Field `icmp_code`.
    pub icmp_code: u8,
    /// Field `source_mac`.
    pub source_mac: [u8; 6],
    /// Field `destination_mac`.
    pub destination_mac: [u8; 6],
    /// Field `source`.
    pub source: Address,
    /// Field `destination`.
    pub destination: Address,
    /// Enum sg_verdict; NONE: not known, or no policy is in shadow mode.
    pub shadow_verdict: u8,
    /// Enum sg_why.
    pub shadow_why: u8,
    /// Enum sg_kind.
    pub kind: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// Of this endpoint's end.
    pub process: Process,
}

const _: () = assert!(size_of::<Record>() == 320);

/// Per-CPU counters of a ring. `attempts` is also the number of the next record.
///
/// `struct sg_ring_counters`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct RingCounters {
    /// Field `attempts`.
    pub attempts: u64,
    /// Field `lost`.
    pub lost: u64,
}

const _: () = assert!(size_of::<RingCounters>() == 16);

/// Value of map `services`.
///
/// `struct sg_service`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Service {
    /// Of backends, never used twice.
    pub set: u32,
    /// Slots 0 to backends - 1; 0: nobody serves it.
    pub backends: u32,
    /// A client keeps its backend this long; 0: it does not.
    pub affinity_seconds: u32,
}

const _: () = assert!(size_of::<Service>() == 12);

/// Key of map `services`. Port and protocol 0: the address itself, which never stands on the wire.
///
/// `struct sg_service_key`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct ServiceKey {
    /// Field `address`.
    pub address: Address,
    /// Network byte order.
    pub port: u16,
    /// IANA number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<ServiceKey>() == 20);

/// Who an endpoint is, and the policy table it is judged by. A table on trial has a time until which it must be confirmed: afterwards the fallback judges, whether or not anybody is there to say so.
///
/// `struct sg_subject`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Subject {
    /// Field `identity`.
    pub identity: u32,
    /// Field `table`.
    pub table: u32,
    /// Field `fallback`.
    pub fallback: u32,
    /// Seconds of CLOCK_MONOTONIC; 0: not on trial.
    pub confirm_by: u32,
}

const _: () = assert!(size_of::<Subject>() == 16);

/// The one element of map `sweeps`: who frees what has ended.
///
/// `struct sg_sweeps`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Sweeps {
    /// CLOCK_MONOTONIC, when an agent did it last.
    pub agent_ns: u64,
    /// When the kernel did, because no agent has for a while.
    pub kernel_ns: u64,
    /// 1: an endpoint has used half of its room since.
    pub pressure: u64,
    /// Of the kernel's.
    pub runs: u64,
    /// By them.
    pub freed: u64,
    /// Of them.
    pub longest_ns: u64,
}

const _: () = assert!(size_of::<Sweeps>() == 48);

/// Frames of one end that passed, as the interface hands them over: with segmentation offload one frame is many segments, with their headers counted once.
///
/// `struct sg_traffic`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Traffic {
    /// Field `packets`.
    pub packets: u64,
    /// Link layer included.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Traffic>() == 16);

/// Value of map `usage`, by sg_endpoint.id: what an endpoint takes of what all share. Number 0 stands for frames of interfaces without an endpoint.
///
/// `struct sg_usage`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Usage {
    /// Field `connections`.
    pub connections: u64,
    /// The second that drop_records counts, since boot.
    pub second: u64,
    /// Field `drop_records`.
    pub drop_records: u64,
    /// Drops that were counted and not told.
    pub suppressed: u64,
    /// In that second too, of connections after their first packet.
    pub trace_records: u64,
    /// So that nobody can choose whom to share a place with.
    pub salt: u32,
    /// Zero.
    pub pad: u32,
    /// Connections that peers opened, by a hash of their address.
    pub peers: [u32; 256],
    /// The same ones, by another hash.
    pub peers_again: [u32; 256],
}

const _: () = assert!(size_of::<Usage>() == 2096);
