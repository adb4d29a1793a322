/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * packet.h - one frame, parsed as far as it can be.
 *
 * Knows no endpoint and no policy. What does not parse has a reason; nothing
 * is guessed. A later fragment has no ports here: who remembers the first one
 * of its datagram fills them in (fragment.h).
 */
#pragma once

#include "lib/extensions.h"

inline_fn bool packet_is_icmp(const struct packet *pkt)
{
	return pkt->protocol == PROTOCOL_ICMPV4 || pkt->protocol == PROTOCOL_ICMPV6;
}

/* Bytes of a transport header that must be there, options not counted. */
inline_fn __u32 transport_bytes(__u8 protocol)
{
	switch (protocol) {
	case PROTOCOL_TCP:
		return 20;
	case PROTOCOL_UDP:
	case PROTOCOL_ICMPV4:
	case PROTOCOL_ICMPV6:
		return 8;
	case PROTOCOL_SCTP:
		return 12;
	default:
		return 0;
	}
}

/* enum sg_reason. Ports, or type and code. The layer moves up only when they
 * were there. */
checked_fn int packet_parse_transport(struct __sk_buff *skb, struct packet *pkt)
{
	__u8 head[14] = {};
	__u32 need;

	if (!pkt)
		return SG_REASON_INVALID_PACKET;
	need = transport_bytes(pkt->protocol);
	if (pkt->transport + need > pkt->end)
		return SG_REASON_CT_TRUNCATED;
	if (!need) {
		pkt->layer = SG_LAYER_TRANSPORT;
		return SG_REASON_NONE;
	}
	if (pkt->protocol == PROTOCOL_TCP) {
		__u32 bytes;

		if (bpf_skb_load_bytes(skb, pkt->transport, head, sizeof(head)))
			return SG_REASON_CT_TRUNCATED;
		bytes = (head[12] >> 4) * 4;
		if (bytes < need || (!pkt->fragment && pkt->transport + bytes > pkt->end))
			return SG_REASON_CT_TRUNCATED;
	} else if (bpf_skb_load_bytes(skb, pkt->transport, head, 8)) {
		return SG_REASON_CT_TRUNCATED;
	}
	if (packet_is_icmp(pkt)) {
		pkt->icmp_type = head[0];
		pkt->icmp_code = head[1];
		__builtin_memcpy(&pkt->source_port, &head[4], 2);
	} else {
		__builtin_memcpy(&pkt->source_port, &head[0], 2);
		__builtin_memcpy(&pkt->destination_port, &head[2], 2);
		pkt->tcp_flags = head[13];
	}
	pkt->layer = SG_LAYER_TRANSPORT;
	return SG_REASON_NONE;
}

/* The first fragment must hold every header (RFC 7112, RFC 3128); messages that
 * no honest sender divides are none (RFC 6980; an error quotes, and is short). */
inline_fn enum sg_reason packet_parse_first(struct __sk_buff *skb, struct packet *pkt)
{
	if (packet_parse_transport(skb, pkt))
		return SG_REASON_FRAGMENT;
	if (packet_is_icmp(pkt) && pkt->icmp_type != 0 && pkt->icmp_type != 8 &&
	    pkt->icmp_type != 128 && pkt->icmp_type != 129)
		return SG_REASON_FRAGMENT;
	pkt->header_end = pkt->transport + transport_bytes(pkt->protocol) - pkt->divided;
	return SG_REASON_NONE;
}

/* enum sg_reason. Like a routing header, a source route names a destination that
 * is not the one judged (RFC 791 section 3.1). `end`: of the header. */
checked_fn int packet_check_options(struct __sk_buff *skb, __u32 end)
{
	__u32 offset = ETH_HEADER + sizeof(struct ipv4_header);
	int i;

	for (i = 0; i < IPV4_OPTIONS && offset < end; i++) {
		__u8 option[2];

		if (bpf_skb_load_bytes(skb, offset, option, sizeof(option)) ||
		    option[0] == IPV4_LOOSE_ROUTE || option[0] == IPV4_STRICT_ROUTE)
			return SG_REASON_INVALID_PACKET;
		if (option[0] == IPV4_END_OF_OPTIONS)
			return SG_REASON_NONE;
		if (option[0] != IPV4_NO_OPERATION && option[1] < sizeof(option))
			return SG_REASON_INVALID_PACKET;
		offset += option[0] == IPV4_NO_OPERATION ? 1 : option[1];
	}
	return SG_REASON_NONE;
}

