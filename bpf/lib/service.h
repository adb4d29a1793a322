/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * service.h - from a service's address to a backend's, and back for answers.
 *
 * The socket itself remembers which backends stand for which services: nobody
 * can evict another's way back, and it goes when the socket goes. Knows no
 * policy: what is sent is judged at the interface, by the backend's address.
 */
#pragma once

#include "lib/maps.h"
#include "lib/packet.h"

enum service_outcome {
	SERVICE_NONE,		/* not the address of a service */
	SERVICE_TRANSLATED,
	SERVICE_REFUSED,
};

inline_fn void service_count(enum sg_service_count what)
{
	__u32 key = what;
	__u64 *count = bpf_map_lookup_elem(&service_counters, &key);

	if (count)
		(*count)++;
}

inline_fn bool backend_equal(const struct sg_backend *a, const struct sg_backend *b)
{
	return a->port == b->port && address_equal(&a->address, &b->address);
}

/* Whether an address is a service's own: on the wire it leads nowhere. */
inline_fn bool address_is_service(const struct sg_address *address)
{
	struct sg_service_key key = { .address = *address };

	return bpf_map_lookup_elem(&services, &key);
}

inline_fn bool set_has(__u32 set, const struct sg_backend *backend)
{
	struct sg_member_key key = { .set = set, .backend = *backend };

	return bpf_map_lookup_elem(&members, &key);
}

/* The backend that the client was given before, while it still serves and the
 * time between two uses is not over. */
inline_fn bool affinity_recall(const struct service_client *client,
			       const struct sg_service *service, __u64 now,
			       struct sg_backend *backend)
{
	struct service_affinity *known = bpf_map_lookup_elem(&affinities, client);

	if (!known || known->expires_ns <= now || !set_has(service->set, &known->backend))
		return false;
	*backend = known->backend;
	return true;
}

/* A backend that this socket has sent to for this service: datagrams of one
 * conversation stay together. */
inline_fn bool socket_recall(const struct socket_services *known,
			     const struct sg_service_key *key, __u32 set,
			     struct sg_backend *backend)
{
	for (__u32 at = 0; at < SOCKET_SERVICES; at++) {
		const struct socket_service *one = &known->known[at];

		if (one->service.protocol == key->protocol && one->service.port == key->port &&
		    address_equal(&one->service.address, &key->address)) {
			*backend = one->backend;
			if (set_has(set, backend))
				return true;
		}
	}
	return false;
}

/* From here on, what comes from the backend comes from the service; or, without
 * a service, from the backend itself. */
inline_fn void socket_remember(struct socket_services *known, const struct sg_service_key *key,
			       const struct sg_backend *backend)
{
	__u32 place = SOCKET_SERVICES;

	for (__u32 at = 0; at < SOCKET_SERVICES; at++) {
		const struct socket_service *one = &known->known[at];

		if (one->service.protocol && backend_equal(&one->backend, backend))
			place = at;
	}
	if (place == SOCKET_SERVICES) {
		if (!key)
			return;
		place = known->next++;
	}
	place &= SOCKET_SERVICES - 1;
	if (key)
		known->known[place].service = *key;
	else
		known->known[place].service.protocol = 0;
	known->known[place].backend = *backend;
}

inline_fn bool service_choose(struct bpf_sock_addr *ctx, const struct sg_service_key *key,
			      const struct sg_service *service, struct sg_backend *backend)
{
	struct service_client client = { .service = *key };
	struct sg_backend_key slot = { .set = service->set };
	struct service_affinity affinity = {};
	struct sg_backend *chosen;
	__u64 now = 0;

	if (service->affinity_seconds) {
		now = bpf_ktime_get_ns();
		client.netns_cookie = bpf_get_netns_cookie(ctx);
		if (affinity_recall(&client, service, now, backend))
			goto keep;
	}
	if (!service->backends)
		return false;
	slot.slot = bpf_get_prandom_u32() % service->backends;
	chosen = bpf_map_lookup_elem(&backends, &slot);
	if (!chosen)
		return false;
	*backend = *chosen;
keep:
	if (service->affinity_seconds) {
		affinity.expires_ns = now + service->affinity_seconds * NANOSECONDS;
		affinity.backend = *backend;
		bpf_map_update_elem(&affinities, &client, &affinity, BPF_ANY);
	}
	return true;
}

/* Whom a socket that asked for `key` is to talk to. `datagram`: one of many that
 * an unconnected socket sends. */
inline_fn enum service_outcome service_translate(struct bpf_sock_addr *ctx,
						 const struct sg_service_key *key, bool datagram,
						 struct sg_backend *backend)
{
	struct sg_service *service = bpf_map_lookup_elem(&services, key);
	struct socket_services *known;

	if (!service) {
		known = bpf_sk_storage_get(&socket_services, ctx->sk, NULL, 0);
		if (known) {
			backend->address = key->address;
			backend->port = key->port;
			socket_remember(known, NULL, backend);
		}
		return SERVICE_NONE;
	}
	known = bpf_sk_storage_get(&socket_services, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!known) {
		service_count(SG_SERVICE_NO_ROOM);
		return SERVICE_REFUSED;
	}
	if (!(datagram && socket_recall(known, key, service->set, backend)) &&
	    !service_choose(ctx, key, service, backend)) {
		service_count(SG_SERVICE_NO_BACKEND);
		return SERVICE_REFUSED;
	}
	socket_remember(known, key, backend);
	service_count(SG_SERVICE_TRANSLATED);
	return SERVICE_TRANSLATED;
}

/* The service that the other end stands for, if this socket asked for one. */
inline_fn bool service_restore(struct bpf_sock_addr *ctx, const struct sg_backend *from,
			       struct sg_service_key *key)
{
	struct socket_services *known = bpf_sk_storage_get(&socket_services, ctx->sk, NULL, 0);

	if (!known)
		return false;
	for (__u32 at = 0; at < SOCKET_SERVICES; at++) {
		const struct socket_service *one = &known->known[at];

		if (one->service.protocol && backend_equal(&one->backend, from)) {
			*key = one->service;
			return true;
		}
	}
	return false;
}
