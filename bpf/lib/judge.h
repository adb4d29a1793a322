/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * judge.h - one packet of one endpoint: connection first, policy second.
 *
 * An established connection costs one look-up until the policy revision or the
 * address book moves; then it is judged again on its original tuple. Whatever
 * is not decided to be allowed is dropped.
 */
#pragma once

#include "lib/conntrack.h"
#include "lib/encapsulation.h"
#include "lib/fragment.h"
#include "lib/icmp.h"
#include "lib/identity.h"
#include "lib/policy.h"
#include "lib/report.h"
#include "lib/service.h"
#include "lib/trace.h"

inline_fn bool tcp_opens(const struct packet *pkt)
{
	return (pkt->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

/* The identity of the other end. `host` is the node itself: a packet that was
 * forwarded from the node's address (masquerade, NodePort) is nobody known. */
checked_fn __u32 peer_of(struct __sk_buff *skb, const struct sg_connection_key *key, __u32 hook,
			 __u32 revision)
{
	const struct sg_control *ctl = control_get();
	struct sg_address remote;

	if (!ctl || !key)
		return IDENTITY_UNKNOWN;
	/* On the stack: Linux 6.1 takes no key from an argument. */
	remote = key->remote;
	if (hook == SG_INGRESS && skb->ingress_ifindex && address_is_host(&remote, revision))
		return IDENTITY_UNKNOWN;
	return identity_of(ctl, &remote, revision);
}

/* The port of the side that was asked, in the direction of the first packet;
 * for ICMP the type of the message. */
inline_fn __be16 asked_port(const struct sg_connection_key *key, __u8 direction, __u8 icmp_type)
{
	if (key->protocol == PROTOCOL_ICMPV4 || key->protocol == PROTOCOL_ICMPV6)
		return bpf_htons(icmp_type);
	return direction == SG_EGRESS ? key->remote_port : key->local_port;
}

/* ICMP that belongs to a connection began with this type. */
inline_fn __u8 echo_type(const struct sg_connection_key *key)
{
	return key->protocol == PROTOCOL_ICMPV4 ? ICMPV4_ECHO : ICMPV6_ECHO;
}

/* What is asked of policy, in one word: the kernel takes five arguments. */
#define ABOUT(direction, icmp_type) ((direction) | (icmp_type) << 8)

/* enum sg_reason. `about`: see above. */
checked_fn int ask_policy(const struct sg_endpoint *ep, const struct sg_connection_key *key,
			  __u32 about, __u32 revision, struct verdict *v)
{
	struct question ask = { .revision = revision & ~SG_REVISION_UNDONE };
	enum sg_reason reason;

	if (!ep || !key || !v)
		return SG_REASON_NO_CONFIGURATION;
	ask.table = subject_table(ep, revision);
	ask.direction = about & 0xff;
	ask.peer = v->peer;
	ask.port = asked_port(key, ask.direction, about >> 8);
	ask.protocol = key->protocol;
	v->direction = ask.direction;
	reason = policy_judge(&ask, &v->judged);
	/* Which rule it would take is checked for what decides, not for its shadow. */
	if (v->judged.shadow_verdict && encapsulation_concerns(key, ask.direction, ask.peer))
		v->judged.shadow_verdict = SG_VERDICT_NONE;
	return reason;
}

/* An entry from before the last change, or one that was cut: judged again, on
 * the original tuple. */
inline_fn enum sg_reason judge_again(struct __sk_buff *skb, const struct sg_endpoint *ep,
				     const struct sg_connection_key *key,
				     struct sg_connection *conn, __u32 revision, __u32 epoch,
				     __u64 now, struct verdict *v)
{
	enum sg_reason reason;

	v->peer = peer_of(skb, key, v->hook, revision);
	/* Only what comes in shows whether the node itself sent it: an answer to
	 * somebody behind the node's address does not make him the node. */
	if (v->hook == SG_EGRESS && conn->direction == SG_INGRESS && conn->peer != v->peer &&
	    address_is_host(&key->remote, revision))
		v->peer = IDENTITY_UNKNOWN;
	reason = ask_policy(ep, key, ABOUT(conn->direction, echo_type(key)), revision, v);
	if (!reason)
		reason = encapsulation_check(key, v);
	if (reason) {
		conn->flags |= SG_CONNECTION_CUT;
		conn->expires_ns = now + LIFETIME_CUT;
		return reason;
	}
	if (conn->flags & SG_CONNECTION_CUT) {
		/* The shortest, until connection_touch says what its state is worth. */
		conn->expires_ns = now + LIFETIME_CLOSED;
		conn->flags &= ~SG_CONNECTION_CUT;
	}
	conn->rule_set = v->judged.rule_sets[0];
	conn->peer = v->peer;
	conn->epoch = epoch;
	conn->revision = revision;
	return SG_REASON_NONE;
}

/* A packet of no known connection that cannot open one. It goes on if its sender
 * had the right to open the connection, or if it answers one that a rule lets
 * its receiver open. That nobody enforces the other direction is no such rule:
 * or every pod without ingress policy could send past its egress policy. The shadow
 * of the answer to either question is no answer alone. */
inline_fn enum sg_reason judge_midstream(const struct sg_endpoint *ep,
					 const struct sg_connection_key *key, __u8 icmp_type,
					 __u32 revision, struct verdict *v)
{
	__u8 reverse = v->hook == SG_EGRESS ? SG_INGRESS : SG_EGRESS;
	enum sg_reason reason = ask_policy(ep, key, ABOUT(v->hook, icmp_type), revision, v);
	struct judgement own;
	bool answers;

	if (!reason) {
		if (v->judged.shadow_verdict == SG_VERDICT_DENY)
			v->judged.shadow_verdict = SG_VERDICT_NONE;
		return SG_REASON_NONE;
	}
	own = v->judged;
	answers = !ask_policy(ep, key, ABOUT(reverse, echo_type(key)), revision, v) &&
		  v->judged.why == SG_WHY_RULE;
	if (own.shadow_verdict == SG_VERDICT_DENY && v->judged.shadow_why == SG_WHY_RULE)
		judgement_take_shadow(&own, &v->judged);
	if (answers) {
		v->reply = SG_REPLY_YES;
		judgement_take_shadow(&v->judged, &own);
		return SG_REASON_NONE;
	}
	v->reply = SG_REPLY_UNKNOWN;
	v->direction = v->hook;
	v->judged = own;
	return reason;
}

/* Whether the packet can only be an answer. */
inline_fn bool packet_answers(const struct packet *pkt)
{
	return packet_is_echo_reply(pkt) || (pkt->protocol == PROTOCOL_TCP &&
	       (pkt->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK));
}

/* A pod of this node sends through its own interface and no other, which is noted. What
 * only claims to be from the node is no pod's: see peer_of. */
inline_fn enum sg_reason peer_interface(struct __sk_buff *skb, const struct sg_address *remote,
					__u32 revision, __u8 hook, __u32 *ifindex)
{
	const struct sg_endpoint *sender;
	const struct sg_holder *peer;

	if (hook == SG_EGRESS)
		return SG_REASON_NONE;
	peer = holder_at(remote, revision);
	if (!peer || peer->endpoint < SG_ENDPOINT_FIRST_POD)
		return SG_REASON_NONE;
	sender = endpoint_by_ifindex(skb->ingress_ifindex);
	if (!sender || sender->id != peer->endpoint)
		return SG_REASON_INVALID_SOURCE_IP;
	*ifindex = skb->ingress_ifindex;
	return SG_REASON_NONE;
}

/* Whether the answers to an allowed packet may pass on their own right: 1 or 0. */
checked_fn int answers_may_pass(const struct sg_endpoint *ep, const struct sg_connection_key *key,
				__u32 direction, __u32 peer, __u32 revision)
{
	struct judgement judged = {};
	struct question ask = { .revision = revision & ~SG_REVISION_UNDONE, .peer = peer };

	if (!ep || !key)
		return 0;
	ask.table = subject_table(ep, revision);
	ask.direction = direction == SG_EGRESS ? SG_INGRESS : SG_EGRESS;
	ask.protocol = key->protocol;
	ask.port = asked_port(key, ask.direction, 0);
	return !policy_judge(&ask, &judged);
}

/* There is no room for an entry. TCP goes on without, packet by packet, where its
 * answers may pass without one, too: as many as a flood may open, nobody who has
 * the right is kept out. */
inline_fn bool goes_on_without_entry(const struct sg_endpoint *ep,
				     const struct sg_connection_key *key, __u32 revision,
				     const struct verdict *v)
{
	if (key->protocol != PROTOCOL_TCP)
		return false;
	return v->judged.why == SG_WHY_RULE ||
	       answers_may_pass(ep, key, v->direction, v->peer, revision);
}

/* `stale`: an entry of another connection with the same tuple, in the way. */
inline_fn enum sg_reason judge_new(struct __sk_buff *skb, const struct sg_endpoint *ep,
				   const struct sg_control *ctl,
				   const struct sg_connection_key *key, const struct packet *pkt,
				   __u32 revision, __u32 epoch, __u64 now,
				   const struct sg_connection *stale, struct verdict *v,
				   enum occasion *occasion)
{
	struct sg_connection *conn;
	__u32 interface = 0;
	bool opens = pkt->protocol == PROTOCOL_TCP ? tcp_opens(pkt) : !packet_is_echo_reply(pkt);
	enum sg_reason reason;

	reason = peer_interface(skb, &key->remote, revision, v->hook, &interface);
	if (reason)
		return reason;
	v->peer = peer_of(skb, key, v->hook, revision);
	v->reply = SG_REPLY_NO;
	*occasion = OCCASION_OPENS;
	/* No socket hook has translated it, so nobody knows whom it means. */
	if (address_is_service(&key->remote))
		return SG_REASON_CLUSTER_IP;
	if (opens)
		reason = ask_policy(ep, key, ABOUT(v->hook, pkt->icmp_type), revision, v);
	else
		reason = judge_midstream(ep, key, pkt->icmp_type, revision, v);
	if (!reason)
		reason = encapsulation_check(key, v);
	if (reason || !connection_tracks(pkt) ||
	    (packet_answers(pkt) && v->reply != SG_REPLY_YES))
		return reason;
	/* That nobody enforces this direction says nothing about who opened it: no
	 * entry that could speak for the other direction. */
	if (!opens && v->judged.why == SG_WHY_UNENFORCED) {
		*occasion = OCCASION_NONE;
		return SG_REASON_NONE;
	}
	if (stale)
		connection_delete(key, connection_is_shared(stale));
	conn = connection_draft();
	if (!conn)
		return SG_REASON_NO_CONFIGURATION;
	conn->expires_ns = now + connection_lifetime(pkt, 0);
	conn->revision = revision;
	conn->epoch = epoch;
	conn->peer = v->peer;
	conn->peer_ifindex = interface;
	conn->rule_set = v->judged.rule_sets[0];
	conn->direction = v->direction;
	if (v->peer != IDENTITY_UNKNOWN && address_is_host(&key->remote, revision))
		conn->flags = SG_CONNECTION_NODE;
	if (v->hook == SG_EGRESS && v->reply == SG_REPLY_NO)
		conn->cookie = bpf_get_socket_cookie(skb);
	else if (v->hook == SG_INGRESS)
		conn->cookie = report_peer_cookie(pkt, v);
	/* What went before a packet in the middle nobody has counted. */
	if (opens)
		conn->began_ns = now;
	connection_count(conn, v->reply == SG_REPLY_YES, skb->len);
	reason = connection_create(key, conn, ctl->connections);
	if (reason == SG_REASON_CT_FULL && goes_on_without_entry(ep, key, revision, v)) {
		*occasion = opens ? OCCASION_OPENS : OCCASION_NONE;
		return SG_REASON_NONE;
	}
	return reason;
}

/* enum sg_reason. `occasion`: what is to be told, if it goes on. */
checked_fn int judge(struct __sk_buff *skb, const struct sg_endpoint *ep,
		     const struct packet *pkt, struct verdict *v, enum occasion *occasion)
{
	const struct sg_control *ctl = control_get();
	__u64 now = bpf_ktime_get_coarse_ns();
	struct sg_connection_key key;
	struct sg_connection *conn = NULL;
	__u32 revision, epoch;
	bool reply, restart;

	if (!ctl || !ep || !pkt || !v || !occasion)
		return SG_REASON_NO_CONFIGURATION;
	revision = revision_stamp(ep, v->judged.revision, now);
	epoch = *(volatile __u32 *)&ctl->epoch;
	connection_key(&key, pkt, ep->id, v->hook);
	if (connection_has_key(pkt))
		conn = bpf_map_lookup_elem(&conntrack, &key);
	if (conn) {
		reply = conn->direction != v->hook;
		/* A SYN against the direction, or after the end, is another connection;
		 * so is a datagram from the other side of one that was cut. */
		restart = conn->expires_ns <= now ||
			  (pkt->protocol == PROTOCOL_TCP && tcp_opens(pkt) &&
			   (reply || conn->flags & SG_CONNECTION_CLOSED)) ||
			  (pkt->protocol != PROTOCOL_TCP && reply &&
			   conn->flags & SG_CONNECTION_CUT);
		if (!restart) {
			enum sg_reason reason = SG_REASON_NONE;

			v->reply = reply ? SG_REPLY_YES : SG_REPLY_NO;
			/* Who answers is known by his first answer; an address may move to
			 * another pod. */
			if ((reply && !(conn->flags & SG_CONNECTION_ESTABLISHED)) ||
			    (conn->peer_ifindex && conn->peer_ifindex != skb->ingress_ifindex))
				reason = peer_interface(skb, &key.remote, revision, v->hook,
							&conn->peer_ifindex);
			if (reason)
				return reason;
			if (conn->revision != revision || conn->epoch != epoch ||
			    conn->flags & SG_CONNECTION_CUT)
				reason = judge_again(skb, ep, &key, conn, revision, epoch,
						     now, v);
			if (!reason)
				*occasion = connection_touch(conn, pkt, reply, skb->len, now);
			return reason;
		}
	}
	return judge_new(skb, ep, ctl, &key, pkt, revision, epoch, now, conn, v, occasion);
}

/* The same for a packet that may be a part of a datagram, or tell of an error. */
inline_fn enum sg_reason judge_part(struct __sk_buff *skb, const struct sg_endpoint *ep,
				    struct packet *pkt, struct verdict *v,
				     enum occasion *occasion)
{
	enum sg_reason reason = SG_REASON_NONE;

	v->direction = v->hook;
	if (pkt->fragment == FRAGMENT_LATER)
		reason = fragment_restore(pkt, ep->id, v->hook);
	if (!reason && icmp_is_error(pkt)) {
		v->reply = SG_REPLY_YES;
		reason = judge_icmp_error(skb, ep, pkt, v->hook, v->judged.revision);
	} else if (!reason) {
		reason = judge(skb, ep, pkt, v, occasion);
	}
	if (!reason && pkt->fragment == FRAGMENT_FIRST)
		fragment_remember(pkt, ep->id, v->hook);
	return reason;
}

/* Counts, tells, and turns the reason into the hook's return code. */
inline_fn int conclude(struct __sk_buff *skb, const struct sg_endpoint *ep,
		       const struct packet *pkt, const struct verdict *v, enum occasion occasion)
{
	if (v->reason) {
		report_count_drop(v->reason);
		report(skb, ep, pkt, v, SG_RING_DROPS);
		return SG_DROP;
	}
	if (occasion == OCCASION_OPENS)
		report(skb, ep, pkt, v, SG_RING_TRACES);
	else if (occasion != OCCASION_NONE)
		trace(skb, ep, pkt, v, occasion);
	return SG_PASS;
}
