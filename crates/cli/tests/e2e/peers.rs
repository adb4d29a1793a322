//! Who a peer is to a policy, on real traffic: API servers wherever they are, the
//! own node, who is in a pod range and known to nobody, and pods that are ending.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scene::{Scene, eventually, name};
use crate::signet;

const CLUSTER: &str = include_str!("../data/host/peers.yaml");
const PROBES: &str = include_str!("../data/host/peers-probes.jsonl");

const EXTERNAL: &str = "
  external:
    - {name: api, command: [busybox, httpd, -f, -p, \"80\", -h, /tmp]}
    - {name: other, command: [busybox, httpd, -f, -p, \"80\", -h, /tmp]}
";

/// A second SYN falls within.
const PATIENCE: Duration = Duration::from_millis(2500);

fn scene(test: &str, agent: &str) -> Scene {
    let object = "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata:\n  name: ";
    let lab = format!("{object}{}\nspec:\n{agent}{EXTERNAL}", name(test));
    Scene::with(&[("lab.yaml", &lab), ("manifests.yaml", CLUSTER)])
}

/// Whether a member reaches a pod, from an address of its own.
fn reaches(scene: &Scene, from: &str, bind: Option<&str>, pod: &str, port: u16) -> bool {
    let target = SocketAddr::new(scene.address(pod, 4), port);
    scene.inside(from, || match bind {
        None => TcpStream::connect_timeout(&target, PATIENCE).is_ok(),
        Some(source) => {
            let target = target.ip().to_string();
            let words = ["-z", "-w", "3", "-s", source, &target, &port.to_string()];
            Command::new("nc").args(words).status().unwrap().success()
        }
    })
}

pub fn on_the_wire() {
    let scene = scene("peers", "");
    let file = scene.directory.path().join("peers-probes.jsonl");
    fs::write(&file, PROBES).unwrap();
    let file = signet::word(&file);
    let manifests = signet::word(scene.directory.path());
    let report = signet::run(&["lab", "probe", "--lab", scene.name(), file]).good();
    assert_eq!(report.lines().last(), Some("26 of 26 as expected"), "{report}");
    let answers =
        signet::run(&["policy", "evaluate", "--manifests", manifests, "--probes", file]).good();
    assert!(answers.contains("26 of 26 as expected"), "{answers}");

    // Somebody in the second node's pod range whom no pod object names.
    let stranger = "10.244.2.200";
    scene.inside("node-2", || {
        let added = Command::new("ip").args(["addr", "add", stranger, "dev", "lo"]).status();
        assert!(added.unwrap().success());
    });
    let known = |port| reaches(&scene, "node-2", Some(stranger), "web.server", port);
    assert_eq!([8081, 8080].map(known), [true, false], "unmanaged, and not its node");
    let answers = ["8081", "8080"].map(|port| {
        let words = ["policy", "evaluate", "--manifests", manifests, "--from"];
        let (from, to) = (format!("ip:{stranger}"), "pod:web/server");
        let words = [&words[..], &[&from, "--to", to, "--port", port, "-o", "json"]].concat();
        let answer: Value = serde_json::from_str(&signet::run(&words).out).unwrap();
        answer["verdict"].as_str().unwrap().to_owned()
    });
    assert_eq!(answers, ["allowed", "denied"]);

    // A pod that is ending is who it was until it is gone.
    let path = scene.lab.places.cluster().join("Pod.web.server.json");
    let mut object: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    object["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    let draft = path.with_extension("tmp");
    fs::write(&draft, object.to_string()).unwrap();
    fs::rename(&draft, &path).unwrap();
    for _ in 0..3 {
        assert!(reaches(&scene, "api", None, "web.server", 8080));
        assert!(!reaches(&scene, "other", None, "web.server", 8080));
    }
}

pub fn own_node() {
    let scene = scene("own-node", "  agent: {allowLocalhost: policy}\n");
    let manifests = signet::word(scene.directory.path());
    // No rule lets it in; by the default it would be let in all the same.
    eventually("the flag holds", || !reaches(&scene, "node-1", None, "web.server", 8081));
    // The other node has a rule, and no flag is about it.
    assert!(reaches(&scene, "node-2", None, "web.server", 8080));
    let verdicts = ["policy", "always"].map(|when| {
        let words = ["policy", "evaluate", "--manifests", manifests, "--allow-localhost", when];
        let ends = ["--from", "node:node-1", "--to", "pod:web/server", "--port", "8081"];
        let answer = signet::run(&[&words[..], &ends, &["-o", "json"]].concat()).out;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["verdict"].as_str().unwrap().to_owned()
    });
    assert_eq!(verdicts, ["denied", "allowed"]);
}
