/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * types.h - the fixed-width integers that both sides share, and the version of
 * everything under abi/.
 *
 * What is pinned may be older than the program that finds it: the version is
 * compared before anything is reused.
 */
#pragma once

#include <linux/types.h>

/* Versions that do not exist, for tests of the way to another one and back: 1
 * has another layout of what is desired, 2 of connections and records, too. */
#ifndef SG_LAYOUT_AHEAD
#define SG_LAYOUT_AHEAD 0
#endif

/* Raised whenever the layout of a shared type or the meaning of a field changes.
 * What another version pinned is taken over by the names of its fields: a field
 * whose meaning changes gets another name, a bit of `flags` is not used again. */
enum sg_abi {
	SG_ABI_VERSION = 6 + SG_LAYOUT_AHEAD,
};

/* An IPv6 address, or an IPv4 address mapped into ::ffff:0:0/96 (RFC 4291 2.5.5.2). */
struct sg_address {
	__u8 bytes[16];
};

_Static_assert(sizeof(struct sg_address) == 16, "sg_address is ABI");
