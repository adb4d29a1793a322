/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * conntrack.h - connections that were allowed, each endpoint within its quota.
 *
 * Knows nothing of policy: who calls it has decided. Entries end by FIN, RST or
 * time; sweep.h frees what has ended.
 */
#pragma once

#include "lib/maps.h"
#include "lib/packet.h"

#define LIFETIME_ASKED (10 * NANOSECONDS)	/* until the other end answers */
#define LIFETIME_TCP (21600 * NANOSECONDS)
#define LIFETIME_HALF_CLOSED (600 * NANOSECONDS)
#define LIFETIME_CLOSED (2 * NANOSECONDS)
#define LIFETIME_OTHER (60 * NANOSECONDS)
#define LIFETIME_CUT (900 * NANOSECONDS)

#define ICMPV4_ECHO_REPLY 0
#define ICMPV4_ECHO 8
#define ICMPV6_ECHO 128
#define ICMPV6_ECHO_REPLY 129

inline_fn bool packet_is_echo(const struct packet *pkt)
{
	return (pkt->protocol == PROTOCOL_ICMPV4 && pkt->icmp_type == ICMPV4_ECHO) ||
	       (pkt->protocol == PROTOCOL_ICMPV6 && pkt->icmp_type == ICMPV6_ECHO);
}

inline_fn bool packet_is_echo_reply(const struct packet *pkt)
{
	return (pkt->protocol == PROTOCOL_ICMPV4 && pkt->icmp_type == ICMPV4_ECHO_REPLY) ||
	       (pkt->protocol == PROTOCOL_ICMPV6 && pkt->icmp_type == ICMPV6_ECHO_REPLY);
}

/* Whether the packet may be part of a connection: ICMP other than echo is not. */
inline_fn bool connection_has_key(const struct packet *pkt)
{
	return !packet_is_icmp(pkt) || packet_is_echo(pkt) || packet_is_echo_reply(pkt);
}

/* Whether the packet, once allowed, starts an entry. */
inline_fn bool connection_tracks(const struct packet *pkt)
{
	if (pkt->protocol == PROTOCOL_TCP)
		return !(pkt->tcp_flags & TCP_RST);
	return connection_has_key(pkt) && !packet_is_echo_reply(pkt);
}

inline_fn void connection_key(struct sg_connection_key *key, const struct packet *pkt,
			      __u32 endpoint, __u8 hook)
{
	bool sent = hook == SG_EGRESS;

	__builtin_memset(key, 0, sizeof(*key));
	key->local = sent ? pkt->source : pkt->destination;
	key->remote = sent ? pkt->destination : pkt->source;
	key->endpoint = endpoint;
	key->protocol = pkt->protocol;
	if (packet_is_icmp(pkt)) {
		key->local_port = pkt->source_port;
		/* A request that comes in, and the reply to it, are asked by the peer. */
		key->remote_port = packet_is_echo(pkt) == sent ? 0 : bpf_htons(1);
	} else {
		key->local_port = sent ? pkt->source_port : pkt->destination_port;
		key->remote_port = sent ? pkt->destination_port : pkt->source_port;
	}
}

inline_fn __u64 connection_lifetime(const struct packet *pkt, __u8 flags)
{
	if (flags & SG_CONNECTION_CLOSED)
		return LIFETIME_CLOSED;
	if (!(flags & SG_CONNECTION_ESTABLISHED))
		return LIFETIME_ASKED;
	if (pkt->protocol != PROTOCOL_TCP)
		return LIFETIME_OTHER;
	return flags & (SG_CONNECTION_FIN | SG_CONNECTION_FIN_REPLY) ? LIFETIME_HALF_CLOSED
								      : LIFETIME_TCP;
}

/* Adds to what a peer has, and returns what it had. Two counters, each shared with peers
 * of another hash: few share both with him who floods, and the smaller one tells. */
inline_fn __u32 peer_add(struct sg_usage *used, const struct sg_address *remote, __s32 more)
{
	const __u32 places = sizeof(used->peers) / sizeof(used->peers[0]);
	__u32 hash = address_hash(remote, used->salt), one, other;

	one = __sync_fetch_and_add(&used->peers[hash % places], more);
	other = __sync_fetch_and_add(&used->peers_again[(hash >> 16) % places], more);
	return one < other ? one : other;
}

inline_fn void connection_delete(const struct sg_connection_key *key, bool shared)
{
	struct sg_usage *used;

	if (bpf_map_delete_elem(&conntrack, key))
		return;
	used = bpf_map_lookup_elem(&usage, &key->endpoint);
	if (!used)
		return;
	if (used->connections)
		__sync_fetch_and_add(&used->connections, -1);
	if (shared)
		peer_add(used, &key->remote, -1);
}

inline_fn __u8 connection_flags(__u8 flags, const struct packet *pkt, bool reply)
{
	const __u8 both = SG_CONNECTION_FIN | SG_CONNECTION_FIN_REPLY;

	if (reply)
		flags |= SG_CONNECTION_ESTABLISHED;
	if (pkt->protocol != PROTOCOL_TCP)
		return flags;
	if (pkt->tcp_flags & TCP_FIN)
		flags |= reply ? SG_CONNECTION_FIN_REPLY : SG_CONNECTION_FIN;
	if (pkt->tcp_flags & TCP_RST || (flags & both) == both)
		flags |= SG_CONNECTION_CLOSED;
	return flags;
}

