"""Asks a server everything its services offer, with gRPC's own Python client.

Usage: client.py GENERATED SOCKET RELAY-SOCKET LATELY-SOCKET

The first server holds the flows of flows.jsonl and one agent event, the last the same
flows as of now and three agent events, of 03:04:01, :02 and :03. Every check is one
line of output; the exit status is the number of those that failed. Expected
values are written by hand.
"""

import json
import pathlib
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

sys.path.insert(0, sys.argv[1])
from flow import flow_pb2  # noqa: E402
from observer import observer_pb2, observer_pb2_grpc  # noqa: E402
from peer import peer_pb2, peer_pb2_grpc  # noqa: E402
from relay import relay_pb2  # noqa: E402

from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: E402

# By itself this client sends the socket's path, escaped, as the authority; gRPC's client in Go,
# which Hubble's is, sends `localhost`. Both are understood.
NODE = grpc.insecure_channel("unix:" + sys.argv[2])
RELAY = grpc.insecure_channel(
    "unix:" + sys.argv[3], options=[("grpc.default_authority", "localhost")]
)
OBSERVER = observer_pb2_grpc.ObserverStub(NODE)
LATELY = observer_pb2_grpc.ObserverStub(grpc.insecure_channel("unix:" + sys.argv[4]))
PROTO = pathlib.Path(__file__).parent / "../../proto"
FAILED = []


def check(name, got, want):
    good = got == want
    print(f"{'ok' if good else 'FAILED'}  {name}" + ("" if good else f": {got!r} is not {want!r}"))
    if not good:
        FAILED.append(name)


def words(answers):
    """The flows' numbers in one word, losses as a dot."""
    kinds = {"flow": lambda a: a.flow.uuid, "lost_events": lambda a: ".", "node_status": lambda a: ""}
    return "".join(kinds[a.WhichOneof("response_types")](a) for a in answers)


def get(observer=OBSERVER, **fields):
    request = json_format.ParseDict(fields, observer_pb2.GetFlowsRequest())
    return words(observer.GetFlows(request, timeout=10))


def refused(name, call, code, text):
    try:
        list(call())
        check(name, "answered", code)
    except grpc.RpcError as error:
        check(name, (error.code(), text in error.details()), (code, True))


