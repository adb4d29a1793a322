/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * headers.h - headers as they are on the wire, and what is kept of them.
 */
#pragma once

#include "lib/address.h"

enum fragment_part {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST = 1,	/* holds the whole transport header */
	FRAGMENT_LATER = 2,	/* holds no header */
};

struct packet {
	struct sg_address source;
	struct sg_address destination;
	__u32 transport;	/* offset of the transport header */
	__u32 end;		/* offset behind the packet's last byte; padding may follow */
	__u32 divided;		/* offset of what was divided into fragments */
	__u32 fragment_id;
	__u16 fragment_offset;	/* of a later fragment, in bytes */
	__u16 header_end;	/* of a first fragment: bytes up to the end of all headers */
	__u8 fragment;		/* enum fragment_part */
	__u8 fragment_protocol;	/* what the fragments say they are parts of */
	__be16 ether_type;
	__be16 source_port;	/* ICMP echo: the id */
	__be16 destination_port;
	__u8 layer;		/* enum sg_layer */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 hop_limit;
	__u8 source_mac[6];
	__u8 destination_mac[6];
};

struct ethernet_header {
	__u8 destination[6];
	__u8 source[6];
	__be16 type;
};

struct ipv4_header {
	__u8 version_length;
	__u8 service;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__u8 source[4];
	__u8 destination[4];
};

struct ipv6_header {
	__u8 version_class[4];
	__be16 length;
	__u8 next;
	__u8 hop_limit;
	struct sg_address source;
	struct sg_address destination;
};

struct ipv6_fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset_more;
	__be32 id;
};

#define IPV4_OPTIONS 40		/* each takes a byte at least, and the header has no more */
#define IPV4_END_OF_OPTIONS 0
#define IPV4_NO_OPERATION 1
#define IPV4_LOOSE_ROUTE 131
#define IPV4_STRICT_ROUTE 137
#define IPV4_FRAGMENT_MORE 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff	/* in units of 8 bytes */
#define IPV6_FRAGMENT_MORE 1
#define IPV6_FRAGMENT_OFFSET 0xfff8	/* in bytes, as it stands */
#define DATAGRAM_BYTES 65535
#define IPV6_EXTENSIONS 6		/* one more than passes: more than any honest packet has */
#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_DESTINATION 60
#define IPV6_AUTHENTICATION 51
