/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * neighbour.h - pods of one bridge that ask each other for their link addresses
 * (RFC 4861).
 *
 * No policy is asked about these, so they must carry nothing but the question or
 * the answer. ARP is checked where it is sent.
 */
#pragma once

#include "lib/identity.h"

#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_SOURCE_LINK_ADDRESS 1
#define ND_TARGET_LINK_ADDRESS 2
#define ND_SOLICITED_OVERRIDE 0x60	/* flags of an advertisement that is no router's */

struct neighbour_message {
	__u8 type, code;
	__be16 checksum;
	__u8 flags;
	__u8 reserved[3];
	struct sg_address target;
	__u8 option, option_words;	/* in units of 8 bytes */
	__u8 mac[6];
};

inline_fn bool is_neighbour_message(const struct packet *pkt)
{
	return pkt->protocol == PROTOCOL_ICMPV6 &&
	       (pkt->icmp_type == ND_SOLICITATION || pkt->icmp_type == ND_ADVERTISEMENT);
}

/* Whether a pod of this node has the address: maybe a neighbour, which its own
 * program finds out. */
inline_fn bool address_is_near(struct sg_address address, __u32 revision)
{
	const struct sg_holder *holder = holder_at(&address, revision);

	return holder && holder->endpoint >= SG_ENDPOINT_FIRST_POD;
}

/* Whether there is nothing else in the message; `mac` is its sender's. */
inline_fn bool neighbour_is_plain(struct __sk_buff *skb, const struct packet *pkt,
				  const __u8 *mac, struct neighbour_message *message)
{
	const __u32 option = sizeof(*message) - 8, offset = ETH_HEADER + sizeof(struct ipv6_header);
	const __u8 nothing[3] = {};
	bool asks = pkt->icmp_type == ND_SOLICITATION;

	if (pkt->transport != offset || pkt->end != skb->len ||
	    bpf_skb_load_bytes(skb, offset, message, option))
		return false;
	if (message->code || message->flags & (asks ? 0xff : (__u8)~ND_SOLICITED_OVERRIDE) ||
	    __builtin_memcmp(message->reserved, nothing, sizeof(nothing)))
		return false;
	if (pkt->end == offset + option)
		return true;
	return pkt->end == offset + sizeof(*message) &&
	       !bpf_skb_load_bytes(skb, offset + option, &message->option, 8) &&
	       message->option == (asks ? ND_SOURCE_LINK_ADDRESS : ND_TARGET_LINK_ADDRESS) &&
	       message->option_words == 1 && !__builtin_memcmp(message->mac, mac, 6);
}

/* enum sg_reason: a message to pod `ep` that came in through another pod's
 * interface. A hop limit below 255 has been through a router (section 7.1). */
checked_fn int neighbour_check(struct __sk_buff *skb, const struct sg_endpoint *ep,
			       const struct packet *pkt)
{
	const struct sg_endpoint *sender = endpoint_by_ifindex(skb->ingress_ifindex);
	struct neighbour_message message = {};

	if (!ep || !pkt || !sender)
		return SG_REASON_NO_CONFIGURATION;
	if (pkt->hop_limit != 255 || !endpoint_owns(sender, &pkt->source))
		return SG_REASON_INVALID_SOURCE_IP;
	if (!neighbour_is_plain(skb, pkt, sender->mac, &message))
		return SG_REASON_FORBIDDEN_ICMPV6;
	if (pkt->icmp_type == ND_SOLICITATION)
		return endpoint_owns(ep, &message.target) &&
		       (endpoint_owns(ep, &pkt->destination) ||
			address_is_link_multicast(&pkt->destination)) ? SG_REASON_NONE
								      : SG_REASON_UNKNOWN_TARGET;
	if (!endpoint_owns(sender, &message.target))
		return SG_REASON_INVALID_SOURCE_IP;
	return endpoint_owns(ep, &pkt->destination) ? SG_REASON_NONE : SG_REASON_UNKNOWN_TARGET;
}
