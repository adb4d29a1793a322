//! A lab that runs, by the commands of `signet lab`: labels of namespaces change who pods
//! are, agents and workloads are started anew, and everything that runs has a log.

use std::fs;

use lab::Lab;
use serde_json::Value;

use crate::scene::{Scene, eventually};
use crate::signet::{self, Answer, word};

const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec:
  nodeName: node-1
  containers: [{name: shell, image: none}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: shell, image: none}]
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: vault, labels: {app: db}}
spec:
  nodeName: node-2
  containers:
    - name: db
      image: none
      command: [sh, -c, 'echo the vault is open; exec busybox httpd -f -p 8080 -h /tmp']
      readinessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: vault, labels: {app: api}}
spec:
  nodeName: node-1
  containers:
    - name: api
      image: none
      command: [busybox, httpd, -f, -p, '8080', -h, /tmp]
      readinessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: db, namespace: vault}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
    - fromEndpoints: [{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.trusted': 'yes'}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: api, namespace: vault}
spec:
  podSelector: {matchLabels: {app: api}}
  policyTypes: [Ingress]
  ingress:
    - from: [{namespaceSelector: {matchLabels: {trusted: 'yes'}}}]
";

const DB: &str = "CiliumNetworkPolicy/vault/db";
const API: &str = "NetworkPolicy/vault/api";

/// `signet lab COMMAND --lab NAME WORDS`.
fn lab(scene: &Scene, command: &str, words: &[&str]) -> Answer {
    signet::run(&[&["lab", command, "--lab", scene.name()], words].concat())
}

/// Tries both servers from the pod; they are open to it, or neither is.
#[track_caller]
fn check(scene: &Scene, from: &str, open: bool) {
    let probes = [("db", DB), ("api", API)].map(|(to, policy)| {
        let expect = match open {
            true => format!(r#"{{"verdict":"allowed","reason":"rule","rule":"{policy}#spec.ingress[0]"}}"#),
            false => format!(
                r#"{{"verdict":"denied","reason":"default-deny","because":["{policy}"]}}"#
            ),
        };
        format!(
            r#"{{"id":"{to}","from":"pod:shop/{from}","to":"pod:vault/{to}","port":8080,"expect":{expect}}}"#
        )
    });
    let file = scene.directory.path().join("live-probes.jsonl");
    fs::write(&file, probes.join("\n")).unwrap();
    let answer = lab(scene, "probe", &[word(&file)]);
    assert!(answer.out.ends_with("2 of 2 as expected\n"), "{}{}", answer.out, answer.err);
}

fn namespace(scene: &Scene, labels: &str) {
    let file = scene.directory.path().join("shop.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n"
    );
    fs::write(&file, text).unwrap();
    let told = lab(scene, "apply", &[word(&file)]).good();
    let first = told.lines().next();
    assert!(first.is_some_and(|line| line.starts_with("Namespace/-/shop c")), "{told}");
}

fn identity(scene: &Scene, pod: &str) -> u64 {
    let endpoints = scene.list(&["endpoint", "list"], "endpoints");
    let is = |it: &&Value| it["namespace"] == "shop" && it["pod"] == pod;
    endpoints.iter().find(is).unwrap()["identity"].as_u64().unwrap()
}

pub fn namespaces() {
    let scene = Scene::of("namespaces", PODS);
    let before = identity(&scene, "cart");
    check(&scene, "cart", false);
    namespace(&scene, "trusted: 'yes'");
    check(&scene, "cart", true);
    assert_ne!(identity(&scene, "cart"), before, "a label of its namespace is part of it");
    namespace(&scene, "trusted: 'no'");
    check(&scene, "cart", false);
    namespace(&scene, "");
    assert_eq!(identity(&scene, "cart"), before, "it is who it was");
    restarted(&scene);
    logs(&scene);
}

/// A node means its agent, a workload all its pods in turn.
fn restarted(scene: &Scene) {
    let open = || Lab::open(Some(&scene.name().parse().unwrap())).unwrap();
    let agent = |lab: &Lab| {
        let daemons = &lab.journal.daemons;
        daemons.iter().find(|it| it.node.as_deref() == Some("node-2")).unwrap().process
    };
    let containers = |lab: &Lab| {
        ["shop/web-1", "shop/web-2"].map(|pod| lab.pod(pod).unwrap().containers[0].id.clone())
    };
    let before = open();
    let who = ["web-1", "web-2"].map(|pod| identity(scene, pod));

    namespace(scene, "trusted: 'yes'");
    let told = lab(scene, "restart", &["node-2"]).good();
    assert_eq!(told.lines().next(), Some("Node/-/node-2 agent restarted"), "{told}");
    let after = open();
    assert_ne!(agent(&after), agent(&before));
    eventually("the agent that was is dead", || !agent(&before).is_alive());
    check(scene, "cart", true);

    let told = lab(scene, "restart", &["shop/web"]).good();
    let lines: Vec<_> = told.lines().take(2).collect();
    assert_eq!(lines, ["Pod/shop/web-1 restarted", "Pod/shop/web-2 restarted"], "{told}");
    let after = open();
    for (old, new) in containers(&before).iter().zip(containers(&after)) {
        assert_ne!(*old, new, "the same container runs");
    }
    for pod in ["web-1", "web-2"] {
        check(scene, pod, true);
    }
    namespace(scene, "");
    assert_eq!(["web-1", "web-2"].map(|pod| identity(scene, pod)), who, "they are who they were");

    let refused = lab(scene, "restart", &["node-2", "--node", "node-1"]);
    assert_ne!(refused.status, Some(0));
    assert!(refused.err.contains("`node-2` is a node: it cannot move"), "{}", refused.err);
}

/// Pods, agents and the relay have logs; nobody else has.
fn logs(scene: &Scene) {
    let log = |what: &str| lab(scene, "logs", &[what]);
    assert_eq!(log("vault/db").good(), "the vault is open\n");
    assert_eq!(lab(scene, "logs", &["vault/db", "-c", "db"]).good(), "the vault is open\n");
    for daemon in &scene.lab.journal.daemons {
        let name = daemon.node.as_deref().unwrap_or("relay");
        assert_eq!(log(name).good(), fs::read_to_string(&daemon.log).unwrap(), "{name}");
    }
    assert!(log("node-1").good().contains("node-1"));
    for (what, words) in [("nobody", "nobody"), ("vault/nobody", "vault/nobody")] {
        let refused = log(what);
        assert_eq!((refused.status, &*refused.out), (Some(3), ""), "{}", refused.err);
        assert!(refused.err.contains(words), "{}", refused.err);
    }
}
