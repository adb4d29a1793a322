/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * encapsulation.h - packets that carry packets.
 *
 * Whoever unpacks one sends what is inside, which nobody has judged. A pod may
 * send them only where a rule names the protocol, or for those over UDP the port.
 */
#pragma once

#include "lib/report.h"

#define PORT_VXLAN 4789
#define PORT_VXLAN_LINUX 8472
#define PORT_GENEVE 6081

inline_fn bool protocol_encapsulates(__u8 protocol)
{
	switch (protocol) {
	case 4:		/* IPv4 */
	case 41:	/* IPv6 */
	case 47:	/* GRE */
	case 50:	/* ESP */
	case 51:	/* AH */
	case 55:	/* minimal encapsulation */
	case 94:	/* IPIP */
	case 97:	/* EtherIP */
	case 98:	/* ENCAP */
	case 115:	/* L2TP */
	case 137:	/* MPLS */
	case 143:	/* Ethernet, as segment routing carries it */
		return true;
	}
	return false;
}

/* What a node's overlay would unpack. */
inline_fn bool enters_overlay(const struct sg_connection_key *key, __u32 peer)
{
	__u16 port = bpf_ntohs(key->remote_port);

	return key->protocol == PROTOCOL_UDP &&
	       (port == PORT_VXLAN || port == PORT_VXLAN_LINUX || port == PORT_GENEVE) &&
	       identity_is_node(peer);
}

/* Whether more is asked of a rule that lets it out than to match. An overlay is the
 * node's own: it packs what was judged. */
inline_fn bool encapsulation_concerns(const struct sg_connection_key *key, __u8 direction,
				      __u32 peer)
{
	return direction == SG_EGRESS && key->endpoint != SG_ENDPOINT_HOST &&
	       (protocol_encapsulates(key->protocol) || enters_overlay(key, peer));
}

/* enum sg_reason. Whether what a policy lets the endpoint open is refused nonetheless. */
checked_fn int encapsulation_check(const struct sg_connection_key *key, const struct verdict *v)
{
	bool rule, port_named, named;
	__u8 match;

	if (!key || !v)
		return SG_REASON_NO_CONFIGURATION;
	match = v->judged.match_type;
	rule = v->judged.why == SG_WHY_RULE;
	port_named = rule && (match == MATCH_L3_L4 || match == MATCH_L4);
	named = port_named || (rule && (match == MATCH_L3_PROTOCOL || match == MATCH_PROTOCOL));
	/* An overlay is the node's own: it packs what was judged. */
	if (v->direction != SG_EGRESS || key->endpoint == SG_ENDPOINT_HOST)
		return SG_REASON_NONE;
	if (protocol_encapsulates(key->protocol))
		return named ? SG_REASON_NONE : SG_REASON_ENCAPSULATION;
	return enters_overlay(key, v->peer) && !port_named ? SG_REASON_ENCAPSULATION
							   : SG_REASON_NONE;
}
