"""An OpenTelemetry collector of another make: takes logs and metrics over gRPC and
HTTP, and prints each request as one line of JSON.

Usage: collector.py [CA CERTIFICATE KEY]

With files it speaks TLS and asks for a certificate of that authority. The first line of output holds both ports. Ends with its standard input.
"""

import json
import pathlib
import ssl
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc

PRINTING = threading.Lock()


def show(how, what, request):
    with PRINTING:
        print(json.dumps({"how": how, "what": what, "request": json_format.MessageToDict(request)}), flush=True)


class Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def Export(self, request, context):
        show("grpc", "logs", request)
        return logs_service_pb2.ExportLogsServiceResponse()


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        show("grpc", "metrics", request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    FORMS = {
        "/v1/logs": ("logs", logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
        "/v1/metrics": (
            "metrics",
            metrics_service_pb2.ExportMetricsServiceRequest,
            metrics_service_pb2.ExportMetricsServiceResponse,
        ),
    }

    def do_POST(self):
        what, form, answer = self.FORMS[self.path]
        assert self.headers["Content-Type"] == "application/x-protobuf"
        request = form.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        show("http", what, request)
        body = answer().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(), server)
metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
http = ThreadingHTTPServer(("127.0.0.1", 0), Http)
if len(sys.argv) > 1:
    ca, certificate, key = [pathlib.Path(path).read_bytes() for path in sys.argv[1:4]]
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=sys.argv[1])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    http.socket = context.wrap_socket(http.socket, server_side=True)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
threading.Thread(target=http.serve_forever, daemon=True).start()
print(json.dumps({"grpc": port, "http": http.server_address[1]}), flush=True)
sys.stdin.read()
