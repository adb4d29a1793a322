/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * packet.h - one frame, parsed as far as it can be.
 *
 * Knows no endpoint and no policy. What does not parse has a reason; nothing
 * is guessed. Fragments are refused: their later parts carry no ports.
 */
#pragma once

#include "lib/base.h"

struct packet {
	struct sg_address source;
	struct sg_address destination;
	__u32 transport;	/* offset of the transport header */
	__be16 ether_type;
	__be16 source_port;	/* ICMP echo: the id */
	__be16 destination_port;
	__u8 layer;		/* enum sg_layer */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 hop_limit;
	__u8 source_mac[6];
	__u8 destination_mac[6];
};

struct ethernet_header {
	__u8 destination[6];
	__u8 source[6];
	__be16 type;
};

struct ipv4_header {
	__u8 version_length;
	__u8 service;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__u8 source[4];
	__u8 destination[4];
};

struct ipv6_header {
	__u8 version_class[4];
	__be16 length;
	__u8 next;
	__u8 hop_limit;
	struct sg_address source;
	struct sg_address destination;
};

#define IPV4_FRAGMENT_BITS 0x3fff	/* more fragments, or an offset */
#define IPV6_EXTENSIONS 6		/* more than any honest packet carries */
#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_DESTINATION 60
#define IPV6_AUTHENTICATION 51

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

/* Ports, or type and code. The layer moves up only when they were there. */
inline_fn enum sg_reason packet_parse_transport(struct __sk_buff *skb, struct packet *pkt)
{
	__u8 head[14] = {};
	__u32 need;

	switch (pkt->protocol) {
	case PROTOCOL_TCP:
		need = sizeof(head);
		break;
	case PROTOCOL_UDP:
	case PROTOCOL_SCTP:
	case PROTOCOL_ICMPV4:
	case PROTOCOL_ICMPV6:
		need = 8;
		break;
	default:
		pkt->layer = SG_LAYER_TRANSPORT;
		return SG_REASON_NONE;
	}
	if (need == sizeof(head)) {
		if (bpf_skb_load_bytes(skb, pkt->transport, head, sizeof(head)))
			return SG_REASON_CT_TRUNCATED;
	} else if (bpf_skb_load_bytes(skb, pkt->transport, head, 8)) {
		return SG_REASON_CT_TRUNCATED;
	}
	if (pkt->protocol == PROTOCOL_ICMPV4 || pkt->protocol == PROTOCOL_ICMPV6) {
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

inline_fn enum sg_reason packet_parse_ipv4(struct __sk_buff *skb, struct packet *pkt)
{
	struct ipv4_header ip;
	__u32 header, total;

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
	pkt->layer = SG_LAYER_NETWORK;
	if (bpf_ntohs(ip.fragment) & IPV4_FRAGMENT_BITS)
		return SG_REASON_FRAGMENT;
	return packet_parse_transport(skb, pkt);
}

inline_fn enum sg_reason packet_parse_ipv6(struct __sk_buff *skb, struct packet *pkt)
{
	struct ipv6_header ip;
	__u32 offset = ETH_HEADER + sizeof(ip);
	__u8 next, extension[2];
	int i;

	if (bpf_skb_load_bytes(skb, ETH_HEADER, &ip, sizeof(ip)))
		return SG_REASON_INVALID_PACKET;
	if (ip.version_class[0] >> 4 != 6 ||
	    ETH_HEADER + sizeof(ip) + bpf_ntohs(ip.length) > skb->len)
		return SG_REASON_INVALID_PACKET;
	pkt->source = ip.source;
	pkt->destination = ip.destination;
	pkt->hop_limit = ip.hop_limit;
	pkt->protocol = ip.next;
	pkt->layer = SG_LAYER_NETWORK;
	/* An IPv4 address in IPv6 clothes would be judged as somebody else's. */
	if (address_is_ipv4(&ip.source) || address_is_ipv4(&ip.destination))
		return SG_REASON_INVALID_PACKET;
	next = ip.next;
	for (i = 0; i < IPV6_EXTENSIONS; i++) {
		if (next == IPV6_FRAGMENT)
			return SG_REASON_FRAGMENT;
		/* A routing header names a destination that is not the one judged. */
		if (next == IPV6_AUTHENTICATION || next == IPV6_ROUTING)
			return SG_REASON_INVALID_EXTENSION;
		if (next != IPV6_HOP_BY_HOP && next != IPV6_DESTINATION)
			break;
		if (bpf_skb_load_bytes(skb, offset, extension, sizeof(extension)))
			return SG_REASON_INVALID_EXTENSION;
		next = extension[0];
		offset += (extension[1] + 1) * 8;
	}
	if (i == IPV6_EXTENSIONS)
		return SG_REASON_INVALID_EXTENSION;
	pkt->protocol = next;
	pkt->transport = offset;
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
