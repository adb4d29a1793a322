/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * host.h - packets of the node itself, while a policy selects the node.
 *
 * What ends at the node or was sent by it is judged as its own, whichever device
 * it takes; what is forwarded is somebody else's. Who leaves the node with its
 * address (masquerade) was judged as who he is, and is answered past this.
 */
#pragma once

#include "lib/behind.h"
#include "lib/judge.h"

#define PACKET_HOST 0		/* linux/if_packet.h */
#define PACKET_OTHERHOST 3
#define FIB_NOT_FORWARDED 4	/* BPF_FIB_LKUP_RET_NOT_FWDED: ends here */
#define FIB_NO_FORWARDING 5	/* BPF_FIB_LKUP_RET_FWD_DISABLED: ends here or nowhere */
#define FAMILY_IPV4 2
#define FAMILY_IPV6 10

#define TCP_STATE_LISTEN 10	/* BPF_TCP_LISTEN */
#define TCP_STATE_NEW 12	/* BPF_TCP_NEW_SYN_RECV */

#define DHCPV4_SERVER 67
#define DHCPV4_CLIENT 68
#define DHCPV6_CLIENT 546
#define DHCPV6_SERVER 547

/* Multicast, or an IPv4 address that is nobody's alone. */
inline_fn bool address_is_shared(const struct sg_address *address)
{
	return address->bytes[0] == 0xff || (address_is_ipv4(address) && address->bytes[12] >= 224);
}

/* Whether a received packet ends at the node. What is for everybody on the link is
 * not forwarded, and whom the address book knows needs no question to the routes. */
checked_fn int host_receives(struct __sk_buff *skb, const struct packet *pkt, __u32 revision)
{
	struct bpf_fib_lookup route = { .ifindex = skb->ifindex };
	struct sg_address destination;
	const struct sg_holder *holder;
	long found;

	if (!pkt)
		return false;
	destination = pkt->destination;
	if (skb->pkt_type != PACKET_HOST || address_is_shared(&destination))
		return true;
	holder = holder_at(&destination, revision);
	if (holder)
		return holder->endpoint == SG_ENDPOINT_HOST;
	if (address_is_ipv4(&destination)) {
		route.family = FAMILY_IPV4;
		__builtin_memcpy(&route.ipv4_src, &pkt->source.bytes[12], 4);
		__builtin_memcpy(&route.ipv4_dst, &destination.bytes[12], 4);
	} else {
		route.family = FAMILY_IPV6;
		__builtin_memcpy(route.ipv6_src, &pkt->source, 16);
		__builtin_memcpy(route.ipv6_dst, &destination, 16);
	}
	found = bpf_fib_lookup(skb, &route, sizeof(route), 0);
	return found == FIB_NOT_FORWARDED || found == FIB_NO_FORWARDING;
}

/* ICMPv6 that no firewall may stop, and what it must (RFC 4890 section 4.4): true
 * where that is settled, and `reason` says how. */
inline_fn bool host_icmpv6(const struct packet *pkt, enum sg_reason *reason)
{
	__u8 type = pkt->icmp_type;

	*reason = SG_REASON_NONE;
	if (pkt->protocol != PROTOCOL_ICMPV6 || type == ICMPV6_ECHO || type == ICMPV6_ECHO_REPLY)
		return false;
	if ((type >= 1 && type <= 4) || (type >= 130 && type <= 136) || type == 138 ||
	    (type >= 141 && type <= 143) || type == 148 || type == 149 ||
	    (type >= 151 && type <= 153))
		return true;
	*reason = SG_REASON_FORBIDDEN_ICMPV6;
	return true;
}

/* Asking for an address on the link, and the answer: without one nobody could
 * correct the policy. */
inline_fn bool host_configures(const struct packet *pkt, __u8 hook)
{
	__be16 from = pkt->source_port, to = pkt->destination_port;

	if (pkt->protocol != PROTOCOL_UDP || pkt->layer != SG_LAYER_TRANSPORT)
		return false;
	if (hook == SG_EGRESS) {
		struct sg_address everybody;
		const __u8 broadcast[4] = { 255, 255, 255, 255 };

		address_map_ipv4(&everybody, broadcast);
		if (from == bpf_htons(DHCPV4_CLIENT) && to == bpf_htons(DHCPV4_SERVER))
			return address_equal(&pkt->destination, &everybody);
		return from == bpf_htons(DHCPV6_CLIENT) && to == bpf_htons(DHCPV6_SERVER) &&
		       address_is_link_multicast(&pkt->destination);
	}
	return from == bpf_htons(DHCPV6_SERVER) && to == bpf_htons(DHCPV6_CLIENT) &&
	       address_is_link_local(&pkt->source) && address_is_link_local(&pkt->destination);
}

/* A path that needs smaller packets must be heard (RFC 1191), and what the node
 * itself says about others' packets is the kernel's. */
inline_fn bool host_error(const struct packet *pkt, __u8 hook)
{
	if (pkt->protocol != PROTOCOL_ICMPV4 || !icmp_is_error(pkt))
		return false;
	return hook == SG_EGRESS || (pkt->icmp_type == 3 && pkt->icmp_code == 4);
}

/* Whether the node has a socket of just this connection, and nobody listens whom
 * the other end could have called: then the node has opened it. 1 or 0. */
