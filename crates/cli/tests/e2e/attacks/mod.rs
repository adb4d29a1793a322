//! What a root user with every network capability tries from inside a pod: each
//! attack differs in one thing from an allowed twin, and both are looked for where
//! they would arrive and in what the node tells.

pub mod breakage;
pub mod claims;
pub mod flood;
pub mod forgery;
pub mod surroundings;

use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

use crate::scene::Scene;

/// `open` may do what it likes, `prisoner` may reach TCP 8080 of `near` only. Nobody
/// guards `near` and `far`; the vault takes TCP 8080 from `neighbour` alone.
const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: open, namespace: a, labels: {app: open}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: prisoner, namespace: a, labels: {app: prisoner}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: neighbour, namespace: a, labels: {app: neighbour}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: a, labels: {app: near}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: a, labels: {app: far}}
spec: {nodeName: node-2, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: vault, namespace: a, labels: {app: vault}}
spec: {nodeName: node-2, containers: [{name: main}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: prison, namespace: a}
spec:
  endpointSelector: {matchLabels: {app: prisoner}}
  egress:
    - toEndpoints: [{matchLabels: {app: near}}]
      toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: vault, namespace: a}
spec:
  endpointSelector: {matchLabels: {app: vault}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: neighbour}}]
      toPorts: [{ports: [{port: '8080', protocol: TCP}]}]
";

/// The lab of these tests.
fn scene(name: &str) -> Scene {
    Scene::of(name, MANIFESTS)
}

/// Runs a script that must go well, in the network namespace of this thread.
#[track_caller]
pub fn run(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Source and destination, of one family.
fn ends(scene: &Scene, from: &str, to: &str, family: u8) -> (IpAddr, IpAddr) {
    (scene.address(from, family), scene.address(to, family))
}

/// Drops for a reason that the pod caused, by the number that the flows carry.
fn drops(scene: &Scene, reason: u64, from: &str) -> usize {
    let told = |flow: &Value| {
        let pod = ["source", "destination"].iter().any(|end| flow[end]["pod_name"] == from);
        flow["drop_reason"] == reason && pod
    };
    let answers = scene.observe(&["--all", "--verdict", "DROPPED"]);
    answers.iter().filter(|answer| told(&answer["flow"])).count()
}
