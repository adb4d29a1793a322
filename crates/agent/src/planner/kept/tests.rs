//! Random histories of a cluster: each plan is made twice, from the one before and
//! from nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use model::EndpointRecord;
use source::Directory;

use crate::planner::{Inputs, Plan, PlanOptions};
use crate::testing::{self, record, replan as plan};
use crate::trial::NodePolicies;

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn one_of(&mut self, texts: &[&str]) -> String {
        texts[self.below(texts.len() as u64) as usize].to_owned()
    }
}

const SELECTORS: [&str; 4] =
    ["{}", "{matchLabels: {app: a}}", "{matchLabels: {app: b}}", "{matchLabels: {app: c}}"];

const PEERS: [&str; 8] = [
    "fromEndpoints: [{matchLabels: {app: a}}]",
    "fromEndpoints: [{matchLabels: {app: b}}]",
    "fromCIDR: [172.16.0.0/12]",
    "fromCIDR: [172.16.1.0/24]",
    "fromCIDRSet: [{cidrGroupRef: group}]",
    "fromEntities: [remote-node]",
    "fromEntities: [world]",
    "fromNodes: [{matchLabels: {zone: x}}]",
];

fn policy(dice: &mut Dice, name: u64) -> String {
    let mut text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: p{name}, namespace: bank}}\nspec:\n  endpointSelector: {}\n  ingress:\n",
        dice.one_of(&SELECTORS)
    );
    for _ in 0..=dice.below(3) {
        let peer = dice.one_of(&PEERS);
        text += &format!("  - {peer}\n    toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]\n");
    }
    if dice.below(2) == 0 {
        text += "  egress:\n  - toEndpoints: [{}]\n    toPorts: [{ports: [{port: web}]}]\n";
    }
    text
}

/// Pods 0 to 5, half of them here; two may claim one address.
fn pod(dice: &mut Dice, number: u64) -> String {
    let (app, port) = (dice.one_of(&["a", "b", "c"]), dice.one_of(&["80", "8080"]));
    let (node, subnet) = if number < 3 { ("node-1", 1) } else { ("node-2", 2) };
    let host = if number < 5 { number + 10 } else { 13 + dice.below(2) };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: q{number}, namespace: bank, labels: {{app: {app}}}}}\n\
         spec: {{nodeName: {node}, containers: [{{name: m, ports: [{{name: web, containerPort: {port}}}]}}]}}\n\
         status: {{podIPs: [{{ip: 10.{subnet}.0.{host}}}]}}\n"
    )
}

fn others(dice: &mut Dice) -> (&'static str, String) {
    match dice.below(4) {
        0 => {
            let net = dice.one_of(&["192.0.2.0/24", "198.51.100.0/24"]);
            (
                "group.yaml",
                format!(
                    "apiVersion: cilium.io/v2alpha1\nkind: CiliumCIDRGroup\nmetadata: {{name: group}}\n\
                 spec: {{externalCIDRs: [{net}]}}\n"
                ),
            )
        }
        1 => {
            let team = dice.one_of(&["x", "y"]);
            (
                "namespace.yaml",
                format!(
                    "apiVersion: v1\nkind: Namespace\nmetadata: {{name: bank, labels: {{team: {team}}}}}\n"
                ),
            )
        }
        2 => {
            let zone = dice.one_of(&["x", "y"]);
            (
                "node.yaml",
                format!(
                    "apiVersion: v1\nkind: Node\nmetadata: {{name: node-2, labels: {{zone: {zone}}}}}\n\
                 spec: {{podCIDRs: [10.2.0.0/24]}}\n\
                 status: {{addresses: [{{type: InternalIP, address: 192.168.0.2}}]}}\n"
                ),
            )
        }
        _ => (
            "broken.yaml",
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
             metadata: {name: broken, namespace: shop}\nspec: {endpointSelektor: {}}\n"
                .to_owned(),
        ),
    }
}

/// A step of the history: a file is written or removed, or a record.
fn step(dice: &mut Dice, folder: &Path, records: &mut BTreeMap<u64, EndpointRecord>) {
    let number = dice.below(6);
    let (file, text) = match dice.below(10) {
        0..=3 => (format!("policy-{number}.yaml"), policy(dice, number)),
        4..=5 => (format!("pod-{number}.yaml"), pod(dice, number)),
        6..=7 => {
            let (file, text) = others(dice);
            (file.to_owned(), text)
        }
        _ => {
            let (pod, ifindex) = (number % 3, 5 + u32::try_from(number % 3).unwrap());
            let address = format!("10.1.0.{}", pod + 10);
            if records.remove(&pod).is_none() {
                records.insert(pod, record(&format!("bank/q{pod}"), ifindex, &[&address]));
            }
            return;
        }
    };
    if dice.below(5) == 0 {
        let _ = fs::remove_file(folder.join(file));
        return;
    }
    let draft = folder.join(".draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, folder.join(file)).unwrap();
}

#[track_caller]
fn check_same(next: &Plan, first: &Plan, when: &str) {
    assert_eq!(
        (&next.problems, &next.unprotected),
        (&first.problems, &first.unprotected),
        "{when}"
    );
    let endpoints = |plan: &Plan| -> Vec<_> {
        let all = plan.endpoints.iter();
        all.map(|one| (one.id, one.identity.clone(), one.left_out.clone())).collect()
    };
    assert_eq!(endpoints(next), endpoints(first), "{when}");
    assert_eq!(next.desired, first.desired, "{when}");
    assert_eq!(next.identities, first.identities, "{when}");
    assert_eq!(next.addresses, first.addresses, "{when}");
    assert_eq!(next.policies(), first.policies(), "{when}");
    assert_eq!(next.services, first.services, "{when}");
}

/// As of an agent: identities say who has ports and which node has labels.
fn options() -> PlanOptions {
    let mut options = testing::options();
    options.policy.capabilities.labels = true;
    options
}

#[test]
fn the_next_plan_is_the_one_that_would_be_made_first() {
    let (mut kept, mut compiled, mut installed) = (0, 0, 0);
    for seed in 0..5 {
        let mut dice = Dice(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(folder.path());
        let (mut records, mut before) = (BTreeMap::new(), None::<Plan>);
        let mut snapshot = directory.scan().unwrap().unwrap();
        for number in 0..40 {
            for _ in 0..=dice.below(2) {
                step(&mut dice, folder.path(), &mut records);
            }
            if let Some(changed) = directory.scan().unwrap() {
                snapshot = changed;
            }
            let inputs = Inputs {
                snapshot: snapshot.clone(),
                records: records.values().cloned().collect(),
                host_addresses: BTreeSet::new(),
                installed: BTreeSet::new(),
                node_policies: NodePolicies::default(),
            };
            let next = plan(&inputs, &options(), before.as_ref());
            check_same(
                &next,
                &plan(&inputs, &options(), None),
                &format!("history {seed}, {number}"),
            );
            for (number, table) in &next.desired.tables {
                let was = before.as_ref().and_then(|before| before.desired.tables.get(number));
                let same = was.is_some_and(|was| std::sync::Arc::ptr_eq(was, table));
                if same { kept += 1 } else { compiled += 1 }
            }
            installed += next.desired.endpoints.len();
            before = Some(next);
        }
    }
    assert!(kept > 50 && compiled > 30 && installed > 60, "{kept}, {compiled}, {installed}");
}