# Field of FlowFilter, its values, the flows that pass. What was lost always does.
FILTERS = [
    ("uuid", ["a", "c"], "ac"),
    ("source_ip", ["10.1.0.5"], "ac"),
    ("source_ip", ["10.1.0.0/24"], "abc"),
    ("source_ip", ["fd00:1::/64"], "d"),
    ("source_ip_xlated", ["192.0.2.1"], "e"),
    ("source_pod", ["payment/api"], "acd"),
    ("source_pod", ["web/"], "b"),
    ("source_pod", ["/"], "abcd"),
    ("source_pod", ["api"], ""),
    ("source_fqdn", ["www.example.com"], ""),
    ("source_label", ["app=front"], "b"),
    ("source_label", ["app in (front,api),tier!=2"], "b"),
    ("source_service", ["payment/api"], "d"),
    ("source_workload", [{"kind": "Deployment"}], "b"),
    ("source_cluster_name", ["c1"], "abcd"),
    ("destination_ip", ["10.1.0.53"], "c"),
    ("destination_pod", ["payment/api-0"], "be"),
    ("destination_fqdn", ["*.Example.com."], "a"),
    ("destination_label", ["reserved:world"], "a"),
    ("destination_service", ["kube-system/kube"], "c"),
    ("destination_workload", [{"name": "api"}], "b"),
    ("destination_cluster_name", ["c2"], "c"),
    ("traffic_direction", ["INGRESS"], "bd"),
    ("verdict", ["DROPPED"], "be"),
    ("drop_reason_desc", ["POLICY_DENIED"], "b"),
    ("interface", [{"name": "sg5"}], "ab"),
    ("event_type", [{"type": 1}], "be"),
    ("event_type", [{"type": 1, "match_sub_type": True, "sub_type": 132}], "e"),
    ("http_status_code", ["404"], "d"),
    ("http_status_code", ["40+"], "d"),
    ("http_status_code", ["5+"], ""),
    ("protocol", ["tcp"], "abd"),
    ("protocol", ["ICMP"], "e"),
    ("protocol", ["dns"], "c"),
    ("protocol", ["http"], "d"),
    ("source_port", ["8080"], "d"),
    ("destination_port", ["443", "53"], "ac"),
    ("reply", [False], "abce"),
    ("reply", [True], "d"),
    ("dns_query", ["^www\\."], "c"),
    ("source_identity", [30002], "b"),
    ("destination_identity", [2], "a"),
    ("http_method", ["get"], "d"),
    ("http_path", ["^/v1/pay$"], "d"),
    ("http_url", ["x=1$"], "d"),
    ("http_header", [{"key": "X-Team", "value": "pay"}], "d"),
    ("tcp_flags", [{"SYN": True}], "ab"),
    ("tcp_flags", [{"SYN": True, "ECE": True}], "b"),
    ("node_name", ["c1/node-b"], "ce"),
    ("node_name", ["c1/"], "abcde"),
    ("node_name", ["node-b"], "ce"),
    ("node_labels", ["zone=x"], "a"),
    ("ip_version", ["IPv6"], "d"),
    ("trace_id", ["4bf92f3577b34da6a3ce929d0e0e4736"], "d"),
    ("ip_trace_id", [77], "e"),
    ("encrypted", [True], "c"),
    ("experimental", {"cel_expression": ["_flow.verdict == Verdict.DROPPED"]}, "be"),
    ("experimental", {"cel_expression": ["has(_flow.l7.http)", "_flow.l4.UDP.destination_port == 53u"]}, "cd"),
]

for field, values, want in FILTERS:
    check(f"whitelist {field} {json.dumps(values)}", get(whitelist=[{field: values}]), want + ".")
    rest = "".join(uuid for uuid in "abcde" if uuid not in want)
    check(f"blacklist {field} {json.dumps(values)}", get(blacklist=[{field: values}]), rest + ".")
tested = {field for field, _, _ in FILTERS}
every = {field.name for field in flow_pb2.FlowFilter.DESCRIPTOR.fields}
check("every field of FlowFilter is tested", sorted(every - tested), [])
check(
    "fields of one filter must all match, filters of a list any",
    get(whitelist=[{"verdict": ["DROPPED"], "protocol": ["tcp"]}, {"uuid": ["a"]}]),
    "ab.",
)

# A denial by policy is told once, as a drop, and is a verdict as well.
DENIED = {"event_type": [{"type": 5}], "verdict": ["DROPPED"]}
check("verdicts have denials by policy among them", get(whitelist=[{"event_type": [{"type": 5}]}]), "ab.")
check("denials among verdicts", get(whitelist=[DENIED]), "b.")
check("other drops are no verdicts", get(whitelist=[{**DENIED, "uuid": ["e"]}]), ".")
check("who leaves out verdicts keeps drops", get(blacklist=[{"event_type": [{"type": 5}]}]), "bcde.")
check(
    "who leaves out drops and asks for verdicts gets denials",
    get(whitelist=[{"event_type": [{"type": 5}]}], blacklist=[{"event_type": [{"type": 1}]}]),
    "ab.",
)
check("who leaves out drops gets none", get(blacklist=[{"event_type": [{"type": 1}]}]), "acd.")
check(
    "a verdict has no drop's subtype",
    get(whitelist=[{"event_type": [{"type": 5, "match_sub_type": True, "sub_type": 133}]}]),
    ".",
)

