/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * icmp.h - errors about packets of a connection.
 */
#pragma once

#include "lib/conntrack.h"
#include "lib/identity.h"

/* An ICMP error passes when the packet it quotes belongs to a connection of
 * this endpoint (RFC 5927 section 2); it opens nothing. */
inline_fn bool icmp_is_error(const struct packet *pkt)
{
	if (pkt->protocol == PROTOCOL_ICMPV4)
		return pkt->icmp_type == 3 || pkt->icmp_type == 11 || pkt->icmp_type == 12;
	return pkt->protocol == PROTOCOL_ICMPV6 && pkt->icmp_type >= 1 && pkt->icmp_type <= 4;
}

checked_fn int judge_icmp_error(struct __sk_buff *skb, const struct sg_endpoint *ep,
				const struct packet *pkt, __u32 hook_of_error, __u32 revision)
{
	/* The quoted packet went the other way: its source is this error's receiver. */
	__u8 hook = hook_of_error == SG_EGRESS ? SG_INGRESS : SG_EGRESS;
	const struct sg_control *ctl = control_get();
	struct sg_connection_key key;
	struct packet quoted = {};
	struct sg_connection *conn;
	__u8 head[8];
	__u32 offset;

	if (!ep || !pkt || !ctl)
		return SG_REASON_NO_CONFIGURATION;
	offset = pkt->transport + 8;
	if (pkt->protocol == PROTOCOL_ICMPV4) {
		struct ipv4_header ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
			return SG_REASON_CT_TRUNCATED;
		/* A later fragment's payload is no header. */
		if (ip.version_length != 0x45 || bpf_ntohs(ip.fragment) & IPV4_FRAGMENT_OFFSET)
			return SG_REASON_UNKNOWN_STATE;
		address_map_ipv4(&quoted.source, ip.source);
		address_map_ipv4(&quoted.destination, ip.destination);
		quoted.protocol = ip.protocol;
		offset += sizeof(ip);
	} else {
		struct ipv6_header ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
			return SG_REASON_CT_TRUNCATED;
		quoted.source = ip.source;
		quoted.destination = ip.destination;
		quoted.protocol = ip.next;
		offset += sizeof(ip);
		if (ip.next == IPV6_FRAGMENT) {
			struct ipv6_fragment_header part;

			if (bpf_skb_load_bytes(skb, offset, &part, sizeof(part)))
				return SG_REASON_CT_TRUNCATED;
			if (bpf_ntohs(part.offset_more) & IPV6_FRAGMENT_OFFSET)
				return SG_REASON_UNKNOWN_STATE;
			quoted.protocol = part.next;
			offset += sizeof(part);
		}
	}
	if (bpf_skb_load_bytes(skb, offset, head, sizeof(head)))
		return SG_REASON_CT_TRUNCATED;
	if (packet_is_icmp(&quoted)) {
		quoted.icmp_type = head[0];
		__builtin_memcpy(&quoted.source_port, &head[4], 2);
	} else {
		__builtin_memcpy(&quoted.source_port, &head[0], 2);
		__builtin_memcpy(&quoted.destination_port, &head[2], 2);
	}
	/* An error goes to who sent what it quotes: it is no way to anybody else. */
	if (!address_equal(&pkt->destination, &quoted.source))
		return SG_REASON_UNKNOWN_STATE;
	connection_key(&key, &quoted, ep->id, hook);
	conn = bpf_map_lookup_elem(&conntrack, &key);
	if (!conn || conn->expires_ns <= bpf_ktime_get_coarse_ns() ||
	    conn->revision != revision || conn->epoch != ctl->epoch ||
	    conn->flags & SG_CONNECTION_CUT)
		return SG_REASON_UNKNOWN_STATE;
	return SG_REASON_NONE;
}
