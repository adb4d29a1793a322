/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * icmp.h - errors about packets of a connection.
 */
#pragma once

#include "lib/conntrack.h"
#include "lib/identity.h"
#include "lib/policy.h"

/* An ICMP error passes when the packet it quotes belongs to a connection of
 * this endpoint (RFC 5927 section 2); it opens nothing. */
inline_fn bool icmp_is_error(const struct packet *pkt)
{
	if (pkt->protocol == PROTOCOL_ICMPV4)
		return pkt->icmp_type == 3 || pkt->icmp_type == 11 || pkt->icmp_type == 12;
	return pkt->protocol == PROTOCOL_ICMPV6 && pkt->icmp_type >= 1 && pkt->icmp_type <= 4;
}

/* The addresses and the protocol of the quoted packet; `offset` moves behind its
 * headers. A later fragment's payload is no header. */
inline_fn enum sg_reason quoted_parse_ipv4(struct __sk_buff *skb, __u32 *offset,
					   struct sg_address *source,
					   struct sg_address *destination, __u8 *protocol)
{
	struct ipv4_header ip;

	if (bpf_skb_load_bytes(skb, *offset, &ip, sizeof(ip)))
		return SG_REASON_CT_TRUNCATED;
	if (ip.version_length != 0x45 || bpf_ntohs(ip.fragment) & IPV4_FRAGMENT_OFFSET)
		return SG_REASON_UNKNOWN_STATE;
	address_map_ipv4(source, ip.source);
	address_map_ipv4(destination, ip.destination);
	*protocol = ip.protocol;
	*offset += sizeof(ip);
	return SG_REASON_NONE;
}

inline_fn enum sg_reason quoted_parse_ipv6(struct __sk_buff *skb, __u32 *offset,
					   struct sg_address *source,
					   struct sg_address *destination, __u8 *protocol)
{
	struct ipv6_fragment_header part;

	if (bpf_skb_load_bytes(skb, *offset + 6, protocol, 1) ||
	    bpf_skb_load_bytes(skb, *offset + 8, source, sizeof(*source)) ||
	    bpf_skb_load_bytes(skb, *offset + 24, destination, sizeof(*destination)))
		return SG_REASON_CT_TRUNCATED;
	*offset += sizeof(struct ipv6_header);
	if (*protocol != IPV6_FRAGMENT)
		return SG_REASON_NONE;
	if (bpf_skb_load_bytes(skb, *offset, &part, sizeof(part)))
		return SG_REASON_CT_TRUNCATED;
	if (bpf_ntohs(part.offset_more) & IPV6_FRAGMENT_OFFSET)
		return SG_REASON_UNKNOWN_STATE;
	*protocol = part.next;
	*offset += sizeof(part);
	return SG_REASON_NONE;
}

/* enum sg_reason. `hook` is the error's; what it quotes went the other way. */
checked_fn int judge_icmp_error(struct __sk_buff *skb, const struct sg_endpoint *ep,
				const struct packet *pkt, __u32 hook, __u32 revision)
{
	const struct sg_control *ctl = control_get();
	struct sg_connection_key key = {};
	struct sg_connection *conn;
	enum sg_reason reason;
	bool sent = hook == SG_INGRESS, asked;
	struct sg_address *source = sent ? &key.local : &key.remote;
	struct sg_address *destination = sent ? &key.remote : &key.local;
	__u8 head[8];
	__u32 offset;
	__u64 now;

	if (!ep || !pkt || !ctl)
		return SG_REASON_NO_CONFIGURATION;
	offset = pkt->transport + 8;
	if (pkt->protocol == PROTOCOL_ICMPV4)
		reason = quoted_parse_ipv4(skb, &offset, source, destination, &key.protocol);
	else
		reason = quoted_parse_ipv6(skb, &offset, source, destination, &key.protocol);
	if (reason)
		return reason;
	if (bpf_skb_load_bytes(skb, offset, head, sizeof(head)))
		return SG_REASON_CT_TRUNCATED;
	/* An error goes to who sent what it quotes: it is no way to anybody else. */
	if (!address_equal(&pkt->destination, source))
		return SG_REASON_UNKNOWN_STATE;
	key.endpoint = ep->id;
	if (key.protocol == PROTOCOL_ICMPV4 || key.protocol == PROTOCOL_ICMPV6) {
		asked = head[0] == ICMPV4_ECHO || head[0] == ICMPV6_ECHO;
		__builtin_memcpy(&key.local_port, &head[4], 2);
		key.remote_port = asked == sent ? 0 : bpf_htons(1);
	} else {
		__builtin_memcpy(&key.local_port, &head[sent ? 0 : 2], 2);
		__builtin_memcpy(&key.remote_port, &head[sent ? 2 : 0], 2);
	}
	conn = bpf_map_lookup_elem(&conntrack, &key);
	now = bpf_ktime_get_coarse_ns();
	if (!conn || conn->expires_ns <= now ||
	    conn->revision != revision_stamp(ep, revision, now) || conn->epoch != ctl->epoch ||
	    conn->flags & SG_CONNECTION_CUT)
		return SG_REASON_UNKNOWN_STATE;
	return SG_REASON_NONE;
}
