"""Asks a server on TCP with mutual TLS, with gRPC's own Python client.

Usage: encrypted.py GENERATED PORT CA CERTIFICATE|- KEY|- [NAME]

NAME is what the server's certificate must say; `-` shows no certificate. Prints one word: the flows it gets, losses as a dot and nodes that are away as `!`, or
the name of the status it is refused with.
"""

import pathlib
import sys

import grpc

sys.path.insert(0, sys.argv[1])
from observer import observer_pb2, observer_pb2_grpc  # noqa: E402
from relay import relay_pb2  # noqa: E402

ca, certificate, key = [None if path == "-" else pathlib.Path(path).read_bytes() for path in sys.argv[3:6]]
name = sys.argv[6] if len(sys.argv) > 6 else "relay.test"
channel = grpc.secure_channel(
    "127.0.0.1:" + sys.argv[2],
    grpc.ssl_channel_credentials(ca, key, certificate),
    options=[("grpc.ssl_target_name_override", name)],
)
words = ""
try:
    for answer in observer_pb2_grpc.ObserverStub(channel).GetFlows(observer_pb2.GetFlowsRequest(), timeout=10):
        kind = answer.WhichOneof("response_types")
        if kind == "flow":
            words += answer.flow.uuid
        elif kind == "lost_events":
            words += "."
        elif answer.node_status.state_change == relay_pb2.NODE_UNAVAILABLE:
            words += "!"
except grpc.RpcError as error:
    words = error.code().name
print(words)
