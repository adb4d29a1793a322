//! That documents, policies, probes and evaluation say the same of the bank.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use crate::scene::BANK;
use crate::signet::{self, word};

const TABLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bank.md");

fn probes(file: &str) -> Vec<Value> {
    signet::lines(&fs::read_to_string(format!("{BANK}/{file}")).unwrap())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// What the lab makes itself in each cluster, and the first one's Lab says.
const NAME_SERVER: &str = "apiVersion: v1\nkind: Pod\n\
     metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}\n\
     spec: {nodeName: mumbai-1}\n";

pub fn evaluation() {
    let made = tempfile::tempdir().unwrap();
    fs::write(made.path().join("dns.yaml"), NAME_SERVER).unwrap();
    let made = word(made.path());
    let mumbai = format!("{BANK}/clusters/mumbai");
    for (manifests, cluster, file, want) in [
        (&[BANK][..], "jakarta", "probes.jsonl", "192 of 192 as expected"),
        (&[&mumbai, made], "mumbai", "clusters/mumbai/probes.jsonl", "30 of 30 as expected"),
    ] {
        let file = format!("{BANK}/{file}");
        let manifests = manifests.iter().flat_map(|folder| ["--manifests", folder]);
        let words = ["policy", "evaluate", "--cluster", cluster, "--probes", &file];
        let words: Vec<_> = words.into_iter().chain(manifests).collect();
        let answers = signet::run(&words);
        assert_eq!(answers.status, Some(0), "{}{}", answers.out, answers.err);
        assert!(answers.out.contains(want), "{}", answers.out);
    }
}

/// What a row of a table means: its two cells, who asks, and whom.
type Route = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// Every row of jakarta's table, by hand.
const JAKARTA: &[Route] = &[
    (
        "customers, the office among them",
        "api-gateway:8443",
        &["entity:world", "ip:192.0.2.10"],
        &["pod:ingress-gateway/api-gateway:8443"],
    ),
    (
        "the office, not its guests",
        "api-gateway:9090",
        &["ip:192.0.2.10"],
        &["pod:ingress-gateway/api-gateway:9090"],
    ),
    (
        "api-gateway",
        "web-fe:8080",
        &["pod:ingress-gateway/api-gateway"],
        &["pod:banking/web-fe:8080", "svc:banking/web-fe:8080"],
    ),
    ("api-gateway", "web:8080", &["pod:ingress-gateway/api-gateway"], &["pod:web/web:8080"]),
    ("web-fe", "pay-svc:8080", &["pod:banking/web-fe"], &["pod:banking/pay-svc:8080"]),
    (
        "pay-svc",
        "payment:8080",
        &["pod:banking/pay-svc"],
        &["pod:payment/payment:8080", "svc:payment/payment:8080"],
    ),
    ("pay-svc", "fraud-svc:8080", &["pod:banking/pay-svc"], &["pod:banking/fraud-svc:8080"]),
    ("payment", "its own node's collector:4317", &["pod:payment/payment"], &["entity:host:4317"]),
    (
        "payment",
        "the API server:443",
        &["pod:payment/payment"],
        &["ip:172.20.0.2:443", "ip:fd00:172:20::2:443"],
    ),
    (
        "payment",
        "10.123.123.10 and .20:5432",
        &["pod:payment/payment"],
        &["ip:10.123.123.10:5432", "ip:10.123.123.20:5432"],
    ),
    ("payment", "ledger:8080", &["pod:payment/payment"], &["pod:ledger/ledger:8080"]),
    (
        "ledger",
        "ledger-db:5432",
        &["pod:ledger/ledger"],
        &[
            "pod:banking/ledger-db:5432",
            "pod:banking/ledger-db:postgres",
            "svc:banking/ledger-db:postgres",
        ],
    ),
    ("ledger", "its own node's collector:4317", &["pod:ledger/ledger"], &["entity:host:4317"]),
    ("fraud", "172.21.89.10:5432, also UDP", &["pod:fraud/fraud"], &["ip:172.21.89.10:5432"]),
    ("fraud", "notif:8080", &["pod:fraud/fraud"], &["pod:notif/notif:8080"]),
    (
        "every pod but payment's",
        "kube-dns:53 (the lab's `coredns`)",
        &[
            "pod:ingress-gateway/api-gateway",
            "pod:web/web",
            "pod:banking/web-fe",
            "pod:banking/pay-svc",
            "pod:banking/fraud-svc",
            "pod:banking/ledger-db",
            "pod:ledger/ledger",
            "pod:fraud/fraud",
            "pod:notif/notif",
            "pod:dev/dev-pod",
        ],
        &["pod:kube-system/coredns:53"],
    ),
    ("any node", "kube-dns:53", &["entity:remote-node"], &["pod:kube-system/coredns:53"]),
    (
        "dev-pod",
        "nodes and the API server; pods, who do not let it in",
        &["pod:dev/dev-pod"],
        &[
            "entity:host:",
            "entity:host:4317",
            "entity:remote-node:4317",
            "ip:172.20.0.2:443",
            "ip:fd00:172:20::2:443",
        ],
    ),
    (
        "a node",
        "its own pods",
        &["entity:host"],
        &[
            "pod:dev/dev-pod:8080",
            "pod:fraud/fraud:8080",
            "pod:payment/payment:",
            "pod:payment/payment:8080",
            "pod:payment/payment:9090",
        ],
    ),
];

const MUMBAI: &[Route] = &[
    (
        "ledger",
        "notif:8080",
        &["cluster:mumbai/pod:ledger/ledger"],
        &["cluster:mumbai/pod:notif/notif:8080"],
    ),
    (
        "ledger",
        "its own node's collector:4317",
        &["cluster:mumbai/pod:ledger/ledger"],
        &["entity:host:4317"],
    ),
    (
        "ledger",
        "mumbai's API server:443",
        &["cluster:mumbai/pod:ledger/ledger"],
        &["ip:172.20.1.2:443", "ip:fd00:172:20:1::2:443"],
    ),
    (
        "every pod of mumbai",
        "mumbai's kube-dns:53",
        &["cluster:mumbai/pod:ledger/ledger", "cluster:mumbai/pod:notif/notif"],
        &["cluster:mumbai/pod:kube-system/coredns:53"],
    ),
    ("a node", "its own pods", &["entity:host"], &["cluster:mumbai/pod:ledger/ledger:8080"]),
];

/// The tables name each route's ends and rules; the probes try each, and nothing else is
/// allowed.
pub fn routes() {
    let document = fs::read_to_string(TABLES).unwrap();
    for (heading, file, routes) in [
        ("## Which policy opens each route", "probes.jsonl", JAKARTA),
        ("### In mumbai", "clusters/mumbai/probes.jsonl", MUMBAI),
    ] {
        let rows = rows(&document, heading);
        let cells: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
        let want: Vec<_> = routes.iter().map(|route| (route.0, route.1)).collect();
        assert_eq!(cells, want, "{heading}");
        let mut tried = vec![(BTreeSet::new(), BTreeSet::new()); routes.len()];
        for probe in probes(file).iter().filter(|probe| probe["expect"]["verdict"] == "allowed") {
            let (from, to) = (text(probe, "from").to_owned(), end(probe));
            let is = |route: &Route| route.2.contains(&&*from) && route.3.contains(&&*to);
            let at = routes.iter().position(is);
            let at = at.unwrap_or_else(|| panic!("{file}: no row has the route of {probe}"));
            let own = |side: &str| probe["expect"][side]["rule"].as_str().map(without_kind);
            let told = (rule(&rows[at][2]), rule(&rows[at][3]));
            assert_eq!((own("egress"), own("ingress")), told, "{heading}: {probe}");
            tried[at].0.insert(from);
            tried[at].1.insert(to);
        }
        for ((from, to), route) in tried.iter().zip(routes) {
            let all = |ends: &[&str]| ends.iter().map(|end| (*end).to_owned()).collect();
            assert_eq!((from, to), (&all(route.2), &all(route.3)), "not tried: {route:?}");
        }
    }
}

/// Cells of the first table below a heading, without its head.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, below) = document.split_once(&format!("{heading}\n")).unwrap();
    let table = below.lines().skip_while(|line| !line.starts_with('|'));
    let table = table.take_while(|line| line.starts_with('|')).skip(2);
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    table.map(cells).collect()
}

