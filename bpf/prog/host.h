/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * host - judge packets of the node itself on its uplinks.
 *
 * Hook: tcx (or clsact) ingress and egress of each uplink. Without a policy for
 * the node: one read, and the packet goes on. Reads and writes what pod_egress
 * does, and reads the node's routes. What is IP, ends here and does not parse is
 * dropped. Packets between the node and its pods are judged at the pods' links.
 */
#pragma once

#include "lib/host.h"

SEC("tc")
int host_ingress(struct __sk_buff *skb)
{
	return endpoint_host() ? host_received(skb, revision_get()) : SG_PASS;
}

SEC("tc")
int host_egress(struct __sk_buff *skb)
{
	return endpoint_host() ? host_sent(skb, revision_get()) : SG_PASS;
}
