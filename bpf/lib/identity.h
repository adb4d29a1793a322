/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * identity.h - endpoints by interface, peers by address.
 */
#pragma once

#include "lib/maps.h"
#include "lib/packet.h"

#define IDENTITY_UNKNOWN 0
#define IDENTITY_HOST 1
#define IDENTITY_REMOTE_NODE 6
#define IDENTITY_KUBE_APISERVER 7
#define IDENTITY_SCOPE_NODE 0x02	/* the first byte of nodes that are told apart by more */
#define INTERFACE_HOST 0	/* stands in map `endpoints` for the node itself */

/* A node, this one or another. */
inline_fn bool identity_is_node(__u32 identity)
{
	return identity == IDENTITY_HOST || identity == IDENTITY_REMOTE_NODE ||
	       identity == IDENTITY_KUBE_APISERVER || identity >> 24 == IDENTITY_SCOPE_NODE;
}

inline_fn struct sg_control *control_get(void)
{
	__u32 zero = 0;
	struct sg_control *ctl = bpf_map_lookup_elem(&control, &zero);

	/* Written by another version, or not written yet: nothing here can be trusted. */
	if (!ctl || ctl->abi_version != SG_ABI_VERSION)
		return NULL;
	return ctl;
}

/* Read once and before the endpoint: what is read later knows this revision. */
inline_fn __u32 revision_get(void)
{
	const struct sg_control *ctl = control_get();

	return ctl ? *(volatile __u32 *)&ctl->revision : 0;
}

inline_fn struct sg_endpoint *endpoint_by_ifindex(__u32 ifindex)
{
	return bpf_map_lookup_elem(&endpoints, &ifindex);
}

inline_fn const struct sg_address *endpoint_address(const struct sg_endpoint *ep, bool ipv4)
{
	return ipv4 ? &ep->ipv4 : &ep->ipv6;
}

/* Whether the address is one the endpoint was given. */
inline_fn bool endpoint_owns(const struct sg_endpoint *ep, const struct sg_address *address)
{
	return (address_equal(address, &ep->ipv4) && !address_is_zero(&ep->ipv4)) ||
	       (address_equal(address, &ep->ipv6) && !address_is_zero(&ep->ipv6));
}

/* Who has an address at a revision, whatever is undone, or NULL. */
inline_fn const struct sg_holder *holder_at(const struct sg_address *address, __u32 revision)
{
	const struct sg_peer *peer = bpf_map_lookup_elem(&addresses, address);
	const struct sg_holder *holder;

	if (!peer)
		return NULL;
	revision &= ~SG_REVISION_UNDONE;
	holder = revision >= peer->from_revision ? &peer->after : &peer->before;
	return holder->identity ? holder : NULL;
}

/* Whether the address is one of the node's own. */
inline_fn bool address_is_host(const struct sg_address *address, __u32 revision)
{
	const struct sg_holder *holder = holder_at(address, revision);

	return holder && holder->endpoint == SG_ENDPOINT_HOST;
}

/* The node itself, while policy judges it; else NULL, at the cost of one read. */
inline_fn struct sg_endpoint *endpoint_host(void)
{
	const struct sg_control *ctl = control_get();

	return ctl && ctl->host ? endpoint_by_ifindex(INTERFACE_HOST) : NULL;
}

/* Who stands behind an address. Of a pod range but known to nobody is what the
 * range says (unmanaged), never world. */
inline_fn __u32 identity_of(const struct sg_control *ctl, const struct sg_address *address,
			    __u32 revision)
{
	struct sg_prefix_key key = { .prefix_bits = 128 };
	const struct sg_holder *holder = holder_at(address, revision);
	const struct sg_range *range;
	__u32 identity = 0;

	if (holder)
		return holder->identity;
	key.address = *address;
	revision &= ~SG_REVISION_UNDONE;
	range = bpf_map_lookup_elem(&prefixes, &key);
	if (range)
		identity = revision >= range->from_revision ? range->after : range->before;
	if (identity)
		return identity;
	return address_is_ipv4(address) ? ctl->world_ipv4 : ctl->world_ipv6;
}
