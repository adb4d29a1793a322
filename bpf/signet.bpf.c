/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * signet.bpf.c - every hook, in one object, because they share maps.
 */
#include "prog/adopt.h"
#include "prog/host.h"
#include "prog/inherit.h"
#include "prog/pod_egress.h"
#include "prog/pod_ingress.h"
#include "prog/sockets.h"
#include "prog/sweep.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
