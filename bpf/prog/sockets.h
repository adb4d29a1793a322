/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockets - note which process uses a socket.
 *
 * Hooks: cgroup sock_create, post_bind, connect and sendmsg on the node's
 * slice. Decide nothing: every call is let through. Write map `sockets`; its
 * entry is cloned to accepted sockets.
 */
#pragma once

#include "lib/process.h"

#define SOCKET_ALLOW 1

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
	socket_own(ctx->sk);
	return SOCKET_ALLOW;
}

SEC("cgroup/connect6")
int socket_connect6(struct bpf_sock_addr *ctx)
{
	socket_own(ctx->sk);
	return SOCKET_ALLOW;
}

SEC("cgroup/sendmsg4")
int socket_sendmsg4(struct bpf_sock_addr *ctx)
{
	socket_own(ctx->sk);
	return SOCKET_ALLOW;
}

SEC("cgroup/sendmsg6")
int socket_sendmsg6(struct bpf_sock_addr *ctx)
{
	socket_own(ctx->sk);
	return SOCKET_ALLOW;
}
