//! Labels and annotations that a pod's own service account may write: what a pod
//! says of itself gives it no namespace, no account and no rights of the node.

use std::net::{SocketAddr, TcpListener};

use lab::label::Label;

use crate::attacks::drops;
use crate::attempt::{self, Attempt, Outcome};
use crate::scene::{Scene, eventually};

/// The vault takes whoever is in its namespace at 8001, the clerk's account at 8002,
/// namespaces of tier gold at 8003, the node at 8004, and tellers at 8005.
const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: trusted, labels: {tier: gold}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata:
  name: thief
  namespace: shop
  labels: {app: thief}
  annotations:
    io.kubernetes.pod.namespace: trusted
    io.cilium.k8s.policy.serviceaccount: clerk
    signet.dev/identity: '1'
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: clerk, namespace: shop, labels: {app: clerk}}
spec: {nodeName: node-1, serviceAccountName: clerk, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: honest, namespace: trusted, labels: {app: honest}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: vault, namespace: trusted, labels: {app: vault}}
spec: {nodeName: node-1, containers: [{name: main}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: vault, namespace: trusted}
spec:
  endpointSelector: {matchLabels: {app: vault}}
  ingress:
    - fromEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: trusted}}]
      toPorts: [{ports: [{port: '8001', protocol: TCP}]}]
    - fromEndpoints:
        - matchLabels:
            io.kubernetes.pod.namespace: shop
            io.cilium.k8s.policy.serviceaccount: clerk
      toPorts: [{ports: [{port: '8002', protocol: TCP}]}]
    - fromEndpoints:
        - matchLabels: {io.cilium.k8s.namespace.labels.tier: gold}
          matchExpressions: [{key: io.kubernetes.pod.namespace, operator: Exists}]
      toPorts: [{ports: [{port: '8003', protocol: TCP}]}]
    - fromEntities: [host]
      toPorts: [{ports: [{port: '8004', protocol: TCP}]}]
    - fromEndpoints: [{matchLabels: {io.kubernetes.pod.namespace: shop, app: teller}}]
      toPorts: [{ports: [{port: '8005', protocol: TCP}]}]
";

const PORTS: [u16; 5] = [8001, 8002, 8003, 8004, 8005];

/// What the thief claims. Only the last label is its own to give.
const CLAIMS: [(&str, &str); 5] = [
    ("io.kubernetes.pod.namespace", "trusted"),
    ("io.cilium.k8s.policy.serviceaccount", "clerk"),
    ("io.cilium.k8s.namespace.labels.tier", "gold"),
    ("io.cilium.k8s.policy.cluster", "elsewhere"),
    ("app", "teller"),
];

fn connect(scene: &Scene, from: &'static str, ports: &[u16]) -> Vec<Outcome> {
    let to = "trusted.vault";
    let attempt = |family| move |port: &u16| Attempt { from, to, port: *port, family };
    let attempts: Vec<Attempt> =
        [4, 6].into_iter().flat_map(|family| ports.iter().map(attempt(family))).collect();
    attempt::all(scene, &attempts)
}

pub fn about_itself() {
    let scene = Scene::of("claims", MANIFESTS);
    let listen = |family| {
        let address = scene.address("trusted.vault", family);
        let bind = |port| TcpListener::bind(SocketAddr::new(address, port)).unwrap();
        scene.inside("trusted.vault", || PORTS.map(bind))
    };
    let listeners = [4, 6].map(listen);
    let all = |outcome, ports: &[u16]| vec![outcome; 2 * ports.len()];
    for (who, ports) in
        [("trusted.honest", &[8001, 8003][..]), ("shop.clerk", &[8002]), ("node-1", &[8004])]
    {
        assert_eq!(connect(&scene, who, ports), all(Outcome::Connected, ports), "{who}");
    }
    assert_eq!(connect(&scene, "shop.thief", &PORTS), all(Outcome::Silence, &PORTS));

    let claims = CLAIMS.map(|(key, value)| Label { key: key.into(), value: Some(value.into()) });
    let told = scene.lab.label("shop/thief", &claims);
    told.unwrap_or_else(|error| panic!("{}", error.chain()));
    let own = PORTS[4..].to_vec();
    eventually("its own label counts", || {
        connect(&scene, "shop.thief", &own) == all(Outcome::Connected, &own)
    });
    let before = drops(&scene, 133, "thief");
    let claimed = &PORTS[..4];
    assert_eq!(connect(&scene, "shop.thief", claimed), all(Outcome::Silence, claimed));
    eventually("the attempts are told", || drops(&scene, 133, "thief") >= before + 2 * 4);
    for answer in scene.observe(&["--all", "--verdict", "DROPPED", "--from-pod", "shop/thief"]) {
        let labels = answer["flow"]["source"]["labels"].as_array().unwrap();
        assert!(labels.iter().any(|label| label == "k8s:io.kubernetes.pod.namespace=shop"));
        assert!(!labels.iter().any(|label| label == "k8s:io.kubernetes.pod.namespace=trusted"));
    }
    drop(listeners);
}
