/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * process.h - which process a socket belongs to.
 *
 * Filled in process context by the socket hooks, read at the veth. The path of
 * the executable is walked here, because a short-lived process is gone before
 * user space could look.
 */
#pragma once

#include "lib/maps.h"
#include "lib/packet.h"

#include <bpf/bpf_core_read.h>

/* Only the fields that are read; their offsets come from the running kernel. */
struct qstr {
	__u32 len;
	const unsigned char *name;
} __attribute__((preserve_access_index));

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
} __attribute__((preserve_access_index));

struct vfsmount {
	struct dentry *mnt_root;
} __attribute__((preserve_access_index));

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
} __attribute__((preserve_access_index));

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} __attribute__((preserve_access_index));

struct file {
	struct path f_path;
} __attribute__((preserve_access_index));

struct mm_struct {
	struct file *exe_file;
} __attribute__((preserve_access_index));

struct task_struct {
	struct mm_struct *mm;
	struct task_struct *group_leader;
	__u64 start_boottime;
} __attribute__((preserve_access_index));

#define PATH_DEPTH 24	/* steps, mount points included */
#define PATH_BYTES sizeof(((struct sg_process *)0)->binary)
#define PATH_MASK (PATH_BYTES - 1)

_Static_assert((PATH_BYTES & PATH_MASK) == 0, "offsets are bounded by a mask");

struct path_walk {
	struct dentry *dentry;
	struct mount *mount;
	struct socket_owner *owner;
	__u32 start;	/* of the path so far */
	bool whole;	/* the root was reached */
};

/* One step towards the root: a name, or the crossing of a mount point. */
static long path_step(__u32 step, struct path_walk *walk)
{
	struct dentry *dentry = walk->dentry, *parent = BPF_CORE_READ(dentry, d_parent);
	struct mount *mount = walk->mount, *above;
	__u8 *binary = walk->owner->process.binary;
	__u32 start = walk->start, length;

	(void)step;
	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root) || dentry == parent) {
		above = BPF_CORE_READ(mount, mnt_parent);
		if (above == mount) {
			walk->whole = true;
			return 1;
		}
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->mount = above;
		return 0;
	}
	length = BPF_CORE_READ(dentry, d_name.len);
	if (!length || length + 1 > start)
		return 1;
	length &= PATH_MASK;
	start = (start - length) & PATH_MASK;
	if (bpf_probe_read_kernel(&binary[start], length, BPF_CORE_READ(dentry, d_name.name)))
		return 1;
	start = (start - 1) & PATH_MASK;
	binary[start] = '/';
	walk->start = start;
	walk->dentry = parent;
	return 0;
}

/* Writes the path from its end; leading directories that do not fit are left out. */
inline_fn void path_write(struct task_struct *task, struct socket_owner *owner)
{
	struct path path = BPF_CORE_READ(task, mm, exe_file, f_path);
	struct path_walk walk = {
		.dentry = path.dentry,
		.mount = (void *)path.mnt - bpf_core_field_offset(struct mount, mnt),
		.owner = owner,
		.start = PATH_MASK,
	};

	owner->process.binary[PATH_MASK] = 0;
	if (path.dentry && path.mnt)
		bpf_loop(PATH_DEPTH, path_step, &walk, 0);
	owner->process.binary_start = walk.start;
	owner->process.truncated = !walk.whole;
}

inline_fn void process_fill(struct task_struct *task, struct socket_owner *owner)
{
	struct sg_process *process = &owner->process;

	process->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	process->cgroup_id = bpf_get_current_cgroup_id();
	process->pid = bpf_get_current_pid_tgid() >> 32;
	process->uid = (__u32)bpf_get_current_uid_gid();
	process->origin = SG_ORIGIN_KNOWN;
	bpf_get_current_comm(process->comm, sizeof(process->comm));
	path_write(task, owner);
}

