/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * anchor.bpf.c - one variable for each type under abi/: what nothing refers to
 * does not reach BTF, and crate abi is generated from this object's BTF.
 */
#include "abi/conntrack.h"
#include "abi/endpoint.h"
#include "abi/mark.h"
#include "abi/policy.h"
#include "abi/record.h"
#include "abi/service.h"
#include "abi/types.h"

enum sg_abi abi_abi;
struct sg_address abi_address;

enum sg_mark abi_mark;

enum sg_direction abi_direction;
enum sg_verdict abi_verdict;
enum sg_why abi_why;
struct sg_policy_key abi_policy_key;
struct sg_decision abi_decision;
struct sg_decisions abi_decisions;
struct sg_policy_entry abi_policy_entry;
struct sg_control abi_control;

enum sg_endpoint_id abi_endpoint_id;
struct sg_subject abi_subject;
struct sg_endpoint abi_endpoint;
struct sg_usage abi_usage;
struct sg_holder abi_holder;
struct sg_peer abi_peer;
struct sg_range abi_range;
struct sg_prefix_key abi_prefix_key;

struct sg_connection_key abi_connection_key;
enum sg_connection_flag abi_connection_flag;
struct sg_traffic abi_traffic;
struct sg_connection abi_connection;
struct sg_inherited abi_inherited;
struct sg_sweeps abi_sweeps;

enum sg_ring abi_ring;
struct sg_ring_counters abi_ring_counters;
enum sg_kind abi_kind;
enum sg_trace abi_trace;
enum sg_reason abi_reason;
enum sg_layer abi_layer;
enum sg_reply abi_reply;
enum sg_origin abi_origin;
struct sg_process abi_process;
struct sg_record abi_record;
struct sg_end_record abi_end_record;

struct sg_service_key abi_service_key;
struct sg_service abi_service;
struct sg_backend_key abi_backend_key;
struct sg_backend abi_backend;
struct sg_member_key abi_member_key;
enum sg_service_count abi_service_count;