/// Whom a probe asks, and at which port.
fn end(probe: &Value) -> String {
    let port = match &probe["port"] {
        Value::Null => String::new(),
        Value::String(name) => name.clone(),
        number => number.to_string(),
    };
    format!("{}:{port}", text(probe, "to"))
}

/// The rule that a cell names; none where nobody judges, or no policy's rule does.
fn rule(cell: &str) -> Option<&str> {
    cell.strip_prefix('`').map(|name| name.trim_end_matches('`'))
}

fn without_kind(rule: &str) -> &str {
    rule.split_once('/').unwrap().1
}

/// Each policy's comment says what it protects or opens, and which requirement it serves.
pub fn purposes() {
    let mut policies = 0;
    for folder in [BANK.to_owned(), format!("{BANK}/clusters/mumbai")] {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        for file in files.filter(|file| file.extension().is_some_and(|it| it == "yaml")) {
            for document in fs::read_to_string(&file).unwrap().split("\n---\n") {
                let kind = document.lines().find_map(|line| line.strip_prefix("kind: "));
                if kind.is_some_and(|kind| kind.ends_with("NetworkPolicy")) {
                    purpose(document, &file);
                    policies += 1;
                }
            }
        }
    }
    assert_eq!(policies, 28);
}

fn purpose(document: &str, file: &Path) {
    let comment = document.lines().take_while(|line| line.starts_with('#'));
    let comment: Vec<_> = comment.map(|line| line.trim_start_matches(['#', ' '])).collect();
    let after = |word: &str| comment.iter().position(|line| line.starts_with(word));
    let told = after("Protects: ").or(after("Opens: "));
    let serves = after("Serves: ");
    assert!(told.is_some() && told < serves, "{}: {comment:#?}", file.display());
    let requirements = comment[serves.unwrap()..].join(" ");
    let named = ["PCI DSS 4 ", "NIST SP 800-207 tenet"].iter().any(|standard| {
        let rest = requirements.split_once(standard).map(|(_, rest)| rest);
        rest.is_some_and(|rest| {
            rest.trim_start_matches(['s', ' ']).starts_with(|it: char| it.is_ascii_digit())
        })
    });
    assert!(named, "{}: {requirements}", file.display());
}

