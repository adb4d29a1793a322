/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * conntrack.h - connections that were allowed.
 *
 * Each endpoint has entries of its own: a connection between two pods of a node
 * is two entries, judged separately. A flow that was never allowed has no entry.
 */
#pragma once

#include "abi/types.h"

/* The tuple from the endpoint's point of view, the same for both directions.
 * ICMP echo: local_port is the id, remote_port 0 when the endpoint asks, 1 when
 * it is asked. Protocols without ports: both 0. */
struct sg_connection_key {
#if SG_LAYOUT_AHEAD > 1
	__u32 endpoint;
#endif
	struct sg_address local;
	struct sg_address remote;
	__be16 local_port;
	__be16 remote_port;
#if SG_LAYOUT_AHEAD < 2
	__u32 endpoint;		/* sg_endpoint.id */
#endif
	__u8 protocol;
	__u8 pad[3];		/* zero */
};

enum sg_connection_flag {
	SG_CONNECTION_ESTABLISHED = 1,	/* both ends have sent */
	SG_CONNECTION_CLOSED = 2,	/* RST, or FIN from both ends */
	SG_CONNECTION_CUT = 4,		/* was allowed, is denied: kept, so that it cannot
					 * come back as an answer to a connection nobody saw */
	SG_CONNECTION_FIN = 8,		/* from the initiator */
	SG_CONNECTION_FIN_REPLY = 16,	/* from the other end */
	SG_CONNECTION_NODE = 32,	/* the node itself opened it */
};

/* Set in a remembered revision when the fallback of a table on trial judged. */
#define SG_REVISION_UNDONE 0x80000000u

/* Frames of one end that passed, as the interface hands them over: with segmentation
 * offload one frame is many segments, with their headers counted once. */
struct sg_traffic {
	__u64 packets;
	__u64 bytes;		/* link layer included */
};

struct sg_connection {
#if SG_LAYOUT_AHEAD > 1
	__u32 peer_ifindex;
	__u16 ahead;		/* where this version has padding */
	__u8 direction;
	__u8 flags;
#endif
	__u64 expires_ns;	/* CLOCK_MONOTONIC, coarse */
	__u64 cookie;		/* socket of the initiator, when it is on this node; else 0 */
	__u32 revision;		/* that last judged it, with SG_REVISION_UNDONE */
	__u32 epoch;		/* of the address book then */
	__u32 peer;		/* identity then */
	__u32 rule_set;
#if SG_LAYOUT_AHEAD < 2
	__u8 direction;		/* enum sg_direction of the first packet */
	__u8 flags;		/* enum sg_connection_flag */
	__u8 pad[2];		/* zero */
	__u32 peer_ifindex;	/* of the peer, once it has sent, when it is a pod of this node; else 0 */
#endif
	/* CLOCK_MONOTONIC, coarse, of the packet that opened it. 0: nobody here saw that
	 * one, or another version counted since: then `initiator` and `responder` are
	 * not all that it carried. */
	__u64 began_ns;
	struct sg_traffic initiator;
	struct sg_traffic responder;
	__u32 told;		/* enum sg_kind by bit: what was told of it already */
	__u8 padding[4];	/* zero */
};

/* One connection of a map of another layout, given to inherit_connection. */
struct sg_inherited {
	struct sg_connection_key key;
	__u8 pad[4];		/* zero */
	struct sg_connection connection;
};

/* The one element of map `sweeps`: who frees what has ended. */
struct sg_sweeps {
	__u64 agent_ns;		/* CLOCK_MONOTONIC, when an agent did it last */
	__u64 kernel_ns;	/* when the kernel did, because no agent has for a while */
	__u64 pressure;		/* 1: an endpoint has used half of its room since */
	__u64 runs;		/* of the kernel's */
	__u64 freed;		/* by them */
	__u64 longest_ns;	/* of them */
};

_Static_assert(sizeof(struct sg_sweeps) == 48, "sg_sweeps is ABI");
_Static_assert(sizeof(struct sg_connection_key) == 44, "sg_connection_key is ABI");
_Static_assert(sizeof(struct sg_connection) == 88, "sg_connection is ABI");
