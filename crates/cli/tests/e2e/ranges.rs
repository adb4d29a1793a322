//! Rules about ranges on real traffic: an allow, its exception by family, a deny,
//! and a name that cannot be enforced yet: denied, and said.

use std::fs;

use crate::scene::Scene;
use crate::signet;

const POLICIES: &str = include_str!("../data/ranges/policies.yaml");
const PROBES: &str = include_str!("../data/ranges/probes.jsonl");

pub fn on_the_wire() {
    let scene = Scene::tiny("ranges", POLICIES);
    let file = scene.directory.path().join("ranges-probes.jsonl");
    fs::write(&file, PROBES).unwrap();
    let file = signet::word(&file);
    let report = signet::run(&["lab", "probe", "--lab", scene.name(), file]).good();
    assert_eq!(report.lines().last(), Some("6 of 6 as expected"), "{report}");

    // The same answers from the manifests alone.
    let manifests = signet::word(scene.directory.path());
    let answers =
        signet::run(&["policy", "evaluate", "--manifests", manifests, "--probes", file]).good();
    assert!(answers.contains("6 of 6 as expected"), "{answers}");

    let policies = scene.list(&["policy", "list"], "policies");
    let named = policies.iter().find(|policy| policy["name"] == "web-in").unwrap();
    let reason = named["reason"].as_str().unwrap();
    assert!(reason.contains("addresses of names are not learnt yet"), "{reason}");
}
