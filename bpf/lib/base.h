/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * base.h - what every other header needs: kernel API, libbpf's macros, and the
 * few constants that the UAPI headers do not give to BPF.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/conntrack.h"
#include "abi/endpoint.h"
#include "abi/mark.h"
#include "abi/policy.h"
#include "abi/record.h"
#include "abi/service.h"
#include "abi/types.h"

#define inline_fn static __always_inline
/* Verified once, on its own, whoever calls it: what a caller knows stops here,
 * so pointers are checked again, and the paths through it do not multiply. */
#define checked_fn __noinline

/* Let later programs on the interface run; on clsact the same number means
 * "no verdict here", and the packet goes on. */
#define SG_PASS (-1)
#define SG_DROP 2

#define ETH_HEADER 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_IPV6 0x86dd

#define PROTOCOL_ICMPV4 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_SCTP 132

#define FAMILY_IPV4 2
#define FAMILY_IPV6 10
#define FAMILY_PACKET 17

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define NANOSECONDS 1000000000ULL
