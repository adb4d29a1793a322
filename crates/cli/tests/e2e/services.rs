//! Services and names, by the programs that people use: who is reached, who is
//! not, what policies about backends and about the name server mean, and what a
//! service's own address is on the wire.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use lab::Exec;
use serde_json::Value;

use crate::scene::{Scene, eventually, name, options};
use crate::signet;

const CLUSTER: &str = include_str!("../data/services/cluster.yaml");
const PROBES: &str = include_str!("../data/services/probes.jsonl");

const LIMIT: Duration = Duration::from_secs(30);

fn scene(test: &str) -> Scene {
    let lab = format!(
        "apiVersion: signet.dev/v1alpha1\nkind: Lab\nmetadata: {{name: {}}}\nspec:\n  external:\n    \
         - name: swift\n      names: [api.swift.example]\n  nodes:\n    - name: node-1\n      labels: {{zone: b}}\n    \
         - name: node-2\n      labels: {{zone: a}}\n",
        name(test)
    );
    Scene::with(&[("lab.yaml", &lab), ("cluster.yaml", CLUSTER)])
}

/// What a shell command in a pod printed, if it went well.
fn shell(scene: &Scene, pod: &str, command: &str) -> Option<String> {
    let command = ["sh", "-c", command].map(str::to_owned).into();
    let exec = Exec { pod: format!("shop/{pod}"), container: None, command };
    let output = scene.lab.output(&exec, LIMIT).unwrap_or_else(|error| panic!("{}", error.chain()));
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first column of each line, each once.
fn first_words(text: Option<String>) -> BTreeSet<String> {
    let text = text.unwrap_or_default();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Dropped flows of a pod with Hubble's number for the reason.
fn drops(scene: &Scene, pod: &str, code: u64) -> Vec<Value> {
    let flows = scene.observe(&["--verdict", "DROPPED", "--from-pod", pod, "--all"]);
    let flows = flows.into_iter().map(|mut answer| answer["flow"].take());
    flows.filter(|flow| flow["drop_reason"].as_u64() == Some(code)).collect()
}

pub fn on_the_wire() {
    let scene = scene("services");
    let file = scene.directory.path().join("services-probes.jsonl");
    fs::write(&file, PROBES).unwrap();
    let file = signet::word(&file);
    let report = signet::run(&["lab", "probe", "--lab", scene.name(), file]).good();
    assert_eq!(report.lines().last(), Some("12 of 12 as expected"), "{report}");

    // The same answers from the manifests alone.
    let manifests = signet::word(scene.directory.path());
    let answers =
        signet::run(&["policy", "evaluate", "--manifests", manifests, "--probes", file]).good();
    assert!(answers.contains("12 of 12 as expected"), "{answers}");

    own_address(&scene);
    asked_for(&scene);
    nobody(&scene);
    affinity(&scene);
}

/// What no socket hook has seen is dropped with a reason of its own; the same
/// packet to a backend arrives.
fn own_address(scene: &Scene) {
    let backend = scene.address("shop.open-1", 4);
    assert!(shell(scene, "stranger", &format!("ping -n -c 1 -W 2 {backend}")).is_some());
    assert!(shell(scene, "stranger", "ping -n -c 1 -W 1 10.96.0.30").is_none());
    assert!(shell(scene, "stranger", &format!("nc -n -z -w 2 {backend} 8080")).is_some());
    assert!(shell(scene, "stranger", "nc -n -z -w 1 10.96.0.30 8080").is_none());
    let mut found = Vec::new();
    eventually("both drops are told", || {
        found = drops(scene, "shop/stranger", 174);
        let of = |key: &str| found.iter().any(|flow| !flow["l4"][key].is_null());
        of("ICMPv4") && of("TCP")
    });
    for flow in &found {
        assert_eq!(flow["IP"]["destination"], "10.96.0.30", "{flow}");
        assert_eq!(flow["drop_reason_desc"], "IS_A_CLUSTERIP", "{flow}");
        let service = serde_json::json!({"name": "free", "namespace": "shop"});
        assert_eq!(flow["destination_service"], service, "{flow}");
        assert_eq!(flow["source_service"], Value::Null, "{flow}");
    }
}

/// What clients ask by: the service whose address was used, the node's labels, and what
/// a policy wants logged.
fn asked_for(scene: &Scene) {
    let destinations = |flags: &[&str]| -> BTreeSet<String> {
        let flows = scene.observe(&[&["--all"], flags].concat());
        let flow = flows.iter().map(|answer| &answer["flow"]).filter(|flow| flow.is_object());
        flow.map(|flow| flow["IP"]["destination"].as_str().unwrap().to_owned()).collect()
    };
    for flag in ["--service", "--to-service"] {
        assert_eq!(destinations(&[flag, "shop/free"]), set(&["10.96.0.30"]), "{flag}");
    }
    for (flag, service) in [("--from-service", "shop/free"), ("--to-service", "shop/api")] {
        assert_eq!(destinations(&[flag, service]), set(&[]), "{flag} {service}");
    }
    let nodes = |label: &str| -> BTreeSet<String> {
        let flows = scene.observe(&["--all", "--node-label", label]);
        let flows = flows.iter().filter(|answer| answer["flow"].is_object());
        flows.map(|answer| answer["node_name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(nodes("zone=a"), set(&["node-2"]));
    assert_eq!(nodes("zone in (a,b)"), set(&["node-1", "node-2"]));
    assert_eq!(nodes("zone=c"), set(&[]));

    // The client's policy lets one question through and denies another by default; both
    // carry its text, and what the receiver's policy decided does not.
    let backend = scene.address("shop.api-1", 4);
    assert!(shell(scene, "client", &format!("nc -n -z -w 2 {backend} 8080")).is_some());
    assert!(shell(scene, "client", &format!("nc -n -z -w 1 {backend} 9999")).is_none());
    let logged = |direction: &str, verdict: &str| {
        // Ends of connections are no decisions.
        let decisions = ["--all", "--type", "policy-verdict", "--type", "drop"];
        let flags = ["--from-pod", "shop/client", "--traffic-direction", direction];
        let flags = [&decisions[..], &flags[..]].concat();
        let flows =
            scene.observe(&[&flags[..], &["--verdict", verdict, "--protocol", "tcp"]].concat());
        let to = flows.iter().map(|answer| &answer["flow"]);
        let to = to.filter(|flow| flow["IP"]["destination"] == backend.to_string());
        to.map(|flow| signet::texts(&flow["policy_log"]).join(",")).collect::<BTreeSet<_>>()
    };
    let text = "what a client may ask";
    eventually("the decisions are told with the text", || {
        logged("EGRESS", "FORWARDED") == set(&[text])
            && logged("EGRESS", "DROPPED") == set(&[text])
            && logged("INGRESS", "FORWARDED") == set(&[""])
    });
}

/// Refused at once, without a packet; counted.
fn nobody(scene: &Scene) {
    let refused = |node: &str| {
        let services = scene.status(node)["services"].clone();
        signet::number(&services["noBackend"]) + signet::number(&services["no_backend"])
    };
    let services = scene.list(&["service", "list"], "services");
    let row = services.iter().find(|row| row["name"] == "nobody").unwrap();
    assert_eq!(row["reason"], "no backend is ready: connections are refused");
    let address = row["address"].as_str().unwrap();
    let words = shell(scene, "stranger", &format!("nc -n -z -v -w 2 {address} 80 2>&1 || true"));
    assert!(words.as_ref().unwrap().contains("Connection refused"), "{words:?}");
    eventually("the refusal is counted", || refused("node-2") > 0);
}

/// One client, one backend; and without affinity both.
fn affinity(scene: &Scene) {
    let ask = |address: &str| {
        let command = format!("for n in $(seq 24); do curl -sS -m 5 http://{address}/who; done");
        first_words(shell(scene, "stranger", &command))
    };
    assert_eq!(ask("10.96.0.31").len(), 1);
    assert_eq!(ask("10.96.0.30"), set(&["open-1", "open-2"]));
}

pub fn names() {
    let scene = scene("names");
    let look = |pod: &str, database: &str, name: &str| {
        first_words(shell(&scene, pod, &format!("getent {database} {name}")))
    };
    for name in ["api", "api.shop", "api.shop.svc", "api.shop.svc.cluster.local"] {
        assert_eq!(look("client", "ahostsv4", name), set(&["10.96.0.20"]), "{name}");
        assert_eq!(look("client", "ahostsv6", name), set(&["fd00:10:96::20"]), "{name}");
    }
    let peers = ["shop.api-1", "shop.api-2"];
    let addresses: Vec<String> =
        peers.iter().map(|pod| scene.address(pod, 4).to_string()).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    assert_eq!(look("client", "ahostsv4", "peers"), set(&addresses));
    let world = scene.address("swift", 4).to_string();
    assert_eq!(look("client", "ahostsv4", "api.swift.example"), set(&[&world]));
    assert_eq!(look("client", "ahostsv4", "nothing.example"), set(&[]));
    // Another program, another resolver, the server's own address told back.
    let busybox = shell(&scene, "client", "busybox nslookup api.shop.svc.cluster.local").unwrap();
    assert!(busybox.contains("10.96.0.10:53") && busybox.contains("10.96.0.20"), "{busybox}");

    // By name, all the way.
    let curl = "curl -sS -o /dev/null -m 5 -w '%{remote_ip} %{http_code}' http://api/";
    let answer = shell(&scene, "client", curl).unwrap();
    assert!(["10.96.0.20 404", "fd00:10:96::20 404"].contains(&answer.as_str()), "{answer}");

    // A pod whose policy lets it ask for no name finds none, and the drop is the
    // name server's pod and port: what a service leads to is what is judged.
    assert_eq!(look("locked", "ahostsv4", "api"), set(&[]));
    assert!(shell(&scene, "locked", "nc -n -z -w 2 10.96.0.20 80").is_some());
    let mut told = Vec::new();
    eventually("the denied question is told", || {
        told = drops(&scene, "shop/locked", 133);
        !told.is_empty()
    });
    assert_eq!(told[0]["l4"]["UDP"]["destination_port"], 53, "{}", told[0]);
    assert_eq!(told[0]["destination"]["pod_name"], "coredns", "{}", told[0]);
}

pub fn changes() {
    let mut scene = scene("changes");
    let ask = |scene: &Scene| shell(scene, "stranger", "curl -sS -m 5 http://10.96.0.30/who");
    assert!(ask(&scene).is_some());
    // What the kernel was told goes on without any agent.
    scene.kill_agents();
    for _ in 0..8 {
        assert!(ask(&scene).is_some());
    }
    scene.start_agents();
    assert!(ask(&scene).is_some());

    // A backend that comes back has another address: the old one is asked no more.
    let before = scene.address("shop.open-1", 4);
    scene.lab.restart_pod("shop/open-1", &options()).unwrap();
    let after = scene.address("shop.open-1", 4);
    assert_ne!(before, after);
    eventually("both nodes lead to the new address", || {
        let services = scene.list(&["service", "list"], "services");
        let rows: Vec<_> = services.iter().filter(|row| row["name"] == "free").collect();
        rows.len() == 2
            && rows.iter().all(|row| {
                let backends = signet::texts(&row["backends"]);
                backends.contains(&&*format!("{after}:8080"))
                    && !backends.contains(&&*format!("{before}:8080"))
            })
    });
    // Its server needs a moment to listen; a backend that is gone never does.
    eventually("the new one answers", || {
        let address = format!("curl -sS -m 5 http://{after}:8080/who");
        shell(&scene, "stranger", &address).is_some()
    });
    let mut met = BTreeSet::new();
    for _ in 0..24 {
        met.insert(ask(&scene).expect("every attempt meets a backend that is there"));
    }
    assert_eq!(met.len(), 2, "{met:?}");
}
