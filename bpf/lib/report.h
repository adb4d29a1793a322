/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * report.h - one record for each decision worth telling, counted before it is
 * written: attempts = records + losses, whatever the reader does.
 */
#pragma once

#include "lib/conntrack.h"
#include "lib/identity.h"
#include "lib/policy.h"
#include "lib/process.h"

/* What is known about a packet when it is reported. */
struct verdict {
	struct judgement judged;
	__u32 peer;		/* identity, 0: not resolved */
	__u8 hook;		/* enum sg_direction */
	__u8 direction;		/* that was judged */
	__u8 reply;		/* enum sg_reply */
	__u8 reason;		/* enum sg_reason */
};

inline_fn void report_count_drop(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&drop_counters, &reason);

	if (count)
		(*count)++;
}

inline_fn void report_count_origin(__u32 origin)
{
	__u64 *count = bpf_map_lookup_elem(&origin_counters, &origin);

	if (count)
		(*count)++;
}

/* What this endpoint has caused, in this second. */
inline_fn struct sg_usage *report_usage(const struct sg_endpoint *ep)
{
	__u64 second = bpf_ktime_get_coarse_ns() / NANOSECONDS;
	__u32 id = ep ? ep->id : 0;
	struct sg_usage *used = bpf_map_lookup_elem(&usage, &id);

	if (used && used->second != second) {
		used->second = second;
		used->drop_records = 0;
		used->trace_records = 0;
	}
	return used;
}

/* Whether this endpoint has caused as many drop records in this second as one
 * may: a flood must not push out what its neighbours have to say. */
inline_fn bool report_is_flood(const struct sg_endpoint *ep)
{
	const struct sg_control *ctl = control_get();
	struct sg_usage *used = report_usage(ep);

	if (!ctl || !used)
		return false;
	if (__sync_fetch_and_add(&used->drop_records, 1) < ctl->drop_records)
		return false;
	__sync_fetch_and_add(&used->suppressed, 1);
	return true;
}

/* The initiator's socket, from its own connection entry, when it is on this node. */
checked_fn __u64 report_peer_cookie(const struct packet *pkt, const struct verdict *v)
{
	/* On the stack: Linux 6.1 takes no key from an argument. */
	struct sg_address source;
	struct sg_connection_key key;
	struct sg_connection *conn;
	const struct sg_holder *peer;

	if (!pkt || !v || v->hook != SG_INGRESS || pkt->layer < SG_LAYER_TRANSPORT)
		return 0;
	source = pkt->source;
	peer = holder_at(&source, v->judged.revision);
	if (!peer || !peer->endpoint)
		return 0;
	connection_key(&key, pkt, peer->endpoint, SG_EGRESS);
	conn = bpf_map_lookup_elem(&conntrack, &key);
	return conn ? conn->cookie : 0;
}

/* What would have been decided, where policy is what decided: nothing else that
 * drops a packet asks which policies are in force. */
inline_fn void report_shadow(struct sg_record *record, const struct verdict *v)
{
	const struct judgement *judged = &v->judged;

	if (v->reason && v->reason != SG_REASON_POLICY_DENIED && v->reason != SG_REASON_POLICY_DENY)
		return;
	record->shadow_rule_sets[0] = judged->shadow_rule_sets[0];
	record->shadow_rule_sets[1] = judged->shadow_rule_sets[1];
	record->shadow_verdict = judged->shadow_verdict;
	record->shadow_why = judged->shadow_why;
}

/* Called by nobody, so never loaded: it brings the record's layout into the BTF
 * of this object, where the next version looks for it. */
checked_fn int record_layout(const struct sg_end_record *record)
{
	return record ? record->record.ring : 0;
}

/* What the packet says, and who its ends are. */
inline_fn void record_packet(struct sg_record *record, struct __sk_buff *skb,
			     const struct sg_endpoint *ep, const struct packet *pkt,
			     const struct verdict *v, __u32 peer)
{
	__u32 identity = ep ? subject_at(ep, v->judged.revision)->identity : 0;
	bool sent = v->hook == SG_EGRESS;

	record->when_ns = bpf_ktime_get_boot_ns();
	record->cpu = bpf_get_smp_processor_id();
	record->ifindex = skb->ifindex;
	record->endpoint = ep ? ep->id : 0;
	record->revision = v->judged.revision;
	record->source_identity = sent ? identity : peer;
	record->destination_identity = sent ? peer : identity;
	record->length = skb->len;
	record->ether_type = pkt->ether_type;
	record->source_port = pkt->source_port;
	record->destination_port = pkt->destination_port;
	record->hook = v->hook;
	record->layer = pkt->layer;
	record->reply = v->reply;
	record->protocol = pkt->protocol;
	record->tcp_flags = pkt->tcp_flags;
	record->icmp_type = pkt->icmp_type;
	record->icmp_code = pkt->icmp_code;
	__builtin_memcpy(record->source_mac, pkt->source_mac, 6);
	__builtin_memcpy(record->destination_mac, pkt->destination_mac, 6);
	record->source = pkt->source;
	record->destination = pkt->destination;
}

/* The process of this endpoint's end. */
inline_fn void record_process(struct sg_record *record, struct __sk_buff *skb,
			      const struct sg_endpoint *ep, const struct packet *pkt)
{
	if (record->hook == SG_EGRESS)
		process_of_sender(skb, &record->process);
	else if (ep)
		process_of_receiver(skb, pkt, ep->netns_id, &record->process);
	else
		process_unknown(&record->process, SG_ORIGIN_NO_SOCKET);
}

/* 0, or -1 when there was no room and the loss was counted. `ep` may be NULL. */
checked_fn int report(struct __sk_buff *skb, const struct sg_endpoint *ep,
		      const struct packet *pkt, const struct verdict *v, __u32 ring)
{
	struct sg_ring_counters *counters = bpf_map_lookup_elem(&ring_counters, &ring);
	struct sg_record *record;
	__u64 sequence;

	if (!counters || !pkt || !v)
		return -1;
	sequence = counters->attempts++;
	if (ring == SG_RING_DROPS)
		record = report_is_flood(ep) ? NULL
					     : bpf_ringbuf_reserve(&drops, sizeof(*record), 0);
	else
		record = bpf_ringbuf_reserve(&traces, sizeof(*record), 0);
	if (!record) {
		counters->lost++;
		return -1;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record_packet(record, skb, ep, pkt, v, v->peer);
	record->sequence = sequence;
	record->rule_sets[0] = v->judged.rule_sets[0];
	record->rule_sets[1] = v->judged.rule_sets[1];
	report_shadow(record, v);
	record->ring = ring;
	record->direction = v->direction;
	record->verdict = v->reason ? SG_VERDICT_DENY : SG_VERDICT_ALLOW;
	record->reason = v->reason;
	record->why = v->judged.why;
	record->match_type = v->judged.match_type;
	record->peer_cookie = report_peer_cookie(pkt, v);
	if (v->hook == SG_EGRESS)
		record->cookie = bpf_get_socket_cookie(skb);
	record_process(record, skb, ep, pkt);
	report_count_origin(record->process.origin);
	bpf_ringbuf_submit(record, 0);
	return 0;
}
