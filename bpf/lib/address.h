/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * address.h - what kind of address this is. IPv4 addresses are mapped ones.
 */
#pragma once

#include "lib/base.h"

inline_fn void address_map_ipv4(struct sg_address *address, const __u8 bytes[4])
{
	__builtin_memset(address->bytes, 0, 10);
	address->bytes[10] = 0xff;
	address->bytes[11] = 0xff;
	__builtin_memcpy(&address->bytes[12], bytes, 4);
}

inline_fn bool address_equal(const struct sg_address *a, const struct sg_address *b)
{
	return !__builtin_memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

inline_fn bool address_is_zero(const struct sg_address *address)
{
	struct sg_address zero = {};

	return address_equal(address, &zero);
}

inline_fn bool address_is_ipv4(const struct sg_address *address)
{
	struct sg_address mapped;

	address_map_ipv4(&mapped, &address->bytes[12]);
	return address_equal(address, &mapped);
}

inline_fn bool address_is_link_local(const struct sg_address *address)
{
	return address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
}

/* Multicast that no router forwards (RFC 4291 section 2.7). */
inline_fn bool address_is_link_multicast(const struct sg_address *address)
{
	return address->bytes[0] == 0xff && (address->bytes[1] & 0xf) <= 2;
}

/* Spreads an address over 32 bits, differently for each seed (the steps of
 * MurmurHash3, which is in the public domain). */
inline_fn __u32 address_hash(const struct sg_address *address, __u32 seed)
{
	/* Wherever one is hashed, it is aligned: byte by byte takes too much stack. */
	const __u32 __attribute__((may_alias)) *words = (const void *)address;
	__u32 hash = seed;
	int i;

	for (i = 0; i < 4; i++) {
		hash ^= words[i] * 0xcc9e2d51;
		hash = (hash << 13 | hash >> 19) * 5 + 0xe6546b64;
	}
	hash = (hash ^ hash >> 16) * 0x85ebca6b;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35;
	return hash ^ hash >> 16;
}
