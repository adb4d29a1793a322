/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy.h - what a policy table says about a peer, a protocol and a port.
 *
 * One look-up for the peer and one for "any peer"; the higher precedence wins, for
 * what decides and for its shadow each by itself. Crate policy's Table::lookup does
 * the same, and a test drives both.
 */
#pragma once

#include "lib/maps.h"

#define POLICY_KEY_BITS 64	/* direction, identity, protocol, port */

/* What is decided, and what would be if policies in shadow mode were in force. It is
 * on the stack of programs that have none to spare. */
struct judgement {
	__u32 revision;
	__u32 rule_sets[2];
	__u32 shadow_rule_sets[2];
	__u8 why;		/* enum sg_why */
	__u8 match_type;
	__u8 shadow_verdict;	/* enum sg_verdict; NONE: not known */
	__u8 shadow_why;
};

inline_fn void judgement_take_shadow(struct judgement *to, const struct judgement *from)
{
	to->shadow_rule_sets[0] = from->shadow_rule_sets[0];
	to->shadow_rule_sets[1] = from->shadow_rule_sets[1];
	to->shadow_verdict = from->shadow_verdict;
	to->shadow_why = from->shadow_why;
}

inline_fn const struct sg_subject *subject_at(const struct sg_endpoint *ep, __u32 revision)
{
	return revision >= ep->from_revision ? &ep->after : &ep->before;
}

/* The revision as connections remember it: what a table on trial has let pass is
 * judged again once that table is undone. */
inline_fn __u32 revision_stamp(const struct sg_endpoint *ep, __u32 revision, __u64 now)
{
	__u64 until = subject_at(ep, revision)->confirm_by;

	return until && now >= until * NANOSECONDS ? revision | SG_REVISION_UNDONE : revision;
}

inline_fn __u32 subject_table(const struct sg_endpoint *ep, __u32 stamp)
{
	const struct sg_subject *subject = subject_at(ep, stamp & ~SG_REVISION_UNDONE);

	return stamp & SG_REVISION_UNDONE ? subject->fallback : subject->table;
}

inline_fn const struct sg_decisions *policy_find(void *table, struct sg_policy_key *key,
						 __u32 identity, __u32 revision)
{
	const struct sg_policy_entry *entry;

	key->identity[0] = identity >> 24;
	key->identity[1] = identity >> 16;
	key->identity[2] = identity >> 8;
	key->identity[3] = identity;
	entry = bpf_map_lookup_elem(table, key);
	if (!entry)
		return NULL;
	return revision >= entry->from_revision ? &entry->after : &entry->before;
}

/* Hubble's numbers for how specific a match was. */
enum match {
	MATCH_NONE = 0,
	MATCH_L3 = 1,
	MATCH_L3_L4 = 2,
	MATCH_L4 = 3,
	MATCH_ALL = 4,
	MATCH_L3_PROTOCOL = 5,
	MATCH_PROTOCOL = 6,
};

inline_fn __u8 policy_match_type(const struct sg_decision *decision, bool specific)
{
	if (decision->why == SG_WHY_DEFAULT_DENY)
		return MATCH_NONE;
	if (!decision->specificity)
		return specific ? MATCH_L3 : MATCH_ALL;
	if (decision->specificity <= 8)
		return specific ? MATCH_L3_PROTOCOL : MATCH_PROTOCOL;
	return specific ? MATCH_L3_L4 : MATCH_L4;
}

struct question {
	__u32 table;
	__u32 revision;
	__u32 peer;		/* identity, 0: nobody known */
	__be16 port;		/* of the side that is asked */
	__u8 direction;		/* enum sg_direction */
	__u8 protocol;
};

/* Whether what is said of the peer wins over what is said of anybody. */
inline_fn bool policy_is_stronger(const struct sg_decision *own, const struct sg_decision *any)
{
	return own->precedence > any->precedence ||
	       (own->precedence == any->precedence && own->specificity >= any->specificity);
}

/* The loser's rule set where both are as strong, and no default. */
inline_fn __u32 policy_also(const struct sg_decision *own, const struct sg_decision *any,
			    bool specific)
{
	if (own->precedence != any->precedence || !own->precedence)
		return 0;
	return specific ? any->rule_set : own->rule_set;
}

inline_fn void policy_shadow(const struct sg_decision *own, const struct sg_decision *any,
			     struct judgement *out)
{
	const struct sg_decision *best = any;

	if (own && own->verdict != SG_VERDICT_NONE) {
		bool specific = policy_is_stronger(own, any);

		if (specific)
			best = own;
		out->shadow_rule_sets[1] = policy_also(own, any, specific);
	}
	out->shadow_rule_sets[0] = best->rule_set;
	out->shadow_verdict = best->verdict;
	out->shadow_why = best->why;
}

/* enum sg_reason. No table, or a table without its default entry: denied. */
inline_fn enum sg_reason policy_judge(const struct question *ask, struct judgement *out)
{
	struct sg_policy_key key = { .prefix_bits = POLICY_KEY_BITS };
	const struct sg_decisions *own = NULL, *any;
	const struct sg_decision *best;
	bool specific = false;
	__u32 number;
	void *table;

	key.direction = ask->direction;
	key.protocol = ask->protocol;
	number = ask->table;
	table = bpf_map_lookup_elem(&tables, &number);
	__builtin_memset(out, 0, sizeof(*out));
	out->revision = ask->revision;
	if (!table)
		return SG_REASON_NO_CONFIGURATION;
	__builtin_memcpy(key.port, &ask->port, 2);
	any = policy_find(table, &key, 0, ask->revision);
	if (!any || any->live.verdict == SG_VERDICT_NONE)
		return SG_REASON_NO_CONFIGURATION;
	best = &any->live;
	if (ask->peer)
		own = policy_find(table, &key, ask->peer, ask->revision);
	if (own && own->live.verdict != SG_VERDICT_NONE) {
		specific = policy_is_stronger(&own->live, &any->live);
		if (specific)
			best = &own->live;
		out->rule_sets[1] = policy_also(&own->live, &any->live, specific);
	}
	if (any->shadow.verdict != SG_VERDICT_NONE)
		policy_shadow(own ? &own->shadow : NULL, &any->shadow, out);
	out->rule_sets[0] = best->rule_set;
	out->why = best->why;
	out->match_type = policy_match_type(best, specific);
	if (best->verdict == SG_VERDICT_ALLOW)
		return SG_REASON_NONE;
	return best->why == SG_WHY_DENY_RULE ? SG_REASON_POLICY_DENY : SG_REASON_POLICY_DENIED;
}
