/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * behind.h - whoever leaves the node with its address: masqueraded, or an answer of
 * somebody whose port the node lends its address.
 *
 * He was judged as who he is. His connections have room of their own, so that he
 * cannot take the node's.
 */
#pragma once

#include "lib/judge.h"

/* Somebody else's packet that leaves with the node's address: remembered, so that
 * its answer is not taken for a question to the node. */
checked_fn int host_note_behind(struct __sk_buff *skb, const struct packet *pkt, __u32 revision)
{
	const struct sg_control *ctl = control_get();
	__u64 now = bpf_ktime_get_coarse_ns();
	struct sg_connection_key key;
	struct sg_connection *conn;
	struct sg_address source;

	if (!ctl || !pkt || pkt->layer != SG_LAYER_TRANSPORT || !connection_has_key(pkt))
		return 0;
	source = pkt->source;
	if (!address_is_host(&source, revision))
		return 0;
	/* An answer by somebody behind the node to whom its policy let in. */
	connection_key(&key, pkt, SG_ENDPOINT_HOST, SG_EGRESS);
	conn = bpf_map_lookup_elem(&conntrack, &key);
	if (!conn) {
		key.endpoint = SG_ENDPOINT_BEHIND;
		conn = bpf_map_lookup_elem(&conntrack, &key);
	}
	if (conn) {
		if (connection_touch(conn, pkt, conn->direction != SG_EGRESS, skb->len, now) ==
		    OCCASION_ENDS)
			connection_retire(&key, conn, ctl->connections);
		return 0;
	}
	conn = connection_draft();
	if (!conn)
		return SG_REASON_NO_CONFIGURATION;
	conn->direction = SG_EGRESS;
	conn->expires_ns = now + connection_lifetime(pkt, 0);
	return connection_create(&key, conn, ctl->connections);
}

/* Whether a packet to the node answers somebody behind it. */
checked_fn int host_answers_behind(struct __sk_buff *skb, const struct packet *pkt)
{
	const struct sg_control *ctl = control_get();
	__u64 now = bpf_ktime_get_coarse_ns();
	struct sg_connection_key key;
	struct sg_connection *conn;

	if (!ctl || !pkt || pkt->layer != SG_LAYER_TRANSPORT || !connection_has_key(pkt))
		return false;
	if (pkt->protocol == PROTOCOL_TCP && tcp_opens(pkt))
		return false;
	connection_key(&key, pkt, SG_ENDPOINT_BEHIND, SG_INGRESS);
	conn = bpf_map_lookup_elem(&conntrack, &key);
	if (!conn || conn->expires_ns <= now)
		return false;
	if (connection_touch(conn, pkt, true, skb->len, now) == OCCASION_ENDS)
		connection_retire(&key, conn, ctl->connections);
	if (pkt->fragment == FRAGMENT_FIRST)
		fragment_remember(pkt, SG_ENDPOINT_BEHIND, SG_INGRESS);
	return true;
}
