/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bench.bpf.c - the programs of signet.bpf.c on packets that change.
 *
 * A test run repeats one frame. These rewrite its ports and addresses before they
 * judge it, drawn from `count` numbered combinations: at random, so that look-ups
 * meet all of them and not one hot one, or in turn. The baseline rewrites and
 * judges nothing: the difference is the judgement.
 */
#include "signet.bpf.c"

#define OFFSET_DESTINATION (ETH_HEADER + 16)
#define OFFSET_PORTS (ETH_HEADER + 20)
#define SOURCE_PORTS 60000

/* Set before the object is loaded. */
struct bench_keys {
	__u32 count;		/* combinations of a peer and a port */
	__u32 peers;		/* addresses from 10.2.0.0 on */
	__u32 port;		/* the first port that is asked for */
	__u32 in_turn;		/* combinations in turn, not at random */
	__u32 fresh;		/* another source port each time: another connection */
};

const volatile struct bench_keys bench_keys SEC(".rodata.bench") = { 1, 1, 1024, 0, 0 };

/* Test runs of one object never overlap. */
__u32 bench_packets;

inline_fn void bench_rewrite(struct __sk_buff *skb)
{
	__u32 packet = bench_packets++;
	__u32 key = (bench_keys.in_turn ? packet : bpf_get_prandom_u32()) % bench_keys.count;
	__u32 source_port = (bench_keys.fresh ? packet : key) % SOURCE_PORTS;
	__u32 address = bpf_htonl(0x0a020000 + key % bench_keys.peers);
	__be16 ports[2];

	ports[0] = bpf_htons(1024 + source_port);
	ports[1] = bpf_htons(bench_keys.port + key / bench_keys.peers);
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
	return egress(skb, revision_get());
}
