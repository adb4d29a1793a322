//! What people and programs see: flows by filter and in every form, and the lists
//! of what is in force.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::attempt;
use crate::scene::{Scene, eventually};
use crate::signet::{self, texts, word};

/// Datagrams to the world: of the payment service, denied; of the shop, allowed.
const DENIED: u16 = 5001;
const ALLOWED: u16 = 5002;

fn send(scene: &Scene, from: &str, port: u16) {
    attempt::datagrams(scene, from, scene.address("internet", 4), [port].into_iter());
}

fn ports(flows: &[Value]) -> BTreeSet<u64> {
    flows
        .iter()
        .filter_map(|answer| answer["flow"]["l4"]["UDP"]["destination_port"].as_u64())
        .collect()
}

pub fn filters_and_forms() {
    let scene = Scene::tiny("forms", "");
    send(&scene, "payment.pay-svc", DENIED);
    send(&scene, "web.web-fe", ALLOWED);
    let both = BTreeSet::from([DENIED.into(), ALLOWED.into()]);
    eventually("both flows are there", || ports(&scene.observe(&["--all"])) == both);

    let check = |flags: &[&str], want: &[u16]| {
        let want: BTreeSet<u64> = want.iter().map(|port| u64::from(*port)).collect();
        assert_eq!(ports(&scene.observe(&[&["--all"], flags].concat())), want, "{flags:?}");
    };
    check(&["--verdict", "DROPPED"], &[DENIED]);
    check(&["--verdict", "FORWARDED"], &[ALLOWED]);
    check(&["--namespace", "payment"], &[DENIED]);
    check(&["--namespace", "web"], &[ALLOWED]);
    check(&["--namespace", "gateway"], &[]);
    check(&["--pod", "payment/pay-svc"], &[DENIED]);
    check(&["--pod", "web/web-fe"], &[ALLOWED]);
    check(&["--pod", "web/web-fe", "--pod", "payment/pay-svc"], &[DENIED, ALLOWED]);
    check(&["--to-pod", "payment/pay-svc"], &[]);
    check(&["--not", "--verdict", "DROPPED"], &[ALLOWED]);
    // A denial is told once, as a drop, and is found as a verdict too.
    check(&["-t", "policy-verdict", "--verdict", "DROPPED"], &[DENIED]);
    check(&["-t", "policy-verdict"], &[DENIED, ALLOWED]);
    check(&["-t", "drop"], &[DENIED]);
    check(&["--not", "-t", "policy-verdict"], &[DENIED]);
    let denials = scene.observe(&["--all", "-t", "policy-verdict", "--verdict", "DROPPED"]);
    assert_eq!(denials[0]["flow"]["egress_denied_by"][0]["name"], "default-deny", "{denials:?}");
    check_forms(&scene);
}

