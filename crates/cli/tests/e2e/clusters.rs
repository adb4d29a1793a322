//! Two clusters in one lab: pods, policies and labels of the same names are not the
//! same, and what is of the other cluster is an address, whatever it says of itself.

use std::path::Path;

use lab::label::Label;
use lab::probe;
use serde_json::Value;

use crate::scene::{Scene, options};
use crate::signet;

const CLUSTERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/clusters");

pub fn on_the_wire() {
    let mut scene = Scene::like(Path::new(CLUSTERS), "clusters", "clusters");
    let probes = scene.directory.path().join("probes.jsonl");
    let report = probe::run(&scene.lab, &probes, &[]).unwrap();
    assert_eq!(report.summary(), "24 of 24 as expected", "{}", report.table());

    nobody_knows_the_other_clusters_identities(&scene);
    one_observer_tells_of_both(&scene);
    status_shows_both(&scene);
    a_label_counts_in_its_own_cluster(&scene);
    manifests_go_to_the_cluster_that_they_belong_to(&mut scene);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn nobody_knows_the_other_clusters_identities(scene: &Scene) {
    let identities = scene.list(&["identity", "list"], "identities");
    for (cluster, nodes) in [("near", ["near-1", "near-2"].as_slice()), ("far", &["far-1"])] {
        let label = format!("k8s:io.cilium.k8s.policy.cluster={cluster}");
        let of_cluster = identities
            .iter()
            .filter(|it| it["labels"].as_array().unwrap().iter().any(|known| *known == *label));
        let of_cluster: Vec<_> = of_cluster.collect();
        assert!(of_cluster.len() >= 2, "{cluster}: {identities:#?}");
        for identity in of_cluster {
            let known: Vec<_> = identity["nodes"].as_array().unwrap().iter().map(text).collect();
            assert_eq!(known, nodes, "{identity:#}");
        }
    }
}

fn one_observer_tells_of_both(scene: &Scene) {
    let flows = scene.flows();
    let attack = |flow: &&Value| {
        flow["l4"]["TCP"]["destination_port"] == 8080
            && flow["verdict"] == "DROPPED"
            && flow["node_name"] == "near/near-1"
    };
    let attack = flows.iter().find(attack).unwrap_or_else(|| panic!("no attack seen"));
    let labels = attack["source"]["labels"].as_array().unwrap();
    assert!(labels.iter().any(|label| text(label).starts_with("reserved:world")), "{attack:#}");
    assert!(attack["source"].get("pod_name").is_none_or(|name| name == ""), "{attack:#}");
    let sent = flows
        .iter()
        .find(|flow| flow["node_name"] == "far/far-1" && flow["source"]["pod_name"] == "cart");
    let labels = sent.unwrap()["source"]["labels"].to_string();
    assert!(labels.contains("k8s:io.cilium.k8s.policy.cluster=far"), "{labels}");
}

fn status_shows_both(scene: &Scene) {
    let status = signet::run(&["lab", "status", scene.name()]).good();
    let first = status.lines().next().unwrap();
    assert_eq!(first, format!("Lab {} (clusters near, far): healthy", scene.name()));
    for line in ["far/shop/cart  ", "shop/cart      ", "far/CiliumNetworkPolicy/shop/pay  "] {
        assert!(status.lines().any(|it| it.starts_with(line)), "no `{line}`:\n{status}");
    }
    let json = signet::run(&["lab", "status", scene.name(), "-o", "json"]).good();
    let labs: Value = serde_json::from_str(&json).unwrap();
    let pods = labs[0]["pods"].as_array().unwrap();
    assert_eq!(pods.iter().filter(|pod| pod["cluster"] == "far").count(), 2, "{json}");
}

#[track_caller]
fn check(scene: &Scene, from: &str, to: &str, port: u16, want: &str) {
    let line = format!(
        r#"{{"id":"one","from":"{from}","to":"{to}","port":{port},"expect":{{"verdict":"{want}"}}}}"#
    );
    let report = probe::run_lines(&scene.lab, &line, &probe::Run::default(), &[]).unwrap();
    assert!(report.is_as_expected(), "{}", report.table());
}

fn a_label_counts_in_its_own_cluster(scene: &Scene) {
    let (far, near) = ("cluster:far/pod:shop/cart", "pod:shop/cart");
    let set = |value: &str| {
        let label = Label { key: "app".into(), value: Some(value.into()) };
        scene.lab.label("far/shop/cart", &[label]).unwrap();
    };
    set("other");
    check(scene, far, "cluster:far/pod:shop/pay", 8080, "denied");
    check(scene, near, "pod:shop/pay", 8080, "allowed");
    set("cart");
    check(scene, far, "cluster:far/pod:shop/pay", 8080, "allowed");
    check(scene, far, "pod:shop/pay", 8080, "denied");
}

fn manifests_go_to_the_cluster_that_they_belong_to(scene: &mut Scene) {
    let policies = scene.directory.path().join("clusters/far/policies.yaml");
    let mut told = Vec::new();
    let mut say =
        |change: lab::apply::Change| told.push(format!("{} {}", change.object, change.outcome));
    scene.lab.delete(&policies, None, &options(), &mut say).unwrap();
    scene.lab.apply(&policies, Some("far"), &options(), &mut say).unwrap();
    let name = "far/CiliumNetworkPolicy/shop/pay";
    assert_eq!(told, [format!("{name} removed"), format!("{name} created")]);
    check(scene, "cluster:far/pod:shop/cart", "cluster:far/pod:shop/pay", 8080, "allowed");
    check(scene, "cluster:far/pod:shop/cart", "cluster:far/pod:shop/pay", 8083, "denied");
    let unknown = scene.lab.apply(&policies, Some("no"), &options(), &mut |_| {}).unwrap_err();
    assert_eq!(unknown.to_string(), "the lab has no cluster `no`; it has near, far");
    let directory = scene.directory.path().to_owned();
    let mut told = Vec::new();
    let mut say = |change: lab::apply::Change| told.push(change.outcome);
    scene.lab.apply(&directory, None, &options(), &mut say).unwrap();
    assert!(told.len() >= 8 && told.iter().all(|outcome| outcome == "unchanged"), "{told:?}");
}
