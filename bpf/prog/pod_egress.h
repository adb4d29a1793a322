/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pod_egress - judge packets a pod sends.
 *
 * Hook: tcx (or clsact) ingress of the host side of the pod's veth: one program
 * for every pod, the endpoint found by interface. Reads control, endpoints,
 * addresses, prefixes, tables; writes conntrack, usage, records, counters.
 * Fails closed: what does not parse, has no endpoint, is not the pod's to send
 * or finds no entry is dropped.
 */
#pragma once

#include "lib/host.h"
#include "lib/neighbour.h"

struct arp_ipv4 {
	__be16 hardware, protocol;
	__u8 hardware_length, protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
};

/* A pod may ask and answer for its own address only (RFC 826). */
checked_fn int arp_check(struct __sk_buff *skb, const struct sg_endpoint *ep)
{
	struct sg_address sender;
	struct arp_ipv4 arp;

	if (!ep || bpf_skb_load_bytes(skb, ETH_HEADER, &arp, sizeof(arp)))
		return SG_REASON_INVALID_PACKET;
	if (arp.protocol != bpf_htons(ETHERTYPE_IPV4) || arp.protocol_length != 4 ||
	    arp.hardware_length != 6)
		return SG_REASON_INVALID_PACKET;
	if (__builtin_memcmp(arp.sender_mac, ep->mac, 6))
		return SG_REASON_INVALID_SOURCE_MAC;
	address_map_ipv4(&sender, arp.sender);
	return endpoint_owns(ep, &sender) ? SG_REASON_NONE : SG_REASON_INVALID_SOURCE_IP;
}

inline_fn bool stays_on_link(struct sg_address address, __u32 revision)
{
	return address_is_link_local(&address) || address_is_link_multicast(&address) ||
	       address_is_host(&address, revision);
}

/* Neighbour discovery and multicast listening concern the link, not a peer
 * (RFC 4861, RFC 3810). */
inline_fn bool is_link_message(const struct packet *pkt)
{
	return pkt->protocol == PROTOCOL_ICMPV6 && pkt->icmp_type >= 130 &&
	       (pkt->icmp_type <= 137 || pkt->icmp_type == 143);
}

/* enum sg_reason: policy is not asked about these. */
checked_fn int link_check(struct __sk_buff *skb, const struct sg_endpoint *ep,
			  const struct packet *pkt, __u32 revision)
{
	struct sg_address target;
	bool own;

	if (!ep || !pkt)
		return SG_REASON_NO_CONFIGURATION;
	/* Beyond the link it would be a way past every policy; what gets to a pod
	 * of this node is looked at there. */
	if (!stays_on_link(pkt->destination, revision) &&
	    !(is_neighbour_message(pkt) && address_is_near(pkt->destination, revision)))
		return SG_REASON_FORBIDDEN_ICMPV6;
	own = endpoint_owns(ep, &pkt->source);
	switch (pkt->icmp_type) {
	case 131:	/* multicast listener report */
	case 132:	/* multicast listener done */
	case 143:	/* multicast listener report, version 2 */
		return own || address_is_zero(&pkt->source) ? SG_REASON_NONE
							    : SG_REASON_INVALID_SOURCE_IP;
	case ND_SOLICITATION:
		return own && pkt->hop_limit == 255 ? SG_REASON_NONE
						    : SG_REASON_INVALID_SOURCE_IP;
	case ND_ADVERTISEMENT:	/* only for itself */
		if (pkt->hop_limit == 255 && own &&
		    !bpf_skb_load_bytes(skb, pkt->transport + 8, &target, sizeof(target)) &&
		    endpoint_owns(ep, &target))
			return SG_REASON_NONE;
		return SG_REASON_INVALID_SOURCE_IP;
	}
	/* A router's query, solicitation, advertisement or redirect. */
	return SG_REASON_FORBIDDEN_ICMPV6;
}

inline_fn enum sg_reason egress_check(struct __sk_buff *skb, const struct sg_endpoint *ep,
				      struct packet *pkt, struct verdict *v,
				      enum occasion *occasion)
{
	enum sg_reason reason = packet_parse(skb, pkt);

	if (reason)
		return reason;
	if (__builtin_memcmp(pkt->source_mac, ep->mac, 6))
		return SG_REASON_INVALID_SOURCE_MAC;
	if (pkt->layer == SG_LAYER_LINK)
		return arp_check(skb, ep);
	if (is_link_message(pkt))
		return link_check(skb, ep, pkt, v->judged.revision);
	if (!endpoint_owns(ep, &pkt->source))
		return SG_REASON_INVALID_SOURCE_IP;
	return judge_part(skb, ep, pkt, v, occasion);
}

checked_fn int egress(struct __sk_buff *skb, __u32 revision)
{
	struct verdict v = { .judged.revision = revision, .hook = SG_EGRESS,
			     .direction = SG_EGRESS };
	const struct sg_endpoint *ep = endpoint_by_ifindex(skb->ifindex);
	struct packet pkt = {};
	enum occasion occasion = OCCASION_NONE;

	/* The kernel clears marks between network namespaces; ours, whatever it does. */
	if (skb->mark & SG_MARK_MASK)
		skb->mark &= ~SG_MARK_MASK;
	if (!ep) {
		packet_parse(skb, &pkt);
		v.reason = SG_REASON_EP_NOT_READY;
	} else {
		v.reason = egress_check(skb, ep, &pkt, &v, &occasion);
	}
	return conclude(skb, ep, &pkt, &v, occasion);
}

SEC("tc")
int pod_egress(struct __sk_buff *skb)
{
	__u32 revision = revision_get();

	if (egress(skb, revision) == SG_DROP)
		return SG_DROP;
	/* What the pod may send may end at the node, which has a say of its own. */
	return endpoint_host() ? host_received(skb, revision) : SG_PASS;
}