/// The lines about the two datagrams, in each form.
fn check_forms(scene: &Scene) {
    let lines = |form: &str, port: u16| {
        let text =
            scene.ask(&["observe", "--all", "--to-port", &port.to_string(), "-o", form]).good();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let brief = lines("brief", DENIED);
    assert_eq!(brief.len(), 1, "{brief:?}");
    assert!(
        brief[0].contains(" DROP pay-svc → 198.51.100.7:5001 UDP policy-denied  "),
        "{brief:?}"
    );
    assert!(
        brief[0].contains(
            "no rule allows it (default deny: CiliumNetworkPolicy/payment/default-deny, "
        ),
        "{brief:?}"
    );
    let brief = lines("brief", ALLOWED);
    assert!(brief[0].contains(" ALLOW web-fe → 198.51.100.7:5002 UDP unenforced"), "{brief:?}");

    let compact = lines("compact", DENIED);
    assert!(compact[0].contains(": payment/pay-svc:"), "{compact:?}");
    assert!(
        compact[0].ends_with(" <> 198.51.100.7:5001 (world-ipv4) Policy denied DROPPED (UDP)"),
        "{compact:?}"
    );
    let compact = lines("compact", ALLOWED);
    assert!(
        compact[0].ends_with(
            " -> 198.51.100.7:5002 (world-ipv4) policy-verdict:all EGRESS ALLOWED (UDP)"
        ),
        "{compact:?}"
    );

    let json = signet::lines(&lines("json", DENIED).join("\n"));
    assert_eq!(json[0]["flow"]["source"]["pod_name"], "pay-svc");
    assert_eq!(json[0]["node_name"], "node-1");
}

pub fn follow() {
    let scene = Scene::tiny("follow", "");
    let relay = scene.lab.places.relay_socket();
    let words =
        ["observe", "--follow", "--verdict", "DROPPED", "-o", "json", "--server", word(&relay)];
    let mut follower = signet::command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(follower.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in stdout.lines() {
            // Nobody listens any more when the test is at its end.
            let _ = sender.send(line.unwrap());
        }
    });
    let next = |limit| {
        let line = lines.recv_timeout(limit).ok()?;
        let answer: Value = serde_json::from_str(&line).unwrap();
        answer["flow"]["l4"]["UDP"]["destination_port"].as_u64()
    };
    // It follows from some moment on: the first drop that it shows says that it does.
    eventually("the follower shows a drop", || {
        send(&scene, "payment.pay-svc", 6000);
        next(Duration::from_millis(200)) == Some(6000)
    });
    for port in 6001..6006u16 {
        let sent = Instant::now();
        send(&scene, "payment.pay-svc", port);
        while next(Duration::from_secs(2)) != Some(port.into()) {
            assert!(sent.elapsed() < Duration::from_secs(2), "no drop to {port} within 2 s");
        }
        assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
    reader.join().unwrap();
}

/// Pod, node, and whether default deny is on for what comes in and goes out.
const ENDPOINTS: [(&str, &str, bool, bool); 5] = [
    ("gateway/api-gateway", "node-1", true, true),
    ("payment/ledger-db", "node-2", true, true),
    ("payment/pay-svc", "node-1", true, true),
    ("web/dev-pod", "node-1", false, false),
    ("web/web-fe", "node-2", false, false),
];

/// Policy, and the pods it selects on the first and on the second node.
const POLICIES: [(&str, &[&str], &[&str]); 9] = [
    ("gateway/api-gateway-egress", &["gateway/api-gateway"], &[]),
    ("gateway/api-gateway-public", &["gateway/api-gateway"], &[]),
    ("gateway/no-mail", &["gateway/api-gateway"], &[]),
    ("payment/default-deny", &["payment/pay-svc"], &["payment/ledger-db"]),
    ("payment/ledger-callers", &[], &["payment/ledger-db"]),
    ("payment/no-dev", &["payment/pay-svc"], &["payment/ledger-db"]),
    ("payment/pay-svc-callers", &["payment/pay-svc"], &[]),
    ("payment/pay-svc-metrics", &["payment/pay-svc"], &[]),
    ("payment/pay-svc-to-ledger", &["payment/pay-svc"], &[]),
];

fn name(row: &Value, key: &str) -> String {
    format!("{}/{}", row["namespace"].as_str().unwrap(), row[key].as_str().unwrap())
}

pub fn lists() {
    let scene = Scene::tiny("lists", "");
    check_endpoints(&scene);
    check_identities(&scene);
    check_policies(&scene);
    for (node, endpoints) in [("node-1", 3), ("node-2", 2)] {
        let status = scene.status(node);
        assert_eq!(status["endpoints"], endpoints, "{status}");
        assert_eq!(status["endpoints_not_ready"], Value::Null, "{status}");
        assert!(["tcx", "clsact"].iter().any(|kind| status["attach_kind"] == *kind), "{status}");
        assert_ne!(status["kernel_release"], Value::Null, "{status}");
        assert!(status["features"].as_array().is_some_and(|list| !list.is_empty()), "{status}");
        assert!(
            status["policy_revision"].as_u64().is_some_and(|revision| revision > 0),
            "{status}"
        );
        assert_eq!(status["last_error"], Value::Null, "{status}");
    }
}

fn check_endpoints(scene: &Scene) {
    let rows = scene.list(&["endpoint", "list"], "endpoints");
    assert_eq!(rows.len(), ENDPOINTS.len());
    for (pod, node, ingress, egress) in ENDPOINTS {
        let row =
            rows.iter().find(|row| name(row, "pod") == pod).unwrap_or_else(|| panic!("{pod}"));
        let deny = |on: bool| if on { "ENFORCEMENT_DEFAULT_DENY" } else { "ENFORCEMENT_NONE" };
        assert_eq!(row["node"], node, "{pod}");
        assert_eq!(row["ready"], true, "{pod}");
        assert_eq!(
            (&row["ingress"], &row["egress"]),
            (&deny(ingress).into(), &deny(egress).into()),
            "{pod}"
        );
        let addresses: Vec<String> =
            scene.lab.pod(pod).unwrap().addresses.iter().map(ToString::to_string).collect();
        assert_eq!(texts(&row["addresses"]), addresses, "{pod}");
        assert_eq!(row["table_digest"].as_str().map(str::len), Some(64), "{pod}");
        let namespace = pod.split('/').next().unwrap();
        let label = format!("k8s:io.kubernetes.pod.namespace={namespace}");
        assert!(texts(&row["labels"]).contains(&label.as_str()), "{pod}");
    }
}

fn check_identities(scene: &Scene) {
    let rows = scene.list(&["identity", "list"], "identities");
    let find = |label: &str| {
        let found = rows.iter().find(|row| texts(&row["labels"]).contains(&label));
        found.unwrap_or_else(|| panic!("nobody has {label}"))
    };
    assert_eq!(find("reserved:host")["id"], 1);
    assert_eq!(find("reserved:world")["id"], 2);
    for app in ["api-gateway", "ledger-db", "pay-svc", "dev-pod", "web-fe"] {
        let row = find(&format!("k8s:app={app}"));
        assert_eq!(texts(&row["nodes"]), ["node-1", "node-2"], "{app}");
        let endpoints = scene.list(&["endpoint", "list"], "endpoints");
        let endpoint = endpoints.iter().find(|endpoint| endpoint["pod"] == app).unwrap();
        assert_eq!(endpoint["identity"], row["id"], "{app}");
    }
}

fn check_policies(scene: &Scene) {
    let rows = scene.list(&["policy", "list"], "policies");
    let names: BTreeSet<_> = rows.iter().map(|row| name(row, "name")).collect();
    assert_eq!(names, POLICIES.iter().map(|(name, _, _)| (*name).to_owned()).collect());
    for (policy, first, second) in POLICIES {
        for (node, subjects) in [("node-1", first), ("node-2", second)] {
            let row = rows.iter().find(|row| name(row, "name") == policy && row["node"] == node);
            let row = row.unwrap_or_else(|| panic!("{policy} on {node}"));
            assert_eq!(row["accepted"], true, "{policy}");
            assert_eq!(texts(&row["subjects"]), subjects, "{policy} on {node}");
        }
    }
    let got = scene.list(&["policy", "get", "payment/no-dev"], "policies");
    assert_eq!(got.len(), 2);
    for row in &got {
        assert_eq!(row["kind"], "CiliumNetworkPolicy");
        let rule = "CiliumNetworkPolicy/payment/no-dev#spec.ingressDeny[0]";
        assert_eq!(texts(&row["rules"]), [rule]);
        assert_eq!(row["digest"].as_str().map(str::len), Some(64));
    }
}
