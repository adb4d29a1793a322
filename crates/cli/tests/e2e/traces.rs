//! How much a connection carried is told when it ends, once at each end of it, and
//! in the forms that Hubble's users know.

use std::net::TcpStream;
use std::time::Duration;

use lab::Exec;
use serde_json::Value;

use crate::scene::{Scene, eventually};
use crate::signet::number;

/// What the server answers.
const BYTES: u64 = 100_000;
/// Heads of all frames: more than there are, and less than the answer.
const HEADS: u64 = 50_000;

/// `client` may ask `server` on 8080 and nowhere else; both listen.
const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: ends, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: ends, labels: {app: server}}
spec:
  nodeName: node-2
  containers:
  - name: main
    command:
    - python3
    - -c
    - |
      import socket, threading
      def serve(listener):
          while True:
              connection, _ = listener.accept()
              if connection.recv(3) == b'ask':
                  connection.sendall(bytes(100000))
              connection.close()
      for port in (8080, 9090):
          threading.Thread(target=serve, args=[socket.create_server(('', port))]).start()
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: callers, namespace: ends}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
";

/// Of the address and the port; ends well if it is the whole answer.
const CLIENT: &str = "
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
connection.sendall(b'ask')
got = 0
while part := connection.recv(65536):
    got += len(part)
connection.close()
sys.exit(got != 100000)
";

/// Whether the client gets the answer.
fn asks(scene: &Scene, port: u16) -> bool {
    let (address, port) = (scene.address("ends.server", 4).to_string(), port.to_string());
    let command = ["python3", "-c", CLIENT, &address, &port].map(Into::into).into();
    let exec = Exec { pod: "ends/client".into(), container: None, command };
    scene.lab.output(&exec, Duration::from_secs(20)).unwrap().status.success()
}

/// Flows of a kind, by the node that saw them.
fn flows(scene: &Scene, kind: &str) -> Vec<Value> {
    let flows = scene.observe(&["--all", "--type", kind]).into_iter();
    let mut flows: Vec<_> =
        flows.map(|mut answer| answer["flow"].take()).filter(Value::is_object).collect();
    flows.sort_by_key(|flow| flow["node_name"].as_str().unwrap().to_owned());
    flows
}

pub fn on_the_wire() {
    let scene = Scene::of("traces", MANIFESTS);
    eventually("the server listens", || {
        [8080, 9090].iter().all(|port| {
            scene.inside("ends.server", || TcpStream::connect(("127.0.0.1", *port)).is_ok())
        })
    });
    assert!(asks(&scene, 8080));
    assert!(!asks(&scene, 9090), "no rule allows it");
    eventually("both nodes have told", || flows(&scene, "trace").len() >= 2);
    eventually("the denial was told", || {
        flows(&scene, "drop").iter().any(|flow| flow["l4"]["TCP"]["destination_port"] == 9090)
    });
    let ends = flows(&scene, "trace");
    let [first, second] = ends.as_slice() else { panic!("one at each end: {ends:#?}") };
    assert_eq!((&first["node_name"], &second["node_name"]), (&"node-1".into(), &"node-2".into()));
    assert_eq!(first["traffic_direction"], "EGRESS");
    assert_eq!(second["traffic_direction"], "INGRESS");
    for end in &ends {
        check(end);
    }
    let points = ["trace:to-endpoint", "trace:to-stack"].map(|kind| flows(&scene, kind).len());
    assert_eq!(points.iter().sum::<usize>(), 2, "each was seen somewhere: {points:?}");
    let text = scene.ask(&["observe", "--all", "--type", "trace", "-o", "compact"]).good();
    for line in text.lines() {
        let known = [" to-endpoint FORWARDED (TCP Flags: ", " to-stack FORWARDED (TCP Flags: "];
        assert!(known.iter().any(|part| line.contains(part)), "{line}");
    }
}

/// One end of the connection that was allowed.
fn check(end: &Value) {
    assert_eq!(end["verdict"], "FORWARDED", "{end:#}");
    assert_eq!(end["event_type"]["type"], 4, "{end:#}");
    let is_reply = end["is_reply"].as_bool().unwrap();
    let (client, server) =
        if is_reply { ("destination", "source") } else { ("source", "destination") };
    assert_eq!(end["trace_reason"], if is_reply { "REPLY" } else { "ESTABLISHED" }, "{end:#}");
    assert_eq!(end[client]["pod_name"], "client", "{end:#}");
    assert_eq!(end[server]["pod_name"], "server", "{end:#}");
    assert_eq!(end["l4"]["TCP"][format!("{server}_port")], 8080, "{end:#}");
    let detail = &end["extensions"]["value"];
    let connection = &detail["connection"];
    assert_eq!(connection["counted"], true, "{end:#}");
    let bytes = |side: &str| number(&connection[side]["bytes"]);
    let packets = |side: &str| number(&connection[side]["packets"]);
    assert!((BYTES..BYTES + HEADS).contains(&bytes("responder")), "{end:#}");
    // SYN, question, acknowledgement, FIN, of 54 bytes at least.
    assert!((4 * 54..HEADS).contains(&bytes("initiator")), "{end:#}");
    assert!(packets("initiator") >= 4 && packets("responder") >= 3, "{end:#}");
    assert!(number(&connection["duration_ms"]) < 20_000, "{end:#}");
    // Who opened it is known where he is, also when his socket is gone.
    if end["node_name"] == "node-1" {
        let binary = detail["process"][client]["binary"].as_str().unwrap_or_default();
        assert!(binary.contains("/python3"), "{end:#}");
    }
}