checked_fn int host_opened(struct __sk_buff *skb, const struct packet *pkt)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	bool ipv4, opened;
	__u32 size;

	if (!pkt)
		return false;
	ipv4 = address_is_ipv4(&pkt->destination);
	size = packet_tuple(pkt, &tuple);
	if (pkt->protocol == PROTOCOL_UDP) {
		sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
		opened = sk && sk->dst_port == pkt->source_port;
		if (sk)
			bpf_sk_release(sk);
		return opened;
	}
	sk = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	opened = sk->state != TCP_STATE_LISTEN && sk->state != TCP_STATE_NEW;
	bpf_sk_release(sk);
	if (!opened)
		return false;
	/* Nobody's call: only a listener answers it. */
	if (ipv4) {
		tuple.ipv4.saddr = 0;
		tuple.ipv4.sport = 0;
	} else {
		__builtin_memset(tuple.ipv6.saddr, 0, sizeof(tuple.ipv6.saddr));
		tuple.ipv6.sport = 0;
	}
	sk = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return true;
	bpf_sk_release(sk);
	return false;
}

/* Whether a packet that nobody let in goes on as an answer: to what the node had
 * opened before a policy selected it, when nobody looked. 1 or 0. */
checked_fn int host_continues(struct __sk_buff *skb, const struct sg_endpoint *ep,
			      const struct packet *pkt, struct verdict *v)
{
	const struct sg_control *ctl = control_get();
	__u64 now = bpf_ktime_get_coarse_ns();
	struct sg_connection_key key;
	struct sg_connection *conn;
	__u32 stamp;

	if (!ctl || !ep || !pkt || !v || pkt->layer != SG_LAYER_TRANSPORT ||
	    (pkt->protocol != PROTOCOL_TCP && pkt->protocol != PROTOCOL_UDP) ||
	    (pkt->protocol == PROTOCOL_TCP && tcp_opens(pkt)) || !host_opened(skb, pkt))
		return false;
	connection_key(&key, pkt, ep->id, SG_INGRESS);
	stamp = revision_stamp(ep, v->judged.revision, now);
	if (ask_policy(ep, &key, ABOUT(SG_EGRESS, 0), stamp, v))
		return false;
	conn = connection_draft();
	if (!conn)
		return false;
	v->reply = SG_REPLY_YES;
	conn->direction = SG_EGRESS;
	conn->flags = SG_CONNECTION_ESTABLISHED;
	conn->expires_ns = now + connection_lifetime(pkt, conn->flags);
	conn->revision = stamp;
	conn->epoch = ctl->epoch;
	conn->peer = v->peer;
	conn->rule_set = v->judged.rule_sets[0];
	return !connection_create(&key, conn, ctl->connections);
}

/* Judges one packet of the node, counts and tells. `reason`: why it does not
 * even parse, else 0. */
inline_fn int host_judge(struct __sk_buff *skb, struct packet *pkt, __u8 hook,
			 enum sg_reason reason, __u32 revision)
{
	const struct sg_endpoint *ep = endpoint_host();
	struct verdict v = { .judged.revision = revision, .hook = hook, .direction = hook };
	enum sg_reason settled;
	enum occasion occasion = OCCASION_NONE;

	if (!ep)
		return SG_PASS;
	if (!reason) {
		if (host_icmpv6(pkt, &settled))
			reason = settled;
		else if (!host_configures(pkt, hook) && !host_error(pkt, hook))
			reason = judge_part(skb, ep, pkt, &v, &occasion);
		/* Of no known connection: one that is older than the policy? */
		if (reason && occasion == OCCASION_OPENS && hook == SG_INGRESS &&
		    host_continues(skb, ep, pkt, &v)) {
			reason = SG_REASON_NONE;
			occasion = OCCASION_NONE;
		}
	}
	v.reason = reason;
	return conclude(skb, ep, pkt, &v, occasion);
}

/* Frames that are not IP are none of this: a link works by them. */
inline_fn bool host_parse(struct __sk_buff *skb, struct packet *pkt, enum sg_reason *reason)
{
	*reason = packet_parse(skb, pkt);
	return *reason != SG_REASON_VLAN && (pkt->ether_type == bpf_htons(ETHERTYPE_IPV4) ||
					     pkt->ether_type == bpf_htons(ETHERTYPE_IPV6));
}

/* A frame that came in by a device of the node, a pod's link or an uplink.
 * SG_PASS, also when it is forwarded, or SG_DROP. */
checked_fn int host_received(struct __sk_buff *skb, __u32 revision)
{
	struct packet pkt = {};
	enum sg_reason reason;

	if (skb->pkt_type == PACKET_OTHERHOST || !host_parse(skb, &pkt, &reason))
		return SG_PASS;
	/* Without addresses nobody can say that it would have gone elsewhere. */
	if (pkt.layer != SG_LAYER_LINK) {
		if (!host_receives(skb, &pkt, revision))
			return SG_PASS;
		if (!reason && pkt.fragment == FRAGMENT_LATER &&
		    !fragment_restore(&pkt, SG_ENDPOINT_BEHIND, SG_INGRESS))
			return SG_PASS;
		if (!reason && host_answers_behind(skb, &pkt))
			return SG_PASS;
	}
	return host_judge(skb, &pkt, SG_INGRESS, reason, revision);
}

/* A frame that leaves by a device of the node: its own, unless it came from another. */
checked_fn int host_sent(struct __sk_buff *skb, __u32 revision)
{
	struct packet pkt = {};
	enum sg_reason reason;

	if (!host_parse(skb, &pkt, &reason))
		return SG_PASS;
	if (skb->ingress_ifindex) {
		host_note_behind(skb, &pkt, revision);
		return SG_PASS;
	}
	return host_judge(skb, &pkt, SG_EGRESS, reason, revision);
}
