/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * service.h - services by their own address, and the backends behind them.
 *
 * A service names a set of backends. A set is complete before a service names
 * it and does not change afterwards: another choice of backends is another set.
 */
#pragma once

#include "abi/types.h"

/* Key of map `services`. Port and protocol 0: the address itself, which never
 * stands on the wire. */
struct sg_service_key {
	struct sg_address address;
	__be16 port;
	__u8 protocol;		/* IANA number */
	__u8 pad;		/* zero */
};

/* Value of map `services`. */
struct sg_service {
	__u32 set;		/* of backends, never used twice */
	__u32 backends;		/* slots 0 to backends - 1; 0: nobody serves it */
	__u32 affinity_seconds;	/* a client keeps its backend this long; 0: it does not */
};

/* Key of map `backends`. */
struct sg_backend_key {
	__u32 set;
	__u32 slot;
};

/* Value of map `backends`. */
struct sg_backend {
	struct sg_address address;
	__be16 port;
	__u8 pad[2];		/* zero */
};

/* Key of map `members`, whose value is nothing: who is in a set. */
struct sg_member_key {
	__u32 set;
	struct sg_backend backend;
};

/* Per-CPU counters of map `service_counters`. */
enum sg_service_count {
	SG_SERVICE_TRANSLATED = 0,
	SG_SERVICE_NO_BACKEND = 1,	/* refused: nobody serves it */
	SG_SERVICE_NO_ROOM = 2,		/* refused: no memory to find the way back */
	SG_SERVICE_COUNTS = 3,
};

_Static_assert(sizeof(struct sg_service_key) == 20, "sg_service_key is ABI");
_Static_assert(sizeof(struct sg_service) == 12, "sg_service is ABI");
_Static_assert(sizeof(struct sg_backend_key) == 8, "sg_backend_key is ABI");
_Static_assert(sizeof(struct sg_backend) == 20, "sg_backend is ABI");
_Static_assert(sizeof(struct sg_member_key) == 24, "sg_member_key is ABI");
