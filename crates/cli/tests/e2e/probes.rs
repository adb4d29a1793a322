//! The example's probes, and for each denial the flow that tells of it: found by
//! addresses and ports, compared with what the probe file says by hand.

use std::fs;

use serde_json::Value;

use crate::scene::Scene;
use crate::signet::{self, texts, word};

/// A denied probe, as far as a flow must show it.
struct Denial {
    probe: Value,
    /// Members of the lab.
    from: String,
    to: String,
}

pub fn denials() {
    let scene = Scene::tiny("probes", "");
    let file = scene.directory.path().join("probes.jsonl");
    let report = signet::run(&["lab", "probe", "--lab", scene.name(), word(&file)]).good();
    assert_eq!(report.lines().last(), Some("30 of 30 as expected"), "{report}");

    let flows = scene.flows();
    let probes = signet::lines(&fs::read_to_string(file).unwrap());
    let denied = probes.into_iter().filter(|probe| probe["expect"]["verdict"] == "denied");
    let denied: Vec<_> = denied.map(Denial::of).collect();
    assert_eq!(denied.len(), 16);
    denied.iter().for_each(|denial| denial.check(&scene, &flows));
}

impl Denial {
    fn of(probe: Value) -> Self {
        let end = |key: &str| {
            let (kind, name) = probe[key].as_str().unwrap().split_once(':').unwrap();
            match kind {
                "pod" => name.replace('/', "."),
                "node" => name.to_owned(),
                _ => "internet".to_owned(),
            }
        };
        Self { from: end("from"), to: end("to"), probe }
    }

    fn check(&self, scene: &Scene, flows: &[Value]) {
        let id = self.probe["id"].as_str().unwrap();
        let found: Vec<_> = flows.iter().filter(|flow| self.is_told_by(scene, flow)).collect();
        assert!(!found.is_empty(), "{id}: no flow tells of it");
        for flow in found {
            let detail = &flow["extensions"]["value"];
            self.check_decision(id, flow, detail);
            self.check_process(id, scene, &detail["process"]["source"]);
        }
    }

    fn is_told_by(&self, scene: &Scene, flow: &Value) -> bool {
        let family =
            self.probe["family"].as_u64().map_or(4, |family| u8::try_from(family).unwrap());
        let protocol = match self.probe["protocol"].as_str() {
            None => "TCP",
            Some("ICMP") => "ICMPv4",
            Some(other) => other,
        };
        flow["verdict"] == "DROPPED"
            && flow["IP"]["source"] == scene.address(&self.from, family).to_string()
            && flow["IP"]["destination"] == scene.address(&self.to, family).to_string()
            && flow["l4"][protocol].is_object()
            && flow["l4"][protocol]["destination_port"] == self.probe["port"]
    }

    fn check_decision(&self, id: &str, flow: &Value, detail: &Value) {
        let expected = &self.probe["expect"];
        assert_eq!(detail["reason"], expected["reason"], "{id}");
        assert_eq!(detail["rule"], expected["rule"], "{id}");
        assert_eq!(texts(&detail["because"]), texts(&expected["because"]), "{id}");
        let (code, name) = match expected["reason"].as_str() {
            Some("default-deny") => (133, "POLICY_DENIED"),
            Some("deny-rule") => (181, "POLICY_DENY"),
            other => panic!("{id}: {other:?}"),
        };
        assert_eq!(flow["drop_reason"], code, "{id}");
        assert_eq!(flow["drop_reason_desc"], name, "{id}");
        let at_source = expected["egress"]["verdict"] == "denied";
        let direction = if at_source { "EGRESS" } else { "INGRESS" };
        assert_eq!(flow["traffic_direction"], direction, "{id}");
    }

    /// The program that tried is known where it runs on the node that judged;
    /// everywhere else it is said why it is not.
    fn check_process(&self, id: &str, scene: &Scene, process: &Value) {
        let node = |member: &str| {
            let pods = &scene.lab.journal.pods;
            pods.iter().find(|pod| pod.member() == member).map(|pod| pod.node.as_str())
        };
        let at_source = self.probe["expect"]["egress"]["verdict"] == "denied";
        let unknown = match node(&self.from) {
            Some(own) if at_source || Some(own) == node(&self.to) => None,
            Some(_) => Some("other-node"),
            None => Some("not-local"),
        };
        if let Some(unknown) = unknown {
            assert_eq!(process["unknown"], unknown, "{id}");
            return;
        }
        let program = match (self.probe["client"].as_str(), self.probe["protocol"].as_str()) {
            (Some("curl"), _) => "/usr/bin/curl",
            (None, Some(_)) => "/usr/bin/ping",
            (_, _) => "/usr/bin/nc.openbsd",
        };
        let pod = scene.lab.pod(&self.from.replacen('.', "/", 1)).unwrap();
        assert_eq!(process["binary"], program, "{id}");
        assert_eq!(process["container"], pod.containers[0].id.as_str(), "{id}");
        assert_eq!(process["uid"], 0, "{id}");
        assert!(process["pid"].as_u64().is_some_and(|pid| pid > 0), "{id}: {process}");
    }
}
