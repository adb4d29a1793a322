/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * steer.bpf.c - leads connections to a proxy on the node: a stand-in, for tests.
 *
 * Hook: tcx (or clsact) ingress of pods' links and of uplinks, after ours, which have
 * judged. What belongs to a socket of the proxy goes to it, a new connection to one
 * port goes to its listener, both by the mark that routing takes to the node itself.
 * Fails closed: what should be proxied and cannot be is dropped.
 */
#include "lib/base.h"

#define STEERED_PORT 80
#define LISTENER_PORT 15001
#define PACKET_HOST 0		/* linux/if_packet.h */
#define TCP_STATE_LISTEN 10	/* BPF_TCP_LISTEN */

struct ports {
	__be16 source, destination;
	__be32 numbers[2];
	__u8 offset, flags;
};

/* The bytes of an IPv4 or IPv6 header without options; 0: not TCP. */
inline_fn __u32 ends(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, struct ports *tcp)
{
	bool ipv4 = skb->protocol == bpf_htons(ETHERTYPE_IPV4);
	__u32 header = ETH_HEADER + (ipv4 ? 20 : 40);
	__u8 protocol;

	if (!ipv4 && skb->protocol != bpf_htons(ETHERTYPE_IPV6))
		return 0;
	if (bpf_skb_load_bytes(skb, ETH_HEADER + (ipv4 ? 9 : 6), &protocol, 1) ||
	    protocol != PROTOCOL_TCP || bpf_skb_load_bytes(skb, header, tcp, sizeof(*tcp)))
		return 0;
	if (ipv4) {
		tuple->ipv4.sport = tcp->source;
		tuple->ipv4.dport = tcp->destination;
		return bpf_skb_load_bytes(skb, ETH_HEADER + 12, &tuple->ipv4.saddr, 8) ?
			       0 : sizeof(tuple->ipv4);
	}
	tuple->ipv6.sport = tcp->source;
	tuple->ipv6.dport = tcp->destination;
	return bpf_skb_load_bytes(skb, ETH_HEADER + 8, tuple->ipv6.saddr, 32) ?
		       0 : sizeof(tuple->ipv6);
}

SEC("tc")
int steer(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct ports tcp;
	struct bpf_sock *sk;
	long failed;
	__u32 size;

	size = ends(skb, &tuple, &tcp);
	if (!size)
		return SG_PASS;
	sk = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (sk && sk->state == TCP_STATE_LISTEN) {
		bpf_sk_release(sk);
		sk = NULL;
	}
	if (!sk) {
		if (tcp.destination != bpf_htons(STEERED_PORT) ||
		    (tcp.flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
			return SG_PASS;
		if (size == sizeof(tuple.ipv4))
			tuple.ipv4.dport = bpf_htons(LISTENER_PORT);
		else
			tuple.ipv6.dport = bpf_htons(LISTENER_PORT);
		sk = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return SG_DROP;
	}
	failed = bpf_sk_assign(skb, sk, 0);
	bpf_sk_release(sk);
	if (failed || bpf_skb_change_type(skb, PACKET_HOST))
		return SG_DROP;
	skb->mark = (skb->mark & ~SG_MARK_MASK) | SG_MARK_TO_PROXY;
	return SG_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