inline_fn enum sg_reason packet_parse_ipv4(struct __sk_buff *skb, struct packet *pkt)
{
	struct ipv4_header ip;
	__u32 header, total;
	__u16 fragment;
	enum sg_reason reason;

	if (bpf_skb_load_bytes(skb, ETH_HEADER, &ip, sizeof(ip)))
		return SG_REASON_INVALID_PACKET;
	header = (ip.version_length & 0xf) * 4;
	total = bpf_ntohs(ip.length);
	if (ip.version_length >> 4 != 4 || header < sizeof(ip) || total < header ||
	    ETH_HEADER + total > skb->len)
		return SG_REASON_INVALID_PACKET;
	address_map_ipv4(&pkt->source, ip.source);
	address_map_ipv4(&pkt->destination, ip.destination);
	pkt->protocol = ip.protocol;
	pkt->hop_limit = ip.ttl;
	pkt->transport = ETH_HEADER + header;
	pkt->end = ETH_HEADER + total;
	pkt->layer = SG_LAYER_NETWORK;
	if (header > sizeof(ip) && packet_check_options(skb, pkt->transport))
		return SG_REASON_INVALID_PACKET;
	fragment = bpf_ntohs(ip.fragment);
	if (!(fragment & (IPV4_FRAGMENT_MORE | IPV4_FRAGMENT_OFFSET)))
		return packet_parse_transport(skb, pkt);
	pkt->fragment_id = ip.id;
	pkt->fragment_protocol = ip.protocol;
	pkt->divided = pkt->transport;
	reason = packet_divide(pkt, pkt->transport, (fragment & IPV4_FRAGMENT_OFFSET) * 8,
			       fragment & IPV4_FRAGMENT_MORE);
	if (reason || pkt->fragment == FRAGMENT_LATER)
		return reason;
	return packet_parse_first(skb, pkt);
}

inline_fn enum sg_reason packet_parse_ipv6(struct __sk_buff *skb, struct packet *pkt)
{
	struct ipv6_header ip;
	enum sg_reason reason;

	if (bpf_skb_load_bytes(skb, ETH_HEADER, &ip, sizeof(ip)))
		return SG_REASON_INVALID_PACKET;
	pkt->end = ETH_HEADER + sizeof(ip) + bpf_ntohs(ip.length);
	if (ip.version_class[0] >> 4 != 6 || pkt->end > skb->len)
		return SG_REASON_INVALID_PACKET;
	pkt->source = ip.source;
	pkt->destination = ip.destination;
	pkt->hop_limit = ip.hop_limit;
	pkt->protocol = ip.next;
	pkt->layer = SG_LAYER_NETWORK;
	/* An IPv4 address in IPv6 clothes would be judged as somebody else's. */
	if (address_is_ipv4(&ip.source) || address_is_ipv4(&ip.destination))
		return SG_REASON_INVALID_PACKET;
	reason = packet_walk_extensions(skb, pkt);
	if (reason || pkt->fragment == FRAGMENT_LATER)
		return reason;
	if (pkt->fragment == FRAGMENT_FIRST)
		return packet_parse_first(skb, pkt);
	return packet_parse_transport(skb, pkt);
}

/* enum sg_reason. ARP is left at the link layer: its sender is checked by the caller. */
checked_fn int packet_parse(struct __sk_buff *skb, struct packet *pkt)
{
	struct ethernet_header ethernet;

	if (!pkt)
		return SG_REASON_INVALID_PACKET;
	pkt->layer = SG_LAYER_LINK;
	if (bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet)))
		return SG_REASON_INVALID_PACKET;
	__builtin_memcpy(pkt->source_mac, ethernet.source, 6);
	__builtin_memcpy(pkt->destination_mac, ethernet.destination, 6);
	pkt->ether_type = ethernet.type;
	/* The kernel may have taken a tag out of the frame already. */
	if (skb->vlan_present)
		return SG_REASON_VLAN;
	switch (bpf_ntohs(ethernet.type)) {
	case ETHERTYPE_IPV4:
		return packet_parse_ipv4(skb, pkt);
	case ETHERTYPE_IPV6:
		return packet_parse_ipv6(skb, pkt);
	case ETHERTYPE_ARP:
		return SG_REASON_NONE;
	case ETHERTYPE_VLAN:
	case ETHERTYPE_QINQ:
		return SG_REASON_VLAN;
	default:
		return SG_REASON_UNSUPPORTED_L3;
	}
}
