/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bench.bpf.c - the programs of signet.bpf.c on packets that change.
 *
 * A test run repeats one frame. These rewrite its ports and addresses at random
 * before they judge it, so that look-ups meet all entries and not one hot one.
 * The baseline rewrites and judges nothing: the difference is the judgement.
 */
#include "signet.bpf.c"

#define OFFSET_DESTINATION (ETH_HEADER + 16)
#define OFFSET_PORTS (ETH_HEADER + 20)

/* Set before the object is loaded. */
struct bench_keys {
	__u32 peers;		/* addresses from 10.2.0.0 on */
	__u32 source_ports;	/* from 1024 on */
	__u32 port;		/* the first port that is asked for */
	__u32 ports;		/* how many */
};

const volatile struct bench_keys bench_keys SEC(".rodata.bench") = { 1, 1, 1024, 1 };

inline_fn void bench_rewrite(struct __sk_buff *skb)
{
	__u32 address = 0x0a020000 + bpf_get_prandom_u32() % bench_keys.peers;
	__be16 ports[2];

	address = bpf_htonl(address);
	ports[0] = bpf_htons(1024 + bpf_get_prandom_u32() % bench_keys.source_ports);
	ports[1] = bpf_htons(bench_keys.port + bpf_get_prandom_u32() % bench_keys.ports);
	bpf_skb_store_bytes(skb, OFFSET_DESTINATION, &address, sizeof(address), 0);
	bpf_skb_store_bytes(skb, OFFSET_PORTS, ports, sizeof(ports), 0);
}

SEC("tc")
int bench_baseline(struct __sk_buff *skb)
{
	bench_rewrite(skb);
	return SG_PASS;
}

SEC("tc")
int bench_egress(struct __sk_buff *skb)
{
	bench_rewrite(skb);
	return egress(skb);
}
