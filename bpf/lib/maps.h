/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.h - the state of a node. Every map is pinned under its name here.
 *
 * Sizes are set by user space before the maps are created; the ones here only
 * let the object load on its own.
 */
#pragma once

#include "lib/base.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);	/* the revision moves by one atomic store */
	__type(key, __u32);
	__type(value, struct sg_control);
} control SEC(".maps");

/* By interface index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct sg_endpoint);
} endpoints SEC(".maps");

/* By sg_endpoint.id. Missing: the endpoint may have no connection. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct sg_usage);
} usage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sg_address);
	__type(value, struct sg_peer);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sg_prefix_key);
	__type(value, struct sg_range);
} prefixes SEC(".maps");

struct policy_table {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	/* By size: behind a pointer the types do not reach BTF whole. */
	__uint(key_size, sizeof(struct sg_policy_key));
	__uint(value_size, sizeof(struct sg_policy_entry));
};

/* By sg_subject.table. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__array(values, struct policy_table);
} tables SEC(".maps");

/* Not LRU: a neighbour's flood must not evict anybody's entry. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sg_connection_key);
	__type(value, struct sg_connection);
} conntrack SEC(".maps");

/* A connection before it is in map `conntrack`: what calls may have on the stack
 * together has no room for it. Programs on interfaces do not interrupt each other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sg_connection);
} drafts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sg_sweeps);
} sweeps SEC(".maps");

struct sweeper {
	struct bpf_timer timer;
};

/* Its timer runs on while the map is pinned, whoever lives. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sweeper);
} sweeper SEC(".maps");

/* The first fragment of a datagram. */
struct fragment {
	struct sg_address source;
	struct sg_address destination;
	__u64 expires_ns;	/* CLOCK_MONOTONIC, coarse; 0: the place is free */
	__u32 id;
	__be16 source_port;
	__be16 destination_port;
	__u16 header_end;
	__u8 hook;		/* enum sg_direction */
	__u8 fragment_protocol;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
};

#define FRAGMENT_PLACES 64

struct fragment_memory {
	struct bpf_spin_lock lock;
	__u32 pad;
	struct fragment places[FRAGMENT_PLACES];
};

/* By sg_endpoint.id, made and removed with the endpoint's usage. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct fragment_memory);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} traces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} drops SEC(".maps");

/* By enum sg_ring. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SG_RINGS);
	__type(key, __u32);
	__type(value, struct sg_ring_counters);
} ring_counters SEC(".maps");

/* Dropped packets by enum sg_reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} drop_counters SEC(".maps");

/* Records by enum sg_origin: how often a process was known, and why not. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} origin_counters SEC(".maps");

/* Number of the cgroup folder whose processes are the node's pods; 0: none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} node_slice SEC(".maps");

/* What only the kernel side knows beside the process. */
struct socket_owner {
	struct sg_process process;
	/* Offset and length of a name are bounded each on its own: room behind the
	 * path, so that the verifier sees that their sum is, too. */
	__u8 overrun[sizeof(((struct sg_process *)0)->binary)];
	__u64 image;	/* tells an exec apart from the same process */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_owner);
} sockets SEC(".maps");

/* By sg_service_key: what pods ask for by an address that stands for others. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sg_service_key);
	__type(value, struct sg_service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sg_backend_key);
	__type(value, struct sg_backend);
} backends SEC(".maps");

/* The same sets, to ask whether somebody is still in one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sg_member_key);
	__type(value, __u32);
} members SEC(".maps");

/* A client of a service that keeps its backend: a network namespace. */
struct service_client {
	__u64 netns_cookie;
	struct sg_service_key service;
	__u8 pad[4];
};

struct service_affinity {
	__u64 expires_ns;	/* CLOCK_MONOTONIC */
	struct sg_backend backend;
	__u8 pad[4];
};

/* LRU: who loses his entry gets another backend, and nothing else. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct service_client);
	__type(value, struct service_affinity);
} affinities SEC(".maps");

#define SOCKET_SERVICES 8	/* that one socket talks to at a time; a power of two */

struct socket_service {
	struct sg_service_key service;	/* protocol 0: none */
	struct sg_backend backend;
};

struct socket_services {
	struct socket_service known[SOCKET_SERVICES];
	__u32 next;	/* place of the next one that is not known */
};

/* Not cloned: an accepted socket asked for no service. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_services);
} socket_services SEC(".maps");

/* By enum sg_service_count. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SG_SERVICE_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} service_counters SEC(".maps");
