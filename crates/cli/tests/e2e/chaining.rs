//! Behind Debian's plugins: `ptp` or `bridge` makes the interface, `host-local` gives the
//! address, and `signet cni` guards what they made before anything runs in the pod.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use lab::probe;
use serde_json::{Value, json};

use crate::scene::{self, Scene, options};
use crate::signet::PROGRAM;

pub fn ptp() {
    drop(behind("ptp"));
}

pub fn bridge() {
    let scene = behind("bridge");
    // Both ends of a packet between two pods of one bridge: the sender's link, and the
    // receiver's.
    let flows = scene.flows();
    let of_one_node = |flow: &&Value| {
        flow["source"]["pod_name"] == "api-gateway" && flow["destination"]["pod_name"] == "pay-svc"
    };
    let directions: Vec<_> =
        flows.iter().filter(of_one_node).map(|flow| &flow["traffic_direction"]).collect();
    for direction in ["EGRESS", "INGRESS"] {
        assert!(directions.iter().any(|it| **it == direction), "{direction}: {directions:?}");
    }
}

fn behind(plugin: &str) -> Scene {
    let directory = scene::tiny(&scene::name(plugin));
    let object = directory.path().join("lab.yaml");
    let text = fs::read_to_string(&object).unwrap();
    let edited = text.replacen("\nspec:\n", &format!("\nspec:\n  cni: {plugin}\n"), 1);
    assert_ne!(edited, text);
    fs::write(object, edited).unwrap();
    // Without Debian's plugins this says which package has them.
    let mut scene = Scene::up(directory);

    let probes = fs::read_to_string(scene.directory.path().join("probes.jsonl")).unwrap();
    let report = probe::run_lines(&scene.lab, &probes, &probe::Run::default(), &[]).unwrap();
    let want = "30 of 30 as expected";
    assert_eq!(report.summary().lines().last(), Some(want), "{}", report.table());

    let pod = "payment/pay-svc";
    let record = record(&scene, pod);
    let host = record["hostInterface"].as_str().unwrap().to_owned();
    assert!(host.starts_with("veth"), "{host} is not {plugin}'s");
    check_is(&scene, pod, &record, "");

    // Another pod of the name gets another link; the first one's address and guard are free.
    let leases = leases(&scene, pod);
    scene.lab.restart_pod(pod, &options()).unwrap();
    assert_eq!(self::leases(&scene, pod), leases, "an address was not given back");
    let after = self::record(&scene, pod);
    assert_ne!(after["containerId"], record["containerId"]);
    check_is(&scene, pod, &after, "");

    let file =
        records(&scene, pod).join(format!("{}.json", after["hostInterface"].as_str().unwrap()));
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    check_is(&scene, pod, &after, "there is no endpoint record");
    fs::write(&file, text).unwrap();
    check_is(&scene, pod, &after, "");
    scene
}

/// The folder of endpoint records of a pod's node.
fn records(scene: &Scene, pod: &str) -> std::path::PathBuf {
    let node = scene.lab.pod(pod).unwrap().node.clone();
    scene.lab.places.state(&node).join("endpoints")
}

fn record(scene: &Scene, pod: &str) -> Value {
    let files = fs::read_dir(records(scene, pod)).unwrap().map(|entry| entry.unwrap().path());
    let records =
        files.map(|file| serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap());
    let mut records: Vec<Value> = records.collect();
    let name = |record: &Value| {
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        format!("{}/{}", text("podNamespace"), text("podName"))
    };
    records.retain(|record| name(record) == pod);
    assert_eq!(records.len(), 1, "{records:#?}");
    records.remove(0)
}

/// How many addresses `host-local` holds for pods of the node.
fn leases(scene: &Scene, pod: &str) -> usize {
    let node = scene.lab.pod(pod).unwrap().node.clone();
    let folder = scene.lab.places.state(&node).join("host-local/signet");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().parse::<std::net::IpAddr>().is_ok()).count()
}

/// CHECK of what the record says was made; `want` is what it finds wrong.
#[track_caller]
fn check_is(scene: &Scene, pod: &str, record: &Value, want: &str) {
    let entry = scene.lab.pod(pod).unwrap();
    let netns = scene.lab.places.netns(&entry.member());
    let ips = record["addresses"].as_array().unwrap().iter();
    let ips = ips.map(|address| {
        let length = if address.as_str().unwrap().contains(':') { 64 } else { 24 };
        json!({"address": format!("{}/{length}", address.as_str().unwrap()), "interface": 1})
    });
    let configuration = json!({
        "cniVersion": "1.0.0",
        "name": "signet",
        "type": "signet",
        "chained": true,
        "node": entry.node,
        "pins": scene.lab.places.pins(&entry.node),
        "stateDir": scene.lab.places.state(&entry.node),
        "prevResult": {
            "interfaces": [
                {"name": record["hostInterface"]},
                {"name": "eth0", "sandbox": netns},
            ],
            "ips": ips.collect::<Vec<_>>(),
        },
    });
    let call = || {
        let mut plugin = Command::new(PROGRAM);
        plugin.arg("cni").env("CNI_COMMAND", "CHECK").env("CNI_IFNAME", "eth0");
        plugin.env("CNI_CONTAINERID", &entry.sandbox).env("CNI_NETNS", &netns);
        plugin.env("CNI_PATH", "/usr/lib/cni").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = plugin.spawn().unwrap();
        child.stdin.take().unwrap().write_all(configuration.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = scene.inside(&entry.node, call);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.success(), want.is_empty(), "{said}");
    assert!(said.contains(want), "{said}");
}
