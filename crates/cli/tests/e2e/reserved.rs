//! The peers `health` and `ingress`: who they are is told by annotations of Node
//! objects, and rules about them hold between real sockets, in both directions and
//! both families. Their neighbour in the same range is the twin that is nobody.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::scene::{Scene, eventually, name};
use crate::signet;

const CLUSTER: &str = include_str!("../data/host/reserved.yaml");

/// In the second node's pod range: of the health endpoint, of the ingress proxy, and
/// of nobody.
const HEALTH: [&str; 2] = ["10.244.2.200", "fd00:10:244:2::200"];
const INGRESS: [&str; 2] = ["10.244.2.201", "fd00:10:244:2::201"];
const NOBODY: [&str; 2] = ["10.244.2.202", "fd00:10:244:2::202"];

/// A second SYN falls within.
const PATIENCE: Duration = Duration::from_millis(2500);

fn lab(name: &str) -> String {
    // One of the four in the spelling that older versions write.
    format!(
        "apiVersion: signet.dev/v1alpha1
kind: Lab
metadata: {{name: {name}}}
spec:
  external: []
  nodes:
    - name: node-1
    - name: node-2
      annotations:
        network.cilium.io/ipv4-health-ip: {}
        network.cilium.io/ipv6-health-ip: {}
        io.cilium.network.ipv4-Ingress-ip: {}
        network.cilium.io/ipv6-Ingress-ip: {}
",
        HEALTH[0], HEALTH[1], INGRESS[0], INGRESS[1]
    )
}

/// Whether the second node reaches a port of the pod from an address.
fn enters(scene: &Scene, source: &str, port: u16) -> bool {
    let family = if source.contains(':') { 6 } else { 4 };
    let target = scene.address("web.server", family).to_string();
    scene.inside("node-2", || {
        let words = ["-z", "-w", "3", "-s", source, &target, &port.to_string()];
        Command::new("nc").args(words).status().unwrap().success()
    })
}

/// Whether the pod reaches a port at an address on the second node.
fn leaves(scene: &Scene, target: &str, port: u16) -> bool {
    let target = SocketAddr::new(target.parse::<IpAddr>().unwrap(), port);
    scene.inside("web.client", || TcpStream::connect_timeout(&target, PATIENCE).is_ok())
}

/// What manifests mean.
fn meant(scene: &Scene, from: &str, to: &str, port: u16) -> String {
    let manifests = signet::word(scene.directory.path());
    let port = port.to_string();
    let words = ["policy", "evaluate", "--manifests", manifests, "--from", from, "--to", to];
    let answer = signet::run(&[&words[..], &["--port", &port, "-o", "json"]].concat()).out;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["verdict"].as_str().unwrap().to_owned()
}

pub fn on_the_wire() {
    let scene = Scene::with(&[("lab.yaml", &lab(&name("reserved"))), ("pods.yaml", CLUSTER)]);
    let all = [HEALTH, INGRESS, NOBODY].concat();
    let _listeners = scene.inside("node-2", || {
        for address in &all {
            let words = ["addr", "add", address, "dev", "lo"];
            // Else an address can be used only once the kernel has got round to it.
            let at_once = address.contains(':').then_some("nodad");
            assert!(Command::new("ip").args(words).args(at_once).status().unwrap().success());
        }
        [4240, 4241].map(|port| TcpListener::bind(("::", port)).unwrap())
    });
    let server = || TcpStream::connect((scene.address("web.server", 4), 8080)).is_ok();
    eventually("the pod serves", || scene.inside("web.server", server));

    let expected = [(HEALTH, [true, false]), (INGRESS, [false, true]), (NOBODY, [false; 2])];
    // What is denied takes its time: side by side.
    let scene = &scene;
    thread::scope(|scope| {
        for (addresses, ports) in expected {
            for address in addresses {
                scope.spawn(move || check(scene, address, ports));
            }
        }
    });
    assert_eq!(meant(scene, "entity:health", "pod:web/server", 8080), "allowed");
    assert_eq!(meant(scene, "entity:ingress", "pod:web/server", 8080), "denied");
    identities_are_told(scene);
}

/// Whether an address is let in and let out at the ports of health and of ingress, on
/// the wire and by the manifests.
fn check(scene: &Scene, address: &str, ports: [bool; 2]) {
    assert_eq!([8080, 8081].map(|port| enters(scene, address, port)), ports, "{address}");
    assert_eq!([4240, 4241].map(|port| leaves(scene, address, port)), ports, "{address}");
    let verdicts = ports.map(|allowed| if allowed { "allowed" } else { "denied" });
    let end = format!("ip:{address}");
    let mean =
        |from: &str, to: &str, ports: [u16; 2]| ports.map(|port| meant(scene, from, to, port));
    assert_eq!(mean(&end, "pod:web/server", [8080, 8081]), verdicts, "{address}");
    assert_eq!(mean("pod:web/client", &end, [4240, 4241]), verdicts, "{address}");
}

/// Flows name them by the numbers and labels that everybody knows.
fn identities_are_told(scene: &Scene) {
    let flows = scene.flows();
    let sources = |address: &str| {
        let from = flows.iter().filter(|flow| flow["IP"]["source"] == address);
        from.map(|flow| (flow["source"]["identity"].clone(), flow["source"]["labels"].clone()))
            .next()
    };
    let known = [(HEALTH[0], 4, "reserved:health"), (INGRESS[1], 8, "reserved:ingress")];
    for (address, number, label) in known.into_iter().chain([(NOBODY[0], 3, "reserved:unmanaged")])
    {
        let want = (Value::from(number), Value::from(vec![label]));
        assert_eq!(sources(address), Some(want), "{address}");
    }
}

/// Half of such annotations would let the wrong peer in.
pub fn refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = lab(&name("reserved-bad")).replace(INGRESS[0], "10.244.2.256");
    std::fs::write(directory.path().join("lab.yaml"), text).unwrap();
    std::fs::write(directory.path().join("pods.yaml"), CLUSTER).unwrap();
    let answer = signet::run(&["lab", "up", signet::word(directory.path())]);
    assert_eq!(answer.status, Some(1), "{}", answer.err);
    let place = "lab.yaml:12:44: ";
    assert!(answer.err.contains(place), "{}", answer.err);
    assert!(answer.err.contains("`10.244.2.256` is not an IP address"), "{}", answer.err);
}
