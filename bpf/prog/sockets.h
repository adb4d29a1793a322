/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockets - note which process uses a socket, and lead services to backends.
 *
 * Hooks: cgroup sock_create, post_bind, connect, sendmsg, recvmsg and getpeername
 * on the node's slice. Whether somebody may talk to somebody is decided at the
 * interface; the one refusal here is a service that nobody serves. Write map
 * `sockets`, whose entry is cloned to accepted sockets, and the services' maps.
 */
#pragma once

#include "lib/process.h"
#include "lib/service.h"

#define SOCKET_REFUSE 0
#define SOCKET_ALLOW 1

#define ERROR_REFUSED 111	/* ECONNREFUSED */

inline_fn bool protocol_has_services(struct bpf_sock_addr *ctx)
{
	return ctx->protocol == PROTOCOL_TCP || ctx->protocol == PROTOCOL_UDP;
}

inline_fn void asked_ipv4(struct bpf_sock_addr *ctx, struct sg_address *address)
{
	__u32 bytes = ctx->user_ip4;

	address_map_ipv4(address, (const __u8 *)&bytes);
}

inline_fn void asked_ipv6(struct bpf_sock_addr *ctx, struct sg_address *address)
{
	__u32 words[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
			   ctx->user_ip6[3] };

	__builtin_memcpy(address, words, sizeof(*address));
}

inline_fn void answer_ipv4(struct bpf_sock_addr *ctx, const struct sg_address *address)
{
	__u32 bytes;

	__builtin_memcpy(&bytes, &address->bytes[12], sizeof(bytes));
	ctx->user_ip4 = bytes;
}

inline_fn void answer_ipv6(struct bpf_sock_addr *ctx, const struct sg_address *address)
{
	__u32 words[4];

	__builtin_memcpy(words, address, sizeof(words));
	ctx->user_ip6[0] = words[0];
	ctx->user_ip6[1] = words[1];
	ctx->user_ip6[2] = words[2];
	ctx->user_ip6[3] = words[3];
}

/* What a program asks for goes to a backend, if it is a service. */
inline_fn int socket_ask(struct bpf_sock_addr *ctx, bool ipv4, bool datagram)
{
	struct sg_service_key key = {};
	struct sg_backend backend = {};
	enum service_outcome outcome;

	socket_own(ctx->sk);
	if (!protocol_has_services(ctx))
		return SOCKET_ALLOW;
	if (ipv4)
		asked_ipv4(ctx, &key.address);
	else
		asked_ipv6(ctx, &key.address);
	key.port = (__be16)ctx->user_port;
	key.protocol = ctx->protocol;
	outcome = service_translate(ctx, &key, datagram, &backend);
	if (outcome == SERVICE_REFUSED) {
		bpf_set_retval(-ERROR_REFUSED);
		return SOCKET_REFUSE;
	}
	if (outcome == SERVICE_NONE)
		return SOCKET_ALLOW;
	if (ipv4)
		answer_ipv4(ctx, &backend.address);
	else
		answer_ipv6(ctx, &backend.address);
	ctx->user_port = backend.port;
	return SOCKET_ALLOW;
}

/* What a program is told about the other end: what it asked for. */
inline_fn int socket_tell(struct bpf_sock_addr *ctx, bool ipv4)
{
	struct sg_service_key key = {};
	struct sg_backend from = {};

	if (!protocol_has_services(ctx))
		return SOCKET_ALLOW;
	if (ipv4)
		asked_ipv4(ctx, &from.address);
	else
		asked_ipv6(ctx, &from.address);
	from.port = (__be16)ctx->user_port;
	if (!service_restore(ctx, &from, &key))
		return SOCKET_ALLOW;
	if (ipv4)
		answer_ipv4(ctx, &key.address);
	else
		answer_ipv6(ctx, &key.address);
	ctx->user_port = key.port;
	return SOCKET_ALLOW;
}

SEC("cgroup/sock_create")
int socket_create(struct bpf_sock *sk)
{
	socket_own(sk);
	return SOCKET_ALLOW;
}

SEC("cgroup/post_bind4")
int socket_bind4(struct bpf_sock *sk)
{
	socket_own(sk);
	return SOCKET_ALLOW;
}

SEC("cgroup/post_bind6")
int socket_bind6(struct bpf_sock *sk)
{
	socket_own(sk);
	return SOCKET_ALLOW;
}

SEC("cgroup/connect4")
int socket_connect4(struct bpf_sock_addr *ctx)
{
	return socket_ask(ctx, true, false);
}

SEC("cgroup/connect6")
int socket_connect6(struct bpf_sock_addr *ctx)
{
	return socket_ask(ctx, false, false);
}

SEC("cgroup/sendmsg4")
int socket_sendmsg4(struct bpf_sock_addr *ctx)
{
	return socket_ask(ctx, true, true);
}

SEC("cgroup/sendmsg6")
int socket_sendmsg6(struct bpf_sock_addr *ctx)
{
	return socket_ask(ctx, false, true);
}

SEC("cgroup/recvmsg4")
int socket_recvmsg4(struct bpf_sock_addr *ctx)
{
	return socket_tell(ctx, true);
}

SEC("cgroup/recvmsg6")
int socket_recvmsg6(struct bpf_sock_addr *ctx)
{
	return socket_tell(ctx, false);
}

SEC("cgroup/getpeername4")
int socket_getpeername4(struct bpf_sock_addr *ctx)
{
	return socket_tell(ctx, true);
}

SEC("cgroup/getpeername6")
int socket_getpeername6(struct bpf_sock_addr *ctx)
{
	return socket_tell(ctx, false);
}
