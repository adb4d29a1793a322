//! Sockets of the node at an address of a link, as of a resolver at 169.254.20.10:
//! they are the node's, and who may reach the world does not reach them by that.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::scene::{Scene, eventually, name};

const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
const PORT: u16 = 5300;

/// A dropped SYN is not waited for: a second one falls within.
const PATIENCE: Duration = Duration::from_millis(1500);

const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: outward, namespace: web, labels: {may: world}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: homeward, namespace: web, labels: {may: host}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: outward, namespace: web}
spec:
  endpointSelector: {matchLabels: {may: world}}
  egress: [{toEntities: [world]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: homeward, namespace: web}
spec:
  endpointSelector: {matchLabels: {may: host}}
  egress: [{toEntities: [host]}]
";

fn lab(test: &str) -> String {
    format!(
        "apiVersion: signet.dev/v1alpha1
kind: Lab
metadata: {{name: {}}}
spec:
  nodes: [{{name: node-1}}]
  external:
    - name: internet
      command: [sh, -c, \"exec busybox httpd -f -p {PORT} -h /tmp\"]
",
        name(test)
    )
}

/// Behind another plugin, whose end of a pod's link has an address: it is the node's.
pub fn behind_ptp() {
    let lab = lab("link-local-ptp").replace("spec:\n", "spec:\n  cni: ptp\n");
    let scene = Scene::with(&[("lab.yaml", &lab), ("pods.yaml", MANIFESTS)]);
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let _listener = scene.inside("node-1", || TcpListener::bind(any).unwrap());
    eventually("the address is known to be the node's", || calls_the_node(&scene, "homeward"));
    assert!(!calls_the_node(&scene, "outward"));
}

/// Whether a pod is answered at the address of the other end of its link.
fn calls_the_node(scene: &Scene, pod: &str) -> bool {
    let rows = scene.list(&["endpoint", "list"], "endpoints");
    let row = rows.iter().find(|row| row["pod"] == pod).unwrap();
    let show = ["-6", "-o", "addr", "show", "scope", "link", "dev"];
    let shown = scene.inside("node-1", || {
        let output = Command::new("ip").args(show).arg(row["interface"].as_str().unwrap()).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    });
    let address = shown.split_whitespace().find(|word| word.starts_with("fe80:"));
    let address = address.unwrap_or_else(|| panic!("no address on the link: {shown:?}"));
    let target = format!("{}%eth0", address.split('/').next().unwrap());
    let pod = format!("web.{pod}");
    let (own, port) = (scene.address(&pod, 6).to_string(), PORT.to_string());
    let words = ["-6", "-z", "-w", "2", "-s", &own, &target, &port];
    scene.inside(&pod, || Command::new("nc").args(words).status().unwrap().success())
}

/// Whether a pod reaches somebody who listens: `None` where nobody answers at all.
fn reaches(scene: &Scene, pod: &str, target: IpAddr) -> Option<bool> {
    let target = SocketAddr::new(target, PORT);
    match scene.inside(pod, || TcpStream::connect_timeout(&target, PATIENCE)) {
        Ok(_) => Some(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(false),
        Err(_) => None,
    }
}

pub fn on_the_wire() {
    let scene = Scene::with(&[("lab.yaml", &lab("link-local")), ("pods.yaml", MANIFESTS)]);
    let _listener = scene.inside("node-1", || {
        let address = format!("{RESOLVER}/32");
        let words = ["addr", "add", &address, "dev", "lo"];
        assert!(Command::new("ip").args(words).status().unwrap().success());
        TcpListener::bind((RESOLVER, PORT)).unwrap()
    });
    let internet = scene.address("internet", 4);
    eventually("the world answers", || reaches(&scene, "web.outward", internet) == Some(true));
    eventually("the address is known to be the node's", || {
        reaches(&scene, "web.homeward", RESOLVER.into()) == Some(true)
    });
    let resolver = reaches(&scene, "web.outward", RESOLVER.into());
    assert_eq!(resolver, None, "the node is not the world");
    assert_eq!(reaches(&scene, "web.homeward", internet), None, "nor the world the node");
    let own = scene.address("node-1", 4);
    let _listener = scene.inside("node-1", || TcpListener::bind((own, PORT)).unwrap());
    assert_eq!(reaches(&scene, "web.homeward", own), Some(true), "its others as ever");
    assert_eq!(reaches(&scene, "web.outward", own), None);
}
