/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * endpoint.h - pods of this node, the node itself, and who stands behind an
 * address.
 */
#pragma once

#include "abi/types.h"

/* Numbers of endpoints that are no pods; no pod has one of them. */
enum sg_endpoint_id {
	SG_ENDPOINT_NONE = 0,
	SG_ENDPOINT_HOST = 1,		/* the node itself */
	SG_ENDPOINT_BEHIND = 2,		/* whoever leaves the node with its address */
	SG_ENDPOINT_FIRST_POD = 3,
};

/* Network namespaces that have no number: nobody knows which, and the node's own. */
#define SG_NETNS_UNKNOWN (-1)
#define SG_NETNS_OWN (-2)

/* Who an endpoint is, and the policy table it is judged by. A table on trial has
 * a time until which it must be confirmed: afterwards the fallback judges,
 * whether or not anybody is there to say so. */
struct sg_subject {
	__u32 identity;
	__u32 table;
	__u32 fallback;
	__u32 confirm_by;	/* seconds of CLOCK_MONOTONIC; 0: not on trial */
};

/* Value of map `endpoints`; the key is the index of the host-side interface, 0
 * for the node itself. */
struct sg_endpoint {
#if SG_LAYOUT_AHEAD
	struct sg_subject before;
#endif
	__u32 id;		/* unique on the node, never used twice */
	__u32 from_revision;	/* `after` counts from here on */
#if !SG_LAYOUT_AHEAD
	struct sg_subject before;
#endif
	struct sg_subject after;
	struct sg_address ipv4;	/* mapped; all zero: none */
	struct sg_address ipv6;	/* all zero: none */
	__s32 netns_id;		/* of the pod, as its node sees it; -1: unknown, -2: the node's */
	__u8 mac[6];
	__u8 pad[2];		/* zero */
};

/* Value of map `usage`, by sg_endpoint.id: what an endpoint takes of what all
 * share. Number 0 stands for frames of interfaces without an endpoint. */
struct sg_usage {
	__u64 connections;
	__u64 second;		/* the second that drop_records counts, since boot */
	__u64 drop_records;
	__u64 suppressed;	/* drops that were counted and not told */
	__u64 trace_records;	/* in that second too, of connections after their first packet */
	__u32 salt;		/* so that nobody can choose whom to share a place with */
	__u32 pad;		/* zero */
#if SG_LAYOUT_AHEAD > 1
	__u64 ahead;
#endif
	__u32 peers[256];	/* connections that peers opened, by a hash of their address */
	__u32 peers_again[256];	/* the same ones, by another hash */
};

struct sg_holder {
	__u32 identity;		/* 0: nobody */
	__u32 endpoint;		/* sg_endpoint.id when it is on this node, else 0 */
};

/* Value of map `addresses`. */
struct sg_peer {
#if SG_LAYOUT_AHEAD
	struct sg_holder after;
#endif
	__u32 from_revision;	/* `after` counts from here on */
	struct sg_holder before;
#if !SG_LAYOUT_AHEAD
	struct sg_holder after;
#endif
};

/* Value of map `prefixes`: identities. */
struct sg_range {
	__u32 from_revision;	/* `after` counts from here on */
	__u32 before;		/* 0: as if the prefix were not there */
	__u32 after;
};

/* Key of map `prefixes`, a longest-prefix trie over mapped addresses. */
struct sg_prefix_key {
	__u32 prefix_bits;
	struct sg_address address;
};

_Static_assert(sizeof(struct sg_endpoint) == 84, "sg_endpoint is ABI");
#if SG_LAYOUT_AHEAD < 2
_Static_assert(sizeof(struct sg_usage) == 2096, "sg_usage is ABI");
#endif
_Static_assert(sizeof(struct sg_peer) == 20, "sg_peer is ABI");
_Static_assert(sizeof(struct sg_range) == 12, "sg_range is ABI");
_Static_assert(sizeof(struct sg_prefix_key) == 20, "sg_prefix_key is ABI");