/* Names the current process as the socket's owner. */
inline_fn void socket_own(struct bpf_sock *sk)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 image = (__u64)BPF_CORE_READ(task, mm);
	struct socket_owner *owner;

	if (!sk)
		return;
	owner = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return;
	if (owner->image == image && owner->process.pid == (__u32)(bpf_get_current_pid_tgid() >> 32))
		return;
	process_fill(task, owner);
	owner->image = image;
}

inline_fn void process_unknown(struct sg_process *process, enum sg_origin why)
{
	__builtin_memset(process, 0, sizeof(*process));
	process->origin = why;
}

inline_fn void process_of_socket(struct bpf_sock *sk, struct sg_process *process)
{
	struct socket_owner *owner = bpf_sk_storage_get(&sockets, sk, NULL, 0);

	if (owner && owner->process.origin == SG_ORIGIN_KNOWN)
		__builtin_memcpy(process, &owner->process, sizeof(*process));
	else
		process_unknown(process, SG_ORIGIN_OLD_SOCKET);
}

/* Who sent a frame that left the pod. */
inline_fn void process_of_sender(struct __sk_buff *skb, struct sg_process *process)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk) {
		process_unknown(process, SG_ORIGIN_NO_SOCKET);
		return;
	}
	sk = bpf_sk_fullsock(sk);
	if (!sk) {
		process_unknown(process, SG_ORIGIN_KERNEL);
		return;
	}
	/* No hook sees those that send whole frames, past the pod's IP stack. */
	if (sk->family == FAMILY_PACKET) {
		process_unknown(process, SG_ORIGIN_NO_SOCKET);
		return;
	}
	process_of_socket(sk, process);
}

/* The sockets that a received packet may be for, and the size of the tuple. */
inline_fn __u32 packet_tuple(const struct packet *pkt, struct bpf_sock_tuple *tuple)
{
	if (address_is_ipv4(&pkt->destination)) {
		__builtin_memcpy(&tuple->ipv4.saddr, &pkt->source.bytes[12], 4);
		__builtin_memcpy(&tuple->ipv4.daddr, &pkt->destination.bytes[12], 4);
		tuple->ipv4.sport = pkt->source_port;
		tuple->ipv4.dport = pkt->destination_port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(&tuple->ipv6.saddr, &pkt->source, 16);
	__builtin_memcpy(&tuple->ipv6.daddr, &pkt->destination, 16);
	tuple->ipv6.sport = pkt->source_port;
	tuple->ipv6.dport = pkt->destination_port;
	return sizeof(tuple->ipv6);
}

/* Who would receive a frame on its way into the pod. */
inline_fn void process_of_receiver(struct __sk_buff *skb, const struct packet *pkt,
				   __s32 netns_id, struct sg_process *process)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	__u32 size;

	if (pkt->layer == SG_LAYER_TRANSPORT &&
	    (pkt->protocol == PROTOCOL_ICMPV4 || pkt->protocol == PROTOCOL_ICMPV6)) {
		process_unknown(process, SG_ORIGIN_KERNEL);
		return;
	}
	if (netns_id == SG_NETNS_UNKNOWN || pkt->layer < SG_LAYER_TRANSPORT ||
	    (pkt->protocol != PROTOCOL_TCP && pkt->protocol != PROTOCOL_UDP)) {
		process_unknown(process, SG_ORIGIN_NO_SOCKET);
		return;
	}
	size = packet_tuple(pkt, &tuple);
	if (pkt->protocol == PROTOCOL_TCP)
		sk = bpf_sk_lookup_tcp(skb, &tuple, size, (__u32)netns_id, 0);
	else
		sk = bpf_sk_lookup_udp(skb, &tuple, size, (__u32)netns_id, 0);
	if (!sk) {
		process_unknown(process, SG_ORIGIN_NO_LISTENER);
		return;
	}
	process_of_socket(sk, process);
	bpf_sk_release(sk);
}
