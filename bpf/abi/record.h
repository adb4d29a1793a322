/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.h - what the datapath tells the agent about one decision.
 *
 * Two rings, so that traces cannot push out drops. A record carries the CPU and
 * the number of the attempt on that CPU and ring: a gap is a loss, a repetition
 * is a duplicate, and neither can hide.
 */
#pragma once

#include "abi/conntrack.h"
#include "abi/types.h"

enum sg_ring {
	SG_RING_TRACES = 0,	/* allowed connections: their first packet, their end */
	SG_RING_DROPS = 1,	/* every dropped packet */
	SG_RINGS = 2,
};

/* Per-CPU counters of a ring. `attempts` is also the number of the next record. */
struct sg_ring_counters {
	__u64 attempts;
	__u64 lost;
};

/* What a record tells. */
enum sg_kind {
	SG_KIND_DECISION = 0,	/* about a packet that was dropped, or opened a connection */
	SG_KIND_ANSWER = 1,	/* the first answer of a connection */
	SG_KIND_END = 2,	/* of a connection: RST, or FIN from both ends */
};

/* What is told of connections after their first packet. */
enum sg_trace {
	SG_TRACE_NONE = 0,
	SG_TRACE_END = 1,	/* the end of TCP connections */
	SG_TRACE_ANSWERS = 2,	/* the first answer, too */
};

/* Drop codes are those of Hubble's DropReason; 0 is no drop. */
enum sg_reason {
	SG_REASON_NONE = 0,
	SG_REASON_INVALID_SOURCE_MAC = 130,
	SG_REASON_INVALID_SOURCE_IP = 132,
	SG_REASON_POLICY_DENIED = 133,
	SG_REASON_INVALID_PACKET = 134,
	SG_REASON_CT_TRUNCATED = 135,
	SG_REASON_UNSUPPORTED_L3 = 139,
	SG_REASON_UNKNOWN_TARGET = 150,
	SG_REASON_CT_FULL = 155,
	SG_REASON_INVALID_EXTENSION = 156,
	SG_REASON_FRAGMENT = 157,
	SG_REASON_UNKNOWN_STATE = 163,
	SG_REASON_NO_CONFIGURATION = 165,
	SG_REASON_UNSUPPORTED_L2 = 166,
	SG_REASON_ENCAPSULATION = 170,
	SG_REASON_CLUSTER_IP = 174,
	SG_REASON_FRAGMENT_NOT_FOUND = 175,
	SG_REASON_FORBIDDEN_ICMPV6 = 176,
	SG_REASON_POLICY_DENY = 181,
	SG_REASON_VLAN = 182,
	SG_REASON_EP_NOT_READY = 203,
};

enum sg_layer {
	SG_LAYER_LINK = 2,	/* only the Ethernet header was understood */
	SG_LAYER_NETWORK = 3,	/* addresses and protocol too */
	SG_LAYER_TRANSPORT = 4,	/* ports, or type and code, too */
};

enum sg_reply {
	SG_REPLY_UNKNOWN = 0,
	SG_REPLY_NO = 1,
	SG_REPLY_YES = 2,
};

/* How a process is known, or why it is not. */
enum sg_origin {
	SG_ORIGIN_KNOWN = 1,
	SG_ORIGIN_NO_SOCKET = 2,	/* the packet carries none: AF_PACKET, forwarded */
	SG_ORIGIN_KERNEL = 3,		/* not a full socket: the kernel's own */
	SG_ORIGIN_OLD_SOCKET = 4,	/* older than the hooks that would have named it */
	SG_ORIGIN_NO_LISTENER = 5,	/* nobody would have received it */
	SG_ORIGIN_CLOSED = 6,	/* the process has let go of the connection's socket */
};

/* The last process to connect, send or bind with a socket, else its creator. */
struct sg_process {
	__u64 start_ns;		/* CLOCK_BOOTTIME */
	__u64 cgroup_id;	/* cgroup v2 */
	__u32 pid;		/* thread group, initial PID namespace */
	__u32 uid;		/* initial user namespace */
	__u8 origin;		/* enum sg_origin; what follows counts only if KNOWN */
	__u8 truncated;		/* 1: leading directories of the path are missing */
	__u8 binary_start;	/* the path is binary[binary_start..] */
	__u8 pad[5];		/* zero */
	__u8 comm[16];		/* NUL-terminated */
	__u8 binary[128];	/* path in its mount namespace, written from the end */
};

struct sg_record {
#if SG_LAYOUT_AHEAD > 1
	__u64 ahead;
#endif
	__u64 when_ns;		/* CLOCK_BOOTTIME */
	__u64 sequence;		/* attempts before this one on this CPU and ring */
	__u64 cookie;		/* socket of this endpoint, 0: unknown */
	__u64 peer_cookie;	/* socket of the initiator, when it is on this node */
	__u32 cpu;
	__u32 ifindex;
	__u32 endpoint;		/* sg_endpoint.id, 0: none */
	__u32 revision;		/* the one this packet was judged by */
	__u32 source_identity;	/* 0: not resolved */
	__u32 destination_identity;
	__u32 rule_sets[2];	/* the winner, and one of equal precedence; 0: none */
	__u32 shadow_rule_sets[2];
	__u32 length;		/* of the frame */
	__be16 ether_type;
	__be16 source_port;
	__be16 destination_port;
	__u8 ring;		/* enum sg_ring */
	__u8 hook;		/* enum sg_direction: EGRESS, a frame the endpoint sent */
	__u8 direction;		/* enum sg_direction that was judged */
	__u8 verdict;		/* enum sg_verdict */
	__u8 reason;		/* enum sg_reason */
	__u8 why;		/* enum sg_why */
	__u8 match_type;	/* Hubble's policy_match_type */
	__u8 layer;		/* enum sg_layer */
	__u8 reply;		/* enum sg_reply */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 source_mac[6];
	__u8 destination_mac[6];
	struct sg_address source;
	struct sg_address destination;
	__u8 shadow_verdict;	/* enum sg_verdict; NONE: not known, or no policy is in shadow mode */
	__u8 shadow_why;	/* enum sg_why */
	__u8 kind;		/* enum sg_kind */
	__u8 pad[2];		/* zero */
	struct sg_process process;	/* of this endpoint's end */
};

/* A record of SG_KIND_END: `cookie` and `peer_cookie` are those of the initiator, at
 * whichever end it is. */
struct sg_end_record {
	struct sg_record record;
	__u64 lived_ns;		/* 0: not known, and what it carried neither */
	struct sg_traffic initiator;
	struct sg_traffic responder;
};

_Static_assert(sizeof(struct sg_process) == 176, "sg_process is ABI");
#if SG_LAYOUT_AHEAD < 2
_Static_assert(sizeof(struct sg_record) == 320, "sg_record is ABI");
_Static_assert(sizeof(struct sg_end_record) == 360, "sg_end_record is ABI");
#endif
