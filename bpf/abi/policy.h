/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy.h - policy tables and the revision that judges a packet.
 *
 * Everything that a policy change touches holds what was in force before and
 * what is in force from a revision on. User space writes all of it, then moves
 * the one revision word: every packet is judged by exactly one revision.
 */
#pragma once

#include "abi/types.h"

enum sg_direction {
	SG_INGRESS = 0,	/* towards the endpoint */
	SG_EGRESS = 1,	/* from the endpoint */
};

enum sg_verdict {
	SG_VERDICT_NONE = 0,	/* no decision at this revision */
	SG_VERDICT_ALLOW = 1,
	SG_VERDICT_DENY = 2,
};

/* Which kind of rule decided; crate policy has the same numbers. */
enum sg_why {
	SG_WHY_NONE = 0,
	SG_WHY_UNENFORCED = 1,
	SG_WHY_RULE = 2,
	SG_WHY_DEFAULT_DENY = 3,
	SG_WHY_DENY_RULE = 4,
	SG_WHY_LOCAL_HOST = 5,
	SG_WHY_UNSUPPORTED = 6,	/* a rule that cannot be enforced yet: denied */
};

/* Key of a policy table, a longest-prefix trie. Direction and identity always
 * count in full: a prefix is 40 bits (any protocol), 48 (one protocol) or 49
 * to 64 (one port or an aligned block of them). Identity 0 is any peer. */
struct sg_policy_key {
	__u32 prefix_bits;
	__u8 direction;		/* enum sg_direction */
	__u8 identity[4];	/* big endian */
	__u8 protocol;		/* IANA number */
	__u8 port[2];		/* big endian */
};

struct sg_decision {
	__u32 precedence;	/* the higher one wins */
	__u32 rule_set;		/* names are joined in user space */
	__u8 verdict;		/* enum sg_verdict */
	__u8 why;		/* enum sg_why */
	__u8 specificity;	/* prefix bits beyond direction and identity: 0, 8, 9 to 24 */
	__u8 pad;		/* zero */
};

/* What decides, and what would if policies in shadow mode were in force. Each is
 * what its own table would find at this key, inherited from a shorter key or not.
 * Where nobody in shadow mode concerns the endpoint, every `shadow` is NONE. */
struct sg_decisions {
	struct sg_decision live;
	struct sg_decision shadow;
};

struct sg_policy_entry {
#if SG_LAYOUT_AHEAD
	struct sg_decisions after;
#endif
	__u32 from_revision;	/* `after` counts from here on */
	struct sg_decisions before;
#if !SG_LAYOUT_AHEAD
	struct sg_decisions after;
#endif
};

/* The one element of map `control`. */
struct sg_control {
	__u32 abi_version;	/* SG_ABI_VERSION of who wrote the maps; always first */
#if SG_LAYOUT_AHEAD
	__u32 host;
#endif
	__u32 revision;		/* of the policy in force */
	__u32 epoch;		/* moves when a known address changes its identity or goes */
	__u32 world_ipv4;	/* identity of unmapped IPv4 addresses */
	__u32 world_ipv6;	/* identity of unmapped IPv6 addresses */
	__u32 connections;	/* quota of an endpoint */
	__u32 drop_records;	/* that an endpoint may cause in a second */
	__u32 trace;		/* enum sg_trace */
#if !SG_LAYOUT_AHEAD
	__u32 host;		/* 1: the node itself is an endpoint; 0: nobody judges it */
#endif
};

_Static_assert(sizeof(struct sg_policy_key) == 12, "sg_policy_key is ABI");
_Static_assert(sizeof(struct sg_decision) == 12, "sg_decision is ABI");
_Static_assert(sizeof(struct sg_policy_entry) == 52, "sg_policy_entry is ABI");
_Static_assert(sizeof(struct sg_control) == 36, "sg_control is ABI");
