/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * extensions.h - IPv6 extension headers, and which part of a datagram a packet is.
 */
#pragma once

#include "lib/headers.h"

/* Which part of which datagram this is. `start`: of what was divided. */
inline_fn enum sg_reason packet_divide(struct packet *pkt, __u32 start, __u32 offset, bool more)
{
	__u32 bytes = pkt->end - start;

	/* All but the last are multiples of 8, none is empty, and none reaches
	 * beyond the longest datagram there is (RFC 791 section 3.2). */
	if (pkt->end <= start || (more && bytes % 8) || offset + bytes > DATAGRAM_BYTES)
		return SG_REASON_INVALID_PACKET;
	pkt->fragment = offset ? FRAGMENT_LATER : FRAGMENT_FIRST;
	pkt->fragment_offset = offset;
	return SG_REASON_NONE;
}

/* Reads a fragment header; `next` and `offset` move behind it. A whole datagram
 * that carries one stands for itself (RFC 6946). */
inline_fn enum sg_reason packet_parse_fragment(struct __sk_buff *skb, struct packet *pkt,
					       __u8 *next, __u32 *offset)
{
	struct ipv6_fragment_header header;
	__u16 place;

	if (bpf_skb_load_bytes(skb, *offset, &header, sizeof(header)))
		return SG_REASON_INVALID_EXTENSION;
	*next = header.next;
	*offset += sizeof(header);
	place = bpf_ntohs(header.offset_more);
	if (!(place & (IPV6_FRAGMENT_OFFSET | IPV6_FRAGMENT_MORE)))
		return SG_REASON_NONE;
	pkt->fragment_id = header.id;
	pkt->fragment_protocol = header.next;
	return packet_divide(pkt, *offset, place & IPV6_FRAGMENT_OFFSET,
			     place & IPV6_FRAGMENT_MORE);
}

/* enum sg_reason. What the extension headers lead to (RFC 8200 section 4). */
checked_fn int packet_walk_extensions(struct __sk_buff *skb, struct packet *pkt)
{
	__u32 offset = ETH_HEADER + sizeof(struct ipv6_header);
	__u8 next, extension[2];
	bool divided = false;
	int i;

	if (!pkt)
		return SG_REASON_INVALID_PACKET;
	next = pkt->protocol;
	for (i = 0; i < IPV6_EXTENSIONS; i++) {
		if (next == IPV6_FRAGMENT) {
			enum sg_reason reason;

			if (divided)
				return SG_REASON_INVALID_EXTENSION;
			divided = true;
			reason = packet_parse_fragment(skb, pkt, &next, &offset);
			pkt->divided = offset;
			if (reason || pkt->fragment == FRAGMENT_LATER)
				return reason;
			continue;
		}
		/* A routing header names a destination that is not the one judged. */
		if (next == IPV6_AUTHENTICATION || next == IPV6_ROUTING ||
		    (next == IPV6_HOP_BY_HOP && i))
			return SG_REASON_INVALID_EXTENSION;
		if (next != IPV6_HOP_BY_HOP && next != IPV6_DESTINATION)
			break;
		if (bpf_skb_load_bytes(skb, offset, extension, sizeof(extension)))
			return pkt->fragment ? SG_REASON_FRAGMENT : SG_REASON_INVALID_EXTENSION;
		next = extension[0];
		offset += (extension[1] + 1) * 8;
		if (offset > pkt->end)
			return pkt->fragment ? SG_REASON_FRAGMENT : SG_REASON_INVALID_EXTENSION;
	}
	if (i == IPV6_EXTENSIONS)
		return SG_REASON_INVALID_EXTENSION;
	pkt->protocol = next;
	pkt->transport = offset;
	return SG_REASON_NONE;
}
