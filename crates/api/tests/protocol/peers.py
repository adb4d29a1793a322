"""Follows which nodes there are, with gRPC's own Python client over mutual TLS.

Usage: peers.py GENERATED PORT CA CERTIFICATE KEY NAME

NAME is what the server's certificate must say. Prints what GetNodes answers and then each
notification as a line of JSON; ends when it is killed or the server ends the stream.
"""

import json
import pathlib
import sys

import grpc
from google.protobuf import json_format

sys.path.insert(0, sys.argv[1])
from observer import observer_pb2, observer_pb2_grpc  # noqa: E402
from peer import peer_pb2, peer_pb2_grpc  # noqa: E402

ca, certificate, key = [pathlib.Path(path).read_bytes() for path in sys.argv[3:6]]
channel = grpc.secure_channel(
    "127.0.0.1:" + sys.argv[2],
    grpc.ssl_channel_credentials(ca, key, certificate),
    options=[("grpc.ssl_target_name_override", sys.argv[6])],
)


def show(message):
    print(json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True)), flush=True)


show(observer_pb2_grpc.ObserverStub(channel).GetNodes(observer_pb2.GetNodesRequest(), timeout=10))
try:
    for change in peer_pb2_grpc.PeerStub(channel).Notify(peer_pb2.NotifyRequest()):
        show(change)
except grpc.RpcError as error:
    print(json.dumps({"ended": error.code().name}), flush=True)