/* Whether it counts against its peer: what the node itself opens does not. */
inline_fn bool connection_is_shared(const struct sg_connection *conn)
{
	return conn->direction == SG_INGRESS && !(conn->flags & SG_CONNECTION_NODE);
}

/* What a packet that goes on is to its connection. */
enum occasion {
	OCCASION_NONE,
	OCCASION_OPENS,		/* the first, or of no known connection */
	OCCASION_ANSWERS,	/* the first from the other end */
	OCCASION_ENDS,		/* the last that counts, or a late one: SG_CONNECTION_CLOSED */
};

/* Counts a frame that passed. Atomic, so that none is missing where two CPUs carry
 * packets of one end at once. */
inline_fn void connection_count(struct sg_connection *conn, bool reply, __u32 bytes)
{
	struct sg_traffic *traffic = reply ? &conn->responder : &conn->initiator;

	__sync_fetch_and_add(&traffic->packets, 1);
	__sync_fetch_and_add(&traffic->bytes, bytes);
}

/* Notes that a packet of the connection passed. What does not count is written only
 * when it changes by a second or more. */
inline_fn enum occasion connection_touch(struct sg_connection *conn, const struct packet *pkt,
					 bool reply, __u32 bytes, __u64 now)
{
	__u8 before = conn->flags, flags = connection_flags(before, pkt, reply);
	__u64 expires = now + connection_lifetime(pkt, flags);

	connection_count(conn, reply, bytes);
	if (flags != before) {
		conn->flags = flags;
		conn->expires_ns = expires;
	} else if (!(flags & SG_CONNECTION_CLOSED) &&
		   expires > conn->expires_ns + NANOSECONDS) {
		conn->expires_ns = expires;
	}
	if (flags & SG_CONNECTION_CLOSED)
		return OCCASION_ENDS;
	return (flags & ~before) & SG_CONNECTION_ESTABLISHED ? OCCASION_ANSWERS : OCCASION_NONE;
}

/* Ended ones linger for late packets, but never take the room of new ones. */
inline_fn void connection_retire(const struct sg_connection_key *key,
				 const struct sg_connection *conn, __u32 quota)
{
	struct sg_usage *used = bpf_map_lookup_elem(&usage, &key->endpoint);

	if (used && used->connections * 2 > quota)
		connection_delete(key, connection_is_shared(conn));
}

/* A place for a connection that is not in the map yet: all zero. */
inline_fn struct sg_connection *connection_draft(void)
{
	__u32 zero = 0;
	struct sg_connection *conn = bpf_map_lookup_elem(&drafts, &zero);

	if (conn)
		__builtin_memset(conn, 0, sizeof(*conn));
	return conn;
}

/* Tells the sweep that somebody needs room. */
inline_fn void connection_press(void)
{
	struct sg_sweeps *sweep;
	__u32 zero = 0;

	sweep = bpf_map_lookup_elem(&sweeps, &zero);
	if (sweep && !sweep->pressure)
		sweep->pressure = 1;
}

/* enum sg_reason: why the endpoint may not have another connection. What peers
 * open leaves a quarter of the room to the endpoint itself and to its node, and
 * of the second half no peer gets more than a quarter. */
checked_fn int connection_admit(const struct sg_connection_key *key,
				const struct sg_connection *conn, __u32 quota)
{
	__u32 own = 0, room = quota, endpoint;
	bool shared;
	struct sg_usage *used;
	__u64 total;

	if (!key || !conn)
		return SG_REASON_NO_CONFIGURATION;
	endpoint = key->endpoint;
	used = bpf_map_lookup_elem(&usage, &endpoint);
	if (!used)
		return SG_REASON_EP_NOT_READY;
	total = __sync_fetch_and_add(&used->connections, 1);
	shared = connection_is_shared(conn);
	if (shared) {
		own = peer_add(used, &key->remote, 1);
		room -= quota / 4;
	}
	/* Early enough that what has ended is gone before anybody's share is looked at. */
	if (total >= quota / 4)
		connection_press();
	if (total < room && (total < quota / 2 || own < quota / 4))
		return SG_REASON_NONE;
	__sync_fetch_and_add(&used->connections, -1);
	if (shared)
		peer_add(used, &key->remote, -1);
	return SG_REASON_CT_FULL;
}

/* Takes back what was admitted and has no entry. */
checked_fn int connection_retract(const struct sg_connection_key *key,
				  const struct sg_connection *conn)
{
	struct sg_usage *used;
	__u32 endpoint;

	if (!key || !conn)
		return 0;
	endpoint = key->endpoint;
	used = bpf_map_lookup_elem(&usage, &endpoint);
	if (!used)
		return 0;
	__sync_fetch_and_add(&used->connections, -1);
	if (connection_is_shared(conn))
		peer_add(used, &key->remote, -1);
	return 0;
}

/* enum sg_reason. The key is on the caller's stack, the entry there or a draft: Linux
 * 6.1 takes neither from an argument. */
inline_fn enum sg_reason connection_create(const struct sg_connection_key *key,
					   const struct sg_connection *conn, __u32 quota)
{
	enum sg_reason reason = connection_admit(key, conn, quota);
	long err;

	if (reason)
		return reason;
	err = bpf_map_update_elem(&conntrack, key, conn, BPF_NOEXIST);
	if (!err)
		return SG_REASON_NONE;
	connection_retract(key, conn);
	/* Another CPU was faster with a packet of the same connection, which counts that
	 * one only. */
	return err == -17 /* EEXIST */ ? SG_REASON_NONE : SG_REASON_CT_FULL;
}
