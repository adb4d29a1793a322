/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pod_ingress - judge packets on their way to a pod.
 *
 * Hook: tcx (or clsact) egress of the host side of the pod's veth. Reads and
 * writes what pod_egress does, and looks up the receiving socket in the pod.
 * Fails closed, like pod_egress.
 */
#pragma once

#include "lib/host.h"
#include "lib/neighbour.h"

/* Neighbour discovery and multicast listening of the node itself, which is at the
 * other end of this link. Nothing that was forwarded: a router does not forward them. */
inline_fn bool from_link(const struct packet *pkt)
{
	if (pkt->protocol != PROTOCOL_ICMPV6)
		return false;
	switch (pkt->icmp_type) {
	case 131:	/* multicast listener report */
	case 132:	/* multicast listener done */
	case 143:	/* multicast listener report, version 2 */
		return true;
	case ND_SOLICITATION:
	case ND_ADVERTISEMENT:
		return pkt->hop_limit == 255;
	}
	return false;
}

inline_fn enum sg_reason ingress_check(struct __sk_buff *skb, const struct sg_endpoint *ep,
				       struct packet *pkt, struct verdict *v,
				       enum occasion *occasion)
{
	enum sg_reason reason = packet_parse(skb, pkt);

	if (reason)
		return reason;
	/* ARP comes from the node, or from a pod of the same bridge, whose program
	 * has seen that it is about the pod itself. */
	if (pkt->layer == SG_LAYER_LINK)
		return SG_REASON_NONE;
	if (from_link(pkt) && !skb->ingress_ifindex)
		return SG_REASON_NONE;
	if (is_neighbour_message(pkt) && skb->ingress_ifindex &&
	    endpoint_by_ifindex(skb->ingress_ifindex))
		return neighbour_check(skb, ep, pkt);
	if (!endpoint_owns(ep, &pkt->destination))
		return SG_REASON_UNKNOWN_TARGET;
	return judge_part(skb, ep, pkt, v, occasion);
}

checked_fn int ingress(struct __sk_buff *skb, __u32 revision)
{
	struct verdict v = { .judged.revision = revision, .hook = SG_INGRESS,
			     .direction = SG_INGRESS };
	const struct sg_endpoint *ep = endpoint_by_ifindex(skb->ifindex);
	struct packet pkt = {};
	enum occasion occasion = OCCASION_NONE;

	if (!ep) {
		packet_parse(skb, &pkt);
		v.reason = SG_REASON_EP_NOT_READY;
	} else {
		v.reason = ingress_check(skb, ep, &pkt, &v, &occasion);
	}
	return conclude(skb, ep, &pkt, &v, occasion);
}

SEC("tc")
int pod_ingress(struct __sk_buff *skb)
{
	__u32 revision = revision_get();

	/* What the node sends is judged as its own first. */
	if (endpoint_host() && host_sent(skb, revision) == SG_DROP)
		return SG_DROP;
	return ingress(skb, revision);
}
