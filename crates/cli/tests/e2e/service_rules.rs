//! Rules about services without selectors on real traffic: what is listed for one
//! may be reached; of one without a list nobody may be.

use std::fs;

use crate::scene::Scene;
use crate::signet;

const POLICIES: &str = include_str!("../data/service-rules/policies.yaml");
const PROBES: &str = include_str!("../data/service-rules/probes.jsonl");

pub fn on_the_wire() {
    let scene = Scene::tiny("service-rules", POLICIES);
    let file = scene.directory.path().join("services-probes.jsonl");
    fs::write(&file, PROBES).unwrap();
    let file = signet::word(&file);
    let report = signet::run(&["lab", "probe", "--lab", scene.name(), file]).good();
    assert_eq!(report.lines().last(), Some("4 of 4 as expected"), "{report}");

    // The same answers from the manifests alone.
    let manifests = signet::word(scene.directory.path());
    let answers =
        signet::run(&["policy", "evaluate", "--manifests", manifests, "--probes", file]).good();
    assert!(answers.contains("4 of 4 as expected"), "{answers}");

    let policies = scene.list(&["policy", "list"], "policies");
    let reason = |name: &str| {
        let named = policies.iter().find(|policy| policy["name"] == name).unwrap();
        named["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(reason("dev-out"), "");
    assert!(reason("web-out").contains("what it refers to is not known"), "{}", reason("web-out"));
}
