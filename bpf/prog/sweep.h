/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sweep - free connections that have ended, or whose endpoint is gone.
 *
 * Run by the agent every few seconds; here and not in user space, because the
 * use counters are moved by packets at the same time. When nobody has done it for
 * a while, a timer does: it needs nobody alive, only the pinned map. An agent that
 * only starts, again and again, has swept nothing.
 */
#pragma once

#include "lib/conntrack.h"

#define SWEEP_LOOK (1 * NANOSECONDS)	/* how often the timer looks */
#define SWEEP_AGENT_SILENT (15 * NANOSECONDS)
#define SWEEP_PRESSED (5 * NANOSECONDS)	/* since anybody's when room is short */
#define SWEEP_IDLE (60 * NANOSECONDS)	/* between runs otherwise */
#define SWEEP_AT_ONCE 4096		/* freed by one run of the timer */
#define SWEEP_GO_ON (NANOSECONDS / 50)	/* pause when there is more */
#define SWEEP_UNBOUNDED 0xffffffff

/* Idle for so long, an answered exchange of datagrams gives its room to others of an
 * endpoint that has used half of it; else for LIFETIME_OTHER. */
#define LIFETIME_PRESSED (15 * NANOSECONDS)

struct sweep {
	__u64 now;
	__u32 freed;
	__u32 limit;
	__u32 quota;
};

inline_fn __u32 sweep_quota(void)
{
	const struct sg_control *ctl = control_get();

	return ctl ? ctl->connections : 0;
}

/* Whether the connection has ended, or makes room. */
inline_fn bool connection_is_over(const struct sg_connection *conn, const struct sg_usage *used,
				  __u8 protocol, const struct sweep *sweep)
{
	if (!used || conn->expires_ns <= sweep->now)
		return true;
	return used->connections * 2 >= sweep->quota && protocol != PROTOCOL_TCP &&
	       conn->flags & SG_CONNECTION_ESTABLISHED && !(conn->flags & SG_CONNECTION_CUT) &&
	       conn->expires_ns <= sweep->now + LIFETIME_OTHER - LIFETIME_PRESSED;
}

static long connection_sweep(void *map, struct sg_connection_key *key,
			     struct sg_connection *conn, struct sweep *sweep)
{
	struct sg_connection_key copy = *key;

	(void)map;
	if (!connection_is_over(conn, bpf_map_lookup_elem(&usage, &copy.endpoint), copy.protocol,
				sweep))
		return 0;
	connection_delete(&copy, connection_is_shared(conn));
	sweep->freed++;
	return sweep->freed >= sweep->limit;
}

SEC("syscall")
int sweep_connections(void *ctx)
{
	struct sweep sweep = { .now = bpf_ktime_get_ns(),
			       .limit = SWEEP_UNBOUNDED,
			       .quota = sweep_quota() };
	struct sg_sweeps *sweeps_of_node;
	__u32 zero = 0;

	(void)ctx;
	sweeps_of_node = bpf_map_lookup_elem(&sweeps, &zero);
	if (sweeps_of_node) {
		sweeps_of_node->agent_ns = sweep.now;
		sweeps_of_node->pressure = 0;
	}
	bpf_for_each_map_elem(&conntrack, connection_sweep, &sweep, 0);
	return sweep.freed;
}

static bool sweep_is_due(const struct sg_sweeps *known, __u64 now)
{
	if (known->pressure)
		return now > known->agent_ns + SWEEP_PRESSED &&
		       now > known->kernel_ns + SWEEP_PRESSED;
	return now > known->agent_ns + SWEEP_AGENT_SILENT &&
	       now > known->kernel_ns + SWEEP_IDLE;
}

static int sweeper_fires(void *map, __u32 *key, struct sweeper *timer)
{
	struct sweep sweep = { .now = bpf_ktime_get_ns(),
			       .limit = SWEEP_AT_ONCE,
			       .quota = sweep_quota() };
	__u64 again = SWEEP_LOOK, took;
	struct sg_sweeps *known;
	__u32 zero = 0;

	(void)map;
	(void)key;
	known = bpf_map_lookup_elem(&sweeps, &zero);
	if (known && sweep_is_due(known, sweep.now)) {
		known->pressure = 0;
		known->kernel_ns = sweep.now;
		bpf_for_each_map_elem(&conntrack, connection_sweep, &sweep, 0);
		took = bpf_ktime_get_ns() - sweep.now;
		known->runs++;
		known->freed += sweep.freed;
		if (took > known->longest_ns)
			known->longest_ns = took;
		if (sweep.freed >= sweep.limit) {
			known->kernel_ns = 0;
			again = SWEEP_GO_ON;
		}
	}
	bpf_timer_start(&timer->timer, again, 0);
	return 0;
}

/* 0, or a negative errno. Run by each agent that starts: the timer then calls
 * this version's function. */
SEC("syscall")
int sweeper_arm(void *ctx)
{
	struct sweeper *timer;
	__u32 zero = 0;
	long err;

	(void)ctx;
	timer = bpf_map_lookup_elem(&sweeper, &zero);
	if (!timer)
		return -2 /* ENOENT */;
	err = bpf_timer_init(&timer->timer, &sweeper, 1 /* CLOCK_MONOTONIC */);
	if (err && err != -16 /* EBUSY: an earlier agent's */)
		return err;
	err = bpf_timer_set_callback(&timer->timer, sweeper_fires);
	if (err)
		return err;
	/* At once: agents that start more often than it looks must not put it off. */
	return bpf_timer_start(&timer->timer, 0, 0);
}