/// What may differ between a denied probe and its allowed twin: one of these.
const FIELDS: [&str; 5] = ["from", "to", "port", "protocol", "family"];

/// A denial only says something beside an attempt that gets through and differs from it in
/// one thing. Where there is none, the probe says why; all of them get through in the
/// demo's first part, without policies.
pub fn twins() {
    let hosts = hosts();
    let main = probes("probes.jsonl");
    for (file, twins) in [
        ("probes.jsonl", &main),
        ("needs-probes.jsonl", &main),
        ("clusters/mumbai/probes.jsonl", &probes("clusters/mumbai/probes.jsonl")),
    ] {
        let allowed = twins.iter().filter(|probe| probe["expect"]["verdict"] == "allowed");
        let allowed: BTreeMap<_, _> = allowed.map(|probe| (text(probe, "id"), probe)).collect();
        for probe in probes(file).iter().filter(|probe| probe["expect"]["verdict"] == "denied") {
            let differ = |twin: &Value| differences(probe, twin, &hosts);
            match (probe["twin"].as_str(), probe["no_twin"].as_str()) {
                (Some(twin), None) => {
                    let twin = allowed.get(twin).unwrap_or_else(|| panic!("{probe}: not allowed"));
                    let found = differ(twin);
                    assert_eq!(found.len(), 1, "{file}: {probe}\n{twin} differs in {found:?}");
                }
                (None, Some(why)) => {
                    assert!(why.len() > 20, "{file}: {probe}: {why} is no reason");
                    let twin = allowed.values().find(|twin| differ(twin).len() == 1);
                    assert_eq!(twin, None, "{file}: {probe} has a twin");
                }
                _ => panic!("{file}: {probe} has neither `twin` nor `no_twin`, or both"),
            }
        }
    }
}

fn differences(probe: &Value, twin: &Value, hosts: &BTreeMap<IpAddr, String>) -> Vec<&'static str> {
    let field = |probe: &Value, key: &str| match key {
        "from" | "to" => whose(text(probe, key), hosts),
        "protocol" => probe[key].as_str().unwrap_or("TCP").replace("ICMPv6", "ICMP"),
        "family" if probe["protocol"] == "ICMPv6" => "6".into(),
        "family" => probe[key].as_u64().unwrap_or(4).to_string(),
        _ => probe[key].to_string(),
    };
    let differs = |key: &&str| field(probe, key) != field(twin, key);
    let mut found: Vec<_> = FIELDS.into_iter().filter(differs).collect();
    // A ping has no port: that is no difference of its own.
    if found.contains(&"protocol") && (probe["port"].is_null() || twin["port"].is_null()) {
        found.retain(|key| *key != "port");
    }
    found
}

/// An address as the host that has it: its other address is no other host.
fn whose(end: &str, hosts: &BTreeMap<IpAddr, String>) -> String {
    let address = end.strip_prefix("ip:").and_then(|address| address.parse::<IpAddr>().ok());
    address.and_then(|address| hosts.get(&address).cloned()).unwrap_or_else(|| end.to_owned())
}

/// Each address of the lab's nodes and hosts, and the first of whoever has it.
fn hosts() -> BTreeMap<IpAddr, String> {
    let lab = fs::read_to_string(format!("{BANK}/lab.yaml")).unwrap();
    let lists = lab.lines().filter_map(|line| line.trim().strip_prefix("addresses: [\""));
    let mut hosts = BTreeMap::new();
    for list in lists {
        let addresses: Vec<_> = list.trim_end_matches("\"]").split("\", \"").collect();
        for address in &addresses {
            hosts.insert(address.parse().unwrap(), format!("ip:{}", addresses[0]));
        }
    }
    assert!(hosts.len() >= 20, "{hosts:?}");
    hosts
}
