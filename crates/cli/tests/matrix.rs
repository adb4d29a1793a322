//! The probe matrix as it is committed: every legal cell is probed, every denial
//! has an allowed twin, and what is expected is what policies mean. What packets
//! get is shown by the test `matrix` of `e2e`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lints' exception for tests does not reach the functions tests share"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

type Probe = Map<String, Value>;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/matrix")
}

/// Those that any kernel can send, and those that need its SCTP.
const FILES: [&str; 2] = ["probes.jsonl", "sctp-probes.jsonl"];

fn probes_of(file: &str) -> Vec<Probe> {
    let text = std::fs::read_to_string(directory().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn probes() -> Vec<Probe> {
    FILES.into_iter().flat_map(probes_of).collect()
}

fn text<'a>(probe: &'a Probe, key: &str) -> &'a str {
    probe.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A cell, a transport, a family.
type Place = (String, &'static str, u64);

/// Where a probe stands.
fn place(probe: &Probe) -> Place {
    let (protocol, family) = match text(probe, "protocol") {
        "TCP" => ("TCP", None),
        "UDP" => ("UDP", None),
        "SCTP" => ("SCTP", None),
        "ICMP" => ("ICMP", Some(4)),
        "ICMPv6" => ("ICMP", Some(6)),
        other => panic!("{}: `{other}`", text(probe, "id")),
    };
    let written = probe["family"].as_u64().unwrap();
    assert_eq!(family.unwrap_or(written), written, "{}", text(probe, "id"));
    (text(probe, "cell").to_owned(), protocol, written)
}

/// The legal cells, as `cells.tsv` lists them, and all others.
fn cells() -> (BTreeSet<Place>, BTreeSet<(String, &'static str)>) {
    let table = std::fs::read_to_string(directory().join("cells.tsv")).unwrap();
    let mut rows = table.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(rows.next(), Some("path\tpolicy\tTCP\tUDP\tICMP\tSCTP\tnote"));
    let (mut legal, mut illegal) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let fields: Vec<&str> = row.split('\t').collect();
        let cell = format!("{}/{}", fields[0], fields[1]);
        for (protocol, word) in ["TCP", "UDP", "ICMP", "SCTP"].into_iter().zip(&fields[2..6]) {
            match *word {
                "yes" => legal.extend([4, 6].map(|family| (cell.clone(), protocol, family))),
                "v4" => drop(legal.insert((cell.clone(), protocol, 4))),
                "v6" => drop(legal.insert((cell.clone(), protocol, 6))),
                "1" | "2" | "3" => drop(illegal.insert((cell.clone(), protocol))),
                other => panic!("{row}: `{other}`"),
            }
        }
    }
    (legal, illegal)
}

#[test]
fn the_table_has_every_path_with_every_policy() {
    let (legal, illegal) = cells();
    let listed: BTreeSet<&str> = legal
        .iter()
        .map(|(cell, ..)| &**cell)
        .chain(illegal.iter().map(|(cell, _)| &**cell))
        .collect();
    let paths = [
        "pod-pod-same-node",
        "pod-pod-other-node",
        "pod-host",
        "host-pod",
        "pod-remote-node",
        "pod-apiserver",
        "pod-world",
        "world-pod",
        "service",
    ];
    let policies =
        ["unenforced", "allowed", "default-deny", "deny-rule", "except", "named-port", "range"];
    for (path, policy) in paths.iter().flat_map(|path| policies.map(|policy| (path, policy))) {
        let cell = format!("{path}/{policy}");
        assert!(listed.contains(&*cell), "{cell} is not in the table");
    }
}

#[test]
fn every_legal_cell_is_probed_and_no_other() {
    let (legal, _) = cells();
    let probes = probes();
    assert!(probes.len() >= 150);
    let probed: BTreeSet<_> = probes.iter().map(place).collect();
    let missing: Vec<_> = legal.difference(&probed).collect();
    assert!(missing.is_empty(), "without a probe: {missing:?}");
    let beyond: Vec<_> = probed.difference(&legal).collect();
    assert!(beyond.is_empty(), "not legal: {beyond:?}");
}

/// Where a protocol has one family of a cell, it has the other one elsewhere.
#[test]
fn both_families_of_every_protocol_take_every_path_and_meet_every_policy() {
    let (legal, _) = cells();
    let half = |cell: &str, at: usize| cell.split('/').nth(at).unwrap().to_owned();
    for at in [0, 1] {
        let mut families: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
        for (cell, protocol, family) in &legal {
            families.entry((half(cell, at), protocol)).or_default().insert(*family);
        }
        let single: Vec<_> = families.into_iter().filter(|(_, found)| found.len() < 2).collect();
        assert!(single.is_empty(), "{single:?}");
    }
}

/// A cell named after a denial that its note does not say is allowed must deny.
#[test]
fn cells_named_after_a_denial_deny() {
    let table = std::fs::read_to_string(directory().join("cells.tsv")).unwrap();
    let excused = |cell: &str| {
        let start = cell.replace('/', "\t");
        let row = table.lines().find(|row| row.starts_with(&format!("{start}\t"))).unwrap();
        row.split('\t').nth(6).is_some_and(|note| note.starts_with("allowed:"))
    };
    let mut denied: BTreeMap<_, bool> = BTreeMap::new();
    for probe in &probes() {
        let denies = probe["expect"]["verdict"] == "denied";
        *denied.entry(place(probe)).or_default() |= denies;
    }
    for (place, denied) in denied {
        let (path, policy) = place.0.split_once('/').unwrap();
        let must_deny = !matches!(policy, "unenforced" | "allowed") && !excused(&place.0);
        assert_eq!(denied, must_deny, "{path} {policy} {place:?}");
    }
}

#[test]
fn every_denied_probe_has_an_allowed_twin_that_differs_in_one_field() {
    let every = probes();
    let ids: BTreeSet<&str> = every.iter().map(|probe| text(probe, "id")).collect();
    assert_eq!(ids.len(), every.len(), "an id is there twice");
    FILES.into_iter().for_each(|file| check_twins(&probes_of(file)));
}

/// A twin runs with its probe: it is in the same file.
fn check_twins(probes: &[Probe]) {
    let by_id: BTreeMap<_, _> = probes.iter().map(|probe| (text(probe, "id"), probe)).collect();
    for probe in probes {
        let id = text(probe, "id");
        if probe["expect"]["verdict"] == "allowed" {
            assert!(!probe.contains_key("twin"), "{id}");
            continue;
        }
        let twin = by_id.get(text(probe, "twin")).unwrap_or_else(|| panic!("{id} has no twin"));
        assert_eq!(twin["expect"]["verdict"], "allowed", "{id}");
        let about = ["id", "cell", "twin", "expect"];
        let keys: BTreeSet<&String> = probe.keys().chain(twin.keys()).collect();
        let differing: Vec<_> = keys
            .into_iter()
            .filter(|key| !about.contains(&key.as_str()) && probe.get(*key) != twin.get(*key))
            .collect();
        assert_eq!(differing.len(), 1, "{id} and {} differ in {differing:?}", twin["id"]);
    }
}

/// An expectation without a reason could be met by accident.
#[test]
fn every_expectation_names_its_reason_and_rule() {
    for probe in &probes() {
        let (id, expect) = (text(probe, "id"), &probe["expect"]);
        let sides = ["egress", "ingress"].map(|side| &expect[side]);
        assert!(sides.iter().any(|side| side.is_object()), "{id}");
        for side in sides.into_iter().filter(|side| side.is_object()) {
            let named = match (side["verdict"].as_str(), side["reason"].as_str()) {
                (Some("allowed"), Some("unenforced")) => true,
                // A node's own pods let it in without a rule of any policy.
                (Some("allowed"), Some("rule")) => {
                    side["rule"].is_string() || text(probe, "from") == "node:node-1"
                }
                (Some("denied"), Some("deny-rule")) => side["rule"].is_string(),
                (Some("denied"), Some("default-deny")) => side["because"].is_array(),
                // Of the packet's path: no policy is asked.
                (Some("denied"), Some("is_a_clusterip")) => true,
                _ => false,
            };
            assert!(named, "{id}: {side}");
        }
    }
}

#[test]
fn what_is_expected_is_what_policies_mean() {
    for file in FILES {
        let output = Command::new(env!("CARGO_BIN_EXE_signet"))
            .args(["policy", "evaluate", "-o", "jsonl", "--manifests"])
            .arg(directory())
            .arg("--probes")
            .arg(directory().join(file))
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        let number = probes_of(file).len();
        assert_eq!(errors.lines().last().unwrap(), format!("{number} of {number} as expected"));
    }
}
