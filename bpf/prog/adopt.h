/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * adopt - name the owners of sockets that are older than the socket hooks.
 *
 * An iterator over the open files of all processes, run once by an agent that
 * starts; it looks only at those of the node's slice. Several may hold a socket:
 * the first that is met is named. What a hook has named stays.
 */
#pragma once

#include "lib/process.h"

#define CGROUP_DEPTH 16

struct kernfs_node {
	__u64 id;
} __attribute__((preserve_access_index));

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} __attribute__((preserve_access_index));

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
} __attribute__((preserve_access_index));

struct css_set {
	struct cgroup *dfl_cgrp;
} __attribute__((preserve_access_index));

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
} __attribute__((preserve_access_index));

struct task_struct___owner {
	int tgid;
	const struct cred *cred;
	struct css_set *cgroups;
	char comm[16];
} __attribute__((preserve_access_index));

struct sock_common {
	unsigned short skc_family;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct socket {
	struct sock *sk;
} __attribute__((preserve_access_index));

/* Fixed by the kernel's API: each field takes eight bytes. */
struct bpf_iter__task_file {
	__u64 meta;
	struct task_struct *task;
	__u64 fd;
	struct file *file;
};

/* Whether the task runs in the slice whose folder has this number. */
inline_fn bool task_is_below(struct task_struct___owner *task, __u64 slice, __u64 *own)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct cgroup_subsys_state *parent;
	int i;

	*own = BPF_CORE_READ(cgroup, kn, id);
	for (i = 0; i < CGROUP_DEPTH && cgroup; i++) {
		if (BPF_CORE_READ(cgroup, kn, id) == slice)
			return true;
		parent = BPF_CORE_READ(cgroup, self.parent);
		cgroup = parent ? BPF_CORE_READ(parent, cgroup) : NULL;
	}
	return false;
}

SEC("iter/task_file")
int sockets_adopt(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_struct___owner *fields = (void *)task;
	struct file *file = ctx->file;
	struct socket_owner *owner;
	struct socket *socket;
	__u64 *slice, cgroup_id;
	__u32 zero = 0;
	struct sock *sk;

	if (!task || !file)
		return 0;
	slice = bpf_map_lookup_elem(&node_slice, &zero);
	if (!slice || !task_is_below(fields, *slice, &cgroup_id))
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	if (sk->__sk_common.skc_family != FAMILY_IPV4 && sk->__sk_common.skc_family != FAMILY_IPV6)
		return 0;
	owner = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner || owner->process.origin == SG_ORIGIN_KNOWN)
		return 0;
	owner->process.start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	owner->process.cgroup_id = cgroup_id;
	owner->process.pid = BPF_CORE_READ(fields, tgid);
	owner->process.uid = BPF_CORE_READ(fields, cred, uid.val);
	BPF_CORE_READ_STR_INTO(&owner->process.comm, fields, comm);
	path_write(task, owner);
	owner->image = (__u64)BPF_CORE_READ(task, mm);
	owner->process.origin = SG_ORIGIN_KNOWN;
	return 0;
}
