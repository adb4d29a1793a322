/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fragment.h - the first fragments of the datagrams an endpoint sends or gets.
 *
 * A later fragment has no ports: it is judged with those of the first one, and
 * dropped when nobody has seen that. Each endpoint has its own places, so that
 * a neighbour's flood cannot take them; a newer datagram may take the place of
 * an older one of the same endpoint. Only what was allowed is remembered.
 */
#pragma once

#include "lib/maps.h"
#include "lib/packet.h"

#define LIFETIME_FRAGMENT (30 * NANOSECONDS)	/* as long as receivers wait */

inline_fn __u32 fragment_place(const struct packet *pkt, __u32 hook)
{
	__u32 seed = pkt->fragment_id ^ (hook << 8 | pkt->fragment_protocol);

	seed = address_hash(&pkt->source, seed);
	return address_hash(&pkt->destination, seed) & (FRAGMENT_PLACES - 1);
}

inline_fn bool fragment_is_of(const struct fragment *first, const struct packet *pkt, __u32 hook,
			      __u64 now)
{
	return first->expires_ns > now && first->id == pkt->fragment_id && first->hook == hook &&
	       first->fragment_protocol == pkt->fragment_protocol &&
	       address_equal(&first->source, &pkt->source) &&
	       address_equal(&first->destination, &pkt->destination);
}

/* Keeps what an allowed first fragment says, for those that follow it. */
checked_fn int fragment_remember(const struct packet *pkt, __u32 endpoint, __u32 hook)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct fragment_memory *memory;
	struct fragment *first;
	__u16 header_end;
	__u32 place;

	memory = bpf_map_lookup_elem(&fragments, &endpoint);
	if (!memory || !pkt)
		return -1;
	place = fragment_place(pkt, hook);
	header_end = pkt->header_end;
	first = &memory->places[place];
	bpf_spin_lock(&memory->lock);
	/* Of two first fragments the receiver may keep either: the later ones must
	 * reach into the headers of neither. */
	if (fragment_is_of(first, pkt, hook, now) && first->header_end > header_end)
		header_end = first->header_end;
	first->source = pkt->source;
	first->destination = pkt->destination;
	first->expires_ns = now + LIFETIME_FRAGMENT;
	first->id = pkt->fragment_id;
	first->source_port = pkt->source_port;
	first->destination_port = pkt->destination_port;
	first->header_end = header_end;
	first->hook = hook;
	first->fragment_protocol = pkt->fragment_protocol;
	first->protocol = pkt->protocol;
	first->tcp_flags = pkt->tcp_flags;
	first->icmp_type = pkt->icmp_type;
	first->icmp_code = pkt->icmp_code;
	bpf_spin_unlock(&memory->lock);
	return 0;
}

/* enum sg_reason. Gives a later fragment the ports of its datagram's first. */
checked_fn int fragment_restore(struct packet *pkt, __u32 endpoint, __u32 hook)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct fragment_memory *memory;
	struct fragment first;
	__u32 place;

	memory = bpf_map_lookup_elem(&fragments, &endpoint);
	if (!memory || !pkt)
		return SG_REASON_FRAGMENT_NOT_FOUND;
	place = fragment_place(pkt, hook);
	bpf_spin_lock(&memory->lock);
	first = memory->places[place];
	bpf_spin_unlock(&memory->lock);
	if (!fragment_is_of(&first, pkt, hook, now))
		return SG_REASON_FRAGMENT_NOT_FOUND;
	/* It would write over what was judged (RFC 1858, RFC 3128). */
	if (pkt->fragment_offset < first.header_end)
		return SG_REASON_FRAGMENT;
	pkt->source_port = first.source_port;
	pkt->destination_port = first.destination_port;
	pkt->protocol = first.protocol;
	pkt->tcp_flags = first.tcp_flags;
	pkt->icmp_type = first.icmp_type;
	pkt->icmp_code = first.icmp_code;
	pkt->layer = SG_LAYER_TRANSPORT;
	return SG_REASON_NONE;
}
