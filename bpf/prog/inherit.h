/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * inherit - take over one connection from the map of another layout.
 *
 * Run by an agent that replaces another version's programs, once for each entry;
 * here and not in user space, because the use counters are moved by packets at
 * the same time. What is taken over is judged again at its next packet.
 */
#pragma once

#include "lib/conntrack.h"
#include "lib/policy.h"

/* Both have seen packets of it: it lives as long as the older one says. */
inline_fn void inherit_more(struct sg_connection *conn, const struct sg_connection *older)
{
	const __u8 ended = SG_CONNECTION_CLOSED | SG_CONNECTION_CUT;

	if (conn->cookie != older->cookie || conn->direction != older->direction ||
	    (conn->flags | older->flags) & ended)
		return;
	conn->began_ns = 0;
	conn->flags |= older->flags & SG_CONNECTION_ESTABLISHED;
	if (conn->expires_ns < older->expires_ns)
		conn->expires_ns = older->expires_ns;
}

/* enum sg_reason: why it is not there afterwards. One that has ended is nothing
 * to take over. */
SEC("syscall")
int inherit_connection(struct sg_inherited *from)
{
	const struct sg_control *ctl = control_get();
	struct sg_connection conn = from->connection;
	struct sg_connection_key key = from->key;
	struct sg_connection *present;

	if (!ctl)
		return SG_REASON_NO_CONFIGURATION;
	if (conn.expires_ns <= bpf_ktime_get_ns())
		return SG_REASON_NONE;
	present = bpf_map_lookup_elem(&conntrack, &key);
	if (present) {
		inherit_more(present, &conn);
		return SG_REASON_NONE;
	}
	conn.revision = 0;
	/* While both versions count, neither has all. */
	conn.began_ns = 0;
	/* Its end was before this version's time. */
	if (conn.flags & SG_CONNECTION_CLOSED)
		conn.told |= 1 << SG_KIND_END;
	return connection_create(&key, &conn, ctl->connections);
}
