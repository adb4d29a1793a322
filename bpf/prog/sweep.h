/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sweep - free connections that have ended, or whose endpoint is gone.
 *
 * Run by the agent every few seconds; here and not in user space, because the
 * use counters are moved by packets at the same time.
 */
#pragma once

#include "lib/conntrack.h"

SEC("syscall")
int sweep_connections(void *ctx)
{
	struct sweep sweep = { .now = bpf_ktime_get_ns() };

	(void)ctx;
	bpf_for_each_map_elem(&conntrack, connection_sweep, &sweep, 0);
	return sweep.freed;
}