BAD = [
    ("source_ip", ["x"]),
    ("source_pod", [""]),
    ("source_label", ["a in ("]),
    ("source_port", ["70000"]),
    ("source_cluster_name", [""]),
    ("destination_fqdn", ["a..", ""]),
    ("protocol", ["x"]),
    ("http_status_code", ["x"]),
    ("dns_query", ["("]),
    ("node_name", [""]),
    ("experimental.cel_expression", {"cel_expression": ["_flow.sauce == 1"]}),
    ("experimental.cel_expression", {"cel_expression": ["_flow.uuid"]}),
]
for field, values in BAD:
    call = lambda: OBSERVER.GetFlows(
        json_format.ParseDict(
            {"whitelist": [{field.split(".")[0]: values}]}, observer_pb2.GetFlowsRequest()
        ),
        timeout=10,
    )
    refused(f"refused {field} {values!r}", call, grpc.StatusCode.UNKNOWN, field)
request = observer_pb2.GetFlowsRequest
refused(
    "first and follow exclude each other",
    lambda: OBSERVER.GetFlows(request(first=True, follow=True), timeout=10),
    grpc.StatusCode.INVALID_ARGUMENT,
    "follow",
)
bad_mask = json_format.ParseDict({"field_mask": "sauce"}, request())
refused(
    "a path that is not in a flow",
    lambda: OBSERVER.GetFlows(bad_mask, timeout=10),
    grpc.StatusCode.UNKNOWN,
    "invalid fieldmask",
)

check("number", get(number=2), "de")
check("first", get(number=2, first=True), "ab")
check("all", get(number=str(2**64 - 1)), "abcde.")
check("since", get(since="2026-01-02T03:04:04Z"), "de.")
check("until", get(until="2026-01-02T03:04:02Z"), "ab")
check("number and filter", get(number=1, whitelist=[{"protocol": ["tcp"]}]), "d")

mask = json_format.ParseDict({"field_mask": "uuid,source.podName", "number": 2, "first": True}, request())
masked = [answer.flow for answer in OBSERVER.GetFlows(mask, timeout=10)]
check("mask keeps what was asked for", (masked[0].uuid, masked[0].source.pod_name), ("a", "api-0"))
check("mask leaves out the rest", (masked[0].source.identity, masked[0].Summary), (0, ""))
check("mask keeps what clients print", masked[1].ingress_denied_by[0].name, "in")

follow = OBSERVER.GetFlows(request(number=1, follow=True), timeout=10)
check("follow gives the past it was asked for", next(follow).flow.uuid, "e")
check("versions come first", dict(follow.initial_metadata()).get("hubble-server-version"), "1.19.4")
follow.cancel()

status = OBSERVER.ServerStatus(observer_pb2.ServerStatusRequest(), timeout=10)
check("ServerStatus", (status.num_flows, status.max_flows, status.seen_flows), (6, 100, 5))
check("ServerStatus of a node", status.HasField("num_connected_nodes"), False)
check("ServerStatus has an uptime and a version", (status.uptime_ns > 0, "signet" in status.version), (True, True))
nodes = OBSERVER.GetNodes(observer_pb2.GetNodesRequest(), timeout=10).nodes
check("GetNodes", [(node.name, node.state) for node in nodes], [("c1/node-a", relay_pb2.NODE_CONNECTED)])
namespaces = OBSERVER.GetNamespaces(observer_pb2.GetNamespacesRequest(), timeout=10).namespaces
check("GetNamespaces gives those of the last hour only", list(namespaces), [])
events = list(OBSERVER.GetAgentEvents(observer_pb2.GetAgentEventsRequest(number=5), timeout=10))
check("GetAgentEvents", [flow_pb2.AgentEventType.Name(e.agent_event.type) for e in events], ["AGENT_STARTED"])
of_now = LATELY.GetNamespaces(observer_pb2.GetNamespacesRequest(), timeout=10).namespaces
check(
    "GetNamespaces",
    [(row.cluster, row.namespace) for row in of_now],
    [("c1", "payment"), ("c1", "web"), ("c2", "kube-system")],
)


