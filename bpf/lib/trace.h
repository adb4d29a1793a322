/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * trace.h - what is told of a connection after its first packet: its first answer,
 * if that is wanted, and its end with what it carried.
 *
 * Each at most once for an entry. These records have three quarters of their ring
 * and a share of it for each endpoint: however many connections somebody ends, there
 * is room for the first packets of others.
 */
#pragma once

#include "lib/report.h"

/* Whether the record of this occasion is wanted. */
inline_fn bool trace_is_wanted(const struct sg_control *ctl, __u32 occasion)
{
	return ctl->trace == SG_TRACE_ANSWERS ||
	       (ctl->trace == SG_TRACE_END && occasion == OCCASION_ENDS);
}

/* Whether another one would be at the cost of somebody else. */
inline_fn bool trace_is_flood(const struct sg_control *ctl, const struct sg_endpoint *ep)
{
	struct sg_usage *used = report_usage(ep);

	if (bpf_ringbuf_query(&traces, BPF_RB_AVAIL_DATA) * 4 >
	    bpf_ringbuf_query(&traces, BPF_RB_RING_SIZE) * 3)
		return true;
	return used && __sync_fetch_and_add(&used->trace_records, 1) >= ctl->drop_records;
}

/* What the connection carried until now, if somebody has counted from its beginning. */
inline_fn void trace_traffic(struct sg_end_record *record, const struct sg_connection *conn)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	if (!conn->began_ns)
		return;
	/* Shorter than a tick of that clock is not unknown. */
	record->lived_ns = now > conn->began_ns ? now - conn->began_ns : 1;
	record->initiator = conn->initiator;
	record->responder = conn->responder;
}

inline_fn void trace_fill(struct sg_record *record, const struct sg_connection *conn,
			  __u8 kind, __u64 sequence)
{
	record->kind = kind;
	record->sequence = sequence;
	record->ring = SG_RING_TRACES;
	record->verdict = SG_VERDICT_ALLOW;
	record->direction = conn->direction;
	if (conn->direction == SG_EGRESS)
		record->cookie = conn->cookie;
	else
		record->peer_cookie = conn->cookie;
	/* Somebody has listened, or there would be no connection. */
	if (record->process.origin == SG_ORIGIN_NO_LISTENER)
		record->process.origin = SG_ORIGIN_CLOSED;
}

inline_fn void trace_tell(struct __sk_buff *skb, const struct sg_control *ctl,
			  const struct sg_endpoint *ep, const struct packet *pkt,
			  const struct verdict *v, const struct sg_connection *conn, __u8 kind)
{
	__u32 ring = SG_RING_TRACES;
	struct sg_ring_counters *counters = bpf_map_lookup_elem(&ring_counters, &ring);
	struct sg_end_record *record = NULL;
	__u64 sequence;

	if (!counters)
		return;
	sequence = counters->attempts++;
	if (!trace_is_flood(ctl, ep))
		record = bpf_ringbuf_reserve(&traces, sizeof(*record), 0);
	if (!record) {
		counters->lost++;
		return;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record_packet(&record->record, skb, ep, pkt, v, conn->peer);
	record_process(&record->record, skb, ep, pkt);
	trace_fill(&record->record, conn, kind, sequence);
	if (kind == SG_KIND_END)
		trace_traffic(record, conn);
	report_count_origin(record->record.process.origin);
	bpf_ringbuf_submit(record, 0);
}

/* Tells of a connection by this packet of it, unless that was done, and makes room
 * where it has ended and room is short. */
checked_fn int trace(struct __sk_buff *skb, const struct sg_endpoint *ep,
		     const struct packet *pkt, const struct verdict *v, __u32 occasion)
{
	__u8 kind = occasion == OCCASION_ENDS ? SG_KIND_END : SG_KIND_ANSWER;
	const struct sg_control *ctl = control_get();
	struct sg_connection_key key;
	struct sg_connection *conn;
	__u32 bit = 1 << kind;

	if (!ctl || !ep || !pkt || !v)
		return 0;
	connection_key(&key, pkt, ep->id, v->hook);
	conn = bpf_map_lookup_elem(&conntrack, &key);
	if (!conn)
		return 0;
	if (trace_is_wanted(ctl, occasion) && !(__sync_fetch_and_or(&conn->told, bit) & bit))
		trace_tell(skb, ctl, ep, pkt, v, conn, kind);
	if (occasion == OCCASION_ENDS)
		connection_retire(&key, conn, ctl->connections);
	return 0;
}
