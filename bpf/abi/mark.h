/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mark.h - the bits of a packet's mark that are ours.
 *
 * Routing rules on them steer what a proxy on the node is to get, and let go what
 * it has sent; the two must differ, or its own packets come back to it. No mark
 * says who somebody is. They are taken from whatever a pod sends, so that none can
 * come from there. Chosen beside those of kube-proxy (0x4000, 0x8000) and below
 * those that other networks use (0x0f00, 0xffff0000).
 */
#pragma once

#include "abi/types.h"

enum sg_mark {
	SG_MARK_MASK = 0x3000,
	SG_MARK_TO_PROXY = 0x1000,
	SG_MARK_FROM_PROXY = 0x2000,
};