def happened(**fields):
    """The agent's events in one word: started, updated, deleted."""
    letters = {2: "s", 3: "u", 4: "d"}
    request = json_format.ParseDict(fields, observer_pb2.GetAgentEventsRequest())
    return "".join(letters[e.agent_event.type] for e in LATELY.GetAgentEvents(request, timeout=10))


check("agent events, all", happened(), "sud")
check("agent events, number", happened(number=2), "ud")
check("agent events, first", happened(number=2, first=True), "su")
check("agent events, since", happened(since="2026-01-02T03:04:02Z"), "ud")
check("agent events, until", happened(until="2026-01-02T03:04:02Z"), "su")
check("agent events, between", happened(since="2026-01-02T03:04:02Z", until="2026-01-02T03:04:02Z"), "u")
check("agent events, since and number", happened(since="2026-01-02T03:04:01Z", number=1), "s")
check("agent events of no time", happened(since="2026-01-02T03:04:04Z"), "")
both = observer_pb2.GetAgentEventsRequest(first=True, follow=True)
refused(
    "agent events, first and follow",
    lambda: LATELY.GetAgentEvents(both, timeout=10),
    grpc.StatusCode.INVALID_ARGUMENT,
    "follow",
)


def stays_open(name, call, first):
    """Gives what is there and then waits: the deadline ends it, not the server."""
    got = []
    try:
        for event in call:
            got.append(event.agent_event.type)
        check(name, "ended", first)
    except grpc.RpcError as error:
        check(name, (got, error.code()), (first, grpc.StatusCode.DEADLINE_EXCEEDED))


asked = observer_pb2.GetAgentEventsRequest(number=1, follow=True)
stays_open("agent events, follow", LATELY.GetAgentEvents(asked, timeout=2), [4])
asked = observer_pb2.GetDebugEventsRequest(follow=True)
stays_open("debug events, follow", LATELY.GetDebugEvents(asked, timeout=2), [])
debug = OBSERVER.GetDebugEvents(observer_pb2.GetDebugEventsRequest(), timeout=10)
check("GetDebugEvents is empty", list(debug), [])

change = next(peer_pb2_grpc.PeerStub(NODE).Notify(peer_pb2.NotifyRequest(), timeout=10))
check("Notify", (change.name, change.address, change.type), ("c1/node-a", "10.0.0.1:4244", peer_pb2.PEER_ADDED))
check("Notify names the certificate", change.tls.server_name, "node-a.c1.hubble-grpc.cilium.io")

for service in ["", "hubble.server.Observer", "observer.Observer"]:
    asked = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(NODE).Check(asked, timeout=10)
    check(f"health of `{service}`", answer.status, health_pb2.HealthCheckResponse.SERVING)


def reflected(version):
    """Names of the services, asked under either version: the messages are the same."""
    stub = NODE.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    services = next(stub(iter([ask]), timeout=10)).list_services_response.service
    return {service.name for service in services}


for version in ["v1", "v1alpha"]:
    missing = {"observer.Observer", "peer.Peer", "signet.v1.Signet"} - reflected(version)
    check(f"reflection {version}", missing, set())

relay = observer_pb2_grpc.ObserverStub(RELAY)
check("relay GetFlows", get(relay, number=2), "de")
status = relay.ServerStatus(observer_pb2.ServerStatusRequest(), timeout=10)
check("relay ServerStatus", (status.num_connected_nodes.value, status.num_flows), (1, 6))
events = list(relay.GetAgentEvents(observer_pb2.GetAgentEventsRequest(), timeout=10))
check("relay GetAgentEvents", len(events), 1)
nodes = relay.GetNodes(observer_pb2.GetNodesRequest(), timeout=10).nodes
check("relay GetNodes", [node.name for node in nodes], ["c1/node-a"])
_, call = relay.GetNamespaces.with_call(observer_pb2.GetNamespacesRequest(), timeout=10)
check("relay version", dict(call.initial_metadata()).get("hubble-relay-version"), "1.19.4")

print(f"{len(FAILED)} failed")
sys.exit(min(len(FAILED), 100))
