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

#include "lib/judge.h"

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
inline_fn enum sg_reason arp_check(struct __sk_buff *skb, const struct sg_endpoint *ep)
{
	struct sg_address sender;
	struct arp_ipv4 arp;

	if (bpf_skb_load_bytes(skb, ETH_HEADER, &arp, sizeof(arp)))
		return SG_REASON_INVALID_PACKET;
	if (arp.protocol != bpf_htons(ETHERTYPE_IPV4) || arp.protocol_length != 4 ||
	    arp.hardware_length != 6)
		return SG_REASON_INVALID_PACKET;
	if (__builtin_memcmp(arp.sender_mac, ep->mac, 6))
		return SG_REASON_INVALID_SOURCE_MAC;
	address_map_ipv4(&sender, arp.sender);
	return endpoint_owns(ep, &sender) ? SG_REASON_NONE : SG_REASON_INVALID_SOURCE_IP;
}

inline_fn bool stays_on_link(const struct sg_address *address)
{
	const struct sg_control *ctl = control_get();

	return address_is_link_local(address) || address_is_link_multicast(address) ||
	       (ctl && identity_of(ctl, address) == IDENTITY_HOST);
}

/* Neighbour discovery and multicast listening concern the link, not a peer
 * (RFC 4861, RFC 3810). True: `reason` is the whole answer. */
inline_fn bool link_message(struct __sk_buff *skb, const struct sg_endpoint *ep,
			    const struct packet *pkt, enum sg_reason *reason)
{
	struct sg_address target;
	bool own = endpoint_owns(ep, &pkt->source);

	if (pkt->protocol != PROTOCOL_ICMPV6 || pkt->icmp_type < 130 ||
	    (pkt->icmp_type > 137 && pkt->icmp_type != 143))
		return false;
	/* Beyond the link it would be a way past every policy. */
	if (!stays_on_link(&pkt->destination)) {
		*reason = SG_REASON_FORBIDDEN_ICMPV6;
		return true;
	}
	switch (pkt->icmp_type) {
	case 131:	/* multicast listener report */
	case 132:	/* multicast listener done */
	case 143:	/* multicast listener report, version 2 */
		*reason = own || address_is_zero(&pkt->source) ? SG_REASON_NONE
							       : SG_REASON_INVALID_SOURCE_IP;
		return true;
	case 135:	/* neighbour solicitation */
		*reason = own && pkt->hop_limit == 255 ? SG_REASON_NONE
						       : SG_REASON_INVALID_SOURCE_IP;
		return true;
	case 136:	/* neighbour advertisement: only for itself */
		*reason = SG_REASON_INVALID_SOURCE_IP;
		if (pkt->hop_limit == 255 && own &&
		    !bpf_skb_load_bytes(skb, pkt->transport + 8, &target, sizeof(target)) &&
		    endpoint_owns(ep, &target))
			*reason = SG_REASON_NONE;
		return true;
	case 130:	/* router's query */
	case 133:	/* router solicitation */
	case 134:	/* router advertisement */
	case 137:	/* redirect */
		*reason = SG_REASON_FORBIDDEN_ICMPV6;
		return true;
	}
	return false;
}

inline_fn enum sg_reason egress_check(struct __sk_buff *skb, const struct sg_endpoint *ep,
				      struct packet *pkt, struct verdict *v, bool *fresh)
{
	enum sg_reason reason = packet_parse(skb, pkt);

	if (reason)
		return reason;
	if (__builtin_memcmp(pkt->source_mac, ep->mac, 6))
		return SG_REASON_INVALID_SOURCE_MAC;
	if (pkt->layer == SG_LAYER_LINK)
		return arp_check(skb, ep);
	if (link_message(skb, ep, pkt, &reason))
		return reason;
	if (!endpoint_owns(ep, &pkt->source))
		return SG_REASON_INVALID_SOURCE_IP;
	return judge_part(skb, ep, pkt, v, fresh);
}

inline_fn int egress(struct __sk_buff *skb)
{
	struct verdict v = { .judged.revision = revision_get(), .hook = SG_EGRESS,
			     .direction = SG_EGRESS };
	const struct sg_endpoint *ep = endpoint_by_ifindex(skb->ifindex);
	struct packet pkt = {};
	bool fresh = false;

	if (!ep) {
		packet_parse(skb, &pkt);
		v.reason = SG_REASON_EP_NOT_READY;
	} else {
		v.reason = egress_check(skb, ep, &pkt, &v, &fresh);
	}
	return conclude(skb, ep, &pkt, &v, fresh);
}

SEC("tc")
int pod_egress(struct __sk_buff *skb)
{
	return egress(skb);
}
